"""The console: one statement of text in, one answer for the engine out.

Carries out nothing itself: probes are in `probes` and `mysql_probes`, commands in `commands`. Every
error becomes an answer that says what to type. Called by `supervisor` for each `ConsoleAsked`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from maitred.admin import mysql_probes, probes
from maitred.admin.averages import Averages
from maitred.admin.commands import COMMANDS, Command, Desk, who
from maitred.admin.operations import Operations
from maitred.admin.show import Show
from maitred.admin.table import Table
from maitred.admin.words import Word, statements
from maitred.errors import ConsoleError, ConsoleForbidden, ConsoleSyntax
from maitred.event import ConsoleAsked


class Console:
    """Answers console statements; one for the whole program."""

    def __init__(self, operations: Operations, averages: Averages) -> None:
        """Work on `operations`."""
        self._desk = Desk(operations, Show(operations, averages))

    async def answer(self, asked: ConsoleAsked) -> dict[str, Any]:
        """Return what `Engine.answer_console` takes; never raises for bad input."""
        try:
            known = mysql_probes if asked.protocol == "mysql" else probes
            probe = known.answer(asked.text, user=asked.user, database=asked.database)
            if probe is not None:
                return probe
            command, words = _find(asked.text)
            _permit(command, asked)
            result = await command.run(self._desk, words)
        except ConsoleError as error:
            return {"error": str(error), "code": error.sqlstate, "hint": error.hint}
        return result.answer() if isinstance(result, Table) else {"tag": result}


def _find(text: str) -> tuple[Command, Sequence[str]]:
    found = statements(text)
    if not found:
        raise ConsoleSyntax("there is no command in it", hint="SHOW HELP lists the commands.")
    if len(found) > 1:
        raise ConsoleSyntax("one command at a time, please", hint="Send them one after another.")
    words = _as_show(found[0])
    first = words[0].text.upper()
    texts = [word.text for word in words]
    if first == "SHOW":
        topic = texts[1].upper() if len(texts) > 1 else "HELP"
        name, rest = f"SHOW {topic}", texts[2:]
    else:
        name, rest = first, texts[1:]
    command = COMMANDS.get(name)
    if command is None or words[0].quoted:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConsoleSyntax(
            f'the console has no command "{name}"', hint=f"{hint}SHOW HELP lists the commands."
        )
    return command, rest


def _as_show(words: list[Word]) -> list[Word]:
    # Spec: PgBouncer takes `SELECT pools` for `SHOW POOLS`; we take `SELECT * FROM pools` too.
    texts = [word.text.upper() for word in words]
    if texts[:3] == ["SELECT", "*", "FROM"]:
        return [Word("SHOW"), *words[3:]]
    return [Word("SHOW"), *words[1:]] if texts[0] == "SELECT" else words


def _permit(command: Command, asked: ConsoleAsked) -> None:
    if asked.admin or (asked.stats and not command.admin):
        return
    wanted = "admin" if command.admin else "stats"
    raise ConsoleForbidden(
        f'user "{asked.user}" may not use {command.name} (it is for: {who(command)})',
        hint=f"Set users.{asked.user}.{wanted} = true and reload.",
    )
