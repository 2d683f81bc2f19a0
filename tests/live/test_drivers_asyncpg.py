"""asyncpg through maitred, in every pool mode: binary results, its statement cache, its COPY.

asyncpg prepares everything it runs under names of its own, so it is the driver that poolers in
transaction mode are most often broken for. Run by pytest.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from fix_maitred import Maitred

WITH_TRANSACTIONS = pytest.mark.parametrize("mode", ["transaction", "session"], indirect=True)


def run(
    served: Maitred, mode: str, body: Callable[[asyncpg.Connection], Awaitable[Any]], **more: Any
) -> Any:
    """Run `body` with one connection."""

    async def with_connection() -> Any:
        place = served.place(database=mode)
        place["database"] = place.pop("dbname")
        client = await asyncpg.connect(**place, **more)
        try:
            return await body(client)
        finally:
            await client.close()

    return asyncio.run(with_connection())


def test_values_come_back_in_binary(served: Maitred, mode: str) -> None:
    async def body(client: asyncpg.Connection) -> None:
        row = await client.fetchrow(
            "select $1::int8 as n, $2::text as t, $3::bytea as b, $4::int4[] as a",
            2**60, "Zoë", b"\0\1", [1, 2],
        )  # fmt: skip
        assert tuple(row) == (2**60, "Zoë", b"\0\1", [1, 2])

    run(served, mode, body)


def test_one_statement_runs_many_times(served: Maitred, mode: str) -> None:
    async def body(client: asyncpg.Connection) -> None:
        for number in range(50):
            assert await client.fetchval("select $1::int4 * 2", number) == number * 2

    run(served, mode, body)


def test_executemany_inserts_every_row(served: Maitred, mode: str) -> None:
    table = f"many_{mode}_{served.backend}"

    async def body(client: asyncpg.Connection) -> None:
        await client.execute(f"drop table if exists {table}")
        await client.execute(f"create table {table} (n int, t text)")
        rows = [(number, str(number)) for number in range(1000)]
        await client.executemany(f"insert into {table} values ($1, $2)", rows)
        assert await client.fetchval(f"select sum(n) from {table}") == sum(range(1000))
        await client.execute(f"drop table {table}")

    run(served, mode, body)


def test_more_statements_than_the_cache_holds(served: Maitred, mode: str) -> None:
    async def body(client: asyncpg.Connection) -> None:
        for _ in range(2):
            for number in range(30):
                found = await client.fetchval(f"select {number} + $1::int4", 1)
                assert found == number + 1

    run(served, mode, body, statement_cache_size=10)


@WITH_TRANSACTIONS
def test_nested_transactions_and_cursors(served: Maitred, mode: str) -> None:
    async def body(client: asyncpg.Connection) -> None:
        async with client.transaction():
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with client.transaction():
                    await client.execute("select 1/0")
            found = [
                n async for (n,) in client.cursor("select generate_series(1, 100)", prefetch=9)
            ]
            assert found == list(range(1, 101))

    run(served, mode, body)


def test_copy_both_ways(served: Maitred, mode: str) -> None:
    table = f"ferried_{mode}_{served.backend}"

    async def body(client: asyncpg.Connection) -> None:
        await client.execute(f"drop table if exists {table}")
        await client.execute(f"create table {table} (n int, t text)")
        rows = [(number, f"t{number}") for number in range(3000)]
        await client.copy_records_to_table(table, records=rows)
        out = io.BytesIO()
        await client.copy_from_query(f"select n, t from {table} order by n", output=out)
        expected = "".join(f"{n}\t{t}\n" for n, t in rows)
        assert out.getvalue().decode() == expected
        await client.execute(f"drop table {table}")

    run(served, mode, body)


def test_timeout_cancels_and_the_connection_lives_on(served: Maitred, mode: str) -> None:
    async def body(client: asyncpg.Connection) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await client.execute("select pg_sleep(30)", timeout=0.3)
        assert await client.fetchval("select 7") == 7

    run(served, mode, body)


def test_pool_of_its_own_on_top(served: Maitred, mode: str) -> None:
    async def body() -> None:
        place = served.place(database=mode)
        place["database"] = place.pop("dbname")
        # Why fewer in session mode: each client keeps one of the five servers.
        most = 4 if mode == "session" else 20
        async with asyncpg.create_pool(**place, min_size=2, max_size=most) as pool:

            async def one(number: int) -> int:
                return await pool.fetchval("select $1::int4", number)

            found = await asyncio.gather(*(one(number) for number in range(200)))
            assert found == list(range(200))

    asyncio.run(body())


def test_type_introspection_of_a_composite(served: Maitred, mode: str) -> None:
    # Why: introspection makes asyncpg run statements behind the caller's back.
    name = f"pair_{mode}_{served.backend}"

    async def body(client: asyncpg.Connection) -> None:
        await client.execute(f"drop type if exists {name}")
        await client.execute(f"create type {name} as (a int, b text)")
        found = await client.fetchval(f"select row(1, 'x')::{name}")
        assert tuple(found) == (1, "x")
        await client.execute(f"drop type {name}")

    run(served, mode, body)
