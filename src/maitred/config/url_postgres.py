"""A `postgres://` URL, with libpq's parameter names.

Reads no file and resolves no host; certificates are only named here. Called by `url`.
"""

from __future__ import annotations

import difflib

from maitred.config.units import BadValue
from maitred.config.url_parts import SSL_MODES, Target, check_host, options, port_of, split
from maitred.model import Address

SCHEMES = ("postgres", "postgresql")

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


def parse(rest: str) -> Target:
    """Take apart what follows the scheme.

    Raises:
        BadValue: with what to change; the text never holds the password.

    Spec: libpq, "Connection URIs".
    """
    parts = split(rest, example="postgres://[::1]:5432/name")
    fields = {
        "user": parts.user,
        "password": parts.password,
        "dbname": parts.database,
        "host": parts.host,
        "port": parts.port,
    }
    found = _options(parts.query)
    fields |= {name: found.pop(name) for name in _PLACES if name in found}
    target = Target(
        dialect="postgres",
        address=_address(fields),
        user=fields["user"] or None,
        password=fields["password"] or None,
        database=fields["dbname"] or None,
    )
    for name, value in found.items():
        _apply(target, name, value)
    return target


def _options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in options(query):
        if name == "ssl" and value == "true":
            # Spec: libpq takes JDBC's ssl=true as this.
            found["sslmode"] = "require"
            continue
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise BadValue(f'has an unknown option "{name}"{hint}')
        found[name] = value
    return found


def _address(fields: dict[str, str]) -> Address:
    port = port_of(fields["port"] or "5432")
    host = fields.get("hostaddr") or fields["host"] or "localhost"
    if host.startswith("/"):
        return Address(path=f"{host.rstrip('/')}/.s.PGSQL.{port}")
    check_host(host)
    return Address(host=host, port=port)


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
