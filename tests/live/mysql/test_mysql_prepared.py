"""Prepared statements of the binary protocol: prepared once per server, named by each client.

The servers are shared with other clients that prepare statements of their own. Run by pytest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from fix_mysql_front import Front
from fix_mysql_packets import Err, Ok, Rows
from fix_mysql_wire import MysqlWire

pytestmark = pytest.mark.one_backend


@pytest.fixture(params=[1, 2, 5], ids=lambda size: f"{size}-servers")
def few(request: pytest.FixtureRequest, make_front: Callable[..., Front]) -> Front:
    return make_front({"pool": {"size": request.param}})


@pytest.fixture(params=[2, 5], ids=lambda size: f"{size}-servers")
def some(request: pytest.FixtureRequest, make_front: Callable[..., Front]) -> Front:
    """For what keeps a server between two commands."""
    return make_front({"pool": {"size": request.param}})


def number(answer: object) -> int:
    assert isinstance(answer, Err), answer
    return answer.number


def test_executed_again_and_again_by_many_clients(few: Front) -> None:
    clients = [few.wire() for _ in range(8)]
    statements = [client.prepared(f"select ? + {n % 3}, ?") for n, client in enumerate(clients)]
    for turn in range(4):
        for n, (client, statement) in enumerate(zip(clients, statements, strict=True)):
            found = client.executed(statement.id, turn, f"t{turn}")
            assert found == [(turn + n % 3, f"t{turn}")]


def test_what_prepare_says_of_parameters_and_columns(few: Front) -> None:
    client = few.wire()
    client.run("create table told (a int, b varchar(9) not null)")
    got = client.prepared("select a, b as c from told where a = ? and b = ?")
    assert len(got.parameters) == 2
    assert [(each.name, each.table) for each in got.columns] == [("a", "told"), ("c", "told")]
    assert client.prepared("insert into told values (?, ?)").columns == ()


def test_where_the_database_takes_no_more_statements(few: Front) -> None:
    admin = few.endpoint.connect("root", None, password="")
    with admin.cursor() as cursor:
        cursor.execute("set global max_prepared_stmt_count = 12")
    try:
        clients = [few.wire() for _ in range(3)]
        for turn in range(30):
            for client in clients:
                statement = client.prepared(f"select ? + {turn}")
                assert client.executed(statement.id, 1) == [(turn + 1,)]
                client.send("STMT_CLOSE", struct.pack("<I", statement.id))
        kept = [[client.prepared(f"select ?, {n}") for n in range(20)] for client in clients]
        for client, statements in zip(clients, kept, strict=True):
            for n, statement in enumerate(statements):
                assert client.executed(statement.id, "x") == [("x", n)]
    finally:
        with admin.cursor() as cursor:
            cursor.execute("set global max_prepared_stmt_count = default")
        admin.close()


def test_an_error_while_preparing(few: Front) -> None:
    client = few.wire()
    assert number(client.prepare("select ? from nosuch")) == 1146
    assert number(client.prepare("selec")) == 1064
    statement = client.prepared("select 1")
    assert client.executed(statement.id) == [(1,)]


def test_types_are_remembered(few: Front) -> None:
    """An execution may leave the types out when they are those of the one before."""
    client, other = few.wire(), few.wire()
    statement = client.prepared("select ?, ?")
    assert client.executed(statement.id, 5, "a") == [(5, "a")]
    for turn in range(4):
        other.run("begin", f"select {turn}", "commit")
        (got,) = client.execute(statement.id, (turn, "b"), types=False)
        assert isinstance(got, Rows)
        assert got.rows == [(turn, "b")]


def test_nulls(few: Front) -> None:
    client = few.wire()
    marks = ", ".join(["?"] * 20)
    statement = client.prepared(f"select {marks}")
    values = tuple(None if n % 3 else n for n in range(20))
    (row,) = client.executed(statement.id, *values)
    assert [None if each is None else int(each) for each in row] == list(values)


def test_a_closed_statement_is_gone_and_its_number_is_not_anothers(few: Front) -> None:
    one, two = few.wire(), few.wire()
    first, second = one.prepared("select 1"), two.prepared("select 2")
    one.close_statement(first.id)
    assert number(one.execute(first.id)[0]) == 1243
    assert two.executed(second.id) == [(2,)]


def test_another_clients_number_is_unknown(few: Front) -> None:
    one, two = few.wire(), few.wire()
    statement = one.prepared("select 'secret'")
    mine = two.prepared("select 'mine'")
    for wrong in {statement.id, 4711, 0} - {mine.id}:
        assert number(two.execute(wrong)[0]) == 1243
    assert one.executed(statement.id) == [("secret",)]
    assert two.executed(mine.id) == [("mine",)]


def test_long_data_in_pieces(some: Front) -> None:
    client, other = some.wire(), some.wire()
    statement = client.prepared("select length(?), ?")
    for part in range(20):
        client.long_data(statement.id, 0, b"x" * 1000)
        if part % 5 == 0:
            assert other.value("select 1") == "1"
    assert client.executed(statement.id, ..., 7) == [(20000, 7)]
    # Why: the data is used up by the execution.
    assert client.executed(statement.id, "ab", 8) == [(2, 8)]


def test_long_data_is_forgotten_by_a_reset(few: Front) -> None:
    client = few.wire()
    statement = client.prepared("select ?")
    client.long_data(statement.id, 0, b"forgotten")
    assert isinstance(client.ask("STMT_RESET", struct.pack("<I", statement.id)), Ok)
    assert client.executed(statement.id, "kept") == [("kept",)]


def test_long_data_of_two_clients(some: Front) -> None:
    one, two = some.wire(), some.wire()
    mine, theirs = one.prepared("select ?"), two.prepared("select ?")
    one.long_data(mine.id, 0, b"one")
    two.long_data(theirs.id, 0, b"two")
    one.long_data(mine.id, 0, b" and more")
    assert two.executed(theirs.id, ...) == [("two",)]
    assert one.executed(mine.id, ...) == [("one and more",)]


def test_long_data_of_17_mib(few: Front) -> None:
    client = few.wire()
    statement = client.prepared("select length(?)")
    for _ in range(17):
        client.long_data(statement.id, 0, b"y" * (1 << 20))
    assert client.executed(statement.id, ...) == [(17 << 20,)]


@pytest.mark.parametrize("form", ["", "DEPRECATE_EOF"], ids=["eof", "no-eof"])
def test_a_cursor_is_fetched_in_portions(few: Front, form: str) -> None:
    client = few.wire(with_=form)
    statement = client.prepared("select 1 n union all select 2 union all select 3")
    (opened,) = client.execute(statement.id, cursor=1)
    assert isinstance(opened, Rows)
    assert opened.rows == []
    assert [row for (row,) in _fetched(client, statement, 2)] == [1, 2]
    assert [row for (row,) in _fetched(client, statement, 2)] == [3]
    assert client.status & 0x80, "the last row was sent"
    assert isinstance(client.ask("STMT_RESET", struct.pack("<I", statement.id)), Ok)
    # Why with a cursor again: MySQL 9.7 itself answers wrongly without one after one.
    client.execute(statement.id, cursor=1)
    assert _fetched(client, statement, 5) == [(1,), (2,), (3,)]


def _fetched(client: MysqlWire, statement: object, count: int) -> list[tuple[object, ...]]:
    got = client.fetch(statement, count)  # type: ignore[arg-type]
    assert isinstance(got, Rows), got
    return got.rows


@pytest.mark.parametrize("size", [2, 5])
def test_a_cursor_lives_while_others_work(make_front: Callable[..., Front], size: int) -> None:
    few = make_front({"pool": {"size": size}})
    client, other = few.wire(), few.wire()
    statement = client.prepared("select 1 n union all select 2 union all select 3")
    client.execute(statement.id, cursor=1)
    for n in (1, 2, 3):
        assert other.value(f"select {n}") == str(n)
        assert _fetched(client, statement, 1) == [(n,)]


def test_a_fetch_without_a_cursor(few: Front) -> None:
    client = few.wire()
    statement = client.prepared("select 1")
    assert number(client.fetch(statement, 1)) in (1243, 1421)
    assert client.value("select 1") == "1"


def test_a_procedure_executed(few: Front) -> None:
    client = few.wire()
    client.run("create procedure both_of(a int) begin select a; select a + 1; end")
    statement = client.prepared("call both_of(?)")
    for value in (1, 5):
        got = client.execute(statement.id, (value,))
        assert [each.rows for each in got if isinstance(each, Rows)] == [
            [(value,)], [(value + 1,)]
        ]  # fmt: skip


def test_a_table_that_changes_under_a_statement(few: Front) -> None:
    client, other = few.wire(), few.wire()
    client.run("create table changing (a int)", "insert into changing values (1)")
    statement = client.prepared("select * from changing")
    assert client.executed(statement.id) == [(1,)]
    other.run("alter table changing add b int default 2")
    assert client.executed(statement.id) == [(1, 2)]


def test_the_database_in_which_it_was_prepared(few: Front) -> None:
    """The statement keeps the meaning that it had, whatever is current when it is executed."""
    client, other = few.wire(), few.wire()
    client.run("create table shop.which (n int)", "insert into shop.which values (1)")
    client.run("create table warehouse.which (n int)", "insert into warehouse.which values (2)")
    here = client.prepared("select n from which")
    client.run("use warehouse")
    there = client.prepared("select n from which")
    for _ in range(3):
        assert other.rows("select n from which") == [("1",)]
        assert client.executed(there.id) == [(2,)]
        assert client.executed(here.id) == [(1,)]


def test_settings_that_a_statement_was_prepared_under(few: Front) -> None:
    client, other = few.wire(), few.wire()
    client.run("set sql_mode = 'ANSI_QUOTES'")
    statement = client.prepared('select 1 as "quoted"')
    client.run("set sql_mode = ''")
    for _ in range(3):
        other.run("select 1")
        assert client.executed(statement.id) == [(1,)]


def test_hundreds_of_statements_of_one_client(few: Front) -> None:
    client = few.wire()
    made = [client.prepared(f"select {n}") for n in range(400)]
    for n in (0, 399, 7, 399, 0, 250):
        assert client.executed(made[n].id) == [(n,)]


def test_statements_end_with_their_client(few: Front) -> None:
    """Nobody's statements are left on the servers for good."""
    for turn in range(30):
        client = few.wire()
        for n in range(10):
            client.prepared(f"select {turn}, {n}")
        client.close()
    limit = int(few.endpoint.value("show variables like 'max_prepared_stmt_count'") != "")
    assert limit
    held = few.endpoint.rows("show global status like 'Prepared_stmt_count'")
    assert int(held[0][1]) <= 300
    assert few.wire().value("select 1") == "1"


def test_in_transactions(few: Front) -> None:
    client, other = few.wire(), few.wire()
    client.run("create table kept (n int)")
    insert = client.prepared("insert into kept values (?)")
    client.run("begin")
    client.executed(insert.id, 1)
    client.run("rollback", "begin")
    client.executed(insert.id, 2)
    client.run("commit")
    assert other.rows("select n from kept") == [("2",)]


def test_sql_prepare_of_two_clients_under_one_name(few: Front) -> None:
    one, two = few.wire(), few.wire()
    one.run("prepare p from 'select 1, ?'")
    one.run("set @v = 5")
    found = one.rows("execute p using @v")
    assert found == [("1", "5")]
    one.run("deallocate prepare p")
    two.run("prepare p from 'select 2'")
    assert two.rows("execute p") == [("2",)]
    assert one.error("execute p").number == 1243
    two.run("deallocate prepare p")
