"""What a MySQL server's packets mean: greetings, OK, errors, result sets, prepared statements.

Reads bytes alone; it has no connection and no state.
Called by `fix_mysql_wire`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any

# Capabilities, by their names in the protocol without the word CLIENT.
CAPABILITIES = {
    "LONG_PASSWORD": 1 << 0,
    "FOUND_ROWS": 1 << 1,
    "LONG_FLAG": 1 << 2,
    "CONNECT_WITH_DB": 1 << 3,
    "NO_SCHEMA": 1 << 4,
    "COMPRESS": 1 << 5,
    "ODBC": 1 << 6,
    "LOCAL_FILES": 1 << 7,
    "IGNORE_SPACE": 1 << 8,
    "PROTOCOL_41": 1 << 9,
    "INTERACTIVE": 1 << 10,
    "SSL": 1 << 11,
    "TRANSACTIONS": 1 << 13,
    "SECURE_CONNECTION": 1 << 15,
    "MULTI_STATEMENTS": 1 << 16,
    "MULTI_RESULTS": 1 << 17,
    "PS_MULTI_RESULTS": 1 << 18,
    "PLUGIN_AUTH": 1 << 19,
    "CONNECT_ATTRS": 1 << 20,
    "PLUGIN_AUTH_LENENC": 1 << 21,
    "SESSION_TRACK": 1 << 23,
    "DEPRECATE_EOF": 1 << 24,
    "OPTIONAL_METADATA": 1 << 25,
    "ZSTD": 1 << 26,
    "QUERY_ATTRIBUTES": 1 << 27,
}
USUAL = ["LONG_PASSWORD", "LONG_FLAG", "PROTOCOL_41", "TRANSACTIONS", "SECURE_CONNECTION",
         "MULTI_STATEMENTS", "MULTI_RESULTS", "PS_MULTI_RESULTS", "PLUGIN_AUTH",
         "PLUGIN_AUTH_LENENC", "LOCAL_FILES"]  # fmt: skip

IN_TRANSACTION = 0x0001
AUTOCOMMIT = 0x0002
MORE_RESULTS = 0x0008
CURSOR_EXISTS = 0x0040
LAST_ROW_SENT = 0x0080
STATE_CHANGED = 0x4000

TRACKED = {0: "variable", 1: "schema", 2: "changed", 3: "gtids", 4: "characteristics",
           5: "transaction"}  # fmt: skip


@dataclass(frozen=True)
class Greeting:
    """A handshake v10 packet."""

    version: str
    thread: int
    salt: bytes
    capabilities: int
    collation: int
    status: int
    plugin: str


@dataclass(frozen=True)
class Ok:
    """An OK packet, or what ends a result set."""

    affected: int = 0
    insert_id: int = 0
    status: int = 0
    warnings: int = 0
    info: str = ""
    tracked: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Err:
    """An error packet."""

    number: int
    state: str
    text: str


@dataclass(frozen=True)
class Infile:
    """The server asks for the content of a file of the client's."""

    name: str


@dataclass(frozen=True)
class Column:
    """A column definition, as sent."""

    schema: str
    table: str
    name: str
    collation: int
    length: int
    kind: int
    flags: int
    decimals: int


@dataclass(frozen=True)
class Rows:
    """A result set: what describes its columns, its rows, and what ended it."""

    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    end: Ok | Err | None = None

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def ended(self, end: Ok | Err) -> Rows:
        return replace(self, end=end)


@dataclass(frozen=True)
class Prepared:
    """The answer to COM_STMT_PREPARE."""

    id: int
    parameters: tuple[Column, ...]
    columns: tuple[Column, ...]
    warnings: int


Answer = Ok | Err | Rows | Infile


class Reader:
    """Takes values off the front of a packet."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    @property
    def rest(self) -> bytes:
        return self.body[self.at :]

    def take(self, count: int) -> bytes:
        found = self.body[self.at : self.at + count]
        assert len(found) == count, f"packet ends within a field: {self.body[:200]!r}"
        self.at += count
        return found

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def count(self) -> int | None:
        """A length-encoded integer; None for NULL's mark."""
        first = self.integer(1)
        if first == 0xFB:
            return None
        return self.integer({0xFC: 2, 0xFD: 3, 0xFE: 8}[first]) if first > 0xFB else first

    def string(self) -> bytes | None:
        size = self.count()
        return None if size is None else self.take(size)

    def text(self) -> str:
        return (self.string() or b"").decode(errors="replace")

    def zero_ended(self) -> bytes:
        end = self.body.index(0, self.at)
        found, self.at = self.body[self.at : end], end + 1
        return found


