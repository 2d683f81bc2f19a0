"""The network between maitred and its database, or its clients, is cut, delayed or stalled.

Run by pytest; nothing here asserts how long something took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fix_maitred import Maitred
from fix_network import Link
from fix_postgres import Postgres
from fix_processes import eventually, settled
from fix_wire import Wire, query, startup, tags


def test_cut_towards_the_database_under_load(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    road = link(postgres.port)
    maitred = make_maitred({"pool": {"size": 4}}, port=road.port, workers=2)
    clients = [maitred.wire() for _ in range(12)]
    for turn in range(5):
        for number, client in enumerate(clients):
            client.send(query(f"select {number}, {turn}, pg_sleep(0.05)"))
        eventually(lambda: maitred.pool()["sv_active"] > 0)
        road.reset()
        lost = 0
        for number, client in enumerate(clients):
            seen = client.read_until("Z")
            errors = [got.code for got in seen if got.tag == "E"]
            lost += len(errors)
            assert set(errors) <= {"08006"}
            rows = [got.values for got in seen if got.tag == "D"]
            assert errors or rows == [[str(number), str(turn), ""]]
        assert lost <= 4, "more errors than servers were working"
    for client in clients:
        client.close()


def test_slow_network_towards_the_database(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    road = link(postgres.port)
    road.delay_s = 0.03
    maitred = make_maitred({"pool": {"size": 3}}, port=road.port)
    clients = [maitred.wire() for _ in range(9)]
    for number, client in enumerate(clients):
        client.send(query(f"select {number}"))
    for number, client in enumerate(clients):
        rows = [got.values for got in client.read_until("Z") if got.tag == "D"]
        assert rows == [[str(number)]]
        client.close()


def test_stalled_server_does_not_stop_the_others(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    road = link(postgres.port)
    url = f"postgres://app@127.0.0.1:{postgres.port}/warehouse"
    maitred = make_maitred({"databases": {"warehouse": {"url": url}}}, port=road.port)
    with maitred.wire() as stuck, maitred.wire(database="warehouse") as other:
        assert stuck.value("select 1") == "1"
        road.stall()
        stuck.send(query("select 'late'"))
        for _ in range(20):
            assert other.value("select 1") == "1"
        road.flow()
        assert tags(stuck.read_until("Z")) == "TDCZ"


def test_stalled_login_gives_up_and_tries_again(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    road = link(postgres.port)
    road.stall()
    maitred = make_maitred(
        {"pool": {"login_timeout": "400ms", "login_retry_max": "300ms", "queue_timeout": "30s"}},
        port=road.port,
    )
    with Wire(maitred.address) as client:
        # The first client of a pool is told the database's parameters, so it waits for a server.
        client.send(startup(user="app", database="shop"))
        eventually(lambda: road.accepted >= 2, because="no second try after a stalled login")
        road.flow()
        assert client.read_until("Z", "E")[-1].tag == "Z"
        assert client.value("select 'in the end'") == "in the end"


def test_query_timeout_on_a_dead_road_frees_the_client(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    road = link(postgres.port)
    maitred = make_maitred({"pool": {"query_timeout": "500ms", "size": 1}}, port=road.port)
    with maitred.wire() as client:
        assert client.value("select 1") == "1"
        road.stall()
        client.send(query("select 'never arrives'"))
        seen = client.read_to_end_or("Z")
        assert [got.code for got in seen if got.tag == "E"], seen
        road.flow()
    with maitred.wire() as other:
        eventually(lambda: tags(other.query("select 1")) == "TDCZ")


def test_cut_towards_clients(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    maitred = make_maitred({"pool": {"size": 3}})
    road = link(maitred.port)
    distant = [Wire(road.address) for _ in range(9)]
    for number, client in enumerate(distant):
        client.login()
        client.send(query("begin" if number % 3 else "select pg_sleep(60)"))
    with maitred.wire() as near:
        near.send(query("select 'served'"))
        eventually(lambda: maitred.pool()["cl_waiting"] > 0)
        road.reset()
        assert tags(near.read_until("Z")) == "TDCZ"
        eventually(lambda: maitred.pool()["cl_active"] == 1)
        eventually(lambda: maitred.pool()["sv_active"] == 0)
    for client in distant:
        client.close()


def test_slow_clients_do_not_slow_down_others(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    maitred = make_maitred({"pool": {"size": 2}})
    road = link(maitred.port)
    road.delay_s = 0.02
    answered = []

    def distant() -> None:
        with Wire(road.address) as client:
            client.login()
            for _ in range(5):
                answered.append(client.value("select 'slowly'"))

    threads = [threading.Thread(target=distant) for _ in range(5)]
    for thread in threads:
        thread.start()
    with maitred.wire() as near:
        for _ in range(50):
            assert near.value("select 1") == "1"
    for thread in threads:
        thread.join()
    assert answered == ["slowly"] * 25


def test_half_open_client_is_found_by_keepalive_or_timeout(
    make_maitred: Callable[..., Maitred], link: Callable[..., Link]
) -> None:
    # A client whose network is gone without a word must not hold its server for ever.
    maitred = make_maitred({"pool": {"size": 1, "idle_transaction_timeout": "1s"}})
    road = link(maitred.port)
    with Wire(road.address) as gone, maitred.wire() as other:
        gone.login()
        gone.query("begin")
        road.stall()
        assert other.value("select 'freed'") == "freed"


def test_many_short_cuts_leave_nothing_behind(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    maitred = make_maitred({"pool": {"size": 3}})
    road = link(maitred.port)
    # The watch over the files of the configuration opens its descriptors a moment after the start.
    before = settled(maitred.descriptors)
    for turn in range(10):
        clients = [Wire(road.address) for _ in range(10)]
        for number, client in enumerate(clients):
            client.login()
            client.send(query("select pg_sleep(0.1)")[: 5 + number * 3])
        if turn % 2:
            time.sleep(0.02)
        road.reset()
        for client in clients:
            client.close()
    eventually(lambda: maitred.descriptors() <= before + 3 + 1)
    eventually(lambda: maitred.pool()["cl_active"] == maitred.pool()["sv_active"] == 0)
