"""A process that sends pipelines of tiny queries and counts the answers.

It must not cost much itself: it stands beside the proxy on the same cores.
Called by `workers`, as `python -m sidebyside.pipelines PORT ROLE DATABASE CLIENTS DEPTH SECONDS`.
"""

from __future__ import annotations

import selectors
import sys
import time

from . import wire_client


def main(port: int, role: str, database: str, clients: int, depth: int, seconds: float) -> None:
    """Print the number of queries answered and the seconds that they took."""
    # Spec: extended query, unnamed statement and portal, one Sync each.
    one = (
        wire_client.message(b"P", b"\0SELECT 1\0\0\0")
        + wire_client.message(b"B", b"\0\0\0\0\0\0\0\0")
        + wire_client.message(b"E", b"\0\0\0\0\0")
        + wire_client.message(b"S", b"")
    )
    batch = one * depth
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        client = wire_client.connect(port, role, database)
        selector.register(client, selectors.EVENT_READ, [0, b""])
    start = time.monotonic()
    for key in selector.get_map().values():
        key.fileobj.sendall(batch)
    buffer = bytearray(wire_client.CHUNK)
    view = memoryview(buffer)
    answered = 0
    while (now := time.monotonic()) < start + seconds:
        for key, _ in selector.select(1.0):
            count = key.fileobj.recv_into(buffer)
            if count == 0:
                raise wire_client.WireError("the connection was closed")
            state = key.data
            # Why: a ReadyForQuery may be cut in two by the reading.
            seen = state[1] + bytes(view[:count])
            ready = seen.count(wire_client.READY)
            state[1] = b"" if seen.endswith(wire_client.READY) else seen[-5:]
            state[0] += ready
            answered += ready
            if state[0] >= depth:
                state[0] -= depth
                key.fileobj.sendall(batch)
    print(answered, now - start, flush=True)


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        sys.argv[2],
        sys.argv[3],
        int(sys.argv[4]),
        int(sys.argv[5]),
        float(sys.argv[6]),
    )
