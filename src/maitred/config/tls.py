"""Gather TLS settings of one side and read the PEM files they name.

Checks that files hold what they should and fit together, so that a mistake is told with its place;
whether a certificate is still valid is the other side's question.
Called by `load` and `targets`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maitred.config.lines import KeyPath
from maitred.config.read import Document, Values
from maitred.config.schema import SETTINGS
from maitred.model import Place, Tls
from maitred.secret import Secret


@dataclass(frozen=True, slots=True)
class Named:
    """A TLS value with the words for it in problems."""

    value: str
    what: str
    place: Place


def client_tls(document: Document, values: Values, files: set[Path]) -> Tls | None:
    """Return what clients are shown, None when TLS is off."""
    named = _from_settings(document, values, "tls.client")
    mode = named["mode"].value
    if mode == "disable":
        if named["certificate"].value:
            document.complain(
                ("tls", "client", "certificate"),
                'has no effect while tls.client.mode is "disable"; set tls.client.mode = "prefer"'
                ' or "require"',
            )
        return None
    for part in ("certificate", "key"):
        if not named[part].value:
            document.complain(
                ("tls", "client", "mode"), f'is "{mode}", which needs tls.client.{part}'
            )
    if mode.startswith("verify") and not named["ca"].value:
        document.complain(("tls", "client", "mode"), f'is "{mode}", which needs tls.client.ca')
    return _read(document, named, files)


def server_tls(
    document: Document, values: Values, section: Values, url: Mapping[str, str], name: str,
    files: set[Path],
) -> Tls:  # fmt: skip
    """Return how one database's endpoint is spoken to.

    The database's own section wins over its URL, and that over `tls.server`.
    """
    named = _from_settings(document, values, "tls.server")
    url_place = document.place(("databases", name, "url"))
    for key, value in url.items():
        named[key] = Named(value, f"databases.{name}.url", url_place)
    for key, written in section.items():
        if key.startswith("tls."):
            part = key.removeprefix("tls.")
            value = written.value
            text = ("direct" if value else "") if isinstance(value, bool) else str(value)
            named[part] = Named(text, f"databases.{name}.{key}", written.place)
    tls = _read(document, named, files)
    if tls.direct and tls.mode not in ("require", "verify-ca", "verify-full"):
        document.complain_at(
            named["direct"].place,
            f'{named["direct"].what} asks for TLS at once, which needs sslmode "require" or'
            f' stricter, not "{tls.mode}"',
        )
    if bool(tls.certificate_pem) != bool(tls.key_pem):
        present, missing = ("certificate", "key") if tls.certificate_pem else ("key", "certificate")
        document.complain_at(
            named[present].place, f"{named[present].what} has a {present} without its {missing}"
        )
    return tls


def _from_settings(document: Document, values: Values, prefix: str) -> dict[str, Named]:
    result: dict[str, Named] = {}
    for name, setting in SETTINGS.items():
        if name.startswith(prefix + "."):
            written = values.get(name)
            value = written.value if written else setting.default_value
            text = ("direct" if value else "") if isinstance(value, bool) else str(value)
            path: KeyPath = tuple(name.split("."))
            result[setting.key] = Named(text, name, document.place(path))
    return result


def _read(document: Document, named: Mapping[str, Named], files: set[Path]) -> Tls:
    certificate = _pem(document, named["certificate"], "CERTIFICATE", files)
    key = _pem(document, named["key"], "PRIVATE KEY", files)
    ca = _pem(document, named["ca"], "CERTIFICATE", files)
    if certificate and key:
        _check_pair(document, named["certificate"], named["key"])
    if ca:
        _check_authorities(document, named["ca"], ca)
    mode = named["mode"].value
    # Spec: libpq, "for backwards compatibility … require with a root CA file behaves as verify-ca".
    if mode == "require" and ca and named["mode"].what != "tls.client.mode":
        mode = "verify-ca"
    return Tls(
        mode=mode,
        certificate_pem=certificate,
        key_pem=Secret(key) if key else None,
        ca_pem=ca,
        minimum=named["minimum"].value,
        direct=named["direct"].value == "direct" if "direct" in named else False,
    )


def _check_pair(document: Document, certificate: Named, key: Named) -> None:
    paths = [document.folder / Path(one.value).expanduser() for one in (certificate, key)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Why a password: without one OpenSSL would ask for it at the terminal.
        context.load_cert_chain(*paths, password="")
    except (ssl.SSLError, OSError) as error:
        document.complain_at(
            certificate.place,
            f"{certificate.what}: {paths[0]} and its key {paths[1]} cannot be used together:"
            f" {_reason(error)}; give the whole chain and the key that belongs to it",
        )


def _check_authorities(document: Document, named: Named, text: str) -> None:
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        path = document.folder / Path(named.value).expanduser()
        text = f"{named.what}: {path} holds no good certificate: {_reason(error)}"
        document.complain_at(named.place, text)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or "it is damaged"
    return str(reason).replace("_", " ").lower()


def _pem(document: Document, named: Named, sort: str, files: set[Path]) -> str | None:
    if not named.value:
        return None
    path = document.folder / Path(named.value).expanduser()
    files.add(path.absolute())
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        document.complain_at(named.place, f"{named.what}: cannot read {path}: {error.strerror}")
        return None
    except UnicodeDecodeError:
        document.complain_at(named.place, f"{named.what}: {path} is not PEM text (perhaps DER?)")
        return None
    if f"{sort}-----" not in text:
        document.complain_at(named.place, f"{named.what}: {path} holds no {sort.lower()} in PEM")
        return None
    if "ENCRYPTED" in text and sort == "PRIVATE KEY":
        document.complain_at(
            named.place,
            f"{named.what}: {path} is encrypted; write it without a passphrase, readable only by"
            " the user that runs maitred",
        )
        return None
    return text
