"""Say what changes between two configurations, and what of it has to wait for a restart.

Pure; never shows a secret. The texts are for logs and for RELOAD's answer.
Called by `supervisor`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maitred.model import Config, Effective


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reload does: lines for people."""

    live: tuple[str, ...]
    restart: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """True when nothing changes."""
        return not self.live and not self.restart


def between(old: Config, new: Config) -> Difference:
    """Compare two configurations; settings first, then files behind unchanged settings."""
    live: list[str] = []
    restart: list[str] = []
    before = {one.name: one for one in old.effective}
    after = {one.name: one for one in new.effective}
    for name in [*before, *(name for name in after if name not in before)]:
        line = _line(name, before.get(name), after.get(name))
        if line is None:
            continue
        changeable = (after.get(name) or before[name]).changeable
        (live if changeable else restart).append(line)
    live += _hidden(old, new)
    return Difference(tuple(live), tuple(restart))


def _line(name: str, old: Effective | None, new: Effective | None) -> str | None:
    if old and new:
        if old.value == new.value:
            return None
        return f"{name}: {_quoted(old.value)} -> {_quoted(new.value)}"
    if new:
        return f"{name}: set to {_quoted(new.value)}"
    return f"{name}: no longer set" if old else None


def _quoted(text: str) -> str:
    return text if text else '""'


def _hidden(old: Config, new: Config) -> Iterator[str]:
    """Changes that the shown values do not tell: secrets and certificates."""
    passwords = {user.name: user.password for user in old.users}
    for user in new.users:
        if user.name in passwords and passwords[user.name] != user.password:
            yield f"users.{user.name}.password: changed"
    servers = {database.name: database.password for database in old.databases}
    for database in new.databases:
        if database.name in servers and servers[database.name] != database.password:
            yield f"databases.{database.name}: server password changed"
    if old.client_tls and new.client_tls and old.client_tls != new.client_tls:
        yield "tls.client: certificate, key or authorities changed"
    endpoints = {endpoint.name: endpoint.tls for endpoint in old.endpoints}
    for endpoint in new.endpoints:
        if endpoint.name in endpoints and endpoints[endpoint.name] != endpoint.tls:
            yield f"endpoint {endpoint.name}: TLS changed"
