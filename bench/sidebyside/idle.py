"""A process that opens many clients, asks once with each and then holds them idle.

It must not open more than a part of the clients: a process may have some 20,000 descriptors.
Called by `memory`, as `python -m sidebyside.idle PORT DIALECT COUNT`, with a dialect of "postgres",
"mysql" or "mysql+tls".
"""

from __future__ import annotations

import sys

from . import mysql_client, sysbench, wire_client
from .targets import DATABASE, PASSWORD, ROLE


def main(port: int, dialect: str, count: int) -> None:
    """Print `ready` when all are open; end when standard input does."""
    clients = []
    for _ in range(count):
        if dialect == "postgres":
            client = wire_client.connect(port, ROLE, DATABASE)
            wire_client.run(client, "SELECT 1")
        else:
            database, tls = sysbench.DATABASE, dialect.endswith("+tls")
            client = mysql_client.connect(port, ROLE, PASSWORD, database, tls=tls)
            mysql_client.run(client, "SELECT 1")
        clients.append(client)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
