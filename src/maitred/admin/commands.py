"""The one table of console commands: how each is typed, who may, what it does.

Parses nothing but a command's own arguments; the table is also SHOW HELP and the reference page.
Called by `console`.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from maitred.admin.operations import Operations
from maitred.admin.show import Show
from maitred.admin.table import Table, columns
from maitred.errors import (
    ConfigInvalid,
    ConsoleState,
    ConsoleSyntax,
    ConsoleTimeout,
    ConsoleUnknown,
    EngineRefused,
)

_POLL_S = 0.02
HELP = columns("command who meaning")


@dataclass(slots=True)
class Desk:
    """What commands work with; `resumes` counts RESUME by database, for PAUSE that still waits."""

    operations: Operations
    show: Show
    resumes: Counter[str | None] = field(default_factory=Counter[str | None])

    def resumed(self, database: str | None) -> int:
        """Count what took a pause of `database` back so far."""
        if database is None:
            return self.resumes.total()
        return self.resumes[None] + self.resumes[database]


Words = Sequence[str]
Run = Callable[[Desk, Words], Awaitable[Table | str]]
"""Gets the words after the command's name; returns a table or a command tag."""


@dataclass(frozen=True, slots=True)
class Command:
    """One row: `admin` commands change something, the others only look."""

    name: str
    syntax: str
    meaning: str
    run: Run
    admin: bool = True


def _show(topic: str, meaning: str, table: Callable[[Show], Awaitable[Table]]) -> Command:
    async def run(desk: Desk, words: Words) -> Table:
        if words:
            raise ConsoleSyntax(f"SHOW {topic} takes no argument", hint=f"Type: SHOW {topic};")
        return await table(desk.show)

    return Command(f"SHOW {topic}", f"SHOW {topic}", meaning, run, admin=False)


def _database(desk: Desk, words: Words, *, syntax: str, required: bool = False) -> str | None:
    if len(words) > 1 or (required and not words):
        raise ConsoleSyntax(f"one database belongs here, not {len(words)} words", hint=syntax)
    if not words:
        return None
    name = words[0]
    known = [database.name for database in desk.operations.config.databases]
    if name not in known and "*" not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]}?" if near else "SHOW DATABASES lists them."
        raise ConsoleUnknown(f'there is no database "{name}"', hint=hint)
    return name


async def _pause(desk: Desk, words: Words) -> str:
    syntax = "PAUSE [db] [TIMEOUT '10s']"
    words, timeout_s = _timeout(words, syntax)
    database = _database(desk, words, syntax=syntax)
    operations = desk.operations
    operations.pause(database)
    before = desk.resumed(database)
    try:
        async with asyncio.timeout(timeout_s):
            while not operations.paused(database):
                await asyncio.sleep(_POLL_S)
                if desk.resumed(database) != before:
                    raise ConsoleState("RESUME was given before everything was at rest")
    except TimeoutError:
        operations.resume(database)
        desk.resumes[database] += 1
        busy = await _leased(desk, database)
        raise ConsoleTimeout(
            f"{busy} servers were still in use after the time given; nothing is paused",
            hint="SHOW SERVERS tells which; give PAUSE more time or end their transactions.",
        ) from None
    return "PAUSE"


async def _leased(desk: Desk, database: str | None) -> int:
    pools = await desk.operations.report("pools")
    return sum(row["servers_active"] for row in pools if database in (None, row["database"]))


_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def _timeout(words: Words, syntax: str) -> tuple[Words, float | None]:
    if len(words) < 2 or words[-2].upper() != "TIMEOUT":
        if words and words[-1].upper() == "TIMEOUT":
            raise ConsoleSyntax("TIMEOUT needs a duration", hint=syntax)
        return words, None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", words[-1])
    if not match or match[2] not in _UNITS_S:
        raise ConsoleSyntax(f'"{words[-1]}" is not a duration with its unit', hint=syntax)
    return words[:-2], float(match[1]) * _UNITS_S[match[2]]


async def _resume(desk: Desk, words: Words) -> str:
    database = _database(desk, words, syntax="RESUME [db]")
    desk.operations.resume(database)
    desk.resumes[database] += 1
    return "RESUME"


async def _reload(desk: Desk, words: Words) -> str:
    if words:
        raise ConsoleSyntax("RELOAD takes no argument", hint="Type: RELOAD;")
    try:
        await desk.operations.reload()
    except (ConfigInvalid, EngineRefused) as error:
        raise ConsoleState(f"nothing was changed: {error}", hint="Mend it, then RELOAD.") from None
    return "RELOAD"


async def _kill(desk: Desk, words: Words) -> str:
    desk.operations.kill(_database(desk, words, syntax="KILL [db]"))
    return "KILL"


