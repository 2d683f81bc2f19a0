"""Changing the configuration of a running maitred, and ending it: reload, drain, signals.

Run by pytest.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from fix_maitred import Maitred, refusal, toml
from fix_postgres import Postgres
from fix_processes import eventually, free_port
from fix_wire import Closed, query, tags

pytestmark = pytest.mark.one_backend


def has_pool_size(maitred: Maitred, size: int) -> bool:
    return maitred.pool()["pool_size"] == size


@pytest.mark.parametrize("how", ["SIGHUP", "file", "RELOAD"])
def test_new_configuration_is_taken_up(make_maitred: Callable[..., Maitred], how: str) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as client:
        assert client.value("select 1") == "1"
        maitred.config["pool"]["size"] = 4
        maitred.write()
        if how == "SIGHUP":
            maitred.signal(signal.SIGHUP)
        elif how == "RELOAD":
            maitred.console("RELOAD")
        eventually(lambda: has_pool_size(maitred, 4), because=f"{how} changed nothing")
        assert client.value("select 1") == "1"


BAD_FILES = {
    "not toml": ('[pool\nsize = "', "1"),
    "unknown setting": ("[pool]\nsise = 3\n", "sise"),
    "wrong unit": ('[pool]\nqueue_timeout = "3 parsecs"\n', "queue_timeout"),
    "out of bounds": ("[pool]\nsize = 0\n", "pool.size"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_keeps_the_old_configuration(
    make_maitred: Callable[..., Maitred], name: str
) -> None:
    text, told = BAD_FILES[name]
    maitred = make_maitred({"pool": {"size": 3}})
    with maitred.wire() as client:
        client.query("begin")
        rest = toml({key: part for key, part in maitred.config.items() if key != "pool"})
        maitred.reload(f"{text}\n{rest}" if name == "not toml" else f"{rest}\n{text}")
        eventually(
            lambda: (
                maitred.file.name in maitred.log_text().split("ready", 1)[-1]
                and told in maitred.log_text()
            ),
            because="the log does not say what is wrong with which file",
        )
        assert has_pool_size(maitred, 3)
        client.query("commit")
        assert client.value("select 1") == "1"
        with maitred.wire() as newcomer:
            assert newcomer.value("select 1") == "1"
        metrics = maitred.metrics()
        assert metrics["maitred_reload_failures_total"] >= 1


def test_database_is_added_and_removed(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        assert refusal(maitred, "app", "warehouse")["C"] == "3D000"
        url = f"postgres://app@127.0.0.1:{postgres.port}/warehouse"
        maitred.config["databases"]["warehouse"] = {"url": url}
        maitred.reload()
        eventually(lambda: len(maitred.console("SHOW DATABASES")) >= 2)
        with maitred.wire(database="warehouse") as other:
            assert other.value("select current_database()") == "warehouse"
            del maitred.config["databases"]["warehouse"]
            maitred.reload()
            assert other.read_to_end()[-1].tag == "E"
        eventually(lambda: refusal(maitred, "app", "warehouse")["C"] == "3D000")
        eventually(lambda: not postgres.backends("warehouse"))
        assert client.value("select 1") == "1"


def test_database_moves_to_another_place(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred()
    with maitred.wire() as client, maitred.wire() as busy:
        busy.query("begin")
        assert client.value("select current_database()") == "shop"
        url = f"postgres://app@127.0.0.1:{postgres.port}/warehouse"
        maitred.config["databases"]["shop"] = {"url": url}
        maitred.reload()
        eventually(lambda: client.value("select current_database()") == "warehouse")
        assert busy.value("select current_database()") == "shop", "moved within a transaction"
        busy.query("commit")
        assert busy.value("select current_database()") == "warehouse"
        eventually(lambda: not postgres.backends("shop"), because="old servers stay open")


def test_password_of_a_user_changes(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred(
        {"auth": {"method": "scram-sha-256"}, "users": {"app": {"password": "old"}}}
    )
    with maitred.wire(password="old") as before:
        maitred.config["users"]["app"]["password"] = "new"
        maitred.reload()

        def accepts_new() -> bool:
            try:
                maitred.wire(password="new").close()
            except Closed:
                return False
            return True

        eventually(accepts_new)
        assert refusal(maitred, password="old")["C"] == "28P01"
        assert before.value("select 1") == "1"


def test_listener_is_added_and_removed(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    second = free_port()
    first = maitred.port
    maitred.config["listen"]["postgres"] = [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
    with maitred.wire() as client:
        maitred.reload()
        maitred.port = second
        eventually(lambda: _reaches(maitred), because="the new listener does not answer")
        maitred.config["listen"]["postgres"] = f"127.0.0.1:{second}"
        maitred.reload()
        maitred.port = first
        eventually(lambda: not _reaches(maitred), because="the old listener still answers")
        maitred.port = second
        assert _reaches(maitred)
        assert client.value("select 'stayed'") == "stayed"


def _reaches(maitred: Maitred) -> bool:
    try:
        maitred.wire().close()
    except OSError:
        return False
    return True


def test_reload_under_load_costs_nobody_anything(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    clients = [maitred.wire() for _ in range(10)]
    for turn in range(20):
        for number, client in enumerate(clients):
            client.send(query(f"select {number}, {turn}, pg_sleep(0.01)"))
        maitred.config["pool"]["size"] = 3 + turn % 4
        maitred.reload()
        for number, client in enumerate(clients):
            rows = [got.values for got in client.read_until("Z") if got.tag == "D"]
            assert rows == [[str(number), str(turn), ""]]
    for client in clients:
        client.close()


def test_smaller_pool_gives_servers_back(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 4}})
    clients = [maitred.wire() for _ in range(4)]
    for client in clients:
        client.query("begin")
    assert len(postgres.backends()) == 4
    maitred.config["pool"]["size"] = 1
    maitred.reload()
    eventually(lambda: has_pool_size(maitred, 1))
    for client in clients:
        assert client.value("select 1") == "1"
        client.query("commit")
    eventually(lambda: len(postgres.backends()) == 1, because="more servers than the new size")
    for client in clients:
        assert client.value("select 1") == "1"
        client.close()


# The end.


def test_sigterm_lets_transactions_finish(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred()
    idle, working, querying = (maitred.wire() for _ in range(3))
    idle.query("select 1")
    working.query("begin")
    querying.send(query("select pg_sleep(1), 'finished'"))
    eventually(lambda: maitred.pool()["sv_active"] == 2)
    assert maitred.http("/readyz")[0] == 200
    maitred.signal(signal.SIGTERM)
    seen = idle.read_to_end()
    assert (seen[-1].fields["S"], seen[-1].code) == ("FATAL", "57P01")
    assert maitred.http("/readyz")[0] in (503, 0)
    assert working.value("select 'still in it'") == "still in it"
    seen = querying.read_to_end()
    assert tags(seen).startswith("TDCZ")
    assert seen[-1].code == "57P01"
    assert tags(working.query("commit")) in ("CZ", "CZE")
    assert working.is_closed()
    assert maitred.wait() == 0
    eventually(lambda: not postgres.backends())


def test_draining_refuses_newcomers(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred()
    with maitred.wire() as working:
        working.query("begin")
        maitred.signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                maitred.wire().close()
            except Closed as closed:
                return closed.seen[-1].code in ("57P01", "57P03") if closed.seen else True
            except OSError:
                return True
            return False

        eventually(refused)
        working.query("commit")
    assert maitred.wait() == 0


def test_drain_has_a_limit(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"limits": {"drain_timeout": "1s"}})
    with maitred.wire() as working:
        working.query("begin")
        maitred.signal(signal.SIGTERM)
        assert working.read_to_end()[-1].code == "57P01"
    assert maitred.wait() == 0


def test_drain_delay_keeps_accepting_while_not_ready(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"limits": {"drain_delay": "2s"}})
    maitred.signal(signal.SIGTERM)
    eventually(lambda: maitred.http("/readyz")[0] == 503)
    with maitred.wire() as client:
        assert client.value("select 1") == "1"
        assert client.read_to_end()[-1].code == "57P01"
    assert maitred.wait() == 0


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_sigint_is_quick(make_maitred: Callable[..., Maitred], first: signal.Signals) -> None:
    # Also as the second signal, when draining takes too long for somebody at a terminal.
    maitred = make_maitred({"limits": {"drain_timeout": "0s"}})
    with maitred.wire() as working:
        working.query("begin")
        maitred.signal(first)
        if first is signal.SIGTERM:
            time.sleep(0.5)
            maitred.signal(signal.SIGINT)
        assert maitred.wait(20) == 0
        assert working.is_closed()


def test_min_size_is_kept_warm(make_maitred: Callable[..., Maitred], postgres: Postgres) -> None:
    make_maitred({"pool": {"size": 5, "min_size": 3}})
    eventually(lambda: len(postgres.backends()) == 3, because="min_size servers were not opened")
    postgres.terminate(*postgres.backends()[:2])
    eventually(lambda: len(postgres.backends()) == 3, because="lost ones were not replaced")
