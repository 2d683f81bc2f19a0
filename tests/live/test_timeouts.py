"""Every time limit: who is told what when it passes, and that nothing happens before.

No test asserts how long something took; a limit that never strikes hangs, and that fails.
Run by pytest.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fix_maitred import Maitred, names_setting, trouble
from fix_network import Link
from fix_postgres import Postgres
from fix_processes import eventually, free_port
from fix_wire import Closed, Wire, message, query, startup, tags, text

pytestmark = pytest.mark.one_backend


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts and then says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for each in kept:
            each.close()


def last_error(client: Wire) -> dict[str, str]:
    """The error with which the client was closed."""
    seen = client.read_to_end()
    errors = [got.fields for got in seen if got.tag == "E"]
    assert errors, f"closed without a word: {seen}"
    return errors[-1]


def test_query_timeout_cancels_the_query(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"query_timeout": "400ms"}})
    with maitred.wire() as client, maitred.wire() as other:
        client.send(query("select pg_sleep(60)"))
        try:
            seen = client.read_until("Z")
        except Closed as closed:
            seen = closed.seen
        (error,) = [got for got in seen if got.tag == "E"]
        assert error.code == "57014"
        assert names_setting(error.fields, "pool.query_timeout"), error.fields
        assert other.value("select 1") == "1"
    eventually(
        lambda: (
            not postgres.rows(
                "select 1 from pg_stat_activity where query like '%pg_sleep(60)%'"
                " and state = 'active' and pid <> pg_backend_pid()"
            )
        ),
        because="the query still runs on the database",
    )


def test_idle_transaction_timeout_closes_and_rolls_back(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    postgres.rows("drop table if exists forgotten")
    postgres.rows("create table forgotten (n int)")
    postgres.rows("grant all on forgotten to public")
    maitred = make_maitred({"pool": {"size": 1, "idle_transaction_timeout": "400ms"}})
    with maitred.wire() as client, maitred.wire() as other:
        client.query("begin; insert into forgotten values (1)")
        error = last_error(client)
        assert (error["S"], error["C"]) == ("FATAL", "25P03")
        assert names_setting(error, "pool.idle_transaction_timeout"), error
        assert other.value("select count(*) from forgotten") == "0"
    postgres.rows("drop table forgotten")


def test_idle_transaction_timeout_spares_a_busy_one(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"idle_transaction_timeout": "1s"}})
    with maitred.wire() as client:
        client.query("begin")
        client.query("select pg_sleep(2)")
        assert client.status == "T"
        client.query("commit")


def test_transaction_timeout_strikes_a_busy_one(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 1, "transaction_timeout": "600ms"}})
    with maitred.wire() as client, maitred.wire() as other:
        client.query("begin")
        with pytest.raises(Closed) as closed:
            for _ in range(1000):
                client.query("select pg_sleep(0.05)")
        errors = [got.fields for got in closed.value.seen if got.tag == "E"]
        assert errors[-1]["C"] == "25P04"
        assert names_setting(errors[-1], "pool.transaction_timeout"), errors
        assert other.value("select 1") == "1"


def test_client_idle_timeout(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"client_idle_timeout": "500ms"}})
    with maitred.wire() as client, maitred.wire() as busy:
        busy.send(query("select pg_sleep(2)"))
        error = last_error(client)
        assert (error["S"], error["C"]) == ("FATAL", "57P05")
        assert names_setting(error, "pool.client_idle_timeout"), error
        assert tags(busy.read_until("Z")) == "TDCZ"


@pytest.mark.parametrize("said", ["nothing", "startup", "half a startup", "request for tls"])
def test_client_login_timeout(make_maitred: Callable[..., Maitred], said: str) -> None:
    maitred = make_maitred(
        {
            "limits": {"client_login_timeout": "500ms"},
            "auth": {"method": "scram-sha-256"},
            "users": {"app": {"password": "x"}},
        }
    )
    hello = startup(user="app", database="shop")
    spoken = {
        "nothing": b"",
        "startup": hello,
        "half a startup": hello[:10],
        "request for tls": b"\0\0\0\x08\x04\xd2\x16\x2f",
    }
    with maitred.wire(password="x") as bystander, Wire(maitred.address) as client:
        client.send(spoken[said])
        if said == "request for tls":
            assert client.take(1) == b"N"
        error = last_error(client)
        assert names_setting(error, "limits.client_login_timeout"), error
        assert bystander.value("select 1") == "1"


def test_queue_timeout_of_zero_waits(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 1, "queue_timeout": "0s"}})
    with maitred.wire() as holder, maitred.wire() as waiter:
        holder.query("begin")
        waiter.send(query("select 'at last'"))
        time.sleep(1)
        holder.query("commit")
        assert tags(waiter.read_until("Z")) == "TDCZ"


def test_login_timeout_of_a_silent_database(
    make_maitred: Callable[..., Maitred], silent_port: int
) -> None:
    maitred = make_maitred(
        {"pool": {"login_timeout": "400ms", "queue_timeout": "2s"}}, port=silent_port
    )
    error = trouble(maitred)
    assert error["C"] == "08001", error
    assert names_setting(error, "pool.login_timeout") or "log" in error["M"], error


def test_database_that_refuses_connections_is_named(make_maitred: Callable[..., Maitred]) -> None:
    port = free_port()
    maitred = make_maitred({"pool": {"queue_timeout": "1s"}}, port=port)
    error = trouble(maitred)
    assert error["C"] == "08001", error
    told = " ".join(error.values())
    assert str(port) in told, told
    assert "refused" in told.lower(), told


@pytest.mark.parametrize("when_down", ["wait", "fail"])
def test_known_down_database(
    make_maitred: Callable[..., Maitred],
    postgres: Postgres,
    link: Callable[..., Link],
    when_down: str,
) -> None:
    away = link(postgres.port)
    maitred = make_maitred(
        {"pool": {"when_down": when_down, "queue_timeout": "20s", "login_retry_max": "300ms"}},
        port=away.port,
    )
    with maitred.wire() as client, maitred.wire() as patient:
        assert client.value("select 1") == "1"
        away.refuse()
        away.reset()
        if when_down == "fail":
            # The first one finds out; then everybody is told at once, long before 20 s.
            error = client.error("select 1")
            assert error.code == "08001"
            assert patient.error("select 1").code == "08001"
            away.listen()
            eventually(lambda: "D" in tags(client.query("select 1")))
        else:
            patient.send(query("select 'came back'"))
            time.sleep(1)
            away.listen()
            seen = patient.read_until("Z")
            assert [got.values for got in seen if got.tag == "D"] == [["came back"]]


def test_server_idle_timeout_closes_down_to_the_minimum(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"server_idle_timeout": "500ms", "min_size": 1}})
    clients = [maitred.wire() for _ in range(4)]
    for client in clients:
        client.query("begin")
    assert len(postgres.backends()) == 4
    for client in clients:
        client.query("commit")
        client.close()
    eventually(lambda: len(postgres.backends()) == 1, because="idle servers are kept")
    time.sleep(1.5)
    assert len(postgres.backends()) == 1


def test_server_lifetime_replaces_servers_and_no_client_notices(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred({"pool": {"server_lifetime": "1s", "size": 2}})
    with maitred.wire() as client, maitred.wire() as long:
        long.query("begin")
        held = long.backend()
        seen: set[int] = set()
        eventually(lambda: seen.add(client.backend()) or len(seen) >= 2)
        assert long.backend() == held, "a server was retired in the middle of a transaction"
        long.query("commit")
        eventually(lambda: long.backend() != held)


def test_client_that_never_ends_its_message_holds_no_server(
    make_maitred: Callable[..., Maitred],
) -> None:
    maitred = make_maitred({"pool": {"size": 1, "query_timeout": "2s"}})
    with maitred.wire() as slow, maitred.wire() as other:
        slow.send(message("Q", text("select 1"))[:-3])
        assert other.value("select 'not blocked'") == "not blocked"
