"""Cursors on the server: declared in SQL, by drivers, portals that are fetched from in parts, and
those WITH HOLD.

Each scenario is played directly and through maitred. Run by pytest.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from fix_parity import Parity, Side, ask, said
from fix_processes import eventually
from fix_wire import Wire, bind, close, describe, execute, flush, parse, query, sync

MANY = "select n from generate_series(1, 7) n"

SCRIPTS = {
    "declared and fetched": f"""
        a: begin
        a: declare c cursor for {MANY}
        a: fetch 2 from c
        a: set local work_mem = '5MB'
        a: move 1 in c
        a: fetch next from c
        a: close c
        a: fetch next from c
        a: rollback
        a: fetch next from c
        a: declare c cursor for select 1
    """,
    "scrolled, behind savepoints": f"""
        a: begin
        a: savepoint s
        a: declare c scroll cursor for {MANY}
        a: fetch 3 from c
        a: fetch backward 1 from c
        a: rollback to s
        a: fetch 1 from c
        a: rollback to s
        a: declare c cursor for {MANY}
        a: commit
        a: select count(*) from pg_cursors
    """,
    "of settings": """
        a: set DateStyle = 'German'
        a: begin
        a: declare c cursor for select date '2026-02-01' + n from generate_series(0, 2) n
        a: fetch 1 from c
        a: set DateStyle = 'ISO'
        a: fetch 1 from c
        a: commit
        a: show DateStyle
    """,
}

HELD = f"""
    a*: declare c cursor with hold for {MANY}
    a: fetch 2 from c
    b: select count(*) from pg_cursors
    a: set work_mem = '5MB'
    a: begin
    a: fetch 1 from c
    a: select 1/0
    a: rollback
    a: fetch 1 from c
    b: show work_mem
    a-: close c
    a: fetch 1 from c
    a: show work_mem
    b: select count(*) from pg_cursors
    a: begin
    a: declare d cursor with hold for {MANY}
    a: rollback
    a: fetch 1 from d
    a: begin
    a: declare e cursor with hold for {MANY}
    a*: commit
    a: fetch 2 from e
    a-: close all
    a: select count(*) from pg_cursors
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_cursors_of_one_transaction(parity: Parity, name: str) -> None:
    parity.check_script(SCRIPTS[name])


@pytest.mark.servers(2)
def test_cursors_with_hold(parity: Parity) -> None:
    parity.check_script(HELD)
    eventually(lambda: parity.maitred.console("SHOW PINS") == [])


def portals(side: Side) -> list[str]:
    """A portal that is fetched from in parts, with other statements and portals in between."""
    one = side.wire()
    told = [ask(one, query("begin"))]

    def step(*parts: bytes) -> None:
        told.append(ask(one, *parts, sync()))
        side.pass_by(1)

    step(parse(MANY, "s1"), bind(name="s1", portal="p1"), describe("P", "p1"), execute(2, "p1"))
    step(execute(2, "p1"), bind(name="s1", portal="p2"), execute(1, "p2"))
    step(parse("select 'unnamed'"), bind(), execute(), execute(3, "p1"))
    step(execute(0, "p1"), execute(1, "p2"), close("P", "p2"))
    step(execute(1, "p2"))
    step(execute(1, "p1"))
    told.append(ask(one, query("rollback")))
    side.pass_by()
    # Outside of a transaction a portal lives until the Sync.
    step(bind(name="s1", portal="p3"), execute(2, "p3"), execute(2, "p3"))
    step(execute(1, "p3"))
    step(bind(name="s1"), execute(0))
    return told


def test_portals_in_parts(parity: Parity) -> None:
    parity.check(portals)


def flushed(side: Side) -> list[str]:
    """Parts asked for with Flush, the answers read before more is asked."""
    one = side.wire()
    one.send(parse(MANY), bind(portal="p"), execute(3, "p"), flush())
    seen = one.read_until("s")
    side.pass_by(1)
    one.send(execute(3, "p"), flush())
    seen += one.read_until("s")
    one.send(execute(3, "p"), sync())
    seen += one.read_until("Z")
    side.pass_by()
    return [*map(said, seen), ask(one, query("select 'after'"))]


def test_portals_with_flush(parity: Parity) -> None:
    parity.check(flushed)


def cursors_of_psycopg(side: Side) -> list[Any]:
    client = side.connect(autocommit=False)
    told: list[Any] = []
    with client.cursor("named") as cursor:
        cursor.itersize = 2
        cursor.execute(MANY)
        told.append(cursor.fetchmany(3))
        side.pass_by(1)
        told += list(cursor)
    client.commit()
    with client.cursor("scrolling", scrollable=True) as cursor:
        cursor.execute(MANY)
        cursor.scroll(4)
        told.append(cursor.fetchone())
        cursor.scroll(-2)
        told.append(cursor.fetchone())
    client.rollback()
    side.pass_by()
    with client.cursor("held", withhold=True) as cursor:
        cursor.execute(MANY)
        told.append(cursor.fetchone())
        client.commit()
        side.pass_by(1)
        told.append(cursor.fetchall())
        client.commit()
    client.commit()
    side.pass_by()
    told.append(client.execute("select count(*) from pg_cursors").fetchone())
    client.rollback()
    return told


def test_cursors_of_psycopg(parity: Parity) -> None:
    parity.check(cursors_of_psycopg)


def cursors_of_asyncpg(side: Side) -> list[Any]:
    async def body() -> list[Any]:
        place = side.place()
        place["database"] = place.pop("dbname")
        client = await asyncpg.connect(**place)
        told: list[Any] = []
        async with client.transaction():
            async for row in client.cursor(MANY, prefetch=2):
                told.append(row["n"])
            cursor = await client.cursor("select n * $1::int as n from generate_series(1, 9) n", 3)
            told.append([row["n"] for row in await cursor.fetch(2)])
            side.pass_by(1)
            told.append(await cursor.forward(3))
            told.append((await cursor.fetchrow())["n"])
        side.pass_by()
        async with client.transaction():
            statement = await client.prepare(MANY)
            async for row in statement.cursor(prefetch=3):
                told.append(row["n"])
        try:
            await client.cursor(MANY)
        except asyncpg.PostgresError as error:
            told.append(error.sqlstate)
        except asyncpg.InterfaceError as error:
            told.append(type(error).__name__)
        told.append(await client.fetchval("select 'after'"))
        await client.close()
        return told

    return asyncio.run(body())


def test_cursors_of_asyncpg(parity: Parity) -> None:
    parity.check(cursors_of_asyncpg)


@pytest.mark.servers(2)
def test_a_client_that_leaves_its_cursor_behind(parity: Parity) -> None:
    with parity.proxied() as side:
        one: Wire = side.wire()
        one.query("declare c cursor with hold for select 1")
        one.close()
        eventually(lambda: parity.maitred.console("SHOW PINS") == [])
        others = [side.wire() for _ in range(parity.size)]
        for other in others:
            assert "['0']" in ask(other, query("begin"), query("select count(*) from pg_cursors"))
