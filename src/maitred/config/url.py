"""Take apart a `postgres://` URL, with libpq's parameter names.

Reads no file and resolves no host; certificates are only named here.
Called by `load`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from maitred.config.units import BadValue
from maitred.model import Address

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_OPTIONS = {
    "sslmode": "mode",
    "sslrootcert": "ca",
    "sslcert": "certificate",
    "sslkey": "key",
    "ssl_min_protocol_version": "minimum",
    "sslnegotiation": "direct",
}
_STARTUP = ("application_name", "client_encoding", "options")
# Spec: libpq, "Parameter Key Words". Accepted only with a value that asks for nothing.
_HARMLESS = {
    "gssencmode": ("disable", "prefer"),
    "channel_binding": ("disable", "prefer"),
    "target_session_attrs": ("any",),
    "load_balance_hosts": ("disable",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "ssl_max_protocol_version": ("", "TLSv1.3"),
}
_INSTEAD = {
    "keepalives": "limits.keepalive_idle", "keepalives_idle": "limits.keepalive_idle",
    "keepalives_interval": "limits.keepalive_interval",
    "keepalives_count": "limits.keepalive_count", "tcp_user_timeout": "limits.tcp_user_timeout",
    "passfile": "databases.NAME.password = \"file:PATH\"",
}  # fmt: skip
_PLACES = ("host", "hostaddr", "port", "user", "password", "dbname")
_KNOWN = (*_PLACES, *_TLS_OPTIONS, *_STARTUP, *_HARMLESS, *_INSTEAD, "connect_timeout")

_ENCODE = (
    "has a host that cannot be one; a special character in the user or password must be"
    " percent-encoded (@ is %40, / is %2F, : is %3A)"
)


@dataclass(slots=True)
class Target:
    """What a URL says; None and empty where it says nothing."""

    address: Address
    user: str | None = None
    password: str | None = None
    database: str | None = None
    connect_timeout_s: int | None = None
    tls: dict[str, str] = field(default_factory=dict[str, str])
    """By the names of `tls.server`: mode, ca, certificate, key, minimum, direct ("direct")."""
    parameters: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def parse(url: str) -> Target:
    """Take `url` apart.

    Returns:
        The target; the port is 5432 where none is given, the host localhost.

    Raises:
        BadValue: with what to change; the text never holds the password.

    Spec: libpq, "Connection URIs".
    """
    match = re.match(r"^(postgres(?:ql)?)://", url)
    if not match:
        raise BadValue(
            'must begin with "postgres://" or "postgresql://", for example'
            ' "postgres://user:password@host:5432/name"'
        )
    rest, _, query = url[match.end() :].partition("?")
    authority, slash, path = _split_authority(rest)
    # Why: a bare `@` in a password is the usual slip, and no host holds one: the last one splits.
    userinfo, at, hosts = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    fields = {
        "user": _decode(user, "user"),
        "password": _decode(password, "password") if colon else "",
        "dbname": _decode(path, "database name") if slash else "",
    }
    if at and not user and colon:
        raise BadValue("has a password but no user before it")
    host, port = _host_port(hosts)
    fields |= {"host": host, "port": port}
    options = _options(query)
    fields |= {name: options.pop(name) for name in _PLACES if name in options}
    target = Target(
        address=_address(fields),
        user=fields["user"] or None,
        password=fields["password"] or None,
        database=fields["dbname"] or None,
    )
    for name, value in options.items():
        _apply(target, name, value)
    return target


def _split_authority(rest: str) -> tuple[str, str, str]:
    authority, slash, path = rest.partition("/")
    if "@" in path and "@" not in authority:
        raise BadValue(_ENCODE)
    return authority, slash, path


def _decode(text: str, what: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise BadValue(f'has a "%" in the {what} without two hex digits after it; write %25')
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadValue(f"has percent-encoded bytes in the {what} that are not UTF-8") from None
    if "\0" in decoded:
        raise BadValue(f"has a zero byte in the {what}")
    return decoded


def _host_port(hosts: str) -> tuple[str, str]:
    if "," in hosts:
        raise BadValue("names several hosts; this version takes one host per database")
    if hosts.startswith("["):
        match = re.fullmatch(r"\[([^\]]+)\](?::(.*))?", hosts)
        if not match:
            raise BadValue("has an IPv6 address without its closing bracket")
        return match[1], match[2] or ""
    if hosts.count(":") > 1:
        raise BadValue('needs brackets around an IPv6 address: "postgres://[::1]:5432/name"')
    host, _, port = hosts.partition(":")
    return _decode(host, "host"), port


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not equals:
            raise BadValue(f'has an option without a value: "{name}"; write {name}=…')
        name = _decode(name, "option's name")
        if name == "ssl" and value == "true":
            name, value = "sslmode", "require"  # Spec: libpq takes JDBC's ssl=true as this.
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise BadValue(f'has an unknown option "{name}"{hint}')
        options[name] = _decode(value, f"option {name}")
    return options


def _address(fields: dict[str, str]) -> Address:
    port_text = fields["port"] or "5432"
    if not port_text.isdigit() or not 1 <= int(port_text) <= 65535:
        raise BadValue(f'has "{port_text}" where a port between 1 and 65535 belongs')
    host = fields.get("hostaddr") or fields["host"] or "localhost"
    if "," in host:
        raise BadValue("names several hosts; this version takes one host per database")
    if host.startswith("/"):
        return Address(path=f"{host.rstrip('/')}/.s.PGSQL.{port_text}")
    if re.search(r"[\s/@\\]", host):
        raise BadValue(_ENCODE)
    return Address(host=host, port=int(port_text))


def _apply(target: Target, name: str, value: str) -> None:
    if name in _TLS_OPTIONS:
        target.tls[_TLS_OPTIONS[name]] = _tls_value(name, value)
    elif name in _STARTUP:
        target.parameters.append((name, value))
    elif name == "connect_timeout":
        if not value.isdigit():
            raise BadValue(f'has connect_timeout="{value}"; libpq wants whole seconds there')
        # Spec: libpq, zero or unset waits for ever; a proxy must not, so the setting then stands.
        target.connect_timeout_s = int(value) or None
    elif name in _INSTEAD:
        raise BadValue(f"has {name}, which maitred does not take from URLs; set {_INSTEAD[name]}")
    elif value not in _HARMLESS[name]:
        allowed = " or ".join(text for text in _HARMLESS[name] if text)
        raise BadValue(f"has {name}={value}, which this version cannot do; use {allowed}")


def _tls_value(name: str, value: str) -> str:
    if name == "sslmode" and value not in SSL_MODES:
        raise BadValue(f"has sslmode={value}; it is one of {', '.join(SSL_MODES)}")
    if name == "ssl_min_protocol_version":
        version = value.removeprefix("TLSv")
        if version in ("1", "1.0", "1.1"):
            raise BadValue(f"has {name}={value}; the oldest TLS maitred speaks is TLSv1.2")
        if version not in ("1.2", "1.3"):
            raise BadValue(f"has {name}={value}; it is TLSv1.2 or TLSv1.3")
        return version
    if name == "sslnegotiation":
        if value not in ("postgres", "direct"):
            raise BadValue(f"has sslnegotiation={value}; it is postgres or direct")
        return value
    return "" if name == "sslrootcert" and value == "system" else value
