"""A `mysql://` or `mariadb://` URL, with the option names of MySQL's own clients.

Reads no file and resolves no host; certificates are only named here. Called by `url`.
"""

from __future__ import annotations

import difflib
import re

from maitred.config.units import BadValue
from maitred.config.url_parts import SSL_MODES, Target, check_host, options, port_of, split
from maitred.model import Address

SCHEMES = ("mysql", "mariadb")

_MODES = {
    "DISABLED": "disable",
    "PREFERRED": "prefer",
    "REQUIRED": "require",
    "VERIFY_CA": "verify-ca",
    "VERIFY_IDENTITY": "verify-full",
}
_TLS_OPTIONS = {
    "ssl-mode": "mode",
    "ssl-ca": "ca",
    "ssl-cert": "certificate",
    "ssl-key": "key",
    "tls-version": "minimum",
}
_SOCKET = ("socket", "unix-socket")
# What drivers' URLs hold besides, and why it is not taken.
_CHARSET = "each client says its own character set and collation, which it gets; leave it out"
_INSTEAD = {
    "charset": _CHARSET, "character-set": _CHARSET, "collation": _CHARSET,
    "compress": "servers are spoken to without compression; leave it out",
    "compression": "servers are spoken to without compression; leave it out",
    "auth-plugin": "the server names its method; leave it out",
    "default-auth": "the server names its method; leave it out",
}  # fmt: skip
_KNOWN = (*_TLS_OPTIONS, *_SOCKET, *_INSTEAD, "connect-timeout")


def parse(rest: str) -> Target:
    """Take apart what follows the scheme.

    Raises:
        BadValue: with what to change; the text never holds the password.

    Spec: MySQL manual, "Connecting to the Server Using URI-Like Strings".
    """
    parts = split(rest, example="mysql://[::1]:3306/name")
    found = _options(parts.query)
    socket = found.pop("socket", "")
    target = Target(
        dialect="mysql",
        address=_address(parts.host, parts.port, socket),
        user=parts.user or None,
        password=parts.password or None,
        database=parts.database or None,
    )
    for name, value in found.items():
        _apply(target, name, value)
    return target


def _options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for written, value in options(query):
        name = _spelled(written)
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise BadValue(f'has an unknown option "{written}"{hint}')
        found["socket" if name in _SOCKET else name] = value
    return found


def _spelled(written: str) -> str:
    """Return an option's name as MySQL's clients spell it: `sslMode`, `ssl_mode` -> `ssl-mode`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", written).lower().replace("_", "-")
    joint = {one.replace("-", ""): one for one in _KNOWN}
    return joint.get(name.replace("-", ""), name)


def _address(host: str, port: str, socket: str) -> Address:
    # Why: a socket's path may stand where the host does, percent-encoded, as in MySQL's own URIs.
    path = socket or (host if host.startswith("/") else "")
    if path:
        if not path.startswith("/"):
            raise BadValue(f'has socket={path}; a socket\'s path begins with "/"')
        if port:
            raise BadValue("has a socket and a port; leave one out")
        return Address(path=path)
    check_host(host)
    return Address(host=host or "localhost", port=port_of(port or "3306"))


def _apply(target: Target, name: str, value: str) -> None:
    if name == "ssl-mode":
        target.tls["mode"] = _mode(value)
    elif name == "tls-version":
        target.tls["minimum"] = _oldest(value)
    elif name in _TLS_OPTIONS:
        target.tls[_TLS_OPTIONS[name]] = value
    elif name == "connect-timeout":
        if not value.isdigit():
            raise BadValue(f'has connect_timeout="{value}"; it is in whole seconds')
        target.connect_timeout_s = int(value) or None
    else:
        raise BadValue(f"has {name}, which maitred does not take from URLs: {_INSTEAD[name]}")


def _mode(value: str) -> str:
    mode = _MODES.get(value.upper().replace("-", "_"))
    if mode is None and value not in SSL_MODES:
        raise BadValue(f"has ssl-mode={value}; it is one of {', '.join(_MODES)}")
    return mode or value


def _oldest(value: str) -> str:
    """Return the oldest of `TLSv1.2,TLSv1.3`."""
    versions = [one.strip(" []").removeprefix("TLSv") for one in value.split(",")]
    if any(one in ("1", "1.0", "1.1") for one in versions):
        raise BadValue(f"has tls-version={value}; the oldest TLS maitred speaks is TLSv1.2")
    if not all(one in ("1.2", "1.3") for one in versions):
        raise BadValue(f"has tls-version={value}; it is TLSv1.2, TLSv1.3 or both")
    return min(versions)
