"""What the console needs from the rest of the program.

Only a Protocol: `supervisor` fulfils it, tests bring their own. It grows when a command does.
Used by `commands` and `show`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from maitred.model import Config

Rows = list[dict[str, Any]]


class Operations(Protocol):
    """Questions and actions, in the words of the console."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        ...

    @property
    def phase(self) -> str:
        """ "running" or "draining"."""
        ...

    @property
    def disabled(self) -> frozenset[str]:
        """Databases that an operator disabled."""
        ...

    async def report(self, what: str) -> Rows:
        """A report of the engine, as `_engine.pyi` names them."""
        ...

    def pause(self, database: str | None) -> None:
        """Lend no more servers."""
        ...

    def resume(self, database: str | None) -> None:
        """End a pause or a kill."""
        ...

    def paused(self, database: str | None) -> bool:
        """A pause is in force and nothing is leased."""
        ...

    def kill(self, database: str | None) -> int:
        """Close clients and servers; how many clients."""
        ...

    def kill_client(self, client: int) -> bool:
        """Close one client; False when there is none."""
        ...

    def reconnect(self, database: str | None) -> None:
        """Close servers when they are next free."""
        ...

    async def reload(self) -> Sequence[str]:
        """Read the configuration again; lines that say what changed.

        Raises:
            ConfigInvalid, EngineRefused: nothing was changed.
        """
        ...

    async def set(self, name: str, value: str) -> Sequence[str]:
        """Set one setting until the next reload.

        Raises:
            ConfigInvalid, EngineRefused, ConsoleError: nothing was changed.
        """
        ...

    async def set_disabled(self, database: str, disabled: bool) -> None:
        """Refuse, or take again, new clients of a database."""
        ...

    def shut_down(self, *, drain: bool) -> None:
        """End the program: after draining, or now."""
        ...
