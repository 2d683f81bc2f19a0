"""PostgreSQL restarts, crashes or is away for a while, under load.

At most one error for each transaction that was running, none for anybody else, and no client is
ever disconnected. Run by pytest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from fix_maitred import Maitred, trouble
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import Closed, query, tags

CLIENTS = 32
SERVERS = 5
LOST = {"08006", "57P01", "57P02"}


@dataclass
class Load:
    """Clients that ask without pause, and what went wrong for each."""

    maitred: Maitred
    clients: int = CLIENTS
    answers: int = 0
    errors: dict[int, list[str]] = field(default_factory=dict)
    disconnected: list[str] = field(default_factory=list)
    wrong: list[object] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._one, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        self.wait_for(self.clients * 3)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Until `more` answers have come since now."""
        wanted = self.answers + more
        eventually(lambda: self.answers >= wanted, because="the load stands still", within_s=60)

    def _one(self, number: int) -> None:
        try:
            with self.maitred.wire(timeout_s=60) as client:
                turn = 0
                while not self._over.is_set():
                    turn += 1
                    statements = (
                        f"begin; select {number}, {turn}; select pg_sleep(0.002); commit"
                        if turn % 3 == 0
                        else f"select {number}, {turn}"
                    )
                    seen = client.query(statements)
                    errors = [got.code for got in seen if got.tag == "E"]
                    rows = [got.values for got in seen if got.tag == "D"]
                    with self._lock:
                        if errors:
                            self.errors.setdefault(number, []).extend(errors)
                        elif rows[0] != [str(number), str(turn)]:
                            self.wrong.append((number, turn, rows))
                        self.answers += 1
                    if client.status != "I":
                        client.query("rollback")
        except (Closed, OSError) as failure:
            self.disconnected.append(repr(failure))

    def check(self, times: int = 1, *, reopened: int = 0) -> None:
        """What must hold after `times` outages, in which `reopened` servers more may be lost."""
        assert not self.disconnected, self.disconnected[:3]
        assert not self.wrong, self.wrong[:3]
        codes = {code for errors in self.errors.values() for code in errors}
        assert codes <= LOST, codes
        total = sum(len(errors) for errors in self.errors.values())
        most = SERVERS * times + reopened
        assert total <= most, f"{total} errors with {SERVERS} servers: {self.errors}"
        assert all(len(errors) <= times for errors in self.errors.values()), self.errors


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_restart_costs_only_what_was_running(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres, how: str, workers: int
) -> None:
    maitred = make_maitred({"pool": {"size": SERVERS, "queue_timeout": "40s"}}, workers=workers)
    with Load(maitred) as load:
        own_postgres.restart(how)
        load.wait_for(CLIENTS * 3)
    load.check()


def test_several_restarts_in_a_row(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": SERVERS, "queue_timeout": "40s"}}, workers=2)
    with Load(maitred) as load:
        for _ in range(3):
            own_postgres.restart()
            load.wait_for(CLIENTS * 2)
    load.check(times=3)


@pytest.mark.parametrize(
    "seconds", [3, pytest.param(10, marks=pytest.mark.slow)], ids=lambda each: f"{each} s"
)
def test_database_is_away_for_a_while(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres, seconds: int
) -> None:
    maitred = make_maitred({"pool": {"size": SERVERS, "queue_timeout": "40s"}}, workers=2)
    with Load(maitred) as load:
        own_postgres.stop("fast")
        time.sleep(seconds)
        own_postgres.start()
        load.wait_for(CLIENTS * 3)
    load.check()


def test_crash_of_one_backend_restarts_all(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": SERVERS, "queue_timeout": "40s"}})
    with Load(maitred) as load:
        own_postgres.crash_backend(own_postgres.backends()[0])
        load.wait_for(CLIENTS * 3)
    # Why one: until PostgreSQL notices that the backend has died, it may let in the server that is
    # opened in its place.
    load.check(reopened=1)


def test_waiters_get_the_real_cause_when_time_is_up(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"queue_timeout": "1s"}})
    with maitred.wire() as client:
        assert client.value("select 1") == "1"
        own_postgres.stop("fast")
        error = client.error("select 1")
        assert error.code == "08001"
        told = " ".join(error.fields.values()).lower()
        assert "refused" in told, told
        own_postgres.start()
        eventually(lambda: tags(client.query("select 1")) == "TDCZ")


def test_clients_may_log_in_while_the_database_is_away(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"queue_timeout": "40s"}})
    with maitred.wire() as before:
        before.query("select 1")
        own_postgres.stop("fast")
        with maitred.wire() as newcomer:
            newcomer.send(query("select 'waited'"))
            own_postgres.start()
            rows = [got.values for got in newcomer.read_until("Z") if got.tag == "D"]
            assert rows == [["waited"]]


def test_maitred_starts_before_the_database(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres
) -> None:
    own_postgres.stop("fast")
    maitred = make_maitred({"pool": {"queue_timeout": "40s", "min_size": 2}})
    own_postgres.start()
    eventually(lambda: len(own_postgres.backends()) == 2)
    with maitred.wire() as client:
        assert client.value("select 1") == "1"


def test_database_that_is_full_is_told_and_waited_for(
    make_maitred: Callable[..., Maitred], own_postgres: Postgres
) -> None:
    # The database's own max_connections is reached by others; ours get in when they leave.
    others = []
    try:
        while True:
            others.append(own_postgres.connect())
    except Exception as full:
        assert "53300" in str(getattr(full, "sqlstate", "")) or "slots" in str(full)
    pool = {"size": 3, "queue_timeout": "1s", "login_retry_max": "500ms"}
    maitred = make_maitred({"pool": pool})
    told = " ".join(trouble(maitred).values())
    assert "slots" in told or "too many" in told, told
    for other in others[:20]:
        other.close()
    with maitred.wire() as client:
        assert client.value("select 1") == "1"
    for other in others:
        other.close()
