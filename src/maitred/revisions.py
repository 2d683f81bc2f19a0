"""The configuration in force, its number, and how the next one takes its place.

All or nothing: what cannot be loaded or applied changes nothing and is logged with file, line and
reason. Called by `supervisor` for reloads and for the console's changes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from maitred import log
from maitred.auth.store import Verifiers
from maitred.config import diff
from maitred.config.load import Layer
from maitred.config.schema import SETTINGS
from maitred.config.setting import Kind, Scope
from maitred.config.units import count
from maitred.errors import ConfigInvalid, ConsoleUnknown, EngineRefused
from maitred.health import greeting
from maitred.model import Config
from maitred.prepare import Prepared, Source, prepare


class Applies(Protocol):
    """The part of the engine that is needed here."""

    def apply(self, snapshot: dict[str, object]) -> None:
        """Replace the snapshot or raise `EngineRefused`."""
        ...


class Revisions:
    """Numbered configurations; one is in force."""

    def __init__(self, source: Source) -> None:
        """Nothing is read before `first`."""
        self.source = source
        self.number = 0
        self.reloads = 0
        self.failures = 0
        self.disabled: frozenset[str] = frozenset()
        self._mysql_version = greeting.UNKNOWN
        self._verifiers = Verifiers()
        self._console = Layer("console", {})
        self._prepared: Prepared | None = None
        # Why: SIGHUP, a file change and a console command may come together; one at a time.
        self._turn = asyncio.Lock()

    @property
    def prepared(self) -> Prepared:
        """What is in force."""
        if self._prepared is None:
            raise RuntimeError("no configuration was loaded yet")
        return self._prepared

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.prepared.config

    async def first(self) -> dict[str, object]:
        """Load the first configuration and return its snapshot.

        Raises:
            ConfigInvalid: with every problem found.
        """
        self._prepared = await asyncio.to_thread(prepare, self.source, self._verifiers)
        self._mysql_version = await greeting.learn(self.config)
        self.number = 1
        return self._prepared.snapshot(self.number, mysql_version=self._mysql_version)

    async def reload(self, engine: Applies, *, cause: str) -> diff.Difference:
        """Load again and apply; settings made at the console are forgotten.

        Raises:
            ConfigInvalid, EngineRefused: nothing was changed; it is logged already.
        """
        async with self._turn:
            try:
                change = await self._replace(engine, Layer("console", {}))
            except (ConfigInvalid, EngineRefused) as error:
                self.failures += 1
                _log_failure(self.source, cause, error)
                raise
            self.reloads += 1
            _log_change(f"configuration reloaded ({cause})", self.number, change)
            return change

    async def set(self, engine: Applies, name: str, value: str) -> diff.Difference:
        """Set one setting for all until the next reload.

        Raises:
            ConsoleUnknown: no such setting. ConfigInvalid, EngineRefused: nothing was changed.
        """
        setting = SETTINGS.get(name)
        if setting is None or Scope.GLOBAL not in setting.scopes:
            raise ConsoleUnknown(f'there is no setting "{name}"', hint="SHOW CONFIG lists them.")
        if not setting.reloadable:
            raise ConsoleUnknown(
                f"{name} changes only by a restart", hint="SHOW CONFIG tells which."
            )
        async with self._turn:
            written = {tuple(name.split(".")): _written(setting.kind, value)}
            layer = Layer("console", {**self._console.values, **written})
            change = await self._replace(engine, layer)
            _log_change("configuration set at the console", self.number, change)
            return change

    async def set_disabled(self, engine: Applies, database: str, disabled: bool) -> None:
        """Refuse new clients of a database, or take them again."""
        async with self._turn:
            names = self.disabled | {database} if disabled else self.disabled - {database}
            engine.apply(
                self.prepared.snapshot(self.number + 1, names, mysql_version=self._mysql_version)
            )
            self.number += 1
            self.disabled = frozenset(names)

    async def _replace(self, engine: Applies, console: Layer) -> diff.Difference:
        new = await asyncio.to_thread(prepare, self.source.under(console), self._verifiers)
        version = await greeting.learn(new.config, self._mysql_version)
        engine.apply(new.snapshot(self.number + 1, self.disabled, mysql_version=version))
        change = diff.between(self.config, new.config)
        self.number += 1
        self._mysql_version = version
        self._prepared, self._console = new, console
        return change


def _written(kind: Kind, value: str) -> object:
    """Turn console text into what TOML would have held."""
    if kind in (Kind.COUNT, Kind.PERCENT) and value.isdigit():
        return count(int(value))
    if kind is Kind.SWITCH and value.lower() in ("true", "false", "on", "off", "1", "0"):
        return value.lower() in ("true", "on", "1")
    if kind in (Kind.ADDRESSES, Kind.NAMES):
        return [one.strip() for one in value.split(",")]
    return value


def _log_change(text: str, number: int, change: diff.Difference) -> None:
    log.write(logging.INFO, text, snapshot=number, changes=len(change.live))
    for line in change.live:
        log.write(logging.INFO, f"changed: {line}")
    for line in change.restart:
        log.write(logging.WARNING, f"takes effect after a restart: {line}")


def _log_failure(source: Source, cause: str, error: ConfigInvalid | EngineRefused) -> None:
    log.write(
        logging.ERROR,
        f"configuration not reloaded ({cause}); the last good one stays in force",
        source=str(source),
        code=error.code,
    )
    lines = error.problems if isinstance(error, ConfigInvalid) else (error,)
    for line in lines:
        log.write(logging.ERROR, str(line))
