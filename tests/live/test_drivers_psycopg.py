"""psycopg 3 through maitred, in every pool mode: what the driver offers works as without a proxy.

Asserts results, never speed; anything about pools belongs to the other files of this ring.
Run by pytest.
"""

from __future__ import annotations

import asyncio
import decimal
import uuid

import psycopg
import pytest
from psycopg import sql

from fix_maitred import Maitred

WITH_TRANSACTIONS = pytest.mark.parametrize("mode", ["transaction", "session"], indirect=True)


def test_values_of_many_types_come_back_equal(served: Maitred, mode: str) -> None:
    values = {
        "int8": 2**62,
        "text": "Zoë \N{SNOWMAN} \\ ' \"",
        "numeric": decimal.Decimal("12345678901234567890.123456789"),
        "uuid": uuid.uuid4(),
        "bytea": bytes(range(256)),
        "int4[]": [1, None, 3],
        "bool": True,
    }
    with served.connect(database=mode) as client:
        for kind, value in values.items():
            for binary in (False, True):
                statement = sql.SQL("select {}::{}").format(sql.Placeholder(), sql.SQL(kind))
                (found,) = client.execute(statement, [value], binary=binary).fetchone()
                assert found == value, (kind, binary)


def test_statement_is_prepared_after_repeated_use(served: Maitred, mode: str) -> None:
    with served.connect(database=mode, prepare_threshold=2) as client:
        for number in range(20):
            found = client.execute("select %s::int4 + 1", [number]).fetchone()
            assert found == (number + 1,)


def test_every_client_keeps_its_own_prepared_statements(served: Maitred, mode: str) -> None:
    # Why fewer in session mode: each client keeps one of the five servers.
    count = 4 if mode == "session" else 12
    clients = [served.connect(database=mode, prepare_threshold=0) for _ in range(count)]
    try:
        for turn in range(5):
            for number, client in enumerate(clients):
                # Why: psycopg gives them all the same names, _pg3_0 and so on.
                found = client.execute(f"select {number}, %s::int4", [turn]).fetchone()
                assert found == (number, turn)
    finally:
        for client in clients:
            client.close()


@WITH_TRANSACTIONS
def test_rollback_takes_back_what_a_transaction_did(served: Maitred, mode: str) -> None:
    with served.connect(database=mode, autocommit=False) as client:
        client.execute("drop table if exists rolled")
        client.execute("create table rolled (n int)")
        client.commit()
        client.execute("insert into rolled values (1)")
        client.rollback()
        client.execute("insert into rolled values (2)")
        with pytest.raises(psycopg.errors.DivisionByZero), client.transaction():
            client.execute("insert into rolled values (3)")
            client.execute("select 1/0")
        client.commit()
        assert client.execute("select n from rolled").fetchall() == [(2,)]
        client.execute("drop table rolled")


@WITH_TRANSACTIONS
def test_server_side_cursor_fetches_in_portions(served: Maitred, mode: str) -> None:
    with served.connect(database=mode, autocommit=False) as client:
        with client.cursor("portions") as cursor:
            cursor.itersize = 7
            cursor.execute("select generate_series(1, 100)")
            assert [n for (n,) in cursor] == list(range(1, 101))
        with client.cursor("scrolling", scrollable=True) as cursor:
            cursor.execute("select generate_series(1, 10)")
            cursor.scroll(5)
            assert cursor.fetchone() == (6,)
            cursor.scroll(-3)
            assert cursor.fetchone() == (4,)


def test_pipeline_returns_answers_in_order(served: Maitred, mode: str) -> None:
    with served.connect(database=mode) as client, client.pipeline() as pipeline:
        cursors = [client.execute("select %s::int4", [number]) for number in range(200)]
        pipeline.sync()
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))


def test_error_in_a_pipeline_aborts_only_up_to_its_sync(served: Maitred, mode: str) -> None:
    with served.connect(database=mode) as client:
        with client.pipeline() as pipeline:
            client.execute("select 1")
            pipeline.sync()
            with pytest.raises(psycopg.errors.UndefinedTable):
                client.execute("select * from nowhere")
                pipeline.sync()
            assert client.execute("select 2").fetchone() == (2,)
        assert client.execute("select 3").fetchone() == (3,)


