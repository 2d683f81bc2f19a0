"""How the doctor's drivers encrypt, as a URL's `sslmode` says.

It must not weaken what was asked for. Called by the two drivers.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping


def context_for(tls: Mapping[str, str]) -> ssl.SSLContext | None:
    """The context for a URL's TLS settings; None: not encrypted.

    Source: PostgreSQL manual, "SSL Mode Descriptions".
    """
    mode = tls.get("mode", "prefer")
    if mode in ("disable", "allow", "prefer"):
        return None
    context = ssl.create_default_context(cafile=tls.get("ca"))
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if mode == "require" else ssl.CERT_REQUIRED
    return context
