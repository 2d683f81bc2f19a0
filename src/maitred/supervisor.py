"""Build the parts, keep them together, and end them in order.

    starting ──► running ──► draining ──► stopped
                    └────── (quick) ──────►┘

Only `_enter` changes the phase. No protocol and no policy live here: parts decide, this module
carries between them. Called by `cli`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any

from maitred import __version__, log
from maitred.admin.averages import Averages
from maitred.admin.console import Console
from maitred.admin.http import HttpServer
from maitred.engine import Engine
from maitred.errors import ConfigInvalid, EngineRefused
from maitred.event import ConsoleAsked, Drained, Event, UserAsked
from maitred.metrics import expose
from maitred.metrics.catalog import REPORTS
from maitred.model import Config
from maitred.prepare import Source
from maitred.report import Reporter
from maitred.revisions import Revisions
from maitred.watch import changes

Rows = list[dict[str, Any]]


class Phase(Enum):
    """Where in its life the program is."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class Supervisor:
    """One running maitred; fulfils `admin.operations.Operations` for the console."""

    def __init__(self, source: Source, on_ready: Callable[[list[str]], None] | None = None) -> None:
        """Run what `source` says; tell `on_ready` the addresses once clients may come."""
        self._revisions = Revisions(source)
        self._on_ready = on_ready
        self._phase = Phase.STARTING
        self._averages = Averages(time.monotonic())
        self._console = Console(self, self._averages)
        self._reporter = Reporter()
        self._http = HttpServer(self._not_ready, self._metrics)
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = asyncio.Event()
        self._quick = asyncio.Event()
        self._drained = asyncio.Event()
        self._engine_or_none: Engine | None = None

    async def run(self) -> None:
        """Serve until told to end.

        Raises:
            ConfigInvalid, EngineRefused: it could not start.
        """
        loop = asyncio.get_running_loop()
        # Why first: a signal during the start ends what was started, in order; nothing is cut off.
        self._listen_to_signals(loop)
        snapshot = await self._revisions.first()
        config = self.config
        log.set_up(level=config.log_level, form=config.log_format)
        for warning in self._revisions.prepared.warnings:
            log.write(logging.WARNING, warning)
        engine = Engine(snapshot, workers=config.workers, backend=config.backend)
        self._engine_or_none = engine
        try:
            admin = await self._http.start(config.admin) if config.admin else None
            engine.watch(loop, self._on_event)
            self._spawn(self._watch_files())
            self._spawn(self._sample())
            self._enter(Phase.RUNNING)
            self._announce(engine, admin)
            await self._end.wait()
            if not self._quick.is_set():
                await self._drain(engine)
        finally:
            self._enter(Phase.STOPPED)
            await self._stop(engine, loop)

    @property
    def _engine(self) -> Engine:
        if self._engine_or_none is None:
            raise RuntimeError("the engine was not started yet")
        return self._engine_or_none

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        log.write(logging.DEBUG, f"phase: {phase.value}")

    def _announce(self, engine: Engine, admin: str | None) -> None:
        addresses = engine.addresses()
        if engine.backend_note:
            log.write(logging.INFO, engine.backend_note)
        log.write(
            logging.INFO,
            "ready",
            version=__version__,
            listen=", ".join(addresses),
            admin=admin,
            workers=engine.workers,
            backend=engine.backend,
            source=str(self._revisions.source),
        )
        if self._on_ready:
            self._on_ready(addresses)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.LOGGER.error("a task failed: %s", error, exc_info=error)

    # Signals and the end.

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGTERM, lambda: self.shut_down(drain=True))
        loop.add_signal_handler(signal.SIGINT, lambda: self.shut_down(drain=False))
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reload("SIGHUP")))

    def shut_down(self, *, drain: bool) -> None:
        """End the program: after draining, or now; a second call means now."""
        if not drain or self._end.is_set():
            log.write(logging.INFO, "stopping at once")
            self._quick.set()
        self._end.set()

    async def _drain(self, engine: Engine) -> None:
        config = self.config
        limit_ms = int(str(config.limits["drain_timeout_ms"]))
        log.write(
            logging.INFO, "draining", limit_ms=limit_ms or None, delay_ms=config.drain_delay_ms
        )
        # Why: readiness flips before anything is refused, so that load balancers look elsewhere.
        self._enter(Phase.DRAINING)
        await _first_of(self._quick, timeout_s=config.drain_delay_ms / 1000)
        engine.drain()
        timeout_s = limit_ms / 1000 if limit_ms else None
        await _first_of(self._quick, self._drained, timeout_s=timeout_s)
        if not self._drained.is_set():
            log.write(logging.WARNING, "clients were still there when draining ended")

    async def _stop(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        engine.unwatch(loop)
        # Why: who is still here is told 57P01 instead of finding the line dead.
        await asyncio.to_thread(engine.kill, None)
        await asyncio.to_thread(engine.stop)
        await self._http.stop()
        log.write(logging.INFO, "stopped")

    # What the engine reports.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ConsoleAsked):
            self._spawn(self._answer_console(event))
        elif isinstance(event, UserAsked):
            self._spawn(self._answer_user(event))
        elif isinstance(event, Drained):
            self._drained.set()
        else:
            self._reporter.on_event(event)

    async def _answer_console(self, asked: ConsoleAsked) -> None:
        try:
            answer = await self._console.answer(asked)
        except Exception as error:
            # Why: the client waits for an answer whatever goes wrong here.
            log.LOGGER.exception("console command failed")
            text = f"maitred failed to carry this out ({type(error).__name__}); its log has more"
            answer = {"error": text, "code": "XX000", "hint": None}
        self._engine.answer_console(asked.client, answer)

    async def _answer_user(self, asked: UserAsked) -> None:
        directory = self._revisions.prepared.directory
        user = await asyncio.to_thread(directory.answer, asked.user)
        self._engine.answer_user(asked.token, user)

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(self.config.stats_period_ms / 1000)
            self._averages.sample(time.monotonic(), await self.report("stats"))

    async def _watch_files(self) -> None:
        if self._revisions.source.file is None and not self.config.files:
            return
        async for _ in changes(lambda: self.config.files, self._end):
            await self._reload("a file changed")

    async def _reload(self, cause: str) -> None:
        # Why: a bad file is logged by `revisions`, and the last good one stays in force.
        with contextlib.suppress(ConfigInvalid, EngineRefused):
            await self._revisions.reload(self._engine, cause=cause)
        self._take_up_log_settings()

    def _take_up_log_settings(self) -> None:
        log.set_up(level=self.config.log_level, form=self.config.log_format)

    # What probes ask.

    async def _not_ready(self) -> str | None:
        if self._phase is not Phase.RUNNING:
            return self._phase.value
        return None if await self.report("workers") else "no worker is running"

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        reports = {what: await self.report(what) for what in REPORTS}
        facts = expose.Facts(
            version=__version__,
            backend=self._engine.backend,
            ready=self._phase is Phase.RUNNING and bool(reports["workers"]),
            snapshot=self._revisions.number,
            reloads=self._revisions.reloads,
            reload_failures=self._revisions.failures,
        )
        return expose.exposition(reports, facts, accept)

    # What the console asks: `admin.operations.Operations`.

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._revisions.config

    @property
    def phase(self) -> str:
        """The phase's name."""
        return self._phase.value

    @property
    def disabled(self) -> frozenset[str]:
        """Databases that an operator disabled."""
        return self._revisions.disabled

    async def report(self, what: str) -> Rows:
        """A report of the engine."""
        return await self._engine.report(what)

    def pause(self, database: str | None) -> None:
        """Lend no more servers."""
        self._engine.pause(database)

    def resume(self, database: str | None) -> None:
        """End a pause or a kill."""
        self._engine.resume(database)

    def paused(self, database: str | None) -> bool:
        """A pause is in force and nothing is leased."""
        return self._engine.paused(database)

    def kill(self, database: str | None) -> int:
        """Close clients and servers; how many clients."""
        return self._engine.kill(database)

    def kill_client(self, client: int) -> bool:
        """Close one client."""
        return self._engine.kill_client(client)

    def reconnect(self, database: str | None) -> None:
        """Close servers when they are next free."""
        self._engine.reconnect(database)

    async def reload(self) -> Sequence[str]:
        """Read the configuration again."""
        change = await self._revisions.reload(self._engine, cause="RELOAD")
        self._take_up_log_settings()
        return (*change.live, *change.restart)

    async def set(self, name: str, value: str) -> Sequence[str]:
        """Set one setting until the next reload."""
        change = await self._revisions.set(self._engine, name, value)
        self._take_up_log_settings()
        return (*change.live, *change.restart)

    async def set_disabled(self, database: str, disabled: bool) -> None:
        """Refuse, or take again, new clients of a database."""
        await self._revisions.set_disabled(self._engine, database, disabled)


async def _first_of(*events: asyncio.Event, timeout_s: float | None) -> None:
    """Wait until one of `events` is set or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
