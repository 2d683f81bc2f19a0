"""Values that every part may use: a configuration in memory, and the small types it is made of.

Only frozen data: no reading of files, no policy, no defaults (those are in `config.schema`).
Built by `config.load`; used by `supervisor`, `auth`, `admin` and `metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from maitred.secret import Secret

Value = bool | int | str | tuple[str, ...]
"""What one setting holds once it is read: durations in ms, sizes in bytes."""

Settings = Mapping[str, Value]
"""Values by the engine's field name, for example `queue_timeout_ms`."""

TcpOrUnix = Literal["tcp", "unix"]

Dialect = Literal["postgres", "mysql"]
"""What a listener and an endpoint speak; MariaDB speaks mysql."""

_BARE = ("trust", "cert")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a listener or an endpoint is: a host and port, or a Unix socket's path."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def kind(self) -> TcpOrUnix:
        """Tell the two apart."""
        return "unix" if self.path else "tcp"

    @property
    def is_local(self) -> bool:
        """True when only this machine can reach it."""
        return bool(self.path) or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        """`host:port`, `[v6]:port`, or the path."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where clients of one dialect connect."""

    dialect: Dialect
    address: Address


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of one side. PEM texts are read when the configuration is, so that a swap is a reload."""

    mode: str
    certificate_pem: str | None
    key_pem: Secret | None
    ca_pem: str | None
    minimum: str
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A database server's place and how it is spoken to."""

    name: str
    dialect: Dialect
    address: Address
    tls: Tls
    max_servers: int


@dataclass(frozen=True, slots=True)
class Database:
    """A name that clients connect to, and where it leads."""

    name: str
    dialect: Dialect
    endpoint: str
    remote_name: str | None
    user: str | None
    password: Secret | None
    pool: Settings
    parameters: tuple[tuple[str, str], ...]
    stateful_functions: tuple[tuple[str, tuple[str, ...]], ...]
    """Functions that touch the session, each with names of settings and kinds of state."""
    stateful_tables: tuple[tuple[str, tuple[str, ...]], ...]
    """Tables and views of which a mention does; `*`: any."""
    max_clients: int
    max_servers: int
    disabled: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written."""

    file: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user as configured; `password` is plain, in a form that a database stores, or absent."""

    name: str
    password: Secret | None
    pool: Settings
    max_clients: int
    max_servers: int
    admin: bool
    stats: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting in force: its full name, value as text, default as text, place if set."""

    name: str
    value: str
    default: str
    changeable: bool
    place: Place | None


@dataclass(frozen=True, slots=True)
class Config:
    """One complete, checked configuration."""

    source: str
    listeners: tuple[Listener, ...]
    proxy_protocol: bool
    unix_mode: int
    admin: Address | None
    client_tls: Tls | None
    endpoints: tuple[Endpoint, ...]
    databases: tuple[Database, ...]
    users: tuple[User, ...]
    auth_method: str
    mysql_method: str
    userlist: Path | None
    limits: Settings
    console_names: tuple[str, ...]
    stats_period_ms: int
    drain_delay_ms: int
    log_level: str
    log_format: str
    log_connections: bool
    slow_query_ms: int
    workers: int
    backend: str
    effective: tuple[Effective, ...] = ()
    warnings: tuple[str, ...] = ()
    files: frozenset[Path] = field(default_factory=frozenset[Path])
    """Every file that was read: a change of any of them calls for a reload."""

    def speaks(self, dialect: Dialect) -> bool:
        """True when clients of `dialect` can connect."""
        return any(one.dialect == dialect for one in self.listeners)

    @property
    def asks_passwords(self) -> bool:
        """True when some clients prove who they are by a password."""
        spoken: tuple[Dialect, ...] = ("postgres", "mysql")
        return any(self.speaks(one) and self.method_of(one) not in _BARE for one in spoken)

    def method_of(self, dialect: Dialect) -> str:
        """How clients of `dialect` prove who they are."""
        return self.mysql_method if dialect == "mysql" else self.auth_method
