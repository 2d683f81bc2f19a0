"""One scenario, played directly on MariaDB or MySQL and through maitred: the clients must see the
same.

Judges nothing but equality, and knows no scenario. Tests ask for `mysql_parity`; between the
steps of a scenario passers-by take the servers away, so that the next transaction runs on another
one or behind another's settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from fix_maitred import Maitred
from fix_mariadb import PASSWORD, MariaDB
from fix_mysql_front import basic_mysql
from fix_mysql_packets import STATE_CHANGED, Answer, Column, Err, Infile, Ok, Rows
from fix_mysql_stream import MysqlClosed
from fix_mysql_wire import MysqlError, MysqlWire
from fix_parity import SIZES

# Where strangers leave their marks, beside the database of the scenario.
ELSEWHERE = "warehouse"


@dataclass
class MysqlSide:
    """Where the clients of a scenario connect: to the database itself or to maitred."""

    address: tuple[str, int]
    database: str = "served"
    # Servers of the pool; 0: there is no pool, everybody has a server of their own.
    size: int = 0
    _opened: ExitStack = field(default_factory=ExitStack)
    _holder: MysqlWire | None = None
    _number: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def __enter__(self) -> MysqlSide:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def wire(self, user: str = "app", **login: Any) -> MysqlWire:
        """A raw connection, closed with the scenario."""
        made = self._opened.enter_context(MysqlWire(self.address))
        made.login(user, self.database, **login)
        return made

    def place(self, user: str = "app") -> dict[str, Any]:
        """Keyword arguments for drivers."""
        return {"host": "127.0.0.1", "port": self.address[1], "user": user,
                "password": PASSWORD, "database": self.database}  # fmt: skip

    def pass_by(self, busy: int = 0) -> None:
        """Have strangers take the servers that were used last, each with a state of its own.

        Args:
            busy: servers that clients of the scenario hold at this moment, by a transaction or a
            pin.
        """
        free = self.size - busy
        before, self._holder = self._holder, None
        if before is not None and free < 2:
            _leave(before)
        stranger = self._stranger() if free > 0 else None
        if stranger is not None and free > 1:
            # Why: it keeps the server used last, so that the next transaction gets another one.
            stranger.run("begin", "select 1")
            self._holder = stranger
        elif stranger is not None:
            assert stranger.value("select @stranger") == "here"
            stranger.close()
        if before is not None and free > 1:
            _leave(before)

    def _stranger(self) -> MysqlWire:
        number = next(self._number)
        stranger = self._opened.enter_context(MysqlWire(self.address))
        stranger.login("app", self.database, collation=8)
        # Why settings that nobody has: else it would be lent a server that has them already.
        isolation = (
            "tx_isolation" if "MariaDB" in stranger.greeting.version else "transaction_isolation"
        )
        stranger.run(
            f"set sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES', time_zone = '+09:0{number % 10}', "
            f"group_concat_max_len = {number}, @stranger = 'here', @x = {number}, "
            f"character_set_results = 'latin1', {isolation} = 'SERIALIZABLE'",
            f"use {ELSEWHERE}",
            "create table if not exists strangers (n int auto_increment primary key, t tinyint)",
            f"insert ignore into strangers values ({number * 1000}, {number})",
            "insert ignore into strangers (t) values (1000)",
            "select sql_calc_found_rows n from strangers limit 0",
        )
        return stranger


def _leave(stranger: MysqlWire) -> None:
    stranger.run("rollback")
    stranger.close()


MysqlScenario = Callable[[MysqlSide], Any]


@dataclass
class MysqlParity:
    """Plays scenarios on both sides, behind a pool of `size` servers."""

    endpoint: MariaDB
    # None: the database itself once more.
    maitred: Maitred | None
    size: int

    def direct(self) -> MysqlSide:
        return MysqlSide(("127.0.0.1", self.endpoint.port))

    def proxied(self) -> MysqlSide:
        if self.maitred is None:
            return MysqlSide(("127.0.0.1", self.endpoint.port), size=self.size)
        return MysqlSide(self.maitred.mysql_address, f"pool_of_{self.size}", self.size)

    def check(self, scenario: MysqlScenario) -> Any:
        """Play `scenario` on both sides; what it returns, which must be the same on both."""
        with self.direct() as side:
            expected = scenario(side)
        self.endpoint.clear()
        with self.proxied() as side:
            try:
                seen = scenario(side)
            except (AssertionError, MysqlError):
                # Why printed: who hangs is told by who keeps what.
                for what in ("PINS", "SERVERS", "CLIENTS") if self.maitred else ():
                    print(what, self.maitred.console(f"SHOW {what}"))  # type: ignore[union-attr]
                print(self.endpoint.rows("show full processlist"))
                raise
        if isinstance(seen, list) and isinstance(expected, list):
            for told, due in zip(seen, expected, strict=True):
                assert told == due, f"directly:\n  {due}\nthrough maitred:\n  {told}"
        assert seen == expected
        return expected

    def check_script(self, script: str, **how: Any) -> list[str]:
        """As `check`, of a script: see `play`."""
        return self.check(lambda side: play(side, script, **how))


def play(
    side: MysqlSide, script: str, *, strangers: bool = True, **clients: dict[str, Any]
) -> list[str]:
    """Run lines `client: statement` in order; what each client was told, line by line.

    A line `a* : …` says that from then on `a` keeps its server by what it did, `a- : …` that it
    does so no more. A statement `prepare NAME: SQL` and `execute NAME: VALUE, …` uses the binary
    protocol. Between the lines strangers pass by, if `strangers`. `clients` are how those log in
    that do so in a way of their own.
    """
    opened: dict[str, MysqlWire] = {}
    statements: dict[tuple[str, str], int] = {}
    pinned: set[str] = set()
    told: list[str] = []
    for line in filter(None, map(str.strip, script.splitlines())):
        head, _, statement = line.partition(":")
        name = head.strip(" *-")
        if name not in opened:
            opened[name] = side.wire(**clients.get(name, {}))
        client = opened[name]
        try:
            answer = _ask(client, statement.strip(), name, statements)
            told.append(f"{line[:100]} => {answer}")
            pinned.add(name) if "*" in head else None
            pinned.discard(name) if "-" in head else None
            if strangers:
                busy = {n for n, each in opened.items() if each.in_transaction}
                side.pass_by(len(busy | pinned))
        except (TimeoutError, MysqlClosed, MysqlError) as error:
            who = f"strangers behind {line!r}" if told and told[-1].startswith(line) else line
            raise AssertionError(f"{who}: {error!r}") from error
    return told


def _ask(
    client: MysqlWire, statement: str, name: str, statements: dict[tuple[str, str], int]
) -> str:
    kind, _, rest = statement.partition(" ")
    if kind == "@prepare":
        label, _, sql = rest.partition(":")
        got = client.prepare(sql.strip())
        if isinstance(got, Err):
            return said(got)
        statements[name, label.strip()] = got.id
        return f"prepared {len(got.parameters)} {[c.name for c in got.columns]} {got.warnings}"
    if kind == "@execute":
        label, _, values = rest.partition(":")
        told = tuple(_value(part.strip()) for part in values.split(",") if part.strip())
        statement = statements.get((name, label.strip()))
        if statement is None:
            return "was not prepared"
        return " ".join(map(said, client.execute(statement, told)))
    if kind.startswith("@"):
        return said(client.ask(kind[1:].upper(), rest.encode()))
    return " ".join(map(said, client.query(statement)))


def _value(text: str) -> Any:
    if text == "null":
        return None
    return int(text) if text.lstrip("-").isdigit() else text


def said(answer: Answer) -> str:
    """One answer of a server in words."""
    if isinstance(answer, Err):
        return f"ERROR {answer.number} {answer.state} {answer.text!r}"
    if isinstance(answer, Infile):
        return f"file {answer.name}?"
    if isinstance(answer, Rows):
        columns = [_described(column, answer.rows, n) for n, column in enumerate(answer.columns)]
        end = said(answer.end) if answer.end else ""
        return f"{columns} {answer.rows} {end}"
    assert isinstance(answer, Ok)
    # Why without that flag: MariaDB has it in ends of rows now and then, told what changed or not.
    status = answer.status & ~(0 if answer.tracked else STATE_CHANGED)
    parts = [f"ok {answer.affected} id {answer.insert_id} status {status:#x}"]
    parts += [f"warnings {answer.warnings}"] if answer.warnings else []
    parts += [answer.info] if answer.info else []
    # Why sorted: servers tell them in no order of their own.
    parts += [str(sorted(answer.tracked))] if answer.tracked else []
    return ", ".join(parts)


# Collations by their numbers, of one character set each.
_SETS = {8: "latin1", 63: "binary"} | dict.fromkeys((33, 83, 192), "utf8mb3")


def _described(column: Column, rows: list[tuple[Any, ...]], number: int) -> str:
    """A column as its client has to know it.

    Why not all of it: which collation a text has is not said to be right, only its character set,
    and the type of a user variable without a value is that of the value that the server had in it.
    """
    if column.name.startswith("@") and all(row[number] is None for row in rows):
        return f"{column.name}:null"
    words = _SETS.get(column.collation, "utf8mb4")
    # Why not of messages: those that we say ourselves have none of the flags.
    ours = ("Level", "Code", "Message", "@@session.warning_count", "@@session.error_count")
    flags = "" if column.name in ours else column.flags
    return f"{column.name}:{column.kind}/{words}/{flags}"


@pytest.fixture(scope="session")
def _mysql_pools() -> Iterator[dict[tuple[str, str], Maitred]]:
    started: dict[tuple[str, str], Maitred] = {}
    yield started
    for each in started.values():
        each.remove()


def mysql_pools(endpoint: MariaDB) -> dict[str, Any]:
    """A configuration with a database `pool_of_N` for each size N, all of them the same one
    behind."""
    url = f"mysql://app:{PASSWORD}@127.0.0.1:{endpoint.port}/served"
    return basic_mysql(
        endpoint.port, **{f"pool_of_{n}": {"url": url, "pool": {"size": n}} for n in SIZES}
    )


@pytest.fixture
def mysql_parity(
    request: pytest.FixtureRequest,
    _mysql_pools: dict[tuple[str, str], Maitred],
    endpoint: MariaDB,
    flavour: str,
    backend: str,
    pool_of: int,
) -> MysqlParity:
    """Both sides, behind each number of servers that suffices by the marker `servers(least)`."""
    if request.config.getoption("--direct"):
        return MysqlParity(endpoint, None, pool_of)
    kind = flavour, backend
    found = _mysql_pools.get(kind)
    if found is None or found.process is None or found.process.poll() is not None:
        found = _mysql_pools[kind] = Maitred(mysql_pools(endpoint), backend=backend).start()
    return MysqlParity(endpoint, found, pool_of)
