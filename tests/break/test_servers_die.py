"""A server connection dies: idle, in a query, in a transaction; the client stays connected.

Run by pytest; a whole database that goes away stands in `test_database_restarts`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from fix_maitred import Maitred
from fix_network import Link
from fix_postgres import Postgres
from fix_processes import eventually
from fix_wire import bind, execute, extended, message, parse, query, sync, tags


def until_noticed(maitred: Maitred) -> None:
    """Wait until maitred has seen that its idle servers are gone.

    Why: the database says that a backend is ended before its socket is closed; who is served in
    between is served by a server that dies in a query, which is another test.
    """
    eventually(lambda: maitred.pool()["sv_idle"] == 0, because="a dead server is kept as idle")


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
def test_idle_server_is_replaced_and_no_client_notices(
    make_maitred: Callable[..., Maitred], postgres: Postgres, mode: str
) -> None:
    maitred = make_maitred({"pool": {"mode": mode, "size": 3}})
    with maitred.wire() as client:
        for _ in range(5):
            first = client.backend()
            if mode == "session":
                # Why: in session mode the server is the client's even while idle; its death is
                # the end of the session, and the successor's first query must not suffer.
                break
            postgres.terminate(first)
            until_noticed(maitred)
            assert client.backend() != first
    if mode == "session":
        eventually(lambda: maitred.pool()["sv_idle"] == 1)
        postgres.terminate_all()
        until_noticed(maitred)
        with maitred.wire() as successor:
            assert successor.backend() != first


def test_death_is_noticed_at_once_not_at_the_next_use(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        client.query("select 1")
        assert maitred.pool()["sv_idle"] == 1
        postgres.terminate_all()
        until_noticed(maitred)


@pytest.mark.parametrize("kind", ["simple", "extended"])
def test_server_dies_in_a_query(
    make_maitred: Callable[..., Maitred], postgres: Postgres, kind: str
) -> None:
    maitred = make_maitred({"pool": {"size": 2}})
    with maitred.wire() as client, maitred.wire() as other:
        sql = "select pg_sleep(60)"
        client.send(query(sql) if kind == "simple" else extended(sql) + sync())
        eventually(lambda: maitred.pool()["sv_active"] == 1)
        postgres.terminate_all()
        seen = client.read_until("Z")
        errors = [got for got in seen if got.tag == "E"]
        # The database's own word (57P01) may come first; what counts is one clean error.
        assert len(errors) == 1, errors
        assert errors[0].code == "57P01"
        assert errors[0].fields["S"] == "ERROR", "FATAL would make drivers drop the connection"
        assert client.status == "I"
        assert client.value("select 'still connected'") == "still connected"
        assert other.value("select 1") == "1"


def test_server_vanishes_without_a_word(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    road = link(postgres.port)
    maitred = make_maitred(port=road.port)
    with maitred.wire() as client:
        client.send(query("select pg_sleep(60)"))
        eventually(lambda: maitred.pool()["sv_active"] == 1)
        road.reset()
        seen = client.read_until("Z")
        assert [got.code for got in seen if got.tag == "E"] == ["08006"]
        assert client.value("select 1") == "1"


def test_server_dies_in_the_middle_of_a_result(
    make_maitred: Callable[..., Maitred], postgres: Postgres, link: Callable[..., Link]
) -> None:
    road = link(postgres.port)
    maitred = make_maitred(port=road.port)
    with maitred.wire(receive_buffer=4096) as client:
        client.send(query("select repeat('x', 1000) from generate_series(1, 100000)"))
        assert client.read().tag == "T"
        for _ in range(10):
            assert client.read().tag == "D"
        road.reset()
        # A half-sent row cannot be taken back: then closing is the only honest answer, and
        # otherwise an error. Never a row that is cut short and passes for whole.
        try:
            seen = client.read_until("Z")
            assert [got.code for got in seen if got.tag == "E"] == ["08006"]
            whole = seen
        except Exception as closed:
            whole = getattr(closed, "seen", [])
        assert all(len(got.body) == 2 + 4 + 1000 for got in whole if got.tag == "D")
        assert not [got for got in whole if got.tag == "C"]
    with maitred.wire() as other:
        assert other.value("select 1") == "1"


def test_server_dies_in_a_transaction(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        client.query("begin")
        postgres.terminate(client.backend())
        eventually(lambda: not postgres.backends())
        seen = client.query("select 1")
        errors = [got for got in seen if got.tag == "E"]
        assert [got.code for got in errors] == ["57P01"]
        assert errors[0].fields["S"] == "ERROR"
        # Like any failed transaction: nothing runs before the client has ended it.
        if client.status == "E":
            assert client.query("select 1")[0].tag == "E"
            assert tags(client.query("rollback")) == "CZ"
        assert client.status == "I"
        assert client.value("select 'still connected'") == "still connected"


def test_commit_on_a_lost_transaction_is_an_error(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    # A COMMIT that is answered "COMMIT" although the work was lost would be a lie.
    postgres.rows("drop table if exists promised")
    postgres.rows("create table promised (n int)")
    postgres.rows("grant all on promised to public")
    maitred = make_maitred()
    for statement in (query("commit"), extended("commit") + sync()):
        with maitred.wire() as client:
            client.query("begin; insert into promised values (1)")
            postgres.terminate(client.backend())
            eventually(lambda: not postgres.backends())
            client.send(statement)
            seen = client.read_until("Z")
            assert [got for got in seen if got.tag == "E"], seen
            assert not [got for got in seen if got.tag == "C" and got.text == "COMMIT"]
    assert postgres.value("select count(*) from promised") == 0
    postgres.rows("drop table promised")


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout"])
def test_the_databases_own_code_tells_why_a_session_ended(
    make_maitred: Callable[..., Maitred], postgres: Postgres, limit: str
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as client:
        client.query(f"set {limit} = '100ms'")
        client.query("begin")
        eventually(lambda: not postgres.backends())
        code = {"transaction_timeout": "25P04"}.get(limit, "25P03")
        assert client.error("select 1").code == code
        client.query(f"reset {limit}")
        client.query("select pg_advisory_lock(1)")
        eventually(lambda: maitred.console("SHOW PINS"))
        postgres.terminate_all()
        eventually(lambda: not maitred.console("SHOW PINS"))
        assert client.error("select 'is the lock still mine?'").code == "57P01"
        assert client.value("select 'now it knows'") == "now it knows"


def test_driver_goes_on_after_a_lost_transaction(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred()
    with maitred.connect(autocommit=False) as client:
        (pid,) = client.execute("select pg_backend_pid()").fetchone()
        postgres.terminate(pid)
        with pytest.raises(psycopg.Error) as caught:
            client.execute("select 1")
        assert caught.value.sqlstate == "57P01"
        assert not client.closed
        client.rollback()
        assert client.execute("select 1").fetchone() == (1,)


def test_server_dies_in_the_middle_of_a_pipeline(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as client:
        client.send(
            extended("select 'before'"), sync(), extended("select pg_sleep(60)"), sync(),
            extended("select 'after'"), sync(), query("select 'last'"),
        )  # fmt: skip
        eventually(lambda: maitred.pool()["sv_active"] == 1)
        eventually(
            lambda: postgres.rows(
                "select 1 from pg_stat_activity where query like '%pg_sleep(60)%'"
                " and state = 'active' and pid <> pg_backend_pid()"
            )
        )
        postgres.terminate_all()
        shapes = [tags(client.read_until("Z")) for _ in range(4)]
        assert shapes[0] == "12TDCZ"
        assert "E" in shapes[1]
        # Each Sync and each query gets its own ending: an answer or an error, never silence.
        assert all(shape.endswith("Z") for shape in shapes)
        assert client.value("select 'connected'") == "connected"


def test_server_dies_in_copy(make_maitred: Callable[..., Maitred], postgres: Postgres) -> None:
    postgres.rows("drop table if exists lost_copy")
    postgres.rows("create table lost_copy (n int)")
    postgres.rows("grant all on lost_copy to public")
    maitred = make_maitred()
    with maitred.wire() as client:
        client.send(query("copy lost_copy from stdin"))
        client.read_until("G")
        client.send(message("d", b"1\n"))
        postgres.terminate_all()
        eventually(lambda: not postgres.backends())
        # The client goes on in good faith; its data must not be taken for requests.
        client.send(*(message("d", b"2\n") for _ in range(100)), message("c"))
        seen = client.read_until("Z")
        errors = [got.code for got in seen if got.tag == "E"]
        assert len(errors) == 1
        assert errors[0] in ("08006", "57P01")
        assert client.value("select count(*) from lost_copy") == "0"
    postgres.rows("drop table lost_copy")


def test_prepared_statements_outlive_their_server(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred()
    with maitred.wire() as client:
        client.send(parse("select 'kept', $1::text", "kept"), sync())
        client.read_until("Z")
        for turn in range(3):
            postgres.terminate_all()
            until_noticed(maitred)
            client.send(bind((str(turn),), name="kept"), execute(), sync())
            rows = [got.values for got in client.read_until("Z") if got.tag == "D"]
            assert rows == [["kept", str(turn)]]


def test_waiters_are_served_when_the_only_server_dies(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as holder:
        holder.query("begin")
        pid = holder.backend()
        waiters = [maitred.wire() for _ in range(10)]
        for waiter in waiters:
            waiter.send(query("select 'served'"))
        eventually(lambda: maitred.pool()["cl_waiting"] == 10)
        postgres.terminate(pid)
        for waiter in waiters:
            assert tags(waiter.read_until("Z")) == "TDCZ"
            waiter.close()


def test_all_servers_die_again_and_again_under_load(
    make_maitred: Callable[..., Maitred], postgres: Postgres
) -> None:
    maitred = make_maitred({"pool": {"size": 5}}, workers=2)
    over = threading.Event()
    failures: list[object] = []
    asked = [0]

    def one(number: int) -> None:
        try:
            with maitred.wire() as client:
                while not over.is_set():
                    seen = client.query(f"select {number}, pg_sleep(0.005)")
                    for got in seen:
                        if got.tag == "E" and got.code not in ("08006", "57P01"):
                            failures.append(got.fields)
                        if got.tag == "D" and got.values[0] != str(number):
                            failures.append(got)
                    asked[0] += 1
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        postgres.terminate_all()
    over.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert asked[0] > 100