async def _kill_client(desk: Desk, words: Words) -> str:
    if len(words) != 1 or not words[0].isdigit():
        raise ConsoleSyntax("one client's id belongs here", hint="Type: KILL_CLIENT 42;")
    if not desk.operations.kill_client(int(words[0])):
        raise ConsoleUnknown(f"there is no client {words[0]}", hint="SHOW CLIENTS has the ids.")
    return "KILL_CLIENT"


async def _reconnect(desk: Desk, words: Words) -> str:
    desk.operations.reconnect(_database(desk, words, syntax="RECONNECT [db]"))
    return "RECONNECT"


async def _disable(desk: Desk, words: Words) -> str:
    database = _database(desk, words, syntax="DISABLE db", required=True)
    await desk.operations.set_disabled(str(database), True)
    return "DISABLE"


async def _enable(desk: Desk, words: Words) -> str:
    database = _database(desk, words, syntax="ENABLE db", required=True)
    await desk.operations.set_disabled(str(database), False)
    return "ENABLE"


async def _shutdown(desk: Desk, words: Words) -> str:
    how = " ".join(words).upper()
    if how not in ("", "WAIT_FOR_CLIENTS", "WAIT_FOR_SERVERS"):
        raise ConsoleSyntax(f"SHUTDOWN {how} is unknown", hint="SHUTDOWN [WAIT_FOR_SERVERS]")
    desk.operations.shut_down(drain=bool(how))
    return "SHUTDOWN"


async def _set(desk: Desk, words: Words) -> str:
    if len(words) != 3 or words[1].upper() not in ("=", "TO"):
        raise ConsoleSyntax("a setting and a value belong here", hint="SET pool.size = 30;")
    try:
        await desk.operations.set(words[0], words[2])
    except (ConfigInvalid, EngineRefused) as error:
        raise ConsoleState(f"nothing was changed: {error}") from None
    return "SET"


async def _help(_: Desk, words: Words) -> Table:
    if words:
        raise ConsoleSyntax("SHOW HELP takes no argument", hint="Type: SHOW HELP;")
    return Table.of(
        HELP,
        [
            {"command": one.syntax, "who": who(one), "meaning": one.meaning}
            for one in COMMANDS.values()
        ],
    )


def who(command: Command) -> str:
    """Say who may use it."""
    return "admin" if command.admin else "admin, stats"


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("SHOW HELP", "SHOW HELP", "This table.", _help, admin=False),
        _show("POOLS", "Pools: clients, servers, the longest wait, the last error.", Show.pools),
        _show("CLIENTS", "Each client.", Show.clients),
        _show("SERVERS", "Each server.", Show.servers),
        _show("CHANNELS", "Channels that clients LISTEN to, and how many do.", Show.channels),
        _show("PINS", "Clients that keep a server beyond a transaction: why.", Show.pins),
        _show("STATS", "Totals and averages by database.", Show.stats),
        _show("STATS_TOTALS", "Totals by database.", Show.stats_totals),
        _show(
            "STATS_AVERAGES",
            "Averages by database over `console.stats_period`.",
            Show.stats_averages,
        ),
        _show("TOTALS", "Totals and averages over all databases.", Show.totals),
        _show("WAITS", "How long clients waited for a server: count and quantiles.", Show.waits),
        _show("DATABASES", "Configured databases, their limits and use.", Show.databases),
        _show("USERS", "Configured users, their limits and use.", Show.users),
        _show("CONFIG", "Every setting in force, and whether a reload changes it.", Show.config),
        _show("LISTS", "How many there are of each thing.", Show.lists),
        _show("STATE", "Whether work is done, paused or draining.", Show.state),
        _show("VERSION", "The version.", Show.version),
        Command(
            "PAUSE",
            "PAUSE [db] [TIMEOUT '10s']",
            "Wait until servers are released, then let clients wait; taken back after TIMEOUT.",
            _pause,
        ),
        Command("RESUME", "RESUME [db]", "End PAUSE or KILL.", _resume),
        Command("RELOAD", "RELOAD", "Read the configuration again, all or nothing.", _reload),
        Command(
            "KILL", "KILL [db]", "Close clients and servers at once; RESUME opens again.", _kill
        ),
        Command(
            "KILL_CLIENT", "KILL_CLIENT id", "Close one client; ids: SHOW CLIENTS.", _kill_client
        ),
        Command(
            "RECONNECT", "RECONNECT [db]", "Close each server when it is next free.", _reconnect
        ),
        Command("DISABLE", "DISABLE db", "Refuse new clients of a database.", _disable),
        Command("ENABLE", "ENABLE db", "Take new clients again.", _enable),
        Command("SET", "SET name = value", "Change a setting until the next reload.", _set),
        Command(
            "SHUTDOWN",
            "SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]",
            "End maitred: now, or after transactions have ended within `limits.drain_timeout`.",
            _shutdown,
        ),
    )
}
"""By name, in the order of SHOW HELP."""
