"""A PostgreSQL client that sends exactly what a test tells it to, message by message.

Never repairs, reorders or retries anything; what the peer sent is returned as it came.
Tests get it from the `wire` fixture or build a `Wire` themselves.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from fix_processes import DEADLINE_S

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class Message(NamedTuple):
    """One message of the server: its tag and what follows the length."""

    tag: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or NoticeResponse by their letter."""
        found = {}
        for part in self.body.split(b"\0"):
            if part:
                found[chr(part[0])] = part[1:].decode(errors="replace")
        return found

    @property
    def code(self) -> str:
        """SQLSTATE of an ErrorResponse."""
        return self.fields["C"]

    @property
    def values(self) -> list[str | None]:
        """The columns of a DataRow, as text."""
        (count,) = struct.unpack_from("!H", self.body)
        at, found = 2, []
        for _ in range(count):
            (size,) = struct.unpack_from("!i", self.body, at)
            at += 4
            if size < 0:
                found.append(None)
                continue
            found.append(self.body[at : at + size].decode())
            at += size
        return found

    @property
    def columns(self) -> list[str]:
        """The names in a RowDescription."""
        (count,) = struct.unpack_from("!H", self.body)
        at, found = 2, []
        for _ in range(count):
            end = self.body.index(0, at)
            found.append(self.body[at:end].decode())
            at = end + 19
        return found

    @property
    def text(self) -> str:
        """A zero-terminated body, such as CommandComplete's."""
        return self.body.rstrip(b"\0").decode()


class Closed(Exception):
    """The peer closed, after the messages in `seen`."""

    def __init__(self, seen: list[Message]) -> None:
        super().__init__(f"closed after {seen}")
        self.seen = seen


