"""A transaction whose server dies fails with 08006; the connection stays, so run it again.

It knows nothing of maitred; the tests run it, and you can:

    python retry_after_a_lost_server.py "host=127.0.0.1 port=6432 user=app dbname=shop"
"""

import sys
from collections.abc import Callable

import psycopg

RETRY = {"08006", "08001", "57P01"}


def transact(
    client: psycopg.Connection, work: Callable[[psycopg.Connection], int], tries: int = 3
) -> int:
    """Run `work` in a transaction, again when the server was lost."""
    for left in reversed(range(tries)):
        try:
            with client.transaction():
                return work(client)
        except psycopg.Error as error:
            if error.sqlstate not in RETRY or not left:
                raise
    raise AssertionError("not reached")


def main(dsn: str) -> None:
    """Lose the server of the first try on purpose."""
    tries = []

    def work(client: psycopg.Connection) -> int:
        tries.append(1)
        if len(tries) == 1:
            client.execute("select pg_terminate_backend(pg_backend_pid())")
        return client.execute("select 42").fetchone()[0]

    with psycopg.connect(dsn) as client:
        print(f"{transact(client, work)} after {len(tries)} tries on one connection")


if __name__ == "__main__":
    main(sys.argv[1])
