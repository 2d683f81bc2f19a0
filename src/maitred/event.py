"""What the engine reports, as named classes instead of dicts.

Pure data and one function from the dict of `_engine.pyi`; nothing here acts on an event.
Built by `engine`; used by `supervisor`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class ConsoleAsked:
    """Somebody typed a console command; wants `Engine.answer_console`."""

    client: int
    protocol: str
    user: str
    database: str
    admin: bool
    stats: bool
    text: str


@dataclass(frozen=True, slots=True)
class UserAsked:
    """A login waits for what we know of a user; wants `Engine.answer_user`."""

    token: int
    user: str
    database: str


@dataclass(frozen=True, slots=True)
class SlowQuery:
    """A statement took longer than `log.slow_query`; the shape holds no values."""

    duration_us: int
    wait_us: int
    database: str
    user: str
    shape: str
    client: int


@dataclass(frozen=True, slots=True)
class ClientOpened:
    """A client logged in."""

    client: int
    user: str
    database: str
    address: str
    tls: str | None


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """A client left, or was made to."""

    client: int
    user: str
    database: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServerOpened:
    """We logged in to a database."""

    server: int
    endpoint: str
    database: str
    user: str
    login_us: int


@dataclass(frozen=True, slots=True)
class ServerClosed:
    """A server left, or was made to."""

    server: int
    endpoint: str
    database: str
    user: str
    reason: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class ServerFailed:
    """A server could not be opened."""

    endpoint: str
    database: str
    user: str
    cause: str
    retry_ms: int


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """A client could not log in."""

    user: str
    database: str
    address: str
    cause: str


@dataclass(frozen=True, slots=True)
class Drained:
    """Every client has left after `drain`."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind that this version of the control plane does not know."""

    kind: str


Event = (
    ConsoleAsked
    | UserAsked
    | SlowQuery
    | ClientOpened
    | ClientClosed
    | ServerOpened
    | ServerClosed
    | ServerFailed
    | LoginFailed
    | Drained
    | Unknown
)

_KINDS: dict[str, type[Event]] = {
    "console": ConsoleAsked,
    "ask_user": UserAsked,
    "slow_query": SlowQuery,
    "client_opened": ClientOpened,
    "client_closed": ClientClosed,
    "server_opened": ServerOpened,
    "server_closed": ServerClosed,
    "server_failed": ServerFailed,
    "login_failed": LoginFailed,
    "drained": Drained,
}


def from_dict(raw: Mapping[str, Any]) -> Event:
    """Turn one dict of `take_events` into its class.

    Fields that this version does not know are left out; missing ones raise `KeyError`, because
    an event without its facts is a fault of the binding that tests must see.
    """
    kind = _KINDS.get(raw["kind"])
    if kind is None:
        return Unknown(raw["kind"])
    return kind(**{one.name: raw[one.name] for one in fields(kind)})
