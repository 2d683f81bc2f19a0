"""KILL through maitred: by the numbers that clients know, at the server that works for them.

A number of ours means our client; it must never hit anybody else. Run by pytest.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable

import pymysql
import pytest

from fix_mysql_front import Front
from fix_mysql_packets import Err, Ok, Rows
from fix_mysql_stream import MysqlClosed
from fix_mysql_wire import MysqlError, MysqlWire
from fix_processes import eventually

pytestmark = pytest.mark.one_backend


def sleeping(front: Front, client: MysqlWire, seconds: int = 20) -> None:
    """The client asks for a long sleep, and a server has begun it."""
    mark = f"select sleep({seconds}) /* {client.greeting.thread} */"
    client.send("QUERY", mark.encode())
    eventually(
        lambda: front.endpoint.rows(
            "select id from information_schema.processlist where info like %s",
            f"select sleep(%/* {client.greeting.thread} */",
        )
    )


def interrupted(client: MysqlWire) -> bool:
    """Whether the sleep was ended: an error, or MariaDB's and MySQL's own answer 1."""
    answer = client.read_answers()[-1]
    end = answer.end if isinstance(answer, Rows) else answer
    if isinstance(end, Err):
        return end.number in (1317, 1969, 3024)
    return isinstance(answer, Rows) and answer.rows == [("1",)]


@pytest.mark.parametrize("workers", [1, 3])
def test_kill_query_by_the_greetings_number(make_front: Callable[..., Front], workers: int) -> None:
    front = make_front({"pool": {"size": 5}}, workers=workers)
    victim, killer, bystander = (front.wire() for _ in range(3))
    sleeping(front, victim)
    sleeping(front, bystander, 3)
    killer.run(f"kill query {victim.greeting.thread}")
    assert interrupted(victim)
    assert victim.value("select 1") == "1"
    assert not interrupted(bystander)


def test_kill_query_by_the_number_that_the_client_asked_for(front: Front) -> None:
    victim, killer = (front.wire(database="transaction") for _ in range(2))
    number = victim.value("select connection_id()")
    sleeping(front, victim)
    killer.run(f"kill query {number}")
    assert interrupted(victim)


@pytest.mark.parametrize("how", ["kill {}", "kill connection {}", "COM_PROCESS_KILL"])
def test_kill_connection_ends_the_client(front: Front, how: str) -> None:
    if how.startswith("COM") and front.endpoint.kind == "mysql":
        pytest.skip("MySQL 9 has no COM_PROCESS_KILL")
    victim, killer, bystander = (front.wire(database="transaction") for _ in range(3))
    bystander.run("begin")
    if how.startswith("COM"):
        killer.expect_ok("PROCESS_KILL", struct.pack("<I", victim.greeting.thread))
    else:
        killer.run(how.format(victim.greeting.thread))
    with pytest.raises((MysqlError, MysqlClosed, ConnectionError)):
        for _ in range(20):
            victim.value("select 1")
            time.sleep(0.05)
    assert bystander.in_transaction
    assert bystander.value("select 1") == "1"


def test_kill_connection_ends_one_that_works(front: Front) -> None:
    victim, killer = (front.wire(database="transaction") for _ in range(2))
    sleeping(front, victim)
    before = time.monotonic()
    killer.run(f"kill {victim.greeting.thread}")
    with contextlib.suppress(MysqlClosed):
        victim.read_answers()
    assert victim.is_closed()
    assert time.monotonic() - before < 10


def test_a_number_that_nobody_has(front: Front) -> None:
    client = front.wire(database="transaction")
    for statement in ("kill 4294967294", "kill query 4294967294"):
        assert client.error(statement).number == 1094
    assert client.value("select 1") == "1"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("is_open", [False, True])
def test_kill_among_other_statements(
    make_front: Callable[..., Front], is_open: bool, workers: int
) -> None:
    front = make_front({"pool": {"size": 2}}, workers=workers)
    victims = [front.wire() for _ in range(2)]
    killer = front.wire(with_="MULTI_STATEMENTS MULTI_RESULTS")
    other = front.wire(user="other")
    if is_open:
        killer.run("begin")
    numbers = [victim.greeting.thread for victim in victims]
    said = killer.query(f"kill {numbers[0]}; kill query {numbers[1]}; select sleep(0.05), 7; do 0")
    assert [type(answer) for answer in said] == [Ok, Ok, Rows, Ok]
    assert isinstance(said[2], Rows)
    assert said[2].rows == [("0", "7")]
    assert victims[0].is_closed()
    assert victims[1].value("select 1") == "1"
    said = killer.query(f"kill query {numbers[1]}; kill {numbers[0]}; kill {numbers[1]}")
    assert [type(answer) for answer in said] == [Ok, Err]
    assert isinstance(said[1], Err)
    assert (said[1].number, said[1].state) == (1094, "HY000")
    assert said[1].text == f"Unknown thread id: {numbers[0]}"
    said = killer.query(f"kill {other.greeting.thread}; select 1")
    assert [answer.number for answer in said if isinstance(answer, Err)] == [1095]
    # Nobody was killed whose turn did not come.
    assert victims[1].value("select 1") == "1"
    assert other.value("select 1") == "1"
    assert killer.value("select 2") == "2"


def test_what_is_no_text_of_several_statements_kills_nobody(front: Front) -> None:
    victim = front.wire(database="transaction")
    killer = front.wire(database="transaction", without="MULTI_STATEMENTS")
    assert killer.error(f"kill {victim.greeting.thread}; select 1").number == 1064
    assert victim.value("select 1") == "1"


def test_kill_query_of_an_idle_client_hits_nobody(make_front: Callable[..., Front]) -> None:
    """The server that it used last works for another client now."""
    front = make_front({"pool": {"size": 1}})
    idle, worker = front.wire(), front.wire()
    assert idle.value("select 1") == "1"
    operator = front.endpoint.connect("root", None, password="")
    worker.send("QUERY", b"select sleep(1.5)")
    time.sleep(0.3)
    idle_number = idle.greeting.thread

    def kill() -> None:
        third = front.wire()
        third.query(f"kill query {idle_number}")

    killing = threading.Thread(target=kill)
    killing.start()
    (answer,) = worker.read_answers()
    killing.join(20)
    operator.close()
    assert isinstance(answer, Rows)
    assert answer.rows == [("0",)], "another client's statement was ended"
    assert idle.value("select 1") == "1"


def test_pymysql_kills_by_its_thread_id(front: Front) -> None:
    victim = front.connect(database="transaction")
    killer = front.connect(database="transaction")
    killer.kill(victim.thread_id())
    with pytest.raises(pymysql.err.OperationalError), victim.cursor() as cursor:
        for _ in range(20):
            cursor.execute("select 1")
            time.sleep(0.05)


def test_show_processlist_shows_what_the_server_shows(front: Front) -> None:
    client = front.wire(database="transaction")
    (listed,) = client.query("show processlist")
    assert isinstance(listed, Rows)
    assert listed.names[:8] == ["Id", "User", "Host", "db", "Command", "Time", "State", "Info"]
    assert any(row[7] == "show processlist" for row in listed.rows)


def test_a_statement_time_limit_is_the_clients_own(front: Front) -> None:
    name = (
        "max_statement_time = 0.2"
        if front.endpoint.kind == "mariadb"
        else ("max_execution_time = 200")
    )
    one, two = (front.wire(database="transaction") for _ in range(2))
    one.run(f"set {name}")
    for _ in range(2):
        answer = one.query("select sleep(3)")[-1]
        end = answer.end if isinstance(answer, Rows) else answer
        limited = isinstance(end, Err) or (isinstance(answer, Rows) and answer.rows == [("1",)])
        assert limited
        (free,) = two.query("select sleep(0.4)")
        assert isinstance(free, Rows)
        assert free.rows == [("0",)]
