"""Clients that vanish, read slowly, flood, or send garbage: nobody else ever notices.

Run by pytest.
"""

from __future__ import annotations

import random
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import (
    Closed,
    Message,
    Wire,
    bind,
    execute,
    extended,
    flush,
    message,
    parse,
    query,
    startup,
    sync,
    tags,
    text,
    untagged,
)

MEGABYTE = 1 << 20


def active(postgres: Postgres) -> list[tuple[int, str]]:
    return postgres.rows(
        "select pid, query from pg_stat_activity where datname = 'shop' and state <> 'idle'"
        " and pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize("how", ["close", "reset", "quit"])
@pytest.mark.parametrize("kind", ["simple", "extended", "transaction"])
def test_query_of_a_client_that_vanishes_is_cancelled_and_its_server_reused(
    make_maitred: Callable[..., Maitred], postgres: Postgres, how: str, kind: str
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as other:
        pid = other.backend()
        client = maitred.wire()
        if kind == "transaction":
            client.query("begin; create table must_be_rolled_back (n int)")
        sleep = "select pg_sleep(300)"
        client.send(extended(sleep) + sync() if kind == "extended" else query(sleep))
        eventually(lambda: any("300" in text for _, text in active(postgres)))
        if how == "quit":
            client.send(message("X"))
        client.reset() if how == "reset" else client.close()
        # With one server this is answered only if the sleep was cancelled.
        assert other.backend() == pid, "the server was thrown away"
        assert other.value("select to_regclass('must_be_rolled_back')") is None
        assert other.value("select now() = statement_timestamp()") == "t"


def test_transaction_of_a_client_that_vanishes_is_rolled_back(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as other:
        pid = other.backend()
        for failed in (False, True):
            client = maitred.wire()
            client.query("begin; create table half_done (n int); savepoint s")
            if failed:
                client.query("select 1/0")
            client.reset()
            assert other.backend() == pid
            assert other.value("select to_regclass('half_done')") is None


def test_client_vanishes_in_the_middle_of_a_large_result(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as other:
        other.query("select 1")
        for _ in range(5):
            client = maitred.wire(receive_buffer=4096)
            client.send(query("select repeat('x', 1000) from generate_series(1, 1000000)"))
            client.take(5000)
            client.reset()
            assert other.value("select 'free again'") == "free again"


@pytest.mark.parametrize("kind", ["simple", "extended"])
def test_client_vanishes_in_copy_in(
    make_maitred: Callable[..., Maitred], postgres: Postgres, kind: str
) -> None:
    postgres.rows("drop table if exists unfinished")
    postgres.rows("create table unfinished (n int)")
    postgres.rows("grant all on unfinished to public")
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as other:
        pid = other.backend()
        for ending in (b"", message("d", b"3\n")[:-1], message("d", b"3\n")[:3]):
            client = maitred.wire()
            copy = "copy unfinished from stdin"
            sent = extended(copy) + sync() if kind == "extended" else query(copy)
            client.send(sent)
            client.read_until("G")
            client.send(message("d", b"1\n"), message("d", b"2\n"), ending)
            client.reset()
            assert other.value("select count(*) from unfinished") == "0"
        # Why either: ending a COPY without its client may cost the server, but never a hang.
        assert other.backend() == pid or len(postgres.backends()) == 1
    postgres.rows("drop table unfinished")


def test_client_vanishes_in_copy_out(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as other:
        for _ in range(3):
            client = maitred.wire(receive_buffer=4096)
            client.send(query("copy (select generate_series(1, 5000000)) to stdout"))
            client.read_until("H")
            client.reset()
            assert other.value("select 'free again'") == "free again"


def test_client_vanishes_in_the_middle_of_a_message(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    whole = extended("select $1::text", ("x" * 100_000,)) + sync()
    with maitred.wire() as other:
        for size in (1, 4, 6, 30, 1000, 70_000, len(whole) - 1):
            client = maitred.wire()
            client.send(whole[:size])
            time.sleep(0.02)
            client.reset()
            assert other.value("select 'free again'") == "free again"


def test_client_vanishes_with_a_pipeline_in_flight(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    postgres.rows("drop table if exists steps")
    postgres.rows("create table steps (n int)")
    postgres.rows("grant all on steps to public")
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as other:
        client = maitred.wire()
        for number in range(100):
            client.send(extended(f"insert into steps values ({number})"), sync())
        client.send(parse("select 1"), flush())
        client.reset()
        count = int(other.value("select count(*) from steps") or 0)
        assert 0 <= count <= 100
        assert other.value("select count(*) from steps") == str(count), "it still runs"
    postgres.rows("drop table steps")


def test_client_waiting_in_the_queue_vanishes(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as holder, maitred.wire() as patient:
        holder.query("begin")
        waiters = [maitred.wire() for _ in range(5)]
        for waiter in waiters:
            waiter.send(query("select 1"))
        eventually(lambda: maitred.pool()["cl_waiting"] == 5)
        patient.send(query("select 'served'"))
        for waiter in waiters:
            waiter.reset()
        eventually(lambda: maitred.pool()["cl_waiting"] == 1)
        holder.query("commit")
        assert tags(patient.read_until("Z")) == "TDCZ"


# Slow readers and writers.


def test_slow_reader_does_not_grow_memory(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 4}})
    with maitred.wire() as other:
        other.query("select 1")
        before = maitred.resident_bytes()
        slow = [maitred.wire(receive_buffer=4096) for _ in range(3)]
        for client in slow:
            client.send(query("select repeat('x', 10000) from generate_series(1, 20000)"))
        for _ in range(50):
            time.sleep(0.02)
            assert other.value("select 1") == "1"
            grown = maitred.resident_bytes() - before
            # 200 MB are on their way to each of them.
            assert grown < 24 * MEGABYTE, f"{grown / MEGABYTE:.0f} MiB are held for slow readers"
        rows = 0
        while (got := slow[0].read()).tag != "Z":
            rows += got.tag == "D"
        assert rows == 20000, "the slow reader must get all of it in the end"
        for client in slow[1:]:
            client.reset()
        eventually(lambda: not active(postgres))
        for client in slow:
            client.close()


def test_reader_that_stops_holds_nobody_up(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 2}})
    with maitred.wire(receive_buffer=4096) as stopped, maitred.wire() as other:
        stopped.send(query("select repeat('x', 10000) from generate_series(1, 20000)"))
        for _ in range(100):
            assert other.value("select 1") == "1"


def test_writer_that_never_reads_does_not_grow_memory(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred()
    with maitred.wire(receive_buffer=4096) as client, maitred.wire() as other:
        other.query("select 1")
        before = maitred.resident_bytes()
        client.socket.settimeout(2)
        batch = query("select repeat('y', 1000)") * 1000
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                client.send(batch)
        assert maitred.resident_bytes() - before < 24 * MEGABYTE
        assert other.value("select 1") == "1"


def test_half_open_clients_cost_nothing_to_others(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"limits": {"clients": 600}})
    idle = [socket.create_connection(maitred.address) for _ in range(300)]
    for number, each in enumerate(idle):
        each.sendall(startup(user="app", database="shop")[: number % 20])
    with maitred.wire() as client:
        for _ in range(50):
            assert client.value("select 1") == "1"
    for each in idle:
        each.close()
    eventually(lambda: len(maitred.console("SHOW CLIENTS")) == 1)


def test_half_closed_client_still_gets_its_answer_or_is_let_go(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as client, maitred.wire() as other:
        client.send(query("select pg_sleep(0.2), 'answer'"))
        client.socket.shutdown(socket.SHUT_WR)
        seen = client.read_to_end()
        assert tags(seen) in ("TDCZ", "", "E", "TDCZE", "EZ"), seen
        assert other.value("select 1") == "1"


# Garbage.

BEFORE_LOGIN = {
    "zeros": b"\0" * 100,
    "ones": b"\xff" * 100,
    "http": b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
    "tls without asking": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "too long": struct.pack("!II", 0x7FFFFFFF, 196608),
    "too short": struct.pack("!I", 4),
    "negative length": struct.pack("!iI", -5, 196608),
    "length three": struct.pack("!I", 3) + b"\0" * 20,
    "unterminated parameter": untagged(struct.pack("!I", 196608) + b"user\0app\0database\0shop"),
    "name without value": untagged(struct.pack("!I", 196608) + b"user\0\0"),
    "empty startup": untagged(struct.pack("!I", 196608)),
    "query instead of startup": query("select 1"),
    "not utf-8": untagged(struct.pack("!I", 196608) + b"user\0\xff\xfe\0database\0shop\0\0"),
    "bad cancel": untagged(struct.pack("!II", 80877102, 1)),
    "long cancel": untagged(struct.pack("!II", 80877102, 1) + b"x" * 5000),
    "huge startup": untagged(
        struct.pack("!I", 196608) + b"user\0app\0options\0" + b"x" * 2_000_000 + b"\0\0"
    ),
}


@pytest.mark.parametrize("name", BEFORE_LOGIN)
def test_garbage_before_login_closes_that_client_only(served: Maitred, name: str) -> None:
    with served.wire(database="transaction") as bystander:
        bystander.query("begin")
        with Wire(served.address) as client:
            try:
                client.send(BEFORE_LOGIN[name])
                client.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed before it had read everything
            try:
                seen = client.read_to_end()
            except (struct.error, Closed):
                seen = []
            errors = [got for got in seen if got.tag == "E"]
            assert all(error.code.startswith(("08", "28", "0A", "22")) for error in errors), errors
            assert "Z" not in tags(seen), f"{name} was taken for a login"
        assert bystander.value("select 'untouched'") == "untouched"


AFTER_LOGIN = {
    "unknown tag": message("!", b"x"),
    "zero tag": b"\0" * 50,
    "length below four": b"Q\0\0\0\3abc",
    "negative length": b"Q\xff\xff\xff\xffabc",
    "beyond the limit": b"Q\x7f\xff\xff\xffabc",
    "startup again": startup(user="app", database="shop"),
    "password": message("p", b"secret\0"),
    "server's message": message("Z", b"I"),
    "query without end": message("Q", b"select 1"),
    "query with more behind its end": message("Q", b"select 1\0select 2\0"),
    "parse without end": message("P", b"name"),
    "parse with wrong count": message("P", b"\0select 1\0\0\5"),
    "bind with wrong count": message("B", b"\0\0\0\0\0\7\0\0"),
    "bind with negative length": message("B", b"\0\0\0\0\0\1\xff\xff\xff\xf0\0\0"),
    "describe of what": message("D", b"Xname\0"),
    "describe of nothing": message("D", b""),
    "execute too short": message("E", b"\0\0"),
    "close of what": message("C", b"?\0"),
    "sync with a body": message("S", b"more"),
    "flush with a body": message("H", b"more"),
    "http": b"GET / HTTP/1.1\r\n\r\n",
}
# The database itself answers these with an error and goes on; so may maitred.
MAY_GO_ON = {
    "query with more behind its end", "parse with wrong count", "bind with wrong count",
    "bind with negative length", "describe of what", "close of what", "execute too short",
    "parse without end", "describe of nothing", "query without end", "sync with a body",
    "flush with a body",
}  # fmt: skip


def until_it_goes_on(client: Wire) -> list[Message]:
    """Messages up to the row that says so, or until the peer closes."""
    seen: list[Message] = []
    try:
        while not (seen and seen[-1].tag == "D" and seen[-1].values == ["went on"]):
            seen.append(client.read())
    except Closed:
        pass
    return seen


@pytest.mark.parametrize("name", AFTER_LOGIN)
@pytest.mark.parametrize("where", ["idle", "transaction"])
def test_garbage_after_login_hurts_that_client_only(served: Maitred, name: str, where: str) -> None:
    place = {"database": "transaction"}
    with served.wire(**place) as bystander, served.wire(**place) as client:
        bystander.query("begin")
        held = bystander.backend()
        if where == "transaction":
            client.query("begin; create table must_not_stay (n int)")
        client.send(AFTER_LOGIN[name])
        if name in MAY_GO_ON:
            client.send(sync(), query("rollback; select 'went on'"))
        seen = until_it_goes_on(client)
        codes = [got.code for got in seen if got.tag == "E"]
        assert codes, f"not a word about {name}: {seen}"
        if name in MAY_GO_ON:
            assert codes[0][:2] in ("08", "25", "26", "34", "42", "22"), codes
        else:
            assert codes[-1] in ("08P01", "54000"), codes
            assert seen[-1].tag == "E", f"{name} was survived: {seen}"
            client.close()
        assert bystander.backend() == held
        assert bystander.value("select to_regclass('must_not_stay')") is None
        bystander.query("commit")
    with served.wire(**place) as successor:
        assert successor.value("select to_regclass('must_not_stay')") is None


def test_random_garbage_of_many_clients(make_maitred: Callable[..., Maitred]) -> None:
    dice = random.Random(7)
    maitred = make_maitred({"pool": {"size": 3}}, workers=2)
    pieces = [
        query("select 1"), extended("select 2"), sync(), flush(), parse("select 3", "n"),
        bind(name="n"), execute(), message("d", b"x"), message("c"), message("f", text("no")),
        query("begin"), query("copy x from stdin"), message("X"),
    ]  # fmt: skip
    with maitred.wire() as bystander:
        for _ in range(300):
            with Wire(maitred.address) as client:
                client.login()
                stream = bytearray(b"".join(dice.choices(pieces, k=dice.randrange(1, 8))))
                for _ in range(dice.randrange(1, 4)):
                    stream[dice.randrange(len(stream))] = dice.randrange(256)
                client.send(bytes(stream))
                if dice.random() < 0.5:
                    client.socket.shutdown(socket.SHUT_WR)
                    client.read_to_end()
            assert bystander.value("select 'untouched'") == "untouched"
    eventually(lambda: maitred.pool()["cl_active"] == maitred.pool()["sv_active"] == 0)


# Floods.


def test_flood_of_connections(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"limits": {"clients": 200}, "pool": {"size": 3}}, workers=2)
    with maitred.wire() as bystander:
        over = threading.Event()

        def flood() -> None:
            while not over.is_set():
                try:
                    client = Wire(maitred.address)
                    client.send(startup(user="app", database="shop"))
                    client.reset()
                except OSError:
                    pass

        threads = [threading.Thread(target=flood) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(100):
                assert bystander.value("select 1") == "1"
        finally:
            over.set()
            for thread in threads:
                thread.join()
    eventually(lambda: len(maitred.console("SHOW CLIENTS")) == 1)


def test_clients_beyond_the_limit_of_descriptors(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"limits": {"clients": 0}})
    soft = maitred.descriptors() + 30
    resource.prlimit(maitred.pid, resource.RLIMIT_NOFILE, (soft, soft))
    with maitred.wire() as bystander:
        bystander.query("select 1")
        crowd = []
        for _ in range(60):
            crowd.append(socket.create_connection(maitred.address))
        for _ in range(20):
            assert bystander.value("select 1") == "1"
        for each in crowd:
            each.close()
        eventually(lambda: _lets_in(maitred), because="nobody gets in after the crowd has left")


def _lets_in(maitred: Maitred) -> bool:
    try:
        with maitred.wire(timeout_s=5) as client:
            return client.value("select 1") == "1"
    except (OSError, Closed):
        return False


# The end of maitred itself.


def test_kill_nine_leaves_nothing_on_the_database(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 4}})
    clients = [maitred.wire() for _ in range(4)]
    clients[0].query("begin; create table orphan (n int)")
    clients[1].send(query("select pg_sleep(0.5)"))
    clients[2].query("select 1")
    eventually(lambda: len(active(postgres)) == 2)
    maitred.kill()
    for client in clients:
        assert client.is_closed()
    eventually(lambda: not postgres.backends(), because="backends stay behind after kill -9")
    assert postgres.value("select to_regclass('orphan')") is None


def test_stopped_process_continues(make_maitred: Callable[..., Maitred]) -> None:
    # A laptop that slept, or a virtual machine that was moved: time jumps, sockets are full.
    maitred = make_maitred()
    with maitred.wire() as client, maitred.wire() as leaver:
        client.query("begin")
        maitred.signal(signal.SIGSTOP)
        client.send(query("select 'awake'"))
        leaver.reset()
        time.sleep(1)
        maitred.signal(signal.SIGCONT)
        assert tags(client.read_until("Z")) == "TDCZ"
        client.query("commit")
        with maitred.wire() as newcomer:
            assert newcomer.value("select 1") == "1"
