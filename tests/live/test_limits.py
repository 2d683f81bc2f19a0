"""Every limit: the error names the setting to change and the counts, and hurts nobody else.

Run by pytest; times as limits stand in `test_timeouts`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fix_maitred import Maitred, names_setting, refusal
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import query, tags

TWO_CLIENTS = [
    ({"limits": {"clients": 2}}, "limits.clients"),
    ({"databases": {"shop": {"max_clients": 2}}}, "databases.shop.max_clients"),
    ({"users": {"app": {"max_clients": 2}}}, "users.app.max_clients"),
    ({"limits": {"clients_per_user": 2}}, "limits.clients_per_user"),
]


@pytest.mark.parametrize(("config", "setting"), TWO_CLIENTS, ids=[each[1] for each in TWO_CLIENTS])
def test_third_client_is_refused(
    make_maitred: Callable[..., Maitred], config: dict, setting: str
) -> None:
    maitred = make_maitred(config)
    with maitred.wire() as one, maitred.wire() as two:
        found = refusal(maitred)
        assert (found["S"], found["C"]) == ("FATAL", "53300")
        assert names_setting(found, setting), found
        assert "2 of 2" in found["M"], found
        assert maitred.console("SHOW POOLS"), "who could mend it is shut out"
        for client in (one, two):
            assert client.value("select 1") == "1"
    # Whoever leaves makes room.
    eventually(lambda: _lets_in(maitred), because="the place of a client that left stays taken")


def _lets_in(maitred: Maitred) -> bool:
    try:
        refusal(maitred)
    except AssertionError:
        return True
    return False


def test_limits_are_counted_for_each_database_and_user_apart(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    url = f"postgres://app@127.0.0.1:{postgres.port}/warehouse"
    maitred = make_maitred(
        {
            "databases": {"shop": {"max_clients": 1}, "warehouse": {"url": url, "max_clients": 1}},
            "users": {"app": {"max_clients": 3}, "other": {"max_clients": 1}},
        }
    )
    with maitred.wire(), maitred.wire(database="warehouse"):
        assert refusal(maitred)["C"] == "53300"
        assert refusal(maitred, "other", "warehouse")["C"] == "53300"


def test_limits_hold_over_workers(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"limits": {"clients": 20}}, workers=2)
    accepted = []
    refused = 0
    for _ in range(40):
        try:
            accepted.append(maitred.wire())
        except Exception:
            refused += 1
    assert (len(accepted), refused) == (20, 20)
    for client in accepted:
        assert client.value("select 1") == "1"
        client.close()


TWO_SERVERS = [
    {"pool": {"size": 2}},
    {"databases": {"shop": {"pool": {"size": 2}}}},
    {"users": {"app": {"pool": {"size": 2}}}},
    {"databases": {"shop": {"max_servers": 2}}},
    {"limits": {"servers": 2}},
    {"limits": {"servers_per_endpoint": 2}},
    {"users": {"app": {"max_servers": 2}}},
    {"limits": {"servers_per_user": 2}},
]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("config", TWO_SERVERS, ids=[str(config) for config in TWO_SERVERS])
def test_never_more_servers_than_allowed(
    make_maitred: Callable[..., Maitred], postgres: Postgres, config: dict, workers: int
) -> None:
    maitred = make_maitred(config, workers=workers)
    most, over = [0], threading.Event()

    def watch() -> None:
        with postgres.connect("postgres", "postgres") as watcher:
            while not over.is_set():
                counted = "select count(*) from pg_stat_activity where datname = 'shop'"
                most[0] = max(most[0], watcher.execute(counted).fetchone()[0])
                time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    clients = [maitred.wire() for _ in range(12)]
    for _ in range(3):
        for client in clients:
            client.send(query("select pg_sleep(0.02)"))
        for client in clients:
            assert tags(client.read_until("Z")) == "TDCZ"
    over.set()
    watcher.join()
    for client in clients:
        client.close()
    assert most[0] == 2, "both servers must be used, and no third one"


def test_queue_length_is_limited(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 1, "queue_length": 2}})
    with maitred.wire() as holder, maitred.wire() as a, maitred.wire() as b, maitred.wire() as c:
        holder.query("begin")
        for number, waiter in enumerate((a, b), 1):
            waiter.send(query("select 'waited'"))
            eventually(lambda number=number: maitred.pool()["cl_waiting"] == number)
        error = c.error("select 1")
        assert (error.code, error.fields["S"]) == ("53400", "ERROR")
        assert names_setting(error.fields, "pool.queue_length"), error.fields
        assert "2 of 2" in error.fields["M"], error.fields
        holder.query("commit")
        for waiter in (a, b):
            assert tags(waiter.read_until("Z")) == "TDCZ"
        assert c.value("select 'connected all the time'") == "connected all the time"


def test_queue_timeout_names_setting_and_counts(make_maitred: Callable[..., Maitred]) -> None:
    maitred = make_maitred({"pool": {"size": 2, "queue_timeout": "300ms"}})
    with maitred.wire() as one, maitred.wire() as two, maitred.wire() as waiter:
        one.query("begin")
        two.query("begin")
        error = waiter.error("select 1")
        assert (error.code, error.fields["S"]) == ("53300", "ERROR")
        assert names_setting(error.fields, "pool.size"), error.fields
        told = error.fields["M"] + error.fields.get("D", "")
        assert "2" in told, told
        one.query("commit")
        assert waiter.value("select 1") == "1"
        two.query("commit")


def test_waiters_are_served_in_the_order_of_their_coming(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1}}, workers=2)
    postgres.rows("drop table if exists turns")
    postgres.rows("create table turns (place serial, who int)")
    postgres.rows("grant all on turns, turns_place_seq to public")
    waiters = [maitred.wire() for _ in range(10)]
    with maitred.wire() as holder:
        holder.query("begin")
        for number, waiter in enumerate(waiters, 1):
            waiter.send(query(f"insert into turns (who) values ({number})"))
            eventually(lambda number=number: maitred.pool()["cl_waiting"] == number)
            # Why: across workers the order is kept to half a millisecond (pool.rs), not finer.
            time.sleep(0.002)
        holder.query("commit")
        for waiter in waiters:
            waiter.read_until("Z")
            waiter.close()
    assert [who for (who,) in postgres.rows("select who from turns order by place")] == list(
        range(1, 11)
    )
    postgres.rows("drop table turns")


def test_reserve_is_used_after_its_delay_only(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1, "reserve_size": 1, "reserve_after": "300ms"}})
    with maitred.wire() as holder, maitred.wire() as waiter, maitred.wire() as late:
        holder.query("begin")
        assert waiter.value("select 'from the reserve'") == "from the reserve"
        waiter.query("begin")
        late.send(query("select 'waited for a commit'"))
        eventually(lambda: maitred.pool()["cl_waiting"] == 1)
        time.sleep(0.6)
        assert len(postgres.backends()) == 2, "the reserve is one server, not more"
        holder.query("commit")
        assert tags(late.read_until("Z")) == "TDCZ"
        waiter.query("commit")


def test_pool_sizes_of_users_and_databases_override_the_default(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    url = f"postgres://127.0.0.1:{postgres.port}/shop"
    maitred = make_maitred(
        {
            "pool": {"size": 1},
            "databases": {"shop": {"url": url, "pool": {"size": 2}}},
            "users": {"app": {"pool": {"size": 3}}, "other": {"pool": {"mode": "session"}}},
        }
    )
    with maitred.wire("app") as app, maitred.wire("other") as other:
        app.query("select 1")
        other.query("select 1")
        found = {
            row["user"]: (row["pool_size"], row["pool_mode"])
            for row in maitred.console("SHOW POOLS")
            if row["database"] == "shop"
        }
    assert found == {"app": ("3", "transaction"), "other": ("2", "session")}


def test_least_recently_used_servers_leave_when_another_pool_needs_room(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    # Two users share two servers in total; idle ones of one must not starve the other.
    url = f"postgres://127.0.0.1:{postgres.port}/shop"
    maitred = make_maitred(
        {"databases": {"shop": {"url": url}}, "limits": {"servers": 2}, "pool": {"size": 2}}
    )
    with maitred.wire("app") as one, maitred.wire("app") as two, maitred.wire("other") as other:
        one.query("begin")
        two.query("begin")
        one.query("commit")
        two.query("commit")
        assert len(postgres.backends()) == 2
        assert other.value("select current_user") == "other"
        assert len(postgres.backends()) <= 2
