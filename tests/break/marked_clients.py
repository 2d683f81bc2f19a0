"""Many concurrent clients that each know a marker of their own and look for it in every answer.

A program of its own, so that several run side by side; it decides nothing about pass or fail,
it prints what it saw as JSON. Called by `test_isolation` and `test_leaks`.

    python marked_clients.py '{"host": …, "port": …, "database": …, "clients": …, "seconds": …,
                               "sessions": …, "seed": …, "name": …, "deeds": "all", "patience": …}'
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from fix_wire import (
    Message,
    bind,
    cancel_request,
    close,
    execute,
    extended,
    message,
    parse,
    query,
    startup,
    sync,
)

MARKER = re.compile(rb"mark-[a-z]+-\d+-\d+-")
# What may be said to a client whose server somebody ended, or whose query was cancelled.
EXPECTED_ERRORS = {"57014", "57P01", "57P02", "57P03", "08006", "08001", "25P02"}


class Wrong(Exception):
    """An answer that is not the one to this client's question."""


class Gone(Exception):
    """The connection ended."""


class Client:
    """One client; everything it sends and gets goes through `ask`."""

    def __init__(self, plan: Plan, number: int, session: int) -> None:
        self.plan = plan
        self.marker = f"mark-{plan.name}-{number}-{session}-"
        self.dice = plan.dice(self.marker)
        self.turn = 0
        self.prepared: dict[str, str] = {}
        self.pid = 0
        self.secret = b""
        self.errors = 0

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            self.plan.host, self.plan.port, limit=1 << 20
        )
        self.writer.write(startup(user="app", database=self.plan.database))
        while True:
            got = await self.read()
            if got.tag == "K":
                self.pid, self.secret = struct.unpack_from("!I", got.body)[0], got.body[4:]
            elif got.tag == "E":
                raise Gone(got.code)
            elif got.tag == "Z":
                return

    async def read(self) -> Message:
        try:
            head = await self.reader.readexactly(5)
            body = await self.reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone(repr(error)) from None
        self.plan.counts["messages"] += 1
        for found in MARKER.findall(body):
            if found != self.marker.encode():
                raise Wrong(f"{self.marker} received {found!r} in {chr(head[0])} {body[:200]!r}")
        return Message(chr(head[0]), body)

    async def answers(self) -> list[Message]:
        """Everything up to the next ReadyForQuery."""
        seen: list[Message] = []
        while not seen or seen[-1].tag != "Z":
            try:
                seen.append(await self.read())
            except Gone as gone:
                last = seen[-1].code if seen and seen[-1].tag == "E" else ""
                raise Gone(f"{last} {gone}") from None
        for got in seen:
            if got.tag == "E":
                self.errors += 1
                if got.code not in EXPECTED_ERRORS | {"22012", "22P02"}:
                    raise Wrong(f"{self.marker}: unexpected error {got.fields}")
                self.plan.counts[f"error {got.code}"] += 1
        return seen

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def word(self) -> str:
        self.turn += 1
        return f"{self.marker}{self.turn}"

    def expect(self, seen: list[Message], *words: str) -> bool:
        """Compare rows; False when an allowed error took their place."""
        rows = [got.values for got in seen if got.tag == "D"]
        if any(got.tag == "E" for got in seen):
            if rows and not all(row == [word] for row, word in zip(rows, words, strict=False)):
                raise Wrong(f"{self.marker}: {rows} before an error, not {words}")
            return False
        if rows != [[word] for word in words]:
            raise Wrong(f"{self.marker}: got {rows}, not {words}")
        self.plan.counts["answers checked"] += 1
        return True

    # What a client does.

    async def simple(self) -> None:
        word = self.word()
        self.send(query(f"select '{word}'"))
        self.expect(await self.answers(), word)

    async def with_parameter(self) -> None:
        word = self.word()
        self.send(extended("select $1::text", (word,)), sync())
        self.expect(await self.answers(), word)

    async def with_prepared(self) -> None:
        name = f"s{self.dice.randrange(4)}"
        word = self.word()
        if name not in self.prepared:
            text = f"{self.marker}{name}-"
            self.send(parse(f"select '{text}' || $1::text", name), sync())
            if any(got.tag == "E" for got in await self.answers()):
                return
            self.prepared[name] = text
        self.send(bind((word,), name=name), execute(), sync())
        self.expect(await self.answers(), self.prepared[name] + word)
        if self.dice.random() < 0.1:
            del self.prepared[name]
            self.send(close("S", name), sync())
            await self.answers()

    async def pipeline(self) -> None:
        words = [self.word() for _ in range(self.dice.randrange(2, 12))]
        bad = self.dice.randrange(len(words) * 2)
        for number, word in enumerate(words):
            self.send(extended("select $1::text", ("" if number == bad else word,)))
            if number == bad:
                self.send(extended("select 1/(random()*0)::int", ()))
            self.send(sync())
        for number, word in enumerate(words):
            seen = await self.answers()
            if number == bad:
                if not any(got.tag == "E" for got in seen):
                    raise Wrong(f"{self.marker}: the error of a pipeline is missing")
            else:
                self.expect(seen, word)

    async def transaction(self) -> None:
        self.send(query("begin"))
        await self.answers()
        pids = set()
        for _ in range(self.dice.randrange(1, 5)):
            word = self.word()
            self.send(query(f"select '{word}'"), query("select pg_backend_pid()"))
            self.expect(await self.answers(), word)
            pids |= {got.values[0] for got in await self.answers() if got.tag == "D"}
            await asyncio.sleep(self.dice.random() * 0.005)
        self.send(query(self.dice.choice(("commit", "rollback"))))
        await self.answers()
        if len(pids) > 1:
            # Why not wrong: after an error that ended the server the rest runs outside of it.
            self.plan.counts["transactions over several servers"] += not self.errors

    async def large(self) -> None:
        word = self.word()
        times = self.dice.randrange(1, 4000)
        self.send(query(f"select repeat('{word} ', {times}) from generate_series(1, 3)"))
        self.expect(await self.answers(), *[f"{word} " * times] * 3)

    async def copy_out(self) -> None:
        word = self.word()
        self.send(query(f"copy (select '{word}' from generate_series(1, 50)) to stdout"))
        rows = [got.body for got in await self.answers() if got.tag == "d"]
        if rows not in ([f"{word}\n".encode()] * 50, []):
            raise Wrong(f"{self.marker}: COPY gave {rows[:2]}")

    async def own_error(self) -> None:
        self.send(query(f"select '{self.word()}'::int"))
        seen = await self.answers()
        if not any(got.tag == "E" for got in seen):
            raise Wrong(f"{self.marker}: an error is missing")

    async def own_notice(self) -> None:
        self.send(query(f"do $$ begin raise notice '{self.word()}'; end $$"))
        seen = await self.answers()
        if not any(got.tag in "NE" for got in seen):
            raise Wrong(f"{self.marker}: a notice is missing")

    async def cancelled(self) -> None:
        word = self.word()
        self.send(query(f"select '{word}' from pg_sleep({self.dice.random() * 0.05})"))
        await asyncio.sleep(self.dice.random() * 0.06)
        await self.plan.cancel(self)
        self.expect(await self.answers(), word)

    async def late_cancel(self) -> None:
        # Nothing of ours runs: whoever has our server now must not be hit. Its owner would
        # notice, because only clients in `cancelled` may get 57014; see `test_isolation`.
        await self.plan.cancel(self)

    async def killed(self) -> None:
        self.send(query(f"select '{self.word()}', pg_terminate_backend(pg_backend_pid())"))
        await self.answers()
        # Whatever was prepared is prepared again by maitred where it is needed.

    async def vanish(self) -> None:
        kind = self.dice.randrange(4)
        if kind == 0:
            self.send(query(f"select '{self.word()}', pg_sleep(0.02)"))
        elif kind == 1:
            self.send(query(f"select repeat('{self.word()}', 100000)"))
        elif kind == 2:
            self.send(query("begin"), query("select pg_backend_pid()")[:9])
        else:
            self.send(query("copy nothing_there from stdin"), message("d", b"x")[:4])
        await asyncio.sleep(self.dice.random() * 0.02)
        self.writer.transport.abort()
        raise Gone("on purpose")

    async def garbage(self) -> None:
        self.send(self.dice.randbytes(self.dice.randrange(5, 60)))
        # Why a half-close: random bytes may announce a message that never comes.
        self.writer.write_eof()
        with contextlib.suppress(Gone):
            while True:
                await self.read()
        raise Gone("on purpose")

    async def leave(self) -> None:
        self.send(message("X"))
        raise Gone("on purpose")


