"""More MySQL clients than servers: everybody waits in order and nobody starves.

Counts turns, not seconds, wherever it can. Run by pytest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fix_mysql_front import Front
from fix_mysql_wire import MysqlWire
from fix_processes import eventually

pytestmark = pytest.mark.one_backend


@pytest.mark.flavour("mariadb")
def test_clients_are_served_in_the_order_in_which_they_asked(
    make_front: Callable[..., Front],
) -> None:
    front = make_front({"pool": {"size": 1}})
    maitred = front.operated
    holder = front.wire()
    holder.run("begin", "select 1")
    waiters = [front.wire() for _ in range(10)]
    for number, waiter in enumerate(waiters):
        waiter.send("QUERY", b"select now(6)")
        eventually(lambda due=number: maitred.pool()["cl_waiting"] == due + 1)
    holder.run("commit")
    times = []
    for waiter in waiters:
        (rows,) = waiter.read_answers()
        times.append(rows.rows[0][0])  # type: ignore[union-attr]
    assert times == sorted(times)


@pytest.mark.flavour("mariadb")
def test_read_write_transactions_of_many_clients_on_few_servers(
    make_front: Callable[..., Front],
) -> None:
    """No client gets much less than another one, and none is refused."""
    front = make_front({"pool": {"size": 4, "queue_timeout": "20s"}})
    front.operated  # noqa: B018
    front.endpoint.rows("create table shop.counted (id int primary key, n int)")
    front.endpoint.rows("insert into shop.counted select seq, 0 from seq_1_to_100")
    turns: dict[int, int] = {}
    longest: list[float] = []
    until = time.monotonic() + 4

    def work(number: int, client: MysqlWire) -> None:
        worst = done = 0.0
        while time.monotonic() < until:
            before = time.monotonic()
            client.run("begin")
            client.run(f"select n from counted where id = {number}")
            client.run(f"update counted set n = n + 1 where id = {number}", "commit")
            worst, done = max(worst, time.monotonic() - before), done + 1
        turns[number] = int(done)
        longest.append(worst)

    threads = [
        threading.Thread(target=work, args=(number, front.wire())) for number in range(1, 41)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(turns) == 40, "a client was refused"
    assert min(turns.values()) > 0
    # Why so generous: the clients are threads of one process that share a lock.
    assert max(turns.values()) < 6 * min(turns.values()), turns
    assert max(longest) < 3


@pytest.mark.flavour("mariadb")
def test_a_waiting_client_that_leaves_is_forgotten(make_front: Callable[..., Front]) -> None:
    front = make_front({"pool": {"size": 1}})
    maitred = front.operated
    holder = front.wire()
    holder.run("begin", "select 1")
    leaver, stayer = front.wire(), front.wire()
    leaver.send("QUERY", b"insert into nosuch values (1)")
    eventually(lambda: maitred.pool()["cl_waiting"] == 1)
    stayer.send("QUERY", b"select 5")
    eventually(lambda: maitred.pool()["cl_waiting"] == 2)
    leaver.reset()
    eventually(lambda: maitred.pool()["cl_waiting"] == 1)
    holder.run("commit")
    (rows,) = stayer.read_answers()
    assert rows.rows == [("5",)]  # type: ignore[union-attr]
