"""LISTEN and NOTIFY through shared servers: what listeners hear is what PostgreSQL would tell them.

Most tests have one server for all clients, so that nobody can listen on a server of their own.
Run by pytest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import asyncpg
import psycopg
import pytest
from psycopg import sql

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import Wire, bind, execute, parse, query, sync, tags

Made = Callable[..., Maitred]


@pytest.fixture
def maitred(make_maitred: Made) -> Maitred:
    return make_maitred({"pool": {"size": 1}})


def channels(maitred: Maitred) -> dict[str, int]:
    return {
        str(row["channel"]): int(row["clients"] or 0) for row in maitred.console("SHOW CHANNELS")
    }


def settled(maitred: Maitred, **expected: int) -> None:
    """Wait until these channels have so many clients, and nobody keeps a server for them."""
    eventually(lambda: channels(maitred) == expected and not maitred.console("SHOW PINS"))


def words(heard: list[psycopg.Notify]) -> list[str]:
    return [notify.payload for notify in heard]


def test_listeners_share_one_server_and_psycopg_hears(maitred: Maitred) -> None:
    with maitred.connect() as one, maitred.connect() as two, maitred.connect() as speaker:
        for listener in (one, two):
            listener.execute("listen jobs")
        settled(maitred, jobs=2)
        states = [row["state"] for row in maitred.console("SHOW SERVERS")]
        assert sorted(map(str, states)) == ["idle", "listening"]
        speaker.execute("select pg_notify('jobs', 'a')")
        speaker.execute("notify jobs, 'b'")
        for listener in (one, two):
            heard = list(listener.notifies(timeout=5, stop_after=2))
            assert words(heard) == ["a", "b"]
            assert {notify.pid for notify in heard} == {speaker.info.backend_pid}
        one.execute("unlisten jobs")
        settled(maitred, jobs=1)
    settled(maitred)


def test_its_own_notifications_come_before_the_query_is_over(maitred: Maitred) -> None:
    with maitred.connect() as one, maitred.connect() as other:
        heard: list[psycopg.Notify] = []
        one.add_notify_handler(heard.append)
        one.execute("listen jobs")
        for payload in ("1", "2", "3"):
            one.execute(f"notify jobs, '{payload}'")
            assert words(heard)[-1] == payload
            assert other.execute("select 1").fetchone() == (1,)
        with one.transaction():
            one.execute("notify jobs, '4'")
            one.execute("select 1")
            assert len(heard) == 3
        assert words(heard) == ["1", "2", "3", "4"]
        assert {notify.pid for notify in heard} == {one.info.backend_pid}


def test_asyncpg_listeners_hear_in_order(maitred: Maitred) -> None:
    async def scenario() -> list[str]:
        listener, speaker = [
            await asyncpg.connect(host="127.0.0.1", port=maitred.port, user="app", database="shop")
            for _ in range(2)
        ]
        heard: asyncio.Queue[str] = asyncio.Queue()
        await listener.add_listener("jobs", lambda *seen: heard.put_nowait(str(seen[3])))
        async with speaker.transaction():
            for at in range(100):
                await speaker.execute("select pg_notify('jobs', $1)", str(at))
        got = [await asyncio.wait_for(heard.get(), 10) for _ in range(100)]
        await listener.remove_listener("jobs", lambda *_: None)
        await listener.reset()
        await speaker.execute("notify jobs, 'nobody hears'")
        assert await listener.fetchval("select 1") == 1
        assert heard.empty()
        await listener.close()
        await speaker.close()
        return got

    assert asyncio.run(scenario()) == [str(at) for at in range(100)]
    settled(maitred)


LIFE = {
    "rolled back": ("begin | listen jobs | rollback", False),
    "committed": ("begin | listen jobs | commit", True),
    "in a savepoint that is undone": (
        "begin | savepoint s | listen jobs | rollback to s | commit", False,
    ),
    "in a block": ("do $$ begin execute 'listen jobs'; end $$", True),
    "taken back": ("listen jobs | unlisten jobs", False),
    "taken back by a transaction that fails": (
        "listen jobs | begin | unlisten * | rollback", True,
    ),
    "taken back with all else": ("listen jobs | discard all", False),
    "of a prepared statement": ("prepare p as select pg_notify('x', '') | listen jobs", True),
}  # fmt: skip


@pytest.mark.parametrize("how", LIFE)
def test_the_transaction_decides(maitred: Maitred, how: str) -> None:
    statements, listens = LIFE[how]
    with maitred.wire() as one, maitred.wire() as two:
        for statement in statements.split(" | "):
            one.query(statement)
        two.query("notify jobs, 'x'")
        # Whatever it has to hear stands before the next Ready at the latest, or comes right behind.
        one.query("select 1")
        if listens:
            settled(maitred, jobs=1)
            two.query("notify jobs, 'y'")
            assert one.read_until("A")[-1].tag == "A"
        else:
            settled(maitred)
            two.query("notify jobs, 'y'")
            one.send(query("select pg_sleep(0.05)"))
            assert tags(one.read_until("Z")) == "TDCZ"


def test_names_that_need_quoting(maitred: Maitred) -> None:
    names = ["Jobs", 'a "b"', "ünïcode", "select", "x" * 63]
    with maitred.connect() as one, maitred.connect() as two:
        for name in names:
            one.execute(sql.SQL("listen {}").format(sql.Identifier(name)))
        settled(maitred, **dict.fromkeys(names, 1))
        for name in names:
            two.execute("select pg_notify(%s, %s)", [name, name])
        heard = list(one.notifies(timeout=5, stop_after=len(names)))
        assert [(notify.channel, notify.payload) for notify in heard] == [(n, n) for n in names]


def test_users_of_one_database_share_the_listening_server(
    make_maitred: Made, postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.connect() as one, maitred.connect(user="postgres") as two:
        for listener in (one, two):
            listener.execute("listen jobs")
        settled(maitred, jobs=2)
        states = [row["state"] for row in maitred.console("SHOW SERVERS")]
        assert states.count("listening") == 1
        with postgres.connect() as outside:
            outside.execute("notify jobs, 'from outside'")
        for listener in (one, two):
            assert words(list(listener.notifies(timeout=5, stop_after=1))) == ["from outside"]


def test_the_listening_server_comes_back_and_listeners_are_told(
    maitred: Maitred, postgres: Postgres
) -> None:
    with maitred.wire() as idle, maitred.wire() as busy:
        for listener in (idle, busy):
            listener.query("listen jobs")
        settled(maitred, jobs=2)
        busy.query("begin")
        servers = maitred.console("SHOW SERVERS")
        (pid,) = [int(row["remote_pid"] or 0) for row in servers if row["state"] == "listening"]
        postgres.terminate(pid)
        told = idle.read_to_end()
        assert [got.code for got in told] == ["57P01"]
        assert "LISTEN again" in told[0].fields["H"]
        assert tags(busy.query("commit"))[-2:] == "CZ"
        assert [got.code for got in busy.read_to_end()] == ["57P01"]
    with maitred.connect() as one, maitred.connect() as two:
        one.execute("listen jobs")
        settled(maitred, jobs=1)
        two.execute("notify jobs, 'again'")
        assert words(list(one.notifies(timeout=5, stop_after=1))) == ["again"]


def test_a_slow_listener_is_bounded_and_told(make_maitred: Made) -> None:
    maitred = make_maitred({"pool": {"size": 2, "listen_buffer": "64KiB"}})
    with maitred.wire(receive_buffer=4096) as slow, maitred.connect() as other:
        slow.query("listen jobs")
        other.execute("listen jobs")
        settled(maitred, jobs=2)
        with maitred.connect() as speaker:
            for _ in range(200):
                speaker.execute(
                    "select pg_notify('jobs', repeat('x', 7000) || n) from generate_series(1, 5) n"
                )
                assert len(list(other.notifies(timeout=10, stop_after=5))) == 5
        settled(maitred, jobs=1)
        told = slow.read_to_end()
        assert {got.tag for got in told[:-1]} == {"A"}
        assert told[-1].code == "53400"
        assert "pool.listen_buffer" in told[-1].fields["M"]
    assert maitred.metrics()['maitred_clients_closed_total{reason="slow_listener"}'] == 1


def test_nothing_is_missed_while_it_is_handed_over(maitred: Maitred) -> None:
    """Each round listens anew while somebody speaks without a pause, and hears on without a gap."""
    with maitred.connect() as speaker, maitred.connect() as one:
        for round_ in range(20):
            one.execute("listen jobs")
            for at in range(20):
                speaker.execute(f"notify jobs, '{round_}-{at}'")
            heard = words(list(one.notifies(timeout=5, stop_after=20)))
            assert heard == [f"{round_}-{at}" for at in range(20)]
            one.execute("unlisten *")


def test_a_pipeline_may_listen_and_speak(maitred: Maitred) -> None:
    def step(statement: str) -> bytes:
        return parse(statement) + bind() + execute()

    with maitred.wire() as one:
        one.send(step("listen jobs") + step("notify jobs, '1'") + sync())
        assert tags(one.read_until("Z")) == "12C12CAZ"
        one.send(step("notify jobs, '2'") + sync() + step("unlisten *") + sync())
        assert tags(one.read_until("Z")) == "12CAZ"
        assert tags(one.read_until("Z")) == "12CZ"
    settled(maitred)


def test_five_thousand_listeners_on_one_server_connection(make_maitred: Made) -> None:
    maitred = make_maitred({"pool": {"size": 5}}, workers=2)
    count = 5000
    listeners: list[Wire] = []
    try:
        for at in range(count):
            listener = maitred.wire()
            listener.query(f"listen c{at % 50}")
            listeners.append(listener)
        settled(maitred, **{f"c{at}": count // 50 for at in range(50)})
        states = [row["state"] for row in maitred.console("SHOW SERVERS")]
        assert states.count("listening") == 1
        with maitred.connect() as speaker:
            for at in range(50):
                speaker.execute("select pg_notify(%s, %s)", [f"c{at}", f"word {at}"])
        for at, listener in enumerate(listeners):
            heard = listener.read_until("A")[-1]
            assert heard.body.endswith(f"c{at % 50}\0word {at % 50}\0".encode()), at
    finally:
        for listener in listeners:
            listener.close()


def test_a_pinned_listener_keeps_a_server_of_its_own(make_maitred: Made) -> None:
    maitred = make_maitred({"pool": {"size": 2, "listen": "pinned"}})
    with maitred.connect() as one, maitred.connect() as two:
        one.execute("listen jobs")
        eventually(lambda: [row["reasons"] for row in maitred.console("SHOW PINS")] == ["listen"])
        two.execute("notify jobs, 'x'")
        assert words(list(one.notifies(timeout=5, stop_after=1))) == ["x"]
    assert maitred.metrics()['maitred_pins_total{reason="listen"}'] == 1
    assert channels(maitred) == {}


def test_listening_leaves_room_for_those_who_only_ask(maitred: Maitred) -> None:
    """A listener that queries between notifications shares the one server with everybody."""
    with maitred.connect() as one, maitred.connect() as two:
        one.execute("listen jobs")
        started = time.monotonic()
        for at in range(100):
            assert one.execute("select %s::int", [at]).fetchone() == (at,)
            assert two.execute("select %s::int", [-at]).fetchone() == (-at,)
        assert time.monotonic() - started < 60
        two.execute("notify jobs, 'x'")
        assert words(list(one.notifies(timeout=5, stop_after=1))) == ["x"]
