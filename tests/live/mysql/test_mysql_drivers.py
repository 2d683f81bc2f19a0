"""Python's MySQL drivers through maitred: what every program does with each of them.

Each driver is used as its own documentation shows; none is told that a proxy is there.
Run by pytest.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import mysql.connector
import MySQLdb
import pymysql
import pytest

from fix_mysql_front import Front

pytestmark = pytest.mark.one_backend

Connect = Callable[..., Any]


def _mysqlclient(place: dict[str, Any], **more: Any) -> Any:
    named = {"password": "passwd", "database": "db"}
    told = {named.get(name, name): value for name, value in place.items()}
    return MySQLdb.connect(**told, **more)


def _connector(place: dict[str, Any], **more: Any) -> Any:
    return mysql.connector.connect(**place, use_pure=True, **more)


DRIVERS: dict[str, Connect] = {
    "PyMySQL": lambda place, **more: pymysql.connect(**place, **more),
    "mysqlclient": _mysqlclient,
    "mysql-connector": _connector,
}


@pytest.fixture(params=["transaction", "session"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DRIVERS)
def connect(request: pytest.FixtureRequest, front: Front, mode: str) -> Connect:
    """A connection of a driver, as it comes (autocommit off)."""

    def make(**more: Any) -> Any:
        made = DRIVERS[request.param](front.place(database=mode), **more)
        request.addfinalizer(made.close)
        return made

    return make


def run(connection: Any, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(sql, values or None)
    found = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
    cursor.close()
    return found


def test_values_of_every_kind_come_back(connect: Connect) -> None:
    connection = connect()
    run(connection,
        "create table kinds (i int, b bigint unsigned, d decimal(10, 3), f double, s varchar(99), "
        "x blob, t datetime(6), day date, n int)")  # fmt: skip
    values = (
        -7, 1 << 63, decimal.Decimal("12.345"), 0.25, "Zoë 😀 it's \\ \"q\" %s", b"\0\xff\x1a'",
        datetime.datetime(2026, 2, 28, 23, 59, 58, 123456), datetime.date(1999, 12, 31), None,
    )  # fmt: skip
    run(connection, f"insert into kinds values ({', '.join(['%s'] * 9)})", *values)
    connection.commit()
    assert run(connection, "select * from kinds") == [values]


def test_what_is_not_committed_is_rolled_back(connect: Connect) -> None:
    one, two = connect(), connect()
    run(one, "create table booked (n int)")
    run(one, "insert into booked values (%s)", 1)
    assert run(two, "select * from booked") == []
    one.rollback()
    run(one, "insert into booked values (%s)", 2)
    one.commit()
    two.commit()
    assert run(two, "select * from booked") == [(2,)]


def test_an_error_has_its_number_and_leaves_the_connection_usable(connect: Connect) -> None:
    connection = connect()
    run(connection, "create table single (n int primary key)")
    run(connection, "insert into single values (1)")
    for sql, number in (
        ("insert into single values (1)", 1062),
        ("select * from nosuch", 1146),
        ("selec", 1064),
    ):
        with pytest.raises((pymysql.Error, MySQLdb.Error, mysql.connector.Error)) as caught:
            run(connection, sql)
        assert caught.value.args[0] == number
    assert run(connection, "select n from single") == [(1,)]


def test_many_rows_at_once_and_their_ids(connect: Connect) -> None:
    connection = connect()
    run(connection, "create table listed (id int auto_increment primary key, name varchar(20))")
    cursor = connection.cursor()
    cursor.execute("insert into listed (name) values ('first')")
    assert cursor.lastrowid == 1
    cursor.executemany(
        "insert into listed (name) values (%s)", [(f"name {n}",) for n in range(500)]
    )
    assert cursor.rowcount == 500
    connection.commit()
    cursor.execute("insert into listed (name) values ('last')")
    assert cursor.lastrowid == 502
    cursor.execute("update listed set name = 'x' where id <= 10")
    assert cursor.rowcount == 10
    assert run(connection, "select last_insert_id()") == [(502,)]
    connection.commit()


def test_a_procedure_with_several_results(connect: Connect) -> None:
    connection = connect()
    run(connection, "create procedure several() begin select 1, 'a'; select 2; end")
    cursor = connection.cursor()
    cursor.callproc("several")
    if isinstance(connection, mysql.connector.MySQLConnection):
        found = [each.fetchall() for each in cursor.stored_results()]
    else:
        found = [cursor.fetchall()]
        while cursor.nextset():
            if cursor.description:
                found.append(cursor.fetchall())
    assert [[tuple(row) for row in each] for each in found] == [[(1, "a")], [(2,)]]
    cursor.close()
    assert run(connection, "select 3") == [(3,)]


def test_ten_thousand_rows_one_after_the_other(connect: Connect) -> None:
    connection = connect()
    cursor = connection.cursor()
    digits = (
        "(select 0 d union all " + " union all ".join(f"select {n}" for n in range(1, 10)) + ")"
    )
    cursor.execute(
        f"select a.d + 10 * b.d + 100 * c.d + 1000 * e.d, repeat('x', 100) from {digits} a, "
        f"{digits} b, {digits} c, {digits} e"
    )
    assert sum(row[0] for row in iter(cursor.fetchone, None)) == 49995000


def test_autocommit_is_as_the_driver_sets_it(connect: Connect) -> None:
    for wanted in (True, False):
        connection = connect(autocommit=wanted)
        assert run(connection, "select @@autocommit") == [(int(wanted),)]
        connection.rollback()


def test_an_encoding_is_followed(connect: Connect) -> None:
    for charset in ("utf8mb4", "latin1"):
        connection = connect(charset=charset)
        assert run(connection, "select %s, hex(convert(%s using utf8mb4))", "Zoë", "ë") == [
            ("Zoë", "C3AB")
        ]


def test_a_database_is_chosen_later(connect: Connect) -> None:
    connection, other = connect(), connect()
    if isinstance(connection, mysql.connector.MySQLConnection):
        connection.database = "warehouse"
    else:
        connection.select_db("warehouse")
    for _ in range(3):
        assert run(other, "select database()") == [("served",)]
        assert run(connection, "select database()") == [("warehouse",)]
        connection.commit()
        other.commit()


def test_a_ping_is_answered(connect: Connect) -> None:
    connection = connect()
    connection.ping()
    assert run(connection, "select 1") == [(1,)]


def test_rows_streamed_without_a_buffer(front: Front, mode: str) -> None:
    with pymysql.connect(
        **front.place(database=mode), cursorclass=pymysql.cursors.SSCursor
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("select 1 union all select 2 union all select 3")
        assert cursor.fetchone() == (1,)
        assert cursor.fetchall() == [(2,), (3,)]


def test_a_local_file_is_loaded(front: Front, mode: str, tmp_path: Any) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("".join(f"{n},name {n}\n" for n in range(3000)))
    with pymysql.connect(**front.place(database=mode), local_infile=True) as connection:
        run(connection, "create table loaded (n int, name varchar(30))")
        load = f"load data local infile '{file}' into table loaded"
        run(connection, f"{load} fields terminated by ','")
        assert run(connection, "select count(*), sum(n) from loaded") == [(3000, 4498500)]


def test_several_statements_in_one_query(front: Front, mode: str) -> None:
    flags = pymysql.constants.CLIENT.MULTI_STATEMENTS
    with pymysql.connect(**front.place(database=mode), client_flag=flags) as connection:
        cursor = connection.cursor()
        cursor.execute("select 1; create table multi (n int); insert into multi values (5), (6); "
                       "select * from multi")  # fmt: skip
        seen = [list(cursor.fetchall())]
        counts = []
        while cursor.nextset():
            counts.append(cursor.rowcount)
            seen.append(list(cursor.fetchall()))
        assert seen == [[(1,)], [], [], [(5,), (6,)]]
        assert counts[1:] == [2, 2]


def test_prepared_cursor_of_mysql_connector(front: Front, mode: str) -> None:
    with _connector(front.place(database=mode)) as connection:
        cursor = connection.cursor(prepared=True)
        for n in range(20):
            cursor.execute("select ? + 1, ?", (n, f"ë{n}"))
            assert cursor.fetchall() == [(n + 1, f"ë{n}")]
        connection.commit()
        again = connection.cursor(prepared=True)
        again.execute("select %s, %s, %s", (None, decimal.Decimal("1.5"), b"\0\xff"))
        assert again.fetchall()[0][0] is None


def test_mysql_connector_resets_its_session(front: Front, mode: str) -> None:
    with _connector(front.place(database=mode)) as connection:
        run(connection, "set @x = 5")
        run(connection, "set sort_buffer_size = 65536")
        connection.cmd_reset_connection()
        assert run(connection, "select @x, @@sort_buffer_size = @@global.sort_buffer_size") == [
            (None, 1)
        ]


async def test_aiomysql(front: Front, mode: str) -> None:
    import aiomysql

    place = front.place(database=mode)
    place["db"] = place.pop("database")
    async with aiomysql.create_pool(**place, minsize=1, maxsize=4, autocommit=True) as pool:
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute("create table aio (n int)")
            await cursor.executemany("insert into aio values (%s)", [(n,) for n in range(10)])
        async with pool.acquire() as connection:
            await connection.begin()
            async with connection.cursor() as cursor:
                await cursor.execute("delete from aio")
            await connection.rollback()
            async with connection.cursor(aiomysql.DictCursor) as cursor:
                await cursor.execute("select sum(n) total from aio")
                assert await cursor.fetchone() == {"total": 45}


async def test_asyncmy(front: Front, mode: str) -> None:
    import asyncmy

    async with (
        asyncmy.create_pool(
            **front.place(database=mode), minsize=1, maxsize=4, autocommit=True
        ) as pool,
        pool.acquire() as connection,
        connection.cursor() as cursor,
    ):
        await cursor.execute("create table asy (n int)")
        await cursor.execute("insert into asy values (%s), (%s)", (1, 2))
        await cursor.execute("select n from asy order by n")
        assert list(await cursor.fetchall()) == [(1,), (2,)]


def test_mysqlclient_reads_every_result_of_a_query(front: Front, mode: str) -> None:
    connection = _mysqlclient(front.place(database=mode))
    connection.query("select 1; select 2")
    found = [connection.store_result().fetch_row(0)]
    while connection.next_result() == 0:
        found.append(connection.store_result().fetch_row(0))
    assert found == [((1,),), ((2,),)]
    assert connection.get_server_info()
    assert connection.thread_id() > 0
    connection.close()


@pytest.mark.parametrize("level", ["READ COMMITTED", "SERIALIZABLE"])
def test_sqlalchemy_sets_the_isolation_of_its_transactions(
    front: Front, mode: str, level: str
) -> None:
    import sqlalchemy

    place = front.place(database=mode)
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("mysql+pymysql", place["user"], place["password"], place["host"],
                              place["port"], place["database"]),
        isolation_level=level,
    )  # fmt: skip
    name = "tx_isolation" if front.endpoint.kind == "mariadb" else "transaction_isolation"
    with engine.begin() as connection:
        found = connection.exec_driver_sql(f"select @@{name}").scalar()
        assert found == level.replace(" ", "-")
    engine.dispose()