Deed = Callable[[Client], Awaitable[None]]
ORDERLY: list[tuple[Deed, int]] = [
    (Client.simple, 10), (Client.with_parameter, 8), (Client.with_prepared, 10),
    (Client.pipeline, 6), (Client.transaction, 4), (Client.large, 2), (Client.copy_out, 2),
    (Client.own_error, 2), (Client.own_notice, 2), (Client.leave, 1),
]  # fmt: skip
UNRULY: list[tuple[Deed, int]] = [
    (Client.cancelled, 3), (Client.late_cancel, 2), (Client.killed, 1), (Client.vanish, 2),
    (Client.garbage, 1),
]  # fmt: skip
CANCELS: list[tuple[Deed, int]] = [(Client.cancelled, 5), (Client.late_cancel, 5)]
DEEDS = {"all": ORDERLY + UNRULY, "orderly": ORDERLY, "cancels": CANCELS}


class Plan:
    """What this process is to do, and what it saw."""

    deeds_by_name: ClassVar[dict[str, list[tuple[Any, int]]]] = DEEDS
    client: type[Any] = Client

    def __init__(self, told: dict[str, object]) -> None:
        self.host = str(told["host"])
        self.port = int(str(told["port"]))
        self.database = str(told["database"])
        self.name = str(told.get("name", "a"))
        self.seed = told.get("seed", 0)
        self.clients = int(str(told["clients"]))
        self.deadline = time.monotonic() + float(str(told.get("seconds", 1e9)))
        self.sessions = int(str(told.get("sessions", 0))) or None
        self.patience_s = float(str(told.get("patience", 60)))
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        deeds = self.deeds_by_name[str(told.get("deeds", "all"))]
        self.deeds = [deed for deed, _ in deeds]
        self.weights = [weight for _, weight in deeds]
        self.opened = 0

    def more(self) -> bool:
        if self.wrong or time.monotonic() > self.deadline:
            return False
        return self.sessions is None or self.opened < self.sessions

    async def cancel(self, client: Client) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(self.host, self.port)
            writer.write(cancel_request(client.pid, client.secret))
            await reader.read()
            writer.close()

    async def one(self, number: int) -> None:
        session = 0
        while self.more():
            session += 1
            self.opened += 1
            await self.session(number, session)

    def dice(self, marker: str) -> random.Random:
        return random.Random(f"{self.seed} {marker}")

    def parting(self, client: Any) -> None:
        """How a client says goodbye."""
        client.send(message("X"))

    async def session(self, number: int, session: int) -> None:
        client = self.client(self, number, session)
        deed: Any = None
        try:
            await client.open()
            self.counts["sessions"] += 1
            left = client.dice.randrange(1, 8) if self.sessions else 10**9
            while left and (self.sessions or self.more()):
                left -= 1
                deed = client.dice.choices(self.deeds, self.weights)[0]
                await asyncio.wait_for(deed(client), self.patience_s)
            if client.dice.random() < 0.5:
                self.parting(client)
        except Gone as gone:
            if str(gone) != "on purpose":
                self.wrong.append(f"{client.marker} lost its connection: {gone} in {deed}")
        except Wrong as wrong:
            self.wrong.append(str(wrong))
        except TimeoutError:
            self.wrong.append(f"{client.marker} got no answer in {deed}")
        except OSError as error:
            self.wrong.append(f"{client.marker} could not connect: {error}")
        finally:
            if hasattr(client, "writer"):
                client.writer.close()

    async def run(self) -> dict[str, object]:
        await asyncio.gather(*(self.one(number) for number in range(self.clients)))
        return {"counts": dict(self.counts), "wrong": self.wrong[:5], "wrongs": len(self.wrong)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Plan(json.loads(sys.argv[1])).run())))
