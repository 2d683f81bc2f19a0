"""A PostgreSQL client of few lines, for loads that pgbench does not make.

It must not be used where its own cost would be measured: it blocks and does one thing at a time.
Called by `idle`, `bulk` and `pipelines`.
"""

from __future__ import annotations

import socket
import struct

READY = b"Z\0\0\0\5I"  # Spec: ReadyForQuery, outside a transaction.
CHUNK = 1 << 20


class WireError(Exception):
    """The server answered with an error, or not at all."""


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    return message(b"Q", sql.encode() + b"\0")


def connect(port: int, role: str, database: str) -> socket.socket:
    """Log in without a password."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    words = b"".join(word.encode() + b"\0" for word in ("user", role, "database", database))
    body = struct.pack("!i", 196608) + words + b"\0"
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    read_to_ready(client)
    return client


def read_to_ready(client: socket.socket) -> int:
    """Read until the server is ready again; returns the number of bytes.

    Raises:
        WireError: an error message, or the end of the stream.
    """
    buffer = bytearray(CHUNK)
    total = 0
    tail = b""
    while True:
        count = client.recv_into(buffer)
        if count == 0:
            raise WireError("the connection was closed")
        # Why: errors come first in an answer or alone, and bulk data is not searched.
        if total == 0 and buffer[0:1] == b"E":
            raise WireError(bytes(buffer[:count]).decode(errors="replace"))
        total += count
        tail = (tail + bytes(buffer[max(0, count - 6) : count]))[-6:]
        if tail == READY:
            return total


def run(client: socket.socket, sql: str) -> int:
    """Send `sql` and read its whole answer; returns the bytes of the answer."""
    client.sendall(query(sql))
    return read_to_ready(client)


def copy_in(client: socket.socket, sql: str, rows: bytes, repeat: int) -> int:
    """COPY … FROM STDIN with `rows` sent `repeat` times; returns the bytes sent."""
    client.sendall(query(sql))
    answer = client.recv(CHUNK)
    if answer[:1] != b"G":
        raise WireError(answer.decode(errors="replace"))
    data = message(b"d", rows)
    for _ in range(repeat):
        client.sendall(data)
    client.sendall(message(b"c", b""))
    read_to_ready(client)
    return len(data) * repeat
