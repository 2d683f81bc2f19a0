"""Many concurrent MySQL clients that each know a marker of their own and look for it everywhere.

A program of its own, so that several run side by side; it decides nothing about pass or fail,
it prints what it saw as JSON. Called by `test_mysql_isolation`; the plan is that of
`marked_clients`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import marked_clients
from marked_clients import MARKER, Gone, Wrong
from pymysql import _auth as pymysql_auth

import fix_mysql_packets as packets
from fix_mysql_packets import CAPABILITIES, MORE_RESULTS, USUAL, Answer, Err, Ok, Rows, string
from fix_mysql_stream import COMMANDS

# What may be said to a client whose server somebody ended, or whose query was killed.
LOST = 2013
EXPECTED_ERRORS = {1317, 1053, 1927, 1969, 2006, LOST, 1105, 1152, 1158, 1159, 3024}


class Client:
    """One client; every byte that it gets is looked through for others' markers."""

    def __init__(self, plan: Plan, number: int, session: int) -> None:
        self.plan = plan
        self.marker = f"mark-{plan.name}-{number}-{session}-"
        self.dice = plan.dice(self.marker)
        self.turn = 0
        self.prepared: dict[str, tuple[int, str]] = {}
        self.kept = ""
        self.is_carried = False
        self.thread = 0
        self.sequence = 0
        self.capabilities = 0

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            self.plan.host, self.plan.port, limit=1 << 20
        )
        body = await self.packet()
        if body[:1] == b"\xff":
            raise Gone(packets.error(body).text)
        greeting = packets.greeting(body)
        self.thread = greeting.thread
        named = [*USUAL, "CONNECT_WITH_DB"]
        # Why some: servers are shared only among those of the same capabilities.
        named += ["DEPRECATE_EOF"] if self.dice.random() < 0.7 else []
        self.capabilities = sum(CAPABILITIES[name] for name in named)
        head = struct.pack("<IIB23x", self.capabilities, 1 << 24, 45)
        proof = pymysql_auth.scramble_native_password(b"opensesame", greeting.salt[:20])
        self.put(
            head + b"app\0" + string(proof) + self.plan.database.encode()
            + b"\0mysql_native_password\0"
        )  # fmt: skip
        while (body := await self.packet())[:1] != b"\x00":
            if body[:1] == b"\xff":
                raise Gone(packets.error(body).text)
            assert body[:1] == b"\xfe", body
            salt = body[1:].partition(b"\0")[2][:20]
            self.put(pymysql_auth.scramble_native_password(b"opensesame", salt))

    def put(self, body: bytes) -> None:
        self.writer.write(len(body).to_bytes(3, "little") + bytes([self.sequence & 255]) + body)
        self.sequence += 1

    def framed(self, name: str, body: bytes) -> bytes:
        whole = bytes([COMMANDS[name]]) + body
        return len(whole).to_bytes(3, "little") + b"\0" + whole

    def send(self, name: str, body: bytes = b"") -> None:
        self.writer.write(self.framed(name, body))
        self.sequence = 1

    async def packet(self) -> bytes:
        try:
            head = await self.reader.readexactly(4)
            body = await self.reader.readexactly(int.from_bytes(head[:3], "little"))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone(repr(error)) from None
        if head[3] != self.sequence & 255:
            raise Wrong(f"{self.marker}: sequence {head[3]} instead of {self.sequence}: {body!r}")
        self.sequence += 1
        self.plan.counts["messages"] += 1
        for found in MARKER.findall(body):
            if found != self.marker.encode():
                raise Wrong(f"{self.marker} received {found!r} in {body[:200]!r}")
        return body

    async def answers(self, *, binary: bool = False) -> list[Answer]:
        """All answers to one command."""
        seen: list[Answer] = []
        while True:
            seen.append(await self.answer(binary))
            end = seen[-1].end if isinstance(seen[-1], Rows) else seen[-1]
            if isinstance(end, Err):
                if end.number not in EXPECTED_ERRORS | {1146, 1064}:
                    raise Wrong(f"{self.marker}: unexpected {end}")
                self.plan.counts[f"error {end.number}"] += 1
                if end.number == LOST and not self.is_carried:
                    # What its server had not been asked for went with it: that is what this says.
                    self.kept = ""
            if not isinstance(end, Ok) or not end.status & MORE_RESULTS:
                return seen

    async def answer(self, binary: bool) -> Answer:
        body = await self.packet()
        if body[:1] == b"\xff":
            return packets.error(body)
        if body[:1] == b"\x00":
            return packets.ok(body, self.capabilities)
        count = packets.Reader(body).count() or 0
        columns = tuple([packets.column(await self.packet()) for _ in range(count)])
        deprecated = bool(self.capabilities & CAPABILITIES["DEPRECATE_EOF"])
        if not deprecated:
            end = await self.packet()
            if end[:1] != b"\xfe":
                raise Wrong(f"{self.marker}: columns end with {end!r}")
        got = Rows(columns)
        read = packets.binary_row if binary else packets.text_row
        while True:
            body = await self.packet()
            if body[:1] == b"\xff":
                return got.ended(packets.error(body))
            if body[:1] == b"\xfe" and len(body) < (1 << 24 if deprecated else 9):
                return got.ended(
                    packets.ok(body, self.capabilities) if deprecated else packets.eof(body)
                )
            got.rows.append(read(body, columns))

    async def query(self, sql: str) -> list[Answer]:
        self.send("QUERY", sql.encode())
        return await self.answers()

    def word(self) -> str:
        self.turn += 1
        return f"{self.marker}{self.turn}"

    def expect(self, seen: list[Answer], *words: str) -> bool:
        """Compare rows; False when an allowed error took their place."""
        ends = [each.end if isinstance(each, Rows) else each for each in seen]
        rows = [row for each in seen if isinstance(each, Rows) for row in each.rows]
        if any(isinstance(end, Err) for end in ends):
            return False
        if rows != [(word,) for word in words]:
            raise Wrong(f"{self.marker}: got {rows}, not {words}")
        self.plan.counts["answers checked"] += 1
        return True

    # What a client does.

    async def simple(self) -> None:
        word = self.word()
        self.expect(await self.query(f"select '{word}'"), word)

    async def with_prepared(self) -> None:
        name, word = f"s{self.dice.randrange(4)}", self.word()
        if name not in self.prepared:
            text = f"{self.marker}{name}-"
            self.send("STMT_PREPARE", f"select concat('{text}', ?)".encode())
            body = await self.packet()
            if body[:1] == b"\xff":
                return
            number, columns, parameters = struct.unpack_from("<xIHH", body)
            deprecated = bool(self.capabilities & CAPABILITIES["DEPRECATE_EOF"])
            for count in (parameters, columns):
                for _ in range(count + (bool(count) and not deprecated)):
                    await self.packet()
            self.prepared[name] = (number, text)
        number, text = self.prepared[name]
        body = struct.pack("<IBIBB", number, 0, 1, 0, 1) + b"\xfd\0" + string(word)
        self.send("STMT_EXECUTE", body)
        self.expect(await self.answers(binary=True), text + word)
        if self.dice.random() < 0.1:
            del self.prepared[name]
            self.send("STMT_CLOSE", struct.pack("<I", number))

    async def several(self) -> None:
        words = [self.word() for _ in range(self.dice.randrange(2, 6))]
        seen = await self.query("; ".join(f"select '{word}'" for word in words))
        self.expect(seen, *words)

    async def pipeline(self) -> None:
        words = [self.word() for _ in range(self.dice.randrange(2, 12))]
        self.writer.write(
            b"".join(self.framed("QUERY", f"select '{word}'".encode()) for word in words)
        )
        for word in words:
            self.sequence = 1
            self.expect(await self.answers(), word)

    async def transaction(self) -> None:
        """A row that nobody else may see, and that its owner sees until it is rolled back."""
        begun = await self.query("begin")
        if isinstance(begun[-1], Err):
            return
        for _ in range(self.dice.randrange(1, 4)):
            word = self.word()
            wrote = await self.query(f"insert into marks (m) values ('{word}')")
            if isinstance(wrote[-1], Err):
                break
            found = await self.query(f"select m from marks where m = '{word}'")
            if not self.expect(found, word):
                break
            await asyncio.sleep(self.dice.random() * 0.005)
        await self.query("rollback")

    async def large(self) -> None:
        word, times = self.word(), self.dice.randrange(1, 4000)
        seen = await self.query(
            f"select repeat('{word} ', {times}) from (select 1 union select 2 union select 3) q"
        )
        self.expect(seen, *[f"{word} " * times] * 3)

    async def own_error(self) -> None:
        seen = await self.query(f"select * from `{self.word()}`")
        if not isinstance(seen[-1], Err):
            raise Wrong(f"{self.marker}: an error is missing")

    async def own_variable(self) -> None:
        """Session state that is carried from server to server."""
        if self.kept and self.dice.random() < 0.6:
            self.is_carried |= self.expect(await self.query("select @kept"), self.kept)
            return
        self.is_carried = False
        word = self.word()
        done = await self.query(f"set @kept = '{word}'")
        self.kept = word if isinstance(done[-1], Ok) else ""

    async def own_id(self) -> None:
        # Why no marker: this row stays, and of those that have one none may.
        done = (await self.query("insert into marks (m) values ('kept')"))[-1]
        if isinstance(done, Ok):
            self.expect(await self.query("select last_insert_id()"), str(done.insert_id))

    async def own_warning(self) -> None:
        word = self.word()
        seen = await self.query(f"select cast('{word}' as signed)")
        if not self.expect(seen, "0"):
            return
        (shown,) = await self.query("show warnings")
        if isinstance(shown, Rows) and not any(word in str(row[2]) for row in shown.rows):
            raise Wrong(f"{self.marker}: warnings {shown.rows} instead of one about {word}")

    async def cancelled(self) -> None:
        word = self.word()
        sleep = self.dice.random() * 0.05
        self.send("QUERY", f"select '{word}' from dual where sleep({sleep}) = 0".encode())
        await asyncio.sleep(self.dice.random() * 0.06)
        await self.plan.kill(self.thread)
        (seen,) = await self.answers()
        end = seen.end if isinstance(seen, Rows) else seen
        if isinstance(seen, Rows) and isinstance(end, Ok) and seen.rows not in ([], [(word,)]):
            raise Wrong(f"{self.marker}: {seen.rows}")
        if isinstance(end, Err) or not (isinstance(seen, Rows) and seen.rows):
            self.plan.counts["kills that hit"] += 1

    async def late_cancel(self) -> None:
        # Nothing of ours runs: whoever has our server now must not be hit.
        await self.plan.kill(self.thread)

    async def vanish(self) -> None:
        kind = self.dice.randrange(4)
        if kind == 0:
            self.send("QUERY", f"select '{self.word()}', sleep(0.02)".encode())
        elif kind == 1:
            self.send("QUERY", f"select repeat('{self.word()}', 100000)".encode())
        elif kind == 2:
            self.send("QUERY", b"begin")
            self.writer.write(self.framed("QUERY", b"select 1")[:9])
        else:
            self.send("STMT_SEND_LONG_DATA", b"\1\0\0\0\0\0" + self.word().encode())
        await asyncio.sleep(self.dice.random() * 0.02)
        self.writer.transport.abort()
        raise Gone("on purpose")

    async def garbage(self) -> None:
        self.writer.write(self.dice.randbytes(self.dice.randrange(5, 60)))
        # Why a half-close: random bytes may announce a packet that never comes.
        with contextlib.suppress(Gone, Wrong, OSError):
            self.writer.write_eof()
            while True:
                await self.packet()
        raise Gone("on purpose")

    async def leave(self) -> None:
        self.send("QUIT")
        raise Gone("on purpose")


