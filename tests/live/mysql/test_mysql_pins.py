"""What keeps a server with its client, for how long, and that it never reaches anybody else.

Each case has a statement that takes something, one that gives it back, and a probe that tells
whether a client has it; `keeps` says whether it may pin at all. Run by pytest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fix_mysql_front import Front
from fix_mysql_packets import Err
from fix_mysql_wire import MysqlWire
from fix_processes import eventually

pytestmark = pytest.mark.one_backend

SETUP = [
    "create table shop.locked (n int primary key)",
    "insert into shop.locked values (1), (2)",
    "create procedure shop.p_temp() create temporary table held (n int)",
    "create procedure shop.p_lock() do get_lock('held', 0)",
    "create procedure shop.p_clock() set @@timestamp = 1000",
    "create function shop.f_lock() returns int no sql return get_lock('held', 0)",
]
_TEMPORARY = ("drop temporary table held", "select count(*) from held", "0")
# Why so: connection ids that clients see are not those that is_used_lock() tells of.
_LOCK = (
    "do release_lock('held')",
    "select if(release_lock('held') = 1, get_lock('held', 0), 0)",
    "1",
)


@dataclass(frozen=True)
class Case:
    """One way to take something that stays with a server."""

    takes: str
    gives_back: str
    # Answers `has` to who has it; anything else, or an error, to who has not.
    probe: str
    has: str
    only: str = ""


CASES = {
    "temporary table": Case("create temporary table held (n int)", *_TEMPORARY),
    "temporary table in a procedure": Case("call p_temp()", *_TEMPORARY),
    "temporary table behind others": Case(
        "select 1; create temporary table held (n int); select 2", *_TEMPORARY
    ),
    "temporary table replaced": Case(
        "create or replace temporary table held (n int)", *_TEMPORARY, only="mariadb"
    ),
    "temporary table immediately": Case(
        "execute immediate 'create temporary table held (n int)'", *_TEMPORARY, only="mariadb"
    ),
    "temporary table, oddly written": Case(
        "/*! CREATE */ /* a */ Temporary\n\tTABLE held (n int)", *_TEMPORARY
    ),
    "temporary table, its schema said later": Case(
        "create temporary table held (n int)", "drop table shop.held", *_TEMPORARY[1:]
    ),
    "temporary table, dropped from elsewhere": Case(
        "create temporary table if not exists shop.held (n int)",
        "use warehouse; drop temporary table if exists shop.held; use shop",
        *_TEMPORARY[1:],
    ),
    "temporary table like": Case("create temporary table held like locked", *_TEMPORARY),
    "temporary table as": Case(
        "create temporary table held as select 1 n from locked where false", *_TEMPORARY
    ),
    "lock": Case("select get_lock('held', 0)", *_LOCK),
    "lock with a blank": Case("select get_lock ('held', 0)", *_LOCK),
    "lock in a procedure": Case("call p_lock()", *_LOCK),
    "lock in a function": Case("select f_lock()", *_LOCK),
    "lock behind others": Case("select 1; select get_lock('held', 0)", *_LOCK),
    "lock in an assignment": Case("set @got = get_lock('held', 0)", *_LOCK),
    "lock, do": Case("do get_lock('held', 0)", *_LOCK),
    "lock in a prepared text": Case(
        "prepare p from 'do get_lock(''held'', 0)'; execute p; deallocate prepare p", *_LOCK
    ),
    "handler": Case("handler locked open as held", "handler held close",
                    "handler held read first", "1"),
    "clock in a procedure": Case("call p_clock()", "set timestamp = default",
                                 "select now() < '2000-01-01'", "1", only="mariadb"),
    "prepared text": Case("prepare held from 'select 5'", "deallocate prepare held",
                          "execute held", "5"),
}  # fmt: skip

# Whoever holds these keeps others from working: what others see is that they wait or are refused.
BARRIERS = {
    "LOCK TABLES": Case("lock tables locked write", "unlock tables",
                        "insert into locked values (99)", ""),
    "LOCK TABLES READ": Case("lock tables locked read", "unlock tables",
                             "select count(*) from locked", ""),
    "FLUSH TABLES WITH READ LOCK": Case("flush tables with read lock", "unlock tables",
                                        "select count(*) from locked", ""),
    "FLUSH TABLES t WITH READ LOCK": Case("flush tables locked with read lock", "unlock tables",
                                          "select count(*) from locked", ""),
    "LOCK TABLES behind others": Case("select 1; lock tables locked read", "unlock tables",
                                      "select count(*) from locked", ""),
    "BACKUP LOCK": Case("backup lock locked", "backup unlock",
                        "select count(*) from locked", "", only="mariadb"),
    "LOCK INSTANCE FOR BACKUP": Case("lock instance for backup", "unlock instance",
                                     "select count(*) from locked", "", only="mysql"),
}  # fmt: skip


@pytest.fixture
def two(make_front: Callable[..., Front]) -> Front:
    made = make_front({"pool": {"size": 2, "queue_timeout": "5s"}})
    with made.endpoint.connect("root", "shop", password="") as admin, admin.cursor() as cursor:
        for statement in SETUP:
            cursor.execute(statement)
    return made


def _case(table: dict[str, Case], name: str, front: Front) -> Case:
    case = table[name]
    if case.only and case.only != front.endpoint.kind:
        pytest.skip(f"only {case.only} knows this statement")
    return case


def has(client: MysqlWire, case: Case) -> bool:
    """Whether the client has what the case takes."""
    answers = client.query(case.probe)
    last = answers[-1]
    return not isinstance(last, Err) and getattr(last, "rows", None) == [(case.has,)]


def run_all(client: MysqlWire, statement: str) -> None:
    for answer in client.query(statement):
        assert not isinstance(answer, Err), answer


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_clients_alone_as_long_as_it_is_held(two: Front, name: str) -> None:
    case = _case(CASES, name, two)
    owner = two.wire()
    run_all(owner, case.takes)
    others = [two.wire() for _ in range(4)]
    for _ in range(3):
        for other in others:
            assert not has(other, case), "another client has it"
        assert has(owner, case), "its own client has lost it"
    run_all(owner, case.gives_back)
    assert not has(owner, case)


@pytest.mark.parametrize("name", CASES)
def test_it_does_not_outlive_its_client(two: Front, name: str) -> None:
    case = _case(CASES, name, two)
    owner = two.wire()
    run_all(owner, case.takes)
    owner.close()
    # Why both: two servers are asked at once, so that each is looked at.
    others = [two.wire() for _ in range(2)]
    for other in others:
        run_all(other, "begin")
    assert not any(has(other, case) for other in others)


@pytest.mark.parametrize("name", CASES)
def test_the_pin_has_a_reason_and_ends_when_given_back(two: Front, name: str) -> None:
    case = _case(CASES, name, two)
    two.operated  # noqa: B018
    if two.endpoint.kind == "mysql" and name == "temporary table in a procedure":
        pytest.skip("MySQL does not tell what else a routine has left: it pins for good")
    owner = two.wire()
    run_all(owner, case.takes)
    # Why not always one: what can be carried instead may be.
    reasons = two.pins()
    assert all(reasons), "a pin without a reason"
    assert has(owner, case)
    run_all(owner, case.gives_back)
    eventually(lambda: not two.pins(), because=f"{name}: given back, but still pinned: {reasons}")


@pytest.mark.parametrize("name", BARRIERS)
def test_a_barrier_is_its_clients_and_ends_with_it(two: Front, name: str) -> None:
    case = _case(BARRIERS, name, two)
    owner = two.wire()
    run_all(owner, case.takes)
    other = two.wire()
    # Why this probe: on the owner's server it would fail (1099, 1100) or succeed where it must not.
    assert other.value("select 1") == "1"
    assert other.value("select count(*) from information_schema.schemata where 1=0") == "0"
    refused = other.query(case.probe) if case.probe.startswith("select") else []
    assert not any(isinstance(answer, Err) for answer in refused), refused
    owner.close()

    def is_free() -> bool:
        with two.wire() as late:
            late.socket.settimeout(2)
            try:
                got = late.query("update locked set n = n")
            except TimeoutError:
                return False
            return not isinstance(got[-1], Err)

    eventually(is_free, because=f"{name} outlives its client")


@pytest.mark.parametrize("name", BARRIERS)
def test_a_barrier_given_back_is_no_pin(two: Front, name: str) -> None:
    case = _case(BARRIERS, name, two)
    owner = two.wire()
    run_all(owner, case.takes)
    run_all(owner, case.gives_back)
    eventually(lambda: not two.pins(), because="given back, but still pinned")
    for client in (two.wire(), two.wire(), owner):
        run_all(client, "update locked set n = n")


# What must not pin

FREE = {
    "reading variables": "select @@sql_mode",
    "reading many variables": "select @@session.auto_increment_increment AS a, "
                              "@@character_set_client AS b, @@tx_isolation_or_not_there",
    "SQLAlchemy's start": "SELECT @@version_comment; SHOW VARIABLES LIKE 'sql_mode'; "
                          "SELECT @@lower_case_table_names; SELECT @@transaction_isolation_x",
    "Django's start": "SELECT VERSION(), @@sql_mode, @@default_storage_engine, "
                      "@@sql_auto_is_null, @@lower_case_table_names, "
                      "CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
    "SET NAMES": "set names latin1",
    "sql_mode": "set sql_mode = 'ANSI'",
    "time_zone": "set time_zone = '+01:00'",
    "USE": "use warehouse",
    "a plain user variable": "set @x = 5, @y = 'text', @z = 1.5, @n = null",
    "a failing SET": "set nosuchvariable = 5",
    "two at once": "set sort_buffer_size = 65536, @z = 2",
    "autocommit off": "set autocommit = 0",
    "isolation": "set session transaction isolation level read committed",
    "a warning": "select cast('x' as signed)",
    "an error": "select * from nosuch",
    "an id": "insert into numbered (n) values (5)",
    "a multi-statement": "select 1; set @a = 1; select 2",
    "timeouts": "set wait_timeout = 600, net_write_timeout = 70, lock_wait_timeout = 3",
    "comments with words of others": "select 'get_lock(', \"lock tables\" /* create temporary */",
    "information": "show tables",
}  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_nobody_is_pinned_by(two: Front, name: str) -> None:
    two.operated  # noqa: B018
    if name == "an id":
        two.wire().run("create table numbered (id int auto_increment primary key, n int)")
    client = two.wire()
    client.query(FREE[name])
    if client.in_transaction:
        client.run("rollback")
    eventually(lambda: not two.pins(), because=f"{name} pins its client")
    # Why: whatever the console says, more clients than servers must be able to work.
    held = [two.wire() for _ in range(2)]
    for each in held:
        each.run("begin", "select 1")
        each.run("commit")


def test_a_transaction_that_reads_is_asked_nothing_more(make_front: Callable[..., Front]) -> None:
    # Why: it says at the end of rows that something has changed, which is only that it has read.
    client = make_front({"pool": {"size": 1}}).wire()
    client.run("create table read_here (n int)")

    def questions() -> int:
        return int(client.query("show session status like 'Questions'")[0].rows[0][1])

    before = questions()
    for _ in range(3):
        client.run("begin", "select * from read_here", "select count(*) from read_here", "commit")
    assert questions() - before == 13


def test_three_clients_that_read_variables_share_one_server(
    make_front: Callable[..., Front],
) -> None:
    front = make_front({"pool": {"size": 1, "queue_timeout": "3s"}})
    clients = [front.wire() for _ in range(12)]
    for turn in range(2):
        for client in clients:
            client.run(FREE["Django's start"], "select @@sql_mode", "set @turn = 1")
            assert client.value("select 1") == "1", turn
    if front.maitred:
        assert len(front.endpoint.threads("app")) == 1


def test_who_waits_for_a_pinned_server_gets_it_when_it_is_given_back(
    make_front: Callable[..., Front],
) -> None:
    front = make_front({"pool": {"size": 1, "queue_timeout": "20s"}})
    owner, waiter = front.wire(), front.wire()
    owner.run("create temporary table held (n int)")
    seen: list[str] = []

    def wait() -> None:
        seen.append(waiter.value("select 7"))

    asking = threading.Thread(target=wait)
    asking.start()
    if front.maitred:
        asking.join(0.5)
        assert not seen, "the pinned server was lent to another client"
    owner.run("drop temporary table held")
    asking.join(20)
    assert seen == ["7"]


@pytest.mark.parametrize("how", ["use", "INIT_DB", "prepared"])
def test_a_table_of_another_schema_is_another_table(
    make_front: Callable[..., Front], how: str
) -> None:
    """What is dropped elsewhere by the same name leaves the temporary table to its client."""
    front = make_front({"pool": {"size": 1, "queue_timeout": "2s"}})
    owner, stranger = front.wire(), front.wire()
    made = owner.prepared("create temporary table held (n int)")
    if how == "prepared":
        owner.run("use warehouse")
        owner.executed(made.id)
    else:
        owner.run("create temporary table held (n int)")
        owner.run("use warehouse") if how == "use" else owner.expect_ok("INIT_DB", b"warehouse")
    owner.run("drop table if exists held")
    if front.maitred:
        assert front.pins() == ["temporary object"]
        assert stranger.error("select * from shop.held").number == 1205
    assert owner.value("select count(*) from shop.held") == "0"
    owner.run("drop table shop.held")
    assert stranger.error("select * from shop.held").number == 1146
    assert front.pins() == []


def test_pins_are_shown_with_statements_reasons(two: Front) -> None:
    maitred = two.operated
    owner = two.wire()
    owner.run("create temporary table held (n int)", "select get_lock('held', 0)")
    (row,) = maitred.console("SHOW PINS")
    assert "temporary" in (row["reasons"] or "")
    assert "lock" in (row["reasons"] or "")


@pytest.mark.flavour("mariadb")
@pytest.mark.parametrize("scope", ["transaction", "session"])
def test_what_a_sequence_gave_is_its_clients(make_front: Callable[..., Front], scope: str) -> None:
    front = make_front({"pool": {"size": 2, "sequences": scope}})
    owner, other = front.wire(), front.wire()
    owner.run("create sequence numbers")
    assert owner.value("select nextval(numbers)") == "1"
    for _ in range(3):
        assert other.value("select lastval(numbers)") is None
        if scope == "session":
            assert owner.value("select lastval(numbers)") == "1"
    owner.run("begin")
    assert owner.value("select nextval(numbers)") == "2"
    assert owner.value("select lastval(numbers)") == "2"
    owner.run("commit")
    assert other.value("select lastval(numbers)") is None