def counted(value: int) -> bytes:
    """A length-encoded integer."""
    if value < 0xFB:
        return bytes([value])
    size, mark = next((s, m) for s, m in ((2, 0xFC), (3, 0xFD), (8, 0xFE)) if value < 1 << 8 * s)
    return bytes([mark]) + value.to_bytes(size, "little")


def string(value: str | bytes) -> bytes:
    """A length-encoded string."""
    raw = value.encode() if isinstance(value, str) else value
    return counted(len(raw)) + raw


def greeting(body: bytes) -> Greeting:
    read = Reader(body)
    assert read.integer(1) == 10, f"not a greeting: {body!r}"
    version = read.zero_ended().decode()
    thread, salt = read.integer(4), read.take(8)
    read.take(1)
    low, collation, status, high = (read.integer(n) for n in (2, 1, 2, 2))
    size = read.integer(1)
    read.take(10)
    salt += read.take(max(13, size - 8))[:12]
    plugin = read.zero_ended().decode() if read.rest else ""
    return Greeting(version, thread, salt, low | high << 16, collation, status, plugin)


def error(body: bytes) -> Err:
    read = Reader(body[1:])
    number = read.integer(2)
    state = read.take(6)[1:].decode() if read.rest[:1] == b"#" else ""
    return Err(number, state, read.rest.decode(errors="replace"))


def ok(body: bytes, capabilities: int) -> Ok:
    read = Reader(body[1:])
    affected, insert_id = read.count() or 0, read.count() or 0
    status, warnings = read.integer(2), read.integer(2)
    # Spec: documented as "the rest" without SESSION_TRACK, but servers send its length there, too.
    info = read.text() if read.rest else ""
    if not capabilities & CAPABILITIES["SESSION_TRACK"]:
        assert not read.rest, f"session state for a client that did not ask for it: {body!r}"
        return Ok(affected, insert_id, status, warnings, info)
    tracked: list[tuple[str, ...]] = []
    if status & STATE_CHANGED:
        block = Reader(read.string() or b"")
        while block.rest:
            kind = TRACKED.get(block.integer(1), "?")
            part = Reader(block.string() or b"")
            if kind == "variable":
                while part.rest:
                    tracked.append((kind, part.text(), part.text()))
            elif kind in ("gtids", "changed"):
                # Spec: MySQL counts its length once more, MariaDB does not.
                tracked.append((kind, part.rest.decode(errors="replace").lstrip("\0\1")))
            else:
                tracked.append((kind, part.text()))
    return Ok(affected, insert_id, status, warnings, info, tuple(tracked))


def eof(body: bytes) -> Ok:
    return Ok(warnings=int.from_bytes(body[1:3], "little"),
              status=int.from_bytes(body[3:5], "little"))  # fmt: skip


def column(body: bytes) -> Column:
    read = Reader(body)
    _, schema, table, _, name, _ = (read.text() for _ in range(6))
    read.count()
    collation, length, kind, flags, decimals = (read.integer(n) for n in (2, 4, 1, 2, 1))
    return Column(schema, table, name, collation, length, kind, flags, decimals)


def text_row(body: bytes, columns: tuple[Column, ...]) -> tuple[Any, ...]:
    read = Reader(body)
    found = [read.string() for _ in columns]
    assert not read.rest, "a row has more than its columns"
    return tuple(v if v is None else v.decode(errors="replace") for v in found)


_FIXED = {1: 1, 2: 2, 13: 2, 3: 4, 9: 4, 8: 8}


def binary_row(body: bytes, columns: tuple[Column, ...]) -> tuple[Any, ...]:
    """A row of an executed statement; times stay bytes."""
    read = Reader(body[1:])
    nulls = int.from_bytes(read.take((len(columns) + 9) // 8), "little") >> 2
    found: list[Any] = []
    for number, each in enumerate(columns):
        if nulls >> number & 1:
            found.append(None)
        elif each.kind in _FIXED:
            raw = read.take(_FIXED[each.kind])
            found.append(int.from_bytes(raw, "little", signed=not each.flags & 0x20))
        elif each.kind in (4, 5):
            found.append(*struct.unpack("<f" if each.kind == 4 else "<d",
                                        read.take(4 if each.kind == 4 else 8)))  # fmt: skip
        elif each.kind in (7, 10, 11, 12):
            found.append(read.take(read.integer(1)))
        else:
            found.append((read.string() or b"").decode(errors="replace"))
    assert not read.rest, "a row has more than its columns"
    return tuple(found)
