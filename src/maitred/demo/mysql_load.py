"""Many MySQL clients in one process, asking as fast as they are answered; reports as pgbench does.

It must not be used where its own cost would be measured: it is Python. Run by `load` as
`python -m maitred.demo.mysql_load PORT ROLE DATABASE CLIENTS SECONDS`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass, field
from typing import cast

# What `stage` fills the table with.
ROWS = 100_000

# Spec: MySQL, "Capabilities Flags": LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS,
# SECURE_CONNECTION, PLUGIN_AUTH.
CAPABILITIES = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000
_QUERY, _QUIT = b"\x03", b"\x01"
_OK, _ERROR, _EOF = 0x00, 0xFF, 0xFE
UTF8MB4 = 45


def packet(sequence: int, body: bytes) -> bytes:
    """One packet. Spec: MySQL, "Protocol::Packet"."""
    return len(body).to_bytes(3, "little") + bytes([sequence & 0xFF]) + body


def login(role: str, database: str) -> bytes:
    """The answer to a greeting, by somebody without a password.

    Spec: MySQL, "Protocol::HandshakeResponse41".
    """
    head = CAPABILITIES.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little")
    words = f"{role}\0".encode() + b"\0" + f"{database}\0".encode() + b"mysql_native_password\0"
    return packet(1, head + bytes([UTF8MB4]) + bytes(23) + words)


def is_whole(buffer: bytes | bytearray) -> bool:
    """Does `buffer` end a response of one statement: OK, an error, or rows up to their end?"""
    at = ends = 0
    while at + 4 <= len(buffer):
        length = int.from_bytes(buffer[at : at + 3], "little")
        if at + 4 + length > len(buffer):
            return False
        head = buffer[at + 4] if length else _OK
        if head == _ERROR or (at == 0 and head == _OK):
            return True
        if head == _EOF and length < 9:
            ends += 1
            if ends == 2:
                return True
        at += 4 + length
    return False


@dataclass
class Crowd:
    """What all clients did together."""

    logged_in: int = 0
    queries: int = 0
    waited_s: float = 0.0
    errors: list[str] = field(default_factory=list[str])
    is_over: bool = False


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, crowd: Crowd, role: str, database: str) -> None:
        self._crowd = crowd
        self._login = login(role, database)
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._asked_at = 0.0
        self._clock = asyncio.get_running_loop().time
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self) -> None:
        """Send one short read."""
        sql = f"SELECT price FROM items WHERE id = {random.randint(1, ROWS)}"
        self._asked_at = self._clock()
        self._send(packet(0, _QUERY + sql.encode()))

    def leave(self) -> None:
        self._send(packet(0, _QUIT))
        if self._transport:
            self._transport.close()

    def _send(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.ready.done():
            self._log_in()
        elif is_whole(self._buffer):
            self._on_answer()

    def _log_in(self) -> None:
        if len(self._buffer) < 5:
            return
        length = int.from_bytes(self._buffer[:3], "little")
        if len(self._buffer) < 4 + length:
            return
        head, sequence = self._buffer[4], self._buffer[3]
        words = bytes(self._buffer[13 if head == _ERROR else 4 : 4 + length])
        del self._buffer[: 4 + length]
        if head == _ERROR:
            self._fail(words.decode(errors="replace"))
        elif not self._is_greeted:
            self._is_greeted = True
            self._send(self._login)
        elif head == _OK:
            self._crowd.logged_in += 1
            self.ready.set_result(None)
        else:
            # Spec: MySQL, "AuthSwitchRequest": without a password the answer is empty.
            self._send(packet(sequence + 1, b""))

    def _on_answer(self) -> None:
        if self._buffer[4] == _ERROR:
            self._fail(bytes(self._buffer[13:]).decode(errors="replace"))
            return
        self._crowd.queries += 1
        self._crowd.waited_s += self._clock() - self._asked_at
        self._buffer.clear()
        if not self._crowd.is_over:
            self.ask()

    def _fail(self, words: str) -> None:
        if not self._crowd.is_over:
            self._crowd.errors.append(words)
            print(f"error: {words}", file=sys.stderr, flush=True)
        if not self.ready.done():
            self.ready.set_result(None)
        if self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self._fail(f"the connection was closed: {exc or 'without a word'}")


async def run(port: int, role: str, database: str, clients: int, seconds: float) -> Crowd:
    """Open all clients, let them ask, and print what came of it."""
    loop, crowd = asyncio.get_running_loop(), Crowd()
    opened: list[Client] = []
    for _ in range(clients):
        _, client = await loop.create_connection(
            lambda: Client(crowd, role, database), "127.0.0.1", port
        )
        opened.append(client)
    await asyncio.gather(*(client.ready for client in opened))
    started = loop.time()
    for client in opened:
        client.ask()
    before = Crowd()
    while (passed := loop.time() - started) < seconds:
        await asyncio.sleep(min(1.0, seconds - passed))
        count, waited_s = crowd.queries - before.queries, crowd.waited_s - before.waited_s
        before = Crowd(queries=crowd.queries, waited_s=crowd.waited_s)
        latency = 1000 * waited_s / max(1, count)
        at_s = loop.time() - started
        rate = count / max(0.001, at_s - passed)
        text = f"progress: {at_s:.1f} s, {rate:.1f} tps, lat {latency:.3f} ms"
        print(text, file=sys.stderr, flush=True)
    elapsed_s = loop.time() - started
    crowd.is_over = True
    for client in opened:
        client.leave()
    print(f"number of transactions actually processed: {crowd.queries}")
    print(f"number of failed transactions: {len(crowd.errors)} (0.000%)")
    print(f"latency average = {1000 * crowd.waited_s / max(1, crowd.queries):.3f} ms")
    print(f"tps = {crowd.queries / elapsed_s:.3f}")
    return crowd


if __name__ == "__main__":
    _, _port, _role, _database, _clients, _seconds = sys.argv
    _crowd = asyncio.run(run(int(_port), _role, _database, int(_clients), float(_seconds)))
    sys.exit(1 if _crowd.errors else 0)
