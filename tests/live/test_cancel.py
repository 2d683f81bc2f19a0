"""Cancel requests: they stop the right query, a waiting client, or nothing at all.

Run by pytest; cancelling at random under load is part of the isolation test in the break ring.
"""

from __future__ import annotations

import threading

import psycopg
import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import PROTOCOL_3_2, Wire, cancel_request, extended, query, sync, tags


def runs(postgres: Postgres, marker: str) -> bool:
    return bool(
        postgres.rows(
            "select 1 from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() "
            "and query like %s",
            f"%{marker}%",
        )
    )


def sleeping(client: Wire, postgres: Postgres, marker: str) -> None:
    """Start a long query and wait until the database runs it."""
    client.send(query(f"select pg_sleep(60) /* {marker} */"))
    eventually(lambda: runs(postgres, marker), because=f"{marker} never started")


@pytest.mark.parametrize("protocol", ["3.0", "3.2"])
def test_cancel_stops_the_running_query(
    served: Maitred, _shared_postgres: Postgres, mode: str, protocol: str
) -> None:
    more = {"protocol": str(PROTOCOL_3_2)} if protocol == "3.2" else {}
    with served.wire(database=mode, **more) as client:
        sleeping(client, _shared_postgres, f"stop-{mode}-{protocol}")
        client.cancel()
        seen = client.read_until("Z")
        assert seen[-2].code == "57014"
        assert client.value("select 1") == "1"


def test_cancel_stops_only_the_right_query(
    served: Maitred, _shared_postgres: Postgres, mode: str
) -> None:
    with served.wire(database=mode) as victim, served.wire(database=mode) as neighbour:
        sleeping(victim, _shared_postgres, f"victim-{mode}")
        neighbour.send(query(f"select pg_sleep(1), 'unharmed' /* neighbour-{mode} */"))
        victim.cancel()
        assert victim.read_until("Z")[-2].code == "57014"
        assert tags(neighbour.read_until("Z")) == "TDCZ"


def test_cancel_of_an_extended_query_skips_to_sync(
    served: Maitred, _shared_postgres: Postgres, mode: str
) -> None:
    marker = f"extended-{mode}"
    with served.wire(database=mode) as client:
        client.send(
            extended(f"select pg_sleep(60) /* {marker} */"), extended("select 1"), sync(),
            extended("select 2"), sync(),
        )  # fmt: skip
        eventually(lambda: runs(_shared_postgres, marker))
        client.cancel()
        seen = client.read_until("Z")
        assert seen[-2].code == "57014"
        assert tags(client.read_until("Z")) == "12TDCZ"


def test_cancel_while_idle_does_nothing(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client, served.wire(database=mode) as other:
        for _ in range(10):
            client.value("select 1")
            client.cancel()
            # Whoever gets the server next must not be hit by a late cancel.
            assert other.value("select pg_sleep(0.01)") == ""
            assert client.value("select 'untouched'") == "untouched"


def test_cancel_with_a_wrong_key_does_nothing(served: Maitred, _shared_postgres: Postgres) -> None:
    with served.wire(database="transaction") as client:
        client.send(query("select pg_sleep(1), 'finished' /* wrong-key */"))
        eventually(lambda: runs(_shared_postgres, "wrong-key"))
        for pid, secret in (
            (client.pid, b"\0\0\0\0"),
            (client.pid ^ 1, client.secret),
            (client.pid, client.secret[:3]),
            (client.pid, client.secret + b"\0"),
        ):
            with Wire(served.address) as stranger:
                stranger.send(cancel_request(pid, secret))
                assert stranger.is_closed()
        assert tags(client.read_until("Z")) == "TDCZ"


def test_cancel_takes_a_waiting_client_out_of_the_queue(
    make_maitred: object, postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as holder, maitred.wire() as waiter, maitred.wire() as next_one:
        holder.query("begin")
        waiter.send(query("create table must_not_exist (n int)"))
        eventually(lambda: maitred.pool()["cl_waiting"] == 1)
        next_one.send(query("select 'next'"))
        eventually(lambda: maitred.pool()["cl_waiting"] == 2)
        waiter.cancel()
        seen = waiter.read_until("Z")
        assert seen[-2].code == "57014"
        holder.query("commit")
        assert tags(next_one.read_until("Z")) == "TDCZ"
        assert waiter.value("select to_regclass('must_not_exist')") is None


def test_cancel_in_a_transaction_leaves_it_failed(
    served: Maitred, _shared_postgres: Postgres
) -> None:
    with served.wire(database="transaction") as client:
        client.query("begin")
        sleeping(client, _shared_postgres, "in-transaction")
        client.cancel()
        client.read_until("Z")
        assert client.status == "E"
        client.query("rollback")
        assert client.value("select 1") == "1"


def test_driver_cancels_from_another_thread(served: Maitred, mode: str) -> None:
    with served.connect(database=mode) as client:
        timer = threading.Timer(0.5, client.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("select pg_sleep(60)")
        timer.join()
        assert client.execute("select 1").fetchone() == (1,)


def test_hundred_cancels_at_once_hit_only_their_own(
    make_maitred: object, postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 10}})
    victims = [maitred.wire() for _ in range(10)]
    others = [maitred.wire() for _ in range(20)]
    for number, victim in enumerate(victims):
        victim.send(query(f"select pg_sleep(60) /* herd-{number} */"))
    eventually(lambda: all(runs(postgres, f"herd-{number}") for number in range(10)))
    # These wait behind the victims and run on the servers that come free.
    for number, other in enumerate(others):
        other.send(query(f"select pg_sleep(0.1), {number}"))
    threads = [threading.Thread(target=victim.cancel) for victim in victims for _ in range(10)]
    for thread in threads:
        thread.start()
    for victim in victims:
        assert victim.read_until("Z")[-2].code == "57014"
    for number, other in enumerate(others):
        rows = [got.values for got in other.read_until("Z") if got.tag == "D"]
        assert rows == [["", str(number)]]
    for thread in threads:
        thread.join()
    for client in victims + others:
        assert client.value("select 1") == "1"
        client.close()
