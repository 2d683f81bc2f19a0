"""The one door to the native engine, with Python's types and exceptions on this side.

Adds no policy: each method is the engine's own, under the same name. No other module imports
`_engine`. Used by `supervisor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from maitred import _engine
from maitred.errors import EngineRefused
from maitred.event import Event, from_dict

Rows = list[dict[str, Any]]


class Engine:
    """A running data path: listeners, worker threads, pools."""

    def __init__(self, snapshot: dict[str, Any], *, workers: int, backend: str) -> None:
        """Bind the listeners and start the workers.

        Raises:
            EngineRefused: a listener could not be bound, TLS material is bad, ….
        """
        try:
            self._native = _engine.Engine(snapshot, workers=workers, backend=backend)
        except _engine.EngineError as error:
            raise EngineRefused(str(error)) from None

    @property
    def backend(self) -> str:
        """ "io_uring" or "epoll"."""
        return self._native.backend

    @property
    def backend_note(self) -> str | None:
        """Why it is not the back end that was preferred."""
        return self._native.backend_note

    @property
    def workers(self) -> int:
        """Worker threads."""
        return self._native.workers

    def addresses(self) -> list[str]:
        """Where it listens, ports resolved."""
        return self._native.addresses()

    def apply(self, snapshot: dict[str, Any]) -> None:
        """Replace the snapshot, all or nothing.

        Raises:
            EngineRefused: nothing was changed.
        """
        try:
            self._native.apply(snapshot)
        except _engine.EngineError as error:
            raise EngineRefused(str(error)) from None

    def watch(self, loop: asyncio.AbstractEventLoop, on_event: Callable[[Event], None]) -> None:
        """Call `on_event` on `loop` for each event, oldest first, until `unwatch`."""

        def drain() -> None:
            for raw in self._native.take_events():
                on_event(from_dict(raw))

        loop.add_reader(self._native.fileno(), drain)
        # Why: what happened before the reader was there is not announced again.
        loop.call_soon(drain)

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """End `watch`."""
        loop.remove_reader(self._native.fileno())

    def answer_console(self, client: int, answer: dict[str, Any]) -> None:
        """Answer a `ConsoleAsked`."""
        self._native.answer_console(client, answer)

    def answer_user(self, token: int, user: dict[str, Any] | None) -> None:
        """Answer a `UserAsked`; None means unknown."""
        self._native.answer_user(token, user)

    def pause(self, database: str | None) -> None:
        """Lend no more servers of `database` (None: of all)."""
        self._native.pause(database)

    def resume(self, database: str | None) -> None:
        """End `pause` or `kill`."""
        self._native.resume(database)

    def paused(self, database: str | None) -> bool:
        """True when a pause is in force and no server of it is leased any more."""
        return self._native.paused(database)

    def kill(self, database: str | None) -> int:
        """Close clients and servers of `database` at once; return how many clients."""
        return self._native.kill(database)

    def kill_client(self, client: int) -> bool:
        """Close one client; False if there is none of that number."""
        return self._native.kill_client(client)

    def reconnect(self, database: str | None) -> None:
        """Close each server when it is next free."""
        self._native.reconnect(database)

    def drain(self) -> None:
        """Stop accepting and let transactions end."""
        self._native.drain()

    def stop(self) -> None:
        """Close everything now and join the workers."""
        self._native.stop()

    async def report(self, what: str) -> Rows:
        """Return rows of `what`; a thread waits for the workers, the loop does not."""
        return await asyncio.to_thread(self._native.report, what)