def message(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + struct.pack("!I", len(body) + 4) + body


def untagged(body: bytes) -> bytes:
    return struct.pack("!I", len(body) + 4) + body


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def query(sql: str) -> bytes:
    return message("Q", text(sql))


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    oids = struct.pack(f"!H{len(types)}I", len(types), *types)
    return message("P", text(name) + text(sql) + oids)


def bind(values: tuple[str | bytes | None, ...] = (), *, name: str = "", portal: str = "") -> bytes:
    body = text(portal) + text(name) + struct.pack("!HH", 0, len(values))
    for value in values:
        if value is None:
            body += struct.pack("!i", -1)
        else:
            raw = value.encode() if isinstance(value, str) else value
            body += struct.pack("!i", len(raw)) + raw
    return message("B", body + struct.pack("!H", 0))


def describe(kind: str = "P", name: str = "") -> bytes:
    return message("D", kind.encode() + text(name))


def close(kind: str, name: str = "") -> bytes:
    return message("C", kind.encode() + text(name))


def execute(rows: int = 0, portal: str = "") -> bytes:
    return message("E", text(portal) + struct.pack("!I", rows))


def sync() -> bytes:
    return message("S")


def flush() -> bytes:
    return message("H")


def extended(sql: str, values: tuple[str | bytes | None, ...] = (), name: str = "") -> bytes:
    """Parse, Bind, Describe, Execute: everything but the Sync."""
    return parse(sql, name) + bind(values, name=name) + describe() + execute()


def function_call(oid: int, *arguments: str) -> bytes:
    body = struct.pack("!IHHH", oid, 1, 0, len(arguments))
    for argument in arguments:
        raw = argument.encode()
        body += struct.pack("!I", len(raw)) + raw
    return message("F", body + struct.pack("!H", 0))


def startup(protocol: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    pairs = b"".join(text(name) + text(value) for name, value in parameters.items())
    return untagged(struct.pack("!I", protocol) + pairs + b"\0")


def cancel_request(pid: int, secret: bytes) -> bytes:
    return untagged(struct.pack("!II", CANCEL_REQUEST, pid) + secret)


@dataclass
class Wire:
    """One raw connection; `address` is (host, port) or the path of a Unix socket."""

    address: tuple[str, int] | str
    timeout_s: float = DEADLINE_S
    preamble: bytes = b""
    receive_buffer: int | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    pid: int = 0
    secret: bytes = b""
    status: str = ""
    _read: bytes = b""

    def __post_init__(self) -> None:
        unix = isinstance(self.address, str)
        inet = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        self.socket = socket.socket(socket.AF_UNIX if unix else inet, socket.SOCK_STREAM)
        self.socket.settimeout(self.timeout_s)
        if self.receive_buffer:
            # Why: must be set before connecting, or the window is already large.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.socket.connect(self.address)
        if not unix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.preamble:
            self.socket.sendall(self.preamble)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Bytes

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        while len(self._read) < count:
            try:
                more = self.socket.recv(1 << 18)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed([])
            self._read += more
        found, self._read = self._read[:count], self._read[count:]
        return found

    def read(self) -> Message:
        """The next message; waits for it."""
        head = self.take(5)
        (size,) = struct.unpack("!I", head[1:])
        got = Message(chr(head[0]), self.take(size - 4))
        self._remember(got)
        return got

    def read_until(self, *tags: str) -> list[Message]:
        """Messages up to and including the first whose tag is among `tags`."""
        seen: list[Message] = []
        while True:
            try:
                seen.append(self.read())
            except Closed:
                raise Closed(seen) from None
            if seen[-1].tag in tags:
                return seen

    def read_to_end_or(self, tag: str) -> list[Message]:
        """Messages until the peer closes or says `tag`, whichever is first."""
        try:
            return self.read_until(tag)
        except Closed as closed:
            return closed.seen

    def read_to_end(self) -> list[Message]:
        """Messages until the peer closes."""
        seen: list[Message] = []
        while True:
            try:
                seen.append(self.read())
            except Closed:
                return seen

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Vanish with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_closed(self) -> bool:
        """Whether the peer has closed; waits for it up to the timeout, ignoring what it says."""
        try:
            self.read_to_end()
        except TimeoutError:
            return False
        return True

    def _remember(self, got: Message) -> None:
        if got.tag == "S":
            name, value = got.body.split(b"\0")[:2]
            self.parameters[name.decode()] = value.decode()
        elif got.tag == "K":
            self.pid, self.secret = struct.unpack_from("!I", got.body)[0], got.body[4:]
        elif got.tag == "Z":
            self.status = got.body.decode()

    # Conversation

    def login(
        self, user: str = "app", database: str = "shop", password: str | None = None, **more: str
    ) -> list[Message]:
        """Startup and authentication up to the first ReadyForQuery.

        Raises:
            Closed: the peer refused; `seen` ends with its error.
        """
        protocol = int(more.pop("protocol", PROTOCOL_3_0))
        self.send(startup(protocol, user=user, database=database, **more))
        seen: list[Message] = []
        while True:
            try:
                seen.append(self.read())
            except Closed:
                raise Closed(seen) from None
            if seen[-1].tag == "R":
                self._answer_authentication(seen[-1].body, user, password)
            elif seen[-1].tag == "Z":
                return seen

    def query(self, sql: str) -> list[Message]:
        """Run a simple query; everything up to ReadyForQuery."""
        self.send(query(sql))
        return self.read_until("Z")

    def rows(self, sql: str) -> list[list[str | None]]:
        """The rows of a simple query that must succeed."""
        seen = self.query(sql)
        errors = [got.fields for got in seen if got.tag == "E"]
        assert not errors, errors
        return [got.values for got in seen if got.tag == "D"]

    def value(self, sql: str) -> str | None:
        return self.rows(sql)[0][0]

    def error(self, sql: str) -> Message:
        """The error of a simple query that must fail but leave the connection open."""
        errors = [got for got in self.query(sql) if got.tag == "E"]
        assert errors, f"no error from {sql!r}"
        return errors[0]

    def backend(self) -> int:
        """Process id of the server that answers at this moment."""
        return int(self.value("select pg_backend_pid()") or 0)

    def cancel(self) -> None:
        """Ask on a second connection to cancel what runs here; returns when that is closed."""
        with Wire(self.address, self.timeout_s) as other:
            other.send(cancel_request(self.pid, self.secret))
            other.is_closed()

    def start_tls(self, context: ssl.SSLContext, name: str | None = "localhost") -> None:
        """SSLRequest, then the handshake; fails if the peer answers anything but S."""
        self.send(untagged(struct.pack("!I", SSL_REQUEST)))
        answer = self.take(1)
        assert answer == b"S", f"SSLRequest was answered {answer!r}"
        self.wrap_tls(context, name)

    def wrap_tls(self, context: ssl.SSLContext, name: str | None = "localhost") -> None:
        """TLS at once, without asking."""
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def _answer_authentication(self, body: bytes, user: str, password: str | None) -> None:
        (kind,) = struct.unpack_from("!I", body)
        if kind in (0, 12):
            return
        assert password is not None, f"asked for a password (authentication {kind})"
        if kind == 3:
            self.send(message("p", text(password)))
        elif kind == 5:
            self.send(message("p", text(md5_response(user, password, body[4:8]))))
        elif kind == 10:
            self._scram = Scram(password)
            first = self._scram.first()
            self.send(message("p", text("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
        elif kind == 11:
            self.send(message("p", self._scram.final(body[4:])))
        else:
            raise AssertionError(f"unknown authentication request {kind}")


def md5_response(user: str, password: str, salt: bytes) -> str:
    inner = hashlib.md5((password + user).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()


class Scram:
    """The client's half of SCRAM-SHA-256 without channel binding (RFC 7677)."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode()

    def first(self) -> bytes:
        return ("n,," + self._bare).encode()

    def final(self, challenge: bytes) -> bytes:
        given = dict(part.split("=", 1) for part in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", self._password, base64.b64decode(given["s"]), int(given["i"])
        )
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={given['r']}"
        signed = f"{self._bare},{challenge.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(left ^ right for left, right in zip(key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def tags(messages: list[Message]) -> str:
    """The shape of a conversation as one word, asides left out."""
    return "".join(got.tag for got in messages if got.tag not in "NS")


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    """Open raw connections that are closed when the test ends."""
    opened: list[Wire] = []

    def open_wire(address: tuple[str, int] | str, **options: object) -> Wire:
        opened.append(Wire(address, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_wire
    for each in opened:
        each.close()
