"""The bytes of a MySQL connection as packets: framing, sequence numbers, compression.

Knows nothing of logins or of what packets mean, and repairs nothing.
Called by `fix_mysql_wire`.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterable

import zstandard

from fix_processes import DEADLINE_S

COMMANDS = {
    "SLEEP": 0, "QUIT": 1, "INIT_DB": 2, "QUERY": 3, "FIELD_LIST": 4, "REFRESH": 7,
    "STATISTICS": 9, "PROCESS_INFO": 10, "PROCESS_KILL": 12, "DEBUG": 13, "PING": 14,
    "CHANGE_USER": 17, "BINLOG_DUMP": 18, "REGISTER_SLAVE": 21, "STMT_PREPARE": 22,
    "STMT_EXECUTE": 23, "STMT_SEND_LONG_DATA": 24, "STMT_CLOSE": 25, "STMT_RESET": 26,
    "SET_OPTION": 27, "STMT_FETCH": 28, "RESET_CONNECTION": 31, "STMT_BULK_EXECUTE": 250,
}  # fmt: skip
LARGEST = (1 << 24) - 1


class MysqlClosed(Exception):
    """The peer closed where an answer was due."""


class MysqlStream:
    """One raw connection to `address`, (host, port) or the path of a Unix socket."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        timeout_s: float = DEADLINE_S,
        receive_buffer: int | None = None,
    ) -> None:
        unix = isinstance(address, str)
        self.address = address
        self.timeout_s = timeout_s
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        if receive_buffer:
            # Why: must be set before connecting, or the window is already large.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        if not unix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.compression = ""
        self._sequence = 0
        self._compressed_sequence = 0
        self._raw = b""
        self._plain = b""

    def _receive(self) -> bytes:
        try:
            more = self.socket.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError):
            more = b""
        if not more:
            raise MysqlClosed
        return more

    def _take_raw(self, count: int) -> bytes:
        while len(self._raw) < count:
            self._raw += self._receive()
        found, self._raw = self._raw[:count], self._raw[count:]
        return found

    def _take(self, count: int) -> bytes:
        if not self.compression:
            return self._take_raw(count)
        while len(self._plain) < count:
            head = self._take_raw(7)
            size, whole = (int.from_bytes(head[at : at + 3], "little") for at in (0, 4))
            self._compressed_sequence = head[3] + 1
            body = self._take_raw(size)
            self._plain += self._decompress(body, whole) if whole else body
        found, self._plain = self._plain[:count], self._plain[count:]
        return found

    def _decompress(self, body: bytes, whole: int) -> bytes:
        if self.compression == "zlib":
            found = zlib.decompress(body)
        else:
            found = zstandard.ZstdDecompressor().decompress(body, max_output_size=whole)
        assert len(found) == whole, "a compressed packet is not as long as it says"
        return found

    def _put(self, data: bytes) -> None:
        if not self.compression:
            self.socket.sendall(data)
            return
        while data:
            part, data = data[: 1 << 20], data[1 << 20 :]
            packed, whole = part, 0
            if len(part) >= 50:
                if self.compression == "zlib":
                    packed = zlib.compress(part)
                else:
                    packed = zstandard.ZstdCompressor(3).compress(part)
                whole = len(part)
            head = len(packed).to_bytes(3, "little") + bytes([self._compressed_sequence & 255])
            self.socket.sendall(head + whole.to_bytes(3, "little") + packed)
            self._compressed_sequence += 1

    def read_packet(self) -> bytes:
        """The next packet, its parts of 16 MiB put together."""
        found = b""
        while True:
            head = self._take(4)
            size = int.from_bytes(head[:3], "little")
            if self.compression:
                # Why: within compressed packets servers count on from the outer number.
                self._sequence = head[3]
            assert head[3] == self._sequence & 255, (
                f"sequence number {head[3]} instead of {self._sequence & 255}"
            )
            self._sequence += 1
            found += self._take(size)
            if size < LARGEST:
                return found

    def framed(self, body: bytes) -> bytes:
        """A packet with its head, in parts of 16 MiB where it must be."""
        found = b""
        while True:
            part, body = body[:LARGEST], body[LARGEST:]
            found += len(part).to_bytes(3, "little") + bytes([self._sequence & 255]) + part
            self._sequence += 1
            if len(part) < LARGEST:
                return found

    def send_packet(self, body: bytes) -> None:
        self._put(self.framed(body))

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def command(self, name: str | int, body: bytes = b"") -> bytes:
        """The packet of a command, as it begins a conversation."""
        self._sequence = self._compressed_sequence = 0
        return self.framed(bytes([COMMANDS[name] if isinstance(name, str) else name]) + body)

    def send(self, name: str | int, body: bytes = b"") -> None:
        self._put(self.command(name, body))

    def pipeline(self, commands: Iterable[bytes]) -> None:
        """Several commands, made by `command`, in one write."""
        self._put(b"".join(commands))

    def begin_answer(self) -> None:
        """The next packet answers the next one of several pipelined commands."""
        self._sequence = 1
        self._compressed_sequence = 1

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Vanish with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_closed(self) -> bool:
        """Whether the peer has closed; waits for it up to the timeout, ignoring what it says."""
        try:
            while True:
                self._receive()
        except MysqlClosed:
            return True
        except TimeoutError:
            return False
