"""What the URLs of all dialects have in common: a target, and how a URL falls into its parts.

Knows no option of any of them and resolves no host. Called by `url_postgres` and `url_mysql`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from maitred.config.units import BadValue
from maitred.model import Address, Dialect

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

ENCODE = (
    "has a host that cannot be one; a special character in the user or password must be"
    " percent-encoded (@ is %40, / is %2F, : is %3A)"
)


@dataclass(slots=True)
class Target:
    """What a URL says; None and empty where it says nothing."""

    dialect: Dialect
    address: Address
    user: str | None = None
    password: str | None = None
    database: str | None = None
    connect_timeout_s: int | None = None
    tls: dict[str, str] = field(default_factory=dict[str, str])
    """By the names of `tls.server`: mode, ca, certificate, key, minimum, direct ("direct")."""
    parameters: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(frozen=True, slots=True)
class Parts:
    """A URL in its parts, decoded; empty where it says nothing."""

    user: str
    password: str
    host: str
    port: str
    database: str
    query: str


def split(rest: str, *, example: str) -> Parts:
    """Take apart what follows `scheme://`; `example` is a URL with an IPv6 address in brackets.

    Raises:
        BadValue: with what to change; the text never holds the password.

    Spec: RFC 3986, section 3.
    """
    rest, _, query = rest.partition("?")
    authority, slash, path = _split_authority(rest)
    # Why: a bare `@` in a password is the usual slip, and no host holds one: the last one splits.
    userinfo, at, hosts = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if at and not user and colon:
        raise BadValue("has a password but no user before it")
    host, port = _host_port(hosts, example)
    return Parts(
        user=decode(user, "user"),
        password=decode(password, "password") if colon else "",
        host=host,
        port=port,
        database=decode(path, "database name") if slash else "",
        query=query,
    )


def port_of(text: str) -> int:
    """Read a port.

    Raises:
        BadValue: it is none.
    """
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise BadValue(f'has "{text}" where a port between 1 and 65535 belongs')
    return int(text)


def check_host(host: str) -> None:
    """Refuse what cannot be a host.

    Raises:
        BadValue: with the usual cause.
    """
    if "," in host:
        raise BadValue("names several hosts; this version takes one host per database")
    if re.search(r"[\s/@\\]", host):
        raise BadValue(ENCODE)


def options(query: str) -> list[tuple[str, str]]:
    """Return the options of a query in their order, decoded.

    Raises:
        BadValue: one has no value.
    """
    found: list[tuple[str, str]] = []
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not equals:
            raise BadValue(f'has an option without a value: "{name}"; write {name}=…')
        found.append((decode(name, "option's name"), decode(value, f"option {name}")))
    return found


def decode(text: str, what: str) -> str:
    """Undo percent-encoding.

    Raises:
        BadValue: it is damaged; the text says where.
    """
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise BadValue(f'has a "%" in the {what} without two hex digits after it; write %25')
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadValue(f"has percent-encoded bytes in the {what} that are not UTF-8") from None
    if "\0" in decoded:
        raise BadValue(f"has a zero byte in the {what}")
    return decoded


def _split_authority(rest: str) -> tuple[str, str, str]:
    authority, slash, path = rest.partition("/")
    if "@" in path and "@" not in authority:
        raise BadValue(ENCODE)
    return authority, slash, path


def _host_port(hosts: str, example: str) -> tuple[str, str]:
    if "," in hosts:
        raise BadValue("names several hosts; this version takes one host per database")
    if hosts.startswith("["):
        match = re.fullmatch(r"\[([^\]]+)\](?::(.*))?", hosts)
        if not match:
            raise BadValue("has an IPv6 address without its closing bracket")
        return match[1], match[2] or ""
    if hosts.count(":") > 1:
        raise BadValue(f'needs brackets around an IPv6 address: "{example}"')
    host, _, port = hosts.partition(":")
    return decode(host, "host"), port
