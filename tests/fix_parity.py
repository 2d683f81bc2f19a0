"""One scenario, played directly on PostgreSQL and through maitred: what its clients see must be
the same.

Judges nothing but equality, and knows no scenario. Tests ask for `parity`; between the steps of a
scenario
passers-by take the servers away, so that the next transaction runs on another one or behind
another's settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from fix_maitred import Maitred, basic
from fix_postgres import Postgres
from fix_wire import Message, Wire, extended, query, sync

SIZES = (1, 2, 5)


@dataclass
class Side:
    """Where the clients of a scenario connect: to the database itself or to maitred."""

    port: int
    database: str = "served"
    # Servers of the pool; 0: there is no pool, everybody has a server of their own.
    size: int = 0
    _opened: ExitStack = field(default_factory=ExitStack)
    _holder: Wire | None = None
    _number: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def wire(self, user: str = "app", **options: str) -> Wire:
        """A raw connection, closed with the scenario."""
        made = self._opened.enter_context(Wire(("127.0.0.1", self.port)))
        made.login(user, self.database, **options)
        return made

    def place(self, user: str = "app") -> dict[str, Any]:
        """Keyword arguments for psycopg."""
        return {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": self.database}

    def connect(self, user: str = "app", **more: Any) -> psycopg.Connection:
        """psycopg, autocommit unless said otherwise, closed with the scenario."""
        told: dict[str, Any] = {"autocommit": True} | self.place(user) | more
        made = psycopg.connect(**told)
        self._opened.callback(made.close)
        return made

    def pass_by(self, busy: int = 0) -> None:
        """Have strangers take the servers that were used last, each with settings of its own.

        Args:
            busy: servers that clients of the scenario hold at this moment, by a transaction or a
            pin.
        """
        free = self.size - busy
        stranger = self._stranger() if free > 0 else None
        before, self._holder = self._holder, None
        if before is not None and free < 2:
            _leave(before)
        if stranger is not None and free > 1:
            # Why: it keeps the server used last, so that the next transaction gets another one.
            stranger.query("begin; select 1")
            self._holder = stranger
        elif stranger is not None:
            assert stranger.value("select current_setting('app.tenant')") == "stranger"
            stranger.close()
        if before is not None and free > 1:
            _leave(before)

    def _stranger(self) -> Wire:
        number = next(self._number)
        stranger = Wire(("127.0.0.1", self.port))
        self._opened.callback(stranger.close)
        # Why settings that nobody has: else it would be lent a server that has them already.
        options = f"-c work_mem={number}kB -c app.tenant=stranger -c search_path=strange{number}"
        told = {"options": options, "DateStyle": "German", "TimeZone": "Asia/Tokyo"}
        stranger.login("app", self.database, **told)
        return stranger


def _leave(stranger: Wire) -> None:
    stranger.query("rollback")
    stranger.close()


Scenario = Callable[[Side], Any]


@dataclass
class Parity:
    """Plays scenarios on both sides, behind a pool of `size` servers."""

    postgres: Postgres
    maitred: Maitred
    size: int

    def direct(self) -> Side:
        return Side(self.postgres.port)

    def proxied(self) -> Side:
        return Side(self.maitred.port, f"pool_of_{self.size}", self.size)

    def check(self, scenario: Scenario) -> Any:
        """Play `scenario` on both sides; what it returns, which must be the same on both."""
        with self.direct() as side:
            expected = scenario(side)
        with self.proxied() as side:
            seen = scenario(side)
        if isinstance(seen, list) and isinstance(expected, list):
            for told, due in zip(seen, expected, strict=True):
                assert told == due, f"directly:\n  {due}\nthrough maitred:\n  {told}"
        assert seen == expected
        return expected

    def check_script(self, script: str, **how: Any) -> list[str]:
        """As `check`, of a script: see `play`."""
        return self.check(lambda side: play(side, script, **how))


def play(
    side: Side, script: str, *, strangers: bool = True, **clients: dict[str, str]
) -> list[str]:
    """Run lines `client: statement` in order; what each client was told, line by line.

    A line `a* : …` says that from then on `a` keeps its server by what it did, `a- : …` that it
    does so no more.
    A statement `pipeline A | B | sync | \
        query C` is sent in one write: A and B each as Parse, Bind, Describe and
    Execute, C as a simple query. Between the lines strangers pass by, if `strangers`. `clients`
    are the startup
    parameters of those that need any.
    """
    opened: dict[str, Wire] = {}
    pinned: set[str] = set()
    told: list[str] = []
    for line in filter(None, map(str.strip, script.splitlines())):
        head, _, statement = line.partition(":")
        name = head.strip(" *-")
        if name not in opened:
            opened[name] = side.wire(**clients.get(name, {}))
        client = opened[name]
        known = dict(client.parameters)
        answer = ask(client, *messages(statement.strip()))
        changed = sorted(client.parameters.items() - known.items())
        told.append(f"{line[:72]} => {answer}" + (f" {changed}" if changed else ""))
        pinned.add(name) if "*" in head else None
        pinned.discard(name) if "-" in head else None
        if strangers:
            side.pass_by(len({n for n, each in opened.items() if each.status != "I"} | pinned))
    for name, client in opened.items():
        told += [f"{name} knows {setting}" for setting in sorted(client.parameters.items())]
    return told


def messages(statement: str) -> list[bytes]:
    """The messages of one line of a script."""
    head, _, rest = statement.partition(" ")
    if head != "pipeline":
        return [query(statement)]
    made = []
    for part in map(str.strip, rest.split(" | ")):
        kind, _, sql = part.partition(" ")
        if kind == "query":
            made.append(query(sql))
        else:
            made.append(sync() if part == "sync" else extended(part))
    return made


def ask(client: Wire, *parts: bytes) -> str:
    """Send messages in one write; what came back and in which transaction it ended."""
    client.send(*parts)
    # Why: each simple query and each Sync is answered by one ReadyForQuery.
    awaited = sum(part[:1] in (b"Q", b"S") for part in parts)
    seen: list[Message] = []
    for _ in range(awaited):
        seen += client.read_until("Z")
    return " ".join(filter(None, map(said, seen)))


def said(message: Message) -> str:
    """One message of a server in a word or two; nothing for what a client only takes note of."""
    if message.tag in "EN":
        return f"{message.fields['S']} {message.fields['C']} {message.fields['M']!r}"
    if message.tag == "D":
        return repr(message.values)
    if message.tag == "C":
        return message.text
    if message.tag == "Z":
        return f"[{message.body.decode()}]"
    if message.tag in "ST":
        return ""
    return message.tag


@pytest.fixture(scope="module")
def _pools(_shared_postgres: Postgres) -> Iterator[dict[str, Maitred]]:
    started: dict[str, Maitred] = {}
    yield started
    for each in started.values():
        each.remove()


def pools(postgres: Postgres) -> dict[str, Any]:
    """A configuration with a database `pool_of_N` for each size N, all of them the same one
    behind."""
    url = f"postgres://127.0.0.1:{postgres.port}/served"
    return basic(
        postgres.port, **{f"pool_of_{n}": {"url": url, "pool": {"size": n}} for n in SIZES}
    )


@pytest.fixture
def parity(_pools: dict[str, Maitred], postgres: Postgres, backend: str, pool_of: int) -> Parity:
    """Both sides, behind each number of servers that suffices by the marker `servers(least)`."""
    if backend not in _pools:
        _pools[backend] = Maitred(pools(postgres), backend=backend).start()
    return Parity(postgres, _pools[backend], pool_of)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run behind each number of servers that lets the clients of the scenario go on."""
    if "pool_of" not in metafunc.fixturenames:
        return
    marker = next(metafunc.definition.iter_markers("servers"), None)
    least = marker.args[0] if marker else 1
    sizes = [size for size in SIZES if size >= least]
    metafunc.parametrize("pool_of", sizes, ids=[f"{size}-servers" for size in sizes])
