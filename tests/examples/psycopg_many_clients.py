"""Fifty clients share the servers of one small pool, each in transactions of its own.

It knows nothing of maitred; the tests run it, and you can:

    python psycopg_many_clients.py "host=127.0.0.1 port=6432 user=app dbname=shop"
"""

import asyncio
import sys

import psycopg


async def visit(dsn: str, number: int) -> int:
    """One client: connect, work in a transaction, tell which server did the work."""
    async with await psycopg.AsyncConnection.connect(dsn) as client, client.transaction():
        found = await client.execute("select %s::int, pg_backend_pid()", [number])
        mine, server = await found.fetchone()
        assert mine == number
        return server


async def main(dsn: str) -> None:
    """Let them all in at once."""
    servers = await asyncio.gather(*(visit(dsn, number) for number in range(50)))
    print(f"{len(servers)} clients, {len(set(servers))} servers")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
