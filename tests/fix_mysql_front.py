"""What a MySQL client connects to: maitred in front of MariaDB or MySQL, or the database itself.

Judges nothing. Tests ask for `front` (one maitred per database and run, shared), for `make_front`
(a maitred of the test's own), and for `endpoint`, the database behind; `--direct` puts the
database itself in maitred's place, to test the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pymysql
import pytest

import fix_mysql
from fix_maitred import _RUNNING, MODES, Maitred, merge
from fix_mariadb import PASSWORD, MariaDB
from fix_mysql_wire import MysqlWire

FLAVOURS = ("mariadb", "mysql")


@dataclass
class Front:
    """Where clients connect to; everything opened here is closed with it."""

    endpoint: MariaDB
    # None: the database itself.
    maitred: Maitred | None
    _opened: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> tuple[str, int]:
        return self.maitred.mysql_address if self.maitred else ("127.0.0.1", self.endpoint.port)

    def named(self, database: str | None) -> str | None:
        """What the database is called here; maitred has one per pool mode, all the same one."""
        return "served" if database in MODES and self.maitred is None else database

    def wire(self, user: str = "app", database: str | None = "shop", **login: Any) -> MysqlWire:
        """A logged-in raw connection."""
        kept = {name: login.pop(name) for name in ("timeout_s", "receive_buffer") if name in login}
        made = self._opened.enter_context(MysqlWire(self.address, **kept))
        made.login(user, self.named(database), **login)
        return made

    def place(self, user: str = "app", database: str | None = "shop") -> dict[str, Any]:
        """Keyword arguments for PyMySQL, aiomysql, asyncmy, mysql-connector-python."""
        name = self.named(database)
        found = {"host": "127.0.0.1", "port": self.address[1], "user": user, "password": PASSWORD}
        return found | ({"database": name} if name else {})

    def connect(
        self, user: str = "app", database: str | None = "shop", **more: Any
    ) -> pymysql.Connection[Any]:
        """PyMySQL, autocommit unless said otherwise."""
        made = pymysql.connect(**({"autocommit": True} | self.place(user, database) | more))
        self._opened.callback(lambda: made.open and made.close())
        return made

    @property
    def operated(self) -> Maitred:
        """maitred, where a test asks at its console."""
        if self.maitred is None:
            pytest.skip("--direct: this test asks maitred itself")
        return self.maitred

    def pins(self) -> list[str]:
        """The reasons of those clients that keep a server, by the console."""
        if self.maitred is None:
            return []
        return [row["reasons"] or "" for row in self.maitred.console("SHOW PINS")]

    def close(self) -> None:
        self._opened.close()


def basic_mysql(port: int, **databases: dict[str, Any]) -> dict[str, Any]:
    """The configuration that tests start from: one database `shop`, trust, five servers."""
    url = f"mysql://app:{PASSWORD}@127.0.0.1:{port}/shop"
    return {
        "pool": {"mode": "transaction", "size": 5, "queue_timeout": "20s"},
        "databases": databases or {"shop": {"url": url}},
        "users": {"postgres": {"admin": True}, "app": {"password": PASSWORD}},
        "auth": {"method": "trust", "mysql_method": "trust"},
    }


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, flavour: str) -> MariaDB:
    """The database behind, empty: the one of the flavour, or a test's own."""
    own = "own_mariadb" in request.fixturenames
    found: MariaDB = request.getfixturevalue("own_mariadb" if own else flavour)
    found.clear()
    return found


@pytest.fixture
def make_front(
    request: pytest.FixtureRequest, endpoint: MariaDB, backend: str
) -> Iterator[Callable[..., Front]]:
    """Start a maitred of the test's own: `make_front({"pool": {"size": 1}})`.

    The tables given are laid over `basic_mysql`; `port` is that of a link to the database.
    """
    made: list[Maitred] = request.node.stash.setdefault(_RUNNING, [])
    fronts: list[Front] = []

    def make(
        config: dict[str, Any] | None = None, *, port: int | None = None, workers: int = 1
    ) -> Front:
        if request.config.getoption("--direct"):
            fronts.append(Front(endpoint, None))
            return fronts[-1]
        told = merge(basic_mysql(port or endpoint.port), config or {})
        made.append(Maitred(told, backend=backend, workers=workers))
        made[-1].start()
        fronts.append(Front(endpoint, made[-1]))
        return fronts[-1]

    yield make
    for each in fronts:
        each.close()
    problems = []
    for each in made:
        try:
            each.stop()
        except (AssertionError, pytest.fail.Exception) as problem:
            problems.append(f"{problem}\n{each.log_text()[-4000:]}")
        finally:
            each.remove()
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def _fronts() -> Iterator[dict[tuple[str, str], Maitred]]:
    started: dict[tuple[str, str], Maitred] = {}
    yield started
    for each in started.values():
        each.remove()


@pytest.fixture
def front(
    request: pytest.FixtureRequest,
    _fronts: dict[tuple[str, str], Maitred],
    endpoint: MariaDB,
    flavour: str,
    backend: str,
) -> Iterator[Front]:
    """A maitred that many tests share: databases `transaction`, `session` and `statement`.

    Each is the same database `served` behind a pool of five in the mode of its name.
    """
    found = None
    if not request.config.getoption("--direct"):
        found = _shared(_fronts, (flavour, backend), endpoint)
        request.node.stash.setdefault(_RUNNING, []).append(found)
    made = Front(endpoint, found)
    yield made
    made.close()


def _shared(
    started: dict[tuple[str, str], Maitred], kind: tuple[str, str], endpoint: MariaDB
) -> Maitred:
    found = started.get(kind)
    if found and found.process and (status := found.process.poll()) is not None:
        del started[kind]
        pytest.fail(f"the shared maitred had died, status {status}:\n{found.log_text()[-4000:]}")
    if found is None:
        url = f"mysql://app:{PASSWORD}@127.0.0.1:{endpoint.port}/served"
        databases = {mode: {"url": url, "pool": {"mode": mode}} for mode in MODES}
        told = basic_mysql(endpoint.port, **databases)
        found = started[kind] = Maitred(told, backend=kind[1]).start()
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("maitred")
    group.addoption(
        "--flavours", default=",".join(FLAVOURS), help="databases behind the MySQL tests"
    )
    group.addoption(
        "--direct", action="store_true", help="play the MySQL tests on the database itself"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on each database; on the first alone where the test says that it tells no more."""
    if "flavour" not in metafunc.fixturenames:
        return
    alone = next(metafunc.definition.iter_markers("flavour"), None)
    wanted = metafunc.config.getoption("--flavours").split(",")
    if "own_mariadb" in metafunc.fixturenames:
        wanted = ["mariadb"]
    if alone:
        wanted = [name for name in wanted if name in alone.args]
    absent = pytest.mark.skip(reason=fix_mysql.MISSING)
    metafunc.parametrize("flavour", [
        pytest.param(name, marks=[absent] if name == "mysql" and not fix_mysql.mysqld() else [])
        for name in wanted
    ])  # fmt: skip
