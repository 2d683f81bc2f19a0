"""Triggers and views that change the session without telling anybody: `maitred doctor routines`
finds them, and what it says, put into the configuration, keeps what they do with their client.

The database's own triggers and views; each is used by one client and looked for by others. Run by
pytest.
"""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from fix_maitred import doctor
from fix_mariadb import PASSWORD, MariaDB
from fix_mysql_front import Front

pytestmark = pytest.mark.one_backend

QUIET = [
    "create table plain (n int)",
    "create trigger note_plain before insert on plain for each row"
    " set lock_wait_timeout = 97, @noted = 1",
    "create view names as select n from plain",
    "create function f_plain() returns int no sql return 1",
]
BARE = [
    "create table ledger (n int)",
    "create trigger note before insert on ledger for each row set @@lock_wait_timeout = 99",
    "create function f_bare() returns int no sql begin set @@lock_wait_timeout = 99; return 1; end",
    "create view recent as select f_bare() n",
    "create view newest as select n from recent",
]
# What one client says; afterwards it has another timeout than everybody.
SAID = [
    ("insert into ledger values (1)",),
    ("select * from recent",),
    ("select MAX(n) from shop.`newest` AS m",),
    ("prepare p from 'insert into ledger values (1)'", "select 1", "execute p"),
    ("begin", "insert into ledger values (1)", "commit"),
    ("select 1; select * from recent; select 2",),
]
LOOK = "select @@lock_wait_timeout"


def examine(endpoint: MariaDB, user: str = "root") -> subprocess.CompletedProcess[str]:
    login = "root" if user == "root" else f"{user}:{PASSWORD}"
    return doctor("routines", f"mysql://{login}@127.0.0.1:{endpoint.port}/shop")


def prescribed(endpoint: MariaDB) -> dict[str, Any]:
    """What the doctor has the configuration say."""
    done = examine(endpoint)
    assert done.returncode == 1, done.stdout + done.stderr
    return tomllib.loads(done.stdout)["pool"]


def setup(endpoint: MariaDB, *statements: str) -> None:
    with endpoint.connect("root", "shop", password="") as admin, admin.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_a_database_without_any_needs_nothing(endpoint: MariaDB) -> None:
    setup(endpoint, *QUIET)
    done = examine(endpoint)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tomllib.loads(done.stdout) == {}


def test_bodies_that_the_account_may_not_read_are_said(endpoint: MariaDB) -> None:
    setup(
        endpoint,
        "create function f_hidden() returns int no sql return 1",
        "create user if not exists reader identified by 'opensesame'",
        "grant execute on shop.* to reader",
    )
    done = examine(endpoint, "reader")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "#   function shop.f_hidden\n" in done.stdout + "\n"


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("said", SAID, ids=" ".join)
@pytest.mark.parametrize("by", ["doctor", "any table"])
def test_what_a_trigger_or_a_view_sets_is_its_clients_alone(
    make_front: Callable[..., Front], endpoint: MariaDB, said: tuple[str, ...], by: str
) -> None:
    setup(endpoint, *QUIET, *BARE)
    pool = prescribed(endpoint)
    tables = ("shop.ledger", "shop.recent", "shop.newest")
    assert pool == {"stateful_tables": {table: ["routine"] for table in tables}}
    if by == "any table":
        pool = {"stateful_tables": {"*": "routine"}}
    front = make_front({"pool": {"size": 1, **pool}})
    owner, others = front.wire(), [front.wire(), front.wire()]
    usual = owner.value(LOOK)
    owner.run(*said)
    for _ in range(2):
        assert [other.value(LOOK) for other in others] == [usual, usual]
        assert owner.value(LOOK) == "99"
    assert not front.pins()


@pytest.mark.flavour("mariadb")
def test_so_are_statements_that_the_protocol_prepares(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    setup(endpoint, *BARE)
    front = make_front({"pool": {"size": 1, **prescribed(endpoint)}})
    owner, other = front.wire(), front.wire()
    usual = owner.value(LOOK)
    statement = owner.prepared("select n from recent")
    assert other.value(LOOK) == usual
    assert owner.executed(statement.id) == [(1,)]
    assert other.value(LOOK) == usual
    assert owner.value(LOOK) == "99"


def test_a_view_tells_nothing_to_a_client_of_the_old_kind(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    """Without DEPRECATE_EOF rows end in a way that has no room for it (PyMySQL)."""
    setup(
        endpoint,
        "create function f_told() returns int no sql begin set lock_wait_timeout = 99;"
        " return 1; end",
        "create view told as select f_told() n",
    )
    # Why for one kind alone: MariaDB says at the end of rows that there is something to tell.
    pool = prescribed(endpoint) if endpoint.kind == "mysql" else {}
    front = make_front({"pool": {"size": 2, "queue_timeout": "5s", **pool}})
    owner, *others = (front.connect().cursor() for _ in range(4))
    for cursor in (owner, *others):
        cursor.execute(LOOK)
    usual = others[0].fetchone()
    assert usual != (99,)
    owner.execute("select * from told")
    assert owner.fetchall() == ((1,),)
    for cursor, expected in [*((other, usual) for other in others), (owner, (99,))]:
        cursor.execute(LOOK)
        assert cursor.fetchone() == expected


def test_a_lock_that_a_trigger_takes_keeps_its_server(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    setup(
        endpoint,
        "create table guarded (n int)",
        "create function f_guard() returns int no sql return get_lock('held', 0)",
        "create trigger guard before insert on guarded for each row set new.n = f_guard()",
    )
    pool = prescribed(endpoint)
    assert pool == {
        "stateful_tables": {"shop.guarded": ["advisory lock"]},
        "stateful_functions": {"shop.f_guard": ["advisory lock"]},
    }
    front = make_front({"pool": {"size": 2, "queue_timeout": "5s", **pool}})
    for takes in ("insert into guarded values (0)", "select f_guard()"):
        owner, others = front.wire(), [front.wire() for _ in range(3)]
        owner.run(takes)
        if front.maitred:
            (reasons,) = front.pins()
            assert "advisory lock" in reasons
        for other in others:
            assert other.value("select get_lock('held', 0)") == "0"
            assert other.value("select release_lock('held')") == "0"
        assert owner.value("select release_lock('held')") == "1"
        owner.expect_ok("RESET_CONNECTION")
        assert not front.pins()
