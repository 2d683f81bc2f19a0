"""MySQL servers that are lost: idle, busy, in a transaction, or with an answer on its way.

What clients see must be what is true: nothing where nothing was lost, an error packet where
something was, and never a statement carried out twice. Run by pytest.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fix_mariadb import MariaDB
from fix_mysql_front import Front
from fix_mysql_packets import Err, Ok, Rows
from fix_mysql_stream import MysqlClosed
from fix_mysql_wire import MysqlError, MysqlWire
from fix_network import Link
from fix_processes import eventually

LOST = {1053, 1927, 2006, 2013, 1158, 1159, 1160, 1161, 3169, 1184, 1105, 1317, 1152}


class Cutter(Link):
    """A link that can lose the answer to a statement once the database has carried it out."""

    lose_answers = False

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self._open.wait()
                if self.lose_answers and source.getpeername()[1] == self.target[1]:
                    self.reset()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            for side in (source, sink):
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


@pytest.fixture
def cutter(endpoint: MariaDB) -> Iterator[Cutter]:
    made = Cutter(("127.0.0.1", endpoint.port))
    yield made
    made.close()


@pytest.fixture
def cut(make_front: Callable[..., Front], cutter: Cutter) -> Callable[..., Front]:
    """A maitred whose servers all run over the cutter."""

    def make(size: int = 5, **pool: object) -> Front:
        front = make_front({"pool": {"size": size} | pool}, port=cutter.port)
        front.operated  # noqa: B018
        return front

    return make


def fill(front: Front, count: int) -> list[MysqlWire]:
    """As many clients, and as many idle servers."""
    clients = [front.wire() for _ in range(count)]
    for client in clients:
        client.run("begin", "select 1")
    for client in clients:
        client.run("commit")
    return clients


def all_gone(front: Front) -> None:
    """Wait: what is sent while a cut is on its way is lost, and nobody can tell how far it got."""
    eventually(lambda: not front.operated.console("SHOW SERVERS"))


def lost(client: MysqlWire, sql: str) -> Err:
    """The error packet that a client gets whose server is gone."""
    try:
        answers = client.query(sql)
    except (MysqlClosed, ConnectionError) as closed:
        raise AssertionError(f"{sql!r}: closed without a word") from closed
    last = answers[-1]
    end = last.end if isinstance(last, Rows) else last
    assert isinstance(end, Err), f"{sql!r} was answered {last}"
    return end


@pytest.mark.parametrize("how", ["reset", "kill"])
def test_idle_servers_cut_all_at_once_cost_nobody_an_error(
    cut: Callable[..., Front], cutter: Cutter, endpoint: MariaDB, how: str
) -> None:
    front = cut(size=32)
    clients = fill(front, 32)
    if how == "reset":
        cutter.reset()
    else:
        endpoint.kill_all()
    all_gone(front)
    for client in clients:
        assert client.value("select 5") == "5"


def test_idle_servers_cut_while_all_clients_ask_at_once(
    cut: Callable[..., Front], cutter: Cutter
) -> None:
    front = cut(size=32)
    clients = fill(front, 32)
    wrong: list[str] = []

    def ask(client: MysqlWire) -> None:
        try:
            assert client.value("select 5") == "5"
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    cutter.reset()
    all_gone(front)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_an_insert_whose_answer_was_lost_is_never_sent_again(
    cut: Callable[..., Front], cutter: Cutter, endpoint: MariaDB
) -> None:
    front = cut()
    client = front.wire()
    client.run("create table once (n int)")
    cutter.lose_answers = True
    error = lost(client, "insert into once values (1)")
    cutter.lose_answers = False
    assert error.number in LOST
    time.sleep(0.5)
    assert endpoint.value("select count(*) from once") == 1


def test_an_executed_insert_whose_answer_was_lost_is_never_sent_again(
    cut: Callable[..., Front], cutter: Cutter, endpoint: MariaDB
) -> None:
    front = cut()
    client = front.wire()
    client.run("create table once (n int)")
    statement = client.prepared("insert into once values (?)")
    client.executed(statement.id, 1)
    cutter.lose_answers = True
    client.send("STMT_EXECUTE", client.execution(statement.id, (2,)))
    (error,) = client.read_answers(binary=True)
    cutter.lose_answers = False
    assert isinstance(error, Err)
    assert error.number in LOST
    time.sleep(0.5)
    assert endpoint.rows("select n from once order by n") == [(1,), (2,)]


@pytest.mark.parametrize("last", ["insert into kept values (2)", "commit", "select * from kept"])
def test_a_server_lost_in_a_transaction_gives_an_error_packet(
    cut: Callable[..., Front], cutter: Cutter, endpoint: MariaDB, last: str
) -> None:
    front = cut()
    client = front.wire()
    client.run("create table kept (n int)", "begin", "insert into kept values (1)")
    cutter.reset()
    error = lost(client, last)
    assert error.number in LOST
    assert error.text
    eventually(lambda: endpoint.value("select count(*) from kept") == 0)
    # Why a newcomer: whether the client itself may go on is a choice; that others can is not.
    assert front.wire().value("select 1") == "1"


def test_a_server_lost_under_autocommit_off_gives_an_error_packet(
    cut: Callable[..., Front], cutter: Cutter
) -> None:
    front = cut()
    client = front.wire()
    client.run("create table kept (n int)", "set autocommit = 0", "insert into kept values (1)")
    cutter.reset()
    assert lost(client, "insert into kept values (2)").number in LOST


def test_a_query_that_runs_when_its_server_is_lost_gives_an_error_packet(
    cut: Callable[..., Front], cutter: Cutter
) -> None:
    front = cut()
    client = front.wire()
    client.send("QUERY", b"select sleep(20)")
    time.sleep(0.3)
    cutter.reset()
    (answer,) = client.read_answers()
    end = answer.end if isinstance(answer, Rows) else answer
    assert isinstance(end, Err)
    assert end.number in LOST


def test_a_server_lost_in_the_middle_of_a_result(cut: Callable[..., Front], cutter: Cutter) -> None:
    """An error packet ends the result where the rows stopped; no row is cut in two."""
    front = cut()
    client = front.wire()
    client.send(
        "QUERY",
        b"select 1, repeat('x', 1000) union all select 2, sleep(20) union all select 3, 'z'",
    )
    time.sleep(0.5)
    cutter.reset()
    try:
        (answer,) = client.read_answers()
    except MysqlClosed:
        pytest.fail("closed without a word")
    end = answer.end if isinstance(answer, Rows) else answer
    assert isinstance(end, Err)


@pytest.mark.parametrize(
    "pin", ["create temporary table held (n int)", "select get_lock('held', 0)"]
)
def test_pinned_state_lost_with_its_server_is_told(
    cut: Callable[..., Front], cutter: Cutter, pin: str
) -> None:
    front = cut()
    client = front.wire()
    client.run(pin)
    cutter.reset()
    try:
        assert lost(client, "select 1").number in LOST
    except MysqlError:
        pytest.fail("not told")


def test_carried_state_outlives_its_server(cut: Callable[..., Front], cutter: Cutter) -> None:
    front = cut()
    client = front.wire()
    client.run("set @x = 5", "set time_zone = '+05:00'", "use warehouse")
    statement = client.prepared("select ? + @x")
    assert client.executed(statement.id, 1) == [(6,)]
    cutter.reset()
    assert client.rows("select @x, @@time_zone, database()") == [("5", "+05:00", "warehouse")]
    cutter.reset()
    assert client.executed(statement.id, 2) == [(7,)]


def test_a_transaction_that_has_only_begun_may_begin_again(
    cut: Callable[..., Front], cutter: Cutter, endpoint: MariaDB
) -> None:
    """An error or a transparent new start; never a statement that lands outside it."""
    front = cut()
    client = front.wire()
    client.run("create table kept (n int)", "begin")
    cutter.reset()
    answer = client.query("insert into kept values (1)")[-1]
    if isinstance(answer, Ok):
        client.run("rollback")
    assert endpoint.value("select count(*) from kept") == 0


def test_a_database_that_refuses_and_returns(
    make_front: Callable[..., Front], own_mariadb: MariaDB
) -> None:
    front = make_front({"pool": {"size": 2, "queue_timeout": "2s"}})
    front.operated  # noqa: B018
    client = front.wire()
    assert client.value("select 1") == "1"
    own_mariadb.stop()
    got = client.query("select 1")[-1]
    assert isinstance(got, Err)
    own_mariadb.start()

    def works() -> bool:
        with front.wire() as late:
            return isinstance(late.query("select 1")[-1], Rows)

    eventually(works, because="does not work again after the database returned")
    assert client.value("select 1") == "1"


def test_a_database_killed_hard(make_front: Callable[..., Front], own_mariadb: MariaDB) -> None:
    front = make_front({"pool": {"size": 2, "queue_timeout": "20s"}})
    front.operated  # noqa: B018
    client = front.wire()
    client.run("create table kept (n int)", "begin", "insert into kept values (1)")
    own_mariadb.stop(9)
    own_mariadb.start()
    assert lost(client, "commit").number in LOST
    assert front.wire().value("select count(*) from kept") == "0"


def test_a_database_that_stalls(cut: Callable[..., Front], cutter: Cutter) -> None:
    front = cut()
    client = front.wire()
    client.run("select 1")
    cutter.stall()
    client.send("QUERY", b"select 7")
    time.sleep(2)
    cutter.flow()
    (answer,) = client.read_answers()
    assert isinstance(answer, Rows)
    assert answer.rows == [("7",)]


def test_killed_by_an_administrator_while_it_works(
    make_front: Callable[..., Front], endpoint: MariaDB
) -> None:
    front = make_front()
    front.operated  # noqa: B018
    client = front.wire()
    client.run("begin")
    client.send("QUERY", b"select sleep(20)")
    time.sleep(0.3)
    endpoint.kill_all()
    (answer,) = client.read_answers()
    end = answer.end if isinstance(answer, Rows) else answer
    assert isinstance(end, Err)
    assert end.number in LOST | {1317, 1053, 1927}