def test_copy_in_and_out_carry_the_same_rows(served: Maitred, mode: str) -> None:
    table = sql.Identifier(f"copied_{mode}_{served.backend}")
    rows = [(number, f"row {number}\t\\ \n") for number in range(5000)]
    with served.connect(database=mode) as client:
        client.execute(sql.SQL("drop table if exists {}").format(table))
        client.execute(sql.SQL("create table {} (n int, t text)").format(table))
        with client.cursor().copy(sql.SQL("copy {} from stdin").format(table)) as copy:
            for row in rows:
                copy.write_row(row)
        with client.cursor().copy(
            sql.SQL("copy (select * from {} order by n) to stdout").format(table)
        ) as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == rows
        client.execute(sql.SQL("drop table {}").format(table))


def test_copy_that_the_client_gives_up_leaves_nothing(served: Maitred, mode: str) -> None:
    table = f"given_up_{mode}_{served.backend}"
    with served.connect(database=mode) as client:
        client.execute(f"drop table if exists {table}")
        client.execute(f"create table {table} (n int)")
        with (
            pytest.raises(ZeroDivisionError),
            client.cursor().copy(f"copy {table} from stdin") as copy,
        ):
            copy.write_row([1])
            raise ZeroDivisionError
        assert client.execute(f"select count(*) from {table}").fetchone() == (0,)
        client.execute(f"drop table {table}")


def test_notices_reach_the_client_that_caused_them(served: Maitred, mode: str) -> None:
    heard: list[str] = []
    with served.connect(database=mode) as client, served.connect(database=mode) as bystander:
        client.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        bystander.add_notice_handler(lambda _: heard.append("overheard"))
        client.execute("do $$ begin raise notice 'hear ye'; end $$")
        bystander.execute("select 1")
    assert heard == ["hear ye"]


def test_error_carries_every_field(served: Maitred, mode: str) -> None:
    code = """do $$ begin raise exception using message = 'm', detail = 'd', hint = 'h',
              errcode = 'P0042', table = 't', constraint = 'c'; end $$"""
    with served.connect(database=mode) as client, pytest.raises(psycopg.Error) as caught:
        client.execute(code)
    found = caught.value.diag
    assert (found.sqlstate, found.message_primary, found.message_detail) == ("P0042", "m", "d")
    assert (found.message_hint, found.table_name, found.constraint_name) == ("h", "t", "c")


def test_async_connections_work_side_by_side(served: Maitred, mode: str) -> None:
    async def one(number: int) -> list[int]:
        place = served.place(database=mode)
        async with await psycopg.AsyncConnection.connect(**place, autocommit=True) as client:
            found = []
            for turn in range(10):
                cursor = await client.execute("select %s::int4", [number * 100 + turn])
                found.append((await cursor.fetchone())[0])
            return found

    async def all_of_them() -> list[list[int]]:
        return await asyncio.gather(*(one(number) for number in range(30)))

    expected = [[number * 100 + turn for turn in range(10)] for number in range(30)]
    assert asyncio.run(all_of_them()) == expected


@WITH_TRANSACTIONS
def test_two_phase_commit_ends_on_any_server(served: Maitred, mode: str) -> None:
    table = f"phased_{mode}_{served.backend}"
    with served.connect(database=mode, autocommit=False) as client:
        client.execute(f"drop table if exists {table}")
        client.execute(f"create table {table} (n int)")
        client.commit()
        transaction = client.xid(1, f"gtrid-{table}", "bqual")
        client.tpc_begin(transaction)
        client.execute(f"insert into {table} values (1)")
        client.tpc_prepare()
        client.tpc_commit()
        assert client.execute(f"select n from {table}").fetchall() == [(1,)]
        client.execute(f"drop table {table}")
        client.commit()


@WITH_TRANSACTIONS
def test_settings_of_one_transaction_stay_in_it(served: Maitred, mode: str) -> None:
    with served.connect(database=mode, autocommit=False) as client:
        client.execute("set local statement_timeout = '12345ms'")
        assert client.execute("show statement_timeout").fetchone() == ("12345ms",)
        client.rollback()
        assert client.execute("show statement_timeout").fetchone() == ("0",)
