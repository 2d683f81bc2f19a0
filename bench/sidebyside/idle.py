"""A process that opens many clients, asks once with each and then holds them idle.

It must not open more than a part of the clients: a process may have some 20,000 descriptors.
Called by `memory`, as `python -m sidebyside.idle PORT ROLE DATABASE COUNT`.
"""

from __future__ import annotations

import sys

from . import wire_client


def main(port: int, role: str, database: str, count: int) -> None:
    """Print `ready` when all are open; end when standard input does."""
    clients = []
    for _ in range(count):
        client = wire_client.connect(port, role, database)
        wire_client.run(client, "SELECT 1")
        clients.append(client)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
