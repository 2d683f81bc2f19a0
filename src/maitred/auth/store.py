"""Everything known of users' passwords, in the engine's shape.

Never sends a password anywhere but into a snapshot or an answer to the engine; logs nothing.
Called by `prepare` for snapshots and by `supervisor` when the engine asks about a user.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maitred.auth import userlist
from maitred.auth.verifier import BadStored, Stored, derive_scram, recognise
from maitred.errors import ConfigInvalid, Problem
from maitred.model import Config, Place, User
from maitred.secret import Secret

Shape = dict[str, Any]


class Verifiers:
    """Derives SCRAM verifiers and remembers them, so that an unchanged user stays unchanged.

    One lives as long as the process: with a fresh salt after each reload every user would look
    changed, and each derivation costs milliseconds.
    """

    def __init__(self, salt: Callable[[], bytes] = lambda: os.urandom(16)) -> None:
        """Draw salts from `salt`."""
        self._salt = salt
        self._known: dict[tuple[str, Secret], str] = {}

    def of(self, user: str, password: str) -> str:
        """Return the verifier of `user`'s plain `password`."""
        key = (user, Secret(password))
        if key not in self._known:
            self._known[key] = derive_scram(password, self._salt())
        return self._known[key]

    def keep_only(self, current: set[tuple[str, Secret]]) -> None:
        """Forget passwords that are no longer configured."""
        self._known = {key: value for key, value in self._known.items() if key in current}


@dataclass(frozen=True, slots=True)
class Directory:
    """The users of one configuration: those the snapshot holds, and those told when asked."""

    listed: tuple[Shape, ...]
    on_request: Mapping[str, Secret]
    verifiers: Verifiers
    warnings: tuple[str, ...] = ()

    @property
    def ask_unknown(self) -> bool:
        """True when the engine should ask about users it does not find."""
        return bool(self.on_request)

    def answer(self, user: str) -> Shape | None:
        """Tell what is known of `user`; some milliseconds the first time."""
        password = self.on_request.get(user)
        if password is None:
            return None
        found = User(user, password, {}, 0, 0, False, False, Place(""))
        return _shape(found, recognise(password.reveal()), self.verifiers)


def gather(config: Config, verifiers: Verifiers) -> Directory:
    """Bring users of the configuration and of its userlist together.

    Raises:
        ConfigInvalid: the userlist or a stored password cannot be read.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    listed: list[Shape] = []
    on_request: dict[str, Secret] = {}
    from_file = userlist.read(config.userlist) if config.userlist else {}
    names = {user.name for user in config.users}
    current: set[tuple[str, Secret]] = set()
    for user in config.users:
        password, place = user.password, user.place
        if password is None and user.name in from_file:
            password, place = from_file[user.name]
        if password is None and config.userlist and config.asks_passwords:
            warnings.append(
                f"users.{user.name} has no password, and auth.userlist does not know the user"
            )
        if password:
            current.add((user.name, password))
        _try(problems, place, user.name, lambda u=user, p=password: listed.append(
            _shape(u, recognise(p.reveal()) if p else Stored(), verifiers)
        ))  # fmt: skip
    for name, (password, place) in from_file.items():
        if name in names:
            continue
        current.add((name, password))
        user = User(name, password, {}, 0, 0, False, False, place)

        def add(user: User = user, password: Secret = password) -> None:
            stored = recognise(password.reveal())
            # Why: deriving a verifier costs milliseconds, and a userlist may hold thousands of
            # plain passwords; those are derived when their user first logs in.
            if stored.plain:
                on_request[user.name] = password
            else:
                listed.append(_shape(user, stored, verifiers))

        _try(problems, place, name, add)
    if problems:
        raise ConfigInvalid(problems)
    verifiers.keep_only(current)
    return Directory(tuple(listed), on_request, verifiers, tuple(warnings))


def _try(problems: list[Problem], place: Place, user: str, act: Callable[[], None]) -> None:
    try:
        act()
    except BadStored as error:
        problems.append(Problem(place.file, place.line, f"the password of {user} {error}"))


def _shape(user: User, stored: Stored, verifiers: Verifiers) -> Shape:
    scram = stored.scram or (verifiers.of(user.name, stored.plain) if stored.plain else None)
    return {
        "name": user.name,
        "plain": stored.plain,
        "md5": stored.md5,
        "scram": scram,
        "mysql_native": stored.native,
        "mysql_sha2": stored.sha2,
        "mysql_ed25519": stored.ed25519,
        "pool": dict(user.pool),
        "max_clients": user.max_clients,
        "max_servers": user.max_servers,
        "admin": user.admin,
        "stats": user.stats,
    }
