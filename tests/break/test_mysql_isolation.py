"""No MySQL client ever receives another client's bytes, rows or session state.

Clients ask for their own markers while kills, disconnects, garbage and errors rain, alone and
beside PostgreSQL clients on the same workers. Run by pytest; scaled by `--isolation-clients` and
`--isolation-seconds`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fix_crowd import outcome, run_clients, start_clients, told_of
from fix_mariadb import MariaDB
from fix_mysql_front import Front
from fix_postgres import Postgres
from fix_processes import eventually

MARKS = "create table shop.marks (id int auto_increment primary key, m varchar(99), index (m))"


def told(front: Front, **more: object) -> dict[str, object]:
    """What the clients' program is told: where, and that it speaks MySQL."""
    maitred = front.operated
    front.endpoint.rows(MARKS)
    place = {"port": maitred.mysql_port, "program": "marked_mysql_clients.py"}
    return told_of(maitred, "shop", **place, **more)


def at_rest(front: Front) -> None:
    """All clients have left: nothing is counted as busy or waiting any more."""

    def is_at_rest() -> bool:
        shown = front.operated.pool()
        busy = ("cl_active", "cl_waiting", "sv_active", "sv_login", "sv_closing")
        assert {name: shown[name] for name in busy} == dict.fromkeys(busy, 0)
        return True

    eventually(is_at_rest, because="something is still counted after everybody left")
    assert front.endpoint.value("select count(*) from marks where m like 'mark-%%'") == 0


class Killer:
    """Ends servers of ours at random until told to stop."""

    def __init__(self, endpoint: MariaDB) -> None:
        self.endpoint = endpoint
        self.killed = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        dice = random.Random(1)
        while not self._done.wait(0.1):
            for thread in dice.sample(found := self.endpoint.threads("app"), min(1, len(found))):
                self.endpoint.kill(thread)
                self.killed += 1


@pytest.mark.deadline(600)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_client_gets_its_own_answers(
    make_front: Callable[..., Front], pytestconfig: pytest.Config, workers: int
) -> None:
    clients = pytestconfig.getoption("--isolation-clients") // 2
    seconds = pytestconfig.getoption("--isolation-seconds")
    front = make_front(
        {"pool": {"size": 10, "queue_timeout": "60s"}, "limits": {"clients": 4 * clients + 100}},
        workers=workers,
    )
    plan = told(front, seconds=seconds, seed=workers)
    with Killer(front.endpoint) as killer:
        total = run_clients(plan, clients)
    # Without these the test would pass on a maitred that answers hardly anybody.
    assert total["answers checked"] > clients
    assert total["kills that hit"] > 0, "no KILL QUERY ever hit"
    assert killer.killed > 0
    at_rest(front)


def test_orderly_clients_see_no_error_at_all(make_front: Callable[..., Front]) -> None:
    front = make_front({"pool": {"size": 5, "queue_timeout": "60s"}}, workers=2)
    total = run_clients(told(front, seconds=3, deeds="orderly"), 100)
    assert total["answers checked"] > 100
    unexpected = {key for key in total if key.startswith("error")} - {"error 1146"}
    assert not unexpected, total
    at_rest(front)


def test_kills_hit_nobody_else(make_front: Callable[..., Front]) -> None:
    """Half of the clients kill their own queries all the time, the other half never notices."""
    front = make_front({"pool": {"size": 4, "queue_timeout": "60s"}}, workers=2)
    plan = told(front, seconds=4)
    running = [
        start_clients(plan | {"deeds": deeds}, name, 40)
        for name, deeds in (("rogue", "cancels"), ("calm", "orderly"))
    ]
    rogue, calm = (outcome(each) for each in running)
    assert not rogue["wrong"], rogue["wrong"]
    assert not calm["wrong"], calm["wrong"]
    assert rogue["counts"]["kills that hit"] > 0
    assert "error 1317" not in calm["counts"], "a kill hit another client's query"
    assert calm["counts"]["answers checked"] > 100


@pytest.mark.flavour("mariadb")
@pytest.mark.deadline(300)
def test_both_dialects_on_the_same_workers(
    make_front: Callable[..., Front], postgres: Postgres, pytestconfig: pytest.Config
) -> None:
    """PostgreSQL and MySQL clients at once, servers of both being killed: nothing crosses."""
    seconds = pytestconfig.getoption("--isolation-seconds")
    url = f"postgres://app@127.0.0.1:{postgres.port}/shop"
    more: dict[str, Any] = {
        "databases": {"pgshop": {"url": url}},
        "pool": {"size": 6, "queue_timeout": "60s"},
        "limits": {"clients": 2000},
    }
    front = make_front(more, workers=2)
    mysql = told(front, seconds=seconds)
    plain = told_of(front.operated, "pgshop", seconds=seconds)
    with Killer(front.endpoint) as killer:
        running = [
            start_clients(mysql, "maria", 60),
            start_clients(plain, "elephant", 60),
        ]
        time.sleep(seconds / 2)
        postgres.terminate(*postgres.backends()[:2])
        found = [outcome(each) for each in running]
    for each in found:
        # Why 57P01 passes: that is what who loses a server is told.
        assert not each["wrong"], each["wrong"]
        assert each["counts"]["answers checked"] > 60
    assert killer.killed > 0
    at_rest(front)