Deed = Callable[[Client], Awaitable[None]]
ORDERLY: list[tuple[Deed, int]] = [
    (Client.simple, 10), (Client.with_prepared, 10), (Client.several, 4), (Client.pipeline, 5),
    (Client.transaction, 4), (Client.large, 2), (Client.own_error, 2), (Client.own_variable, 5),
    (Client.own_id, 4), (Client.own_warning, 3), (Client.leave, 1),
]  # fmt: skip
UNRULY: list[tuple[Deed, int]] = [
    (Client.cancelled, 3), (Client.late_cancel, 2), (Client.vanish, 2), (Client.garbage, 1),
]  # fmt: skip
CANCELS: list[tuple[Deed, int]] = [(Client.cancelled, 5), (Client.late_cancel, 5)]


class Plan(marked_clients.Plan):
    """What this process is to do, and what it saw."""

    deeds_by_name: ClassVar[dict[str, list[tuple[Any, int]]]] = {
        "all": ORDERLY + UNRULY, "orderly": ORDERLY, "cancels": CANCELS,
    }  # fmt: skip
    client = Client

    async def kill(self, thread: int) -> None:
        """KILL QUERY of a client, from a connection of its own."""
        killer = Client(self, 0, 0)
        with contextlib.suppress(OSError, Gone):
            try:
                await killer.open()
                killer.send("QUERY", f"kill query {thread}".encode())
                # Why no look at the answer: the client may be gone by now.
                await killer.packet()
            finally:
                if hasattr(killer, "writer"):
                    killer.writer.close()

    def parting(self, client: Any) -> None:
        client.send("QUIT")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Plan(json.loads(sys.argv[1])).run())))
