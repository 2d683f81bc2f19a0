"""Simple queries message by message: several statements, transactions inside, notices, settings.

Compares with what the database itself answers wherever that is possible.
Run by pytest.
"""

from __future__ import annotations

import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_wire import Closed, Wire, function_call, query, tags

WITH_TRANSACTIONS = pytest.mark.parametrize("mode", ["transaction", "session"], indirect=True)

CONVERSATIONS = {
    "empty": "",
    "only a comment": "-- nothing",
    "one row": "select 1 as one, null as nothing, 'x' as text",
    "several results": "select 1; select 2, 3; select generate_series(1, 3)",
    "no rows": "select 1 where false",
    "error": "select 1/0",
    "error in the middle": "select 1; select 1/0; select 3",
    "syntax error": "selec 1",
    "setting and reading": "set local search_path to pg_catalog; show search_path",
    "values of a do block": "do $$ begin perform 1; end $$",
    "explain": "explain (costs off) select 1",
}
WITHIN_TRANSACTIONS = {
    "whole transaction": "begin; select 1; commit",
    "rolled back": "begin; create table gone (n int); rollback",
    "failed transaction": "begin; select 1/0; commit",
    "commit of a failed one": "begin; savepoint s; select 1; rollback to s; commit",
    "left open": "begin; select 1",
    "left failed": "begin; select 1; select 1/0",
    "commit and begin again": "begin; select 1; commit; begin; select 2",
    "warning": "commit",
}


def conversation(client: Wire, statements: str) -> list[tuple[str, object]]:
    """What was answered, without what depends on the server (process ids, line numbers)."""
    found: list[tuple[str, object]] = []
    for got in client.query(statements):
        if got.tag in "EN":
            found.append((got.tag, {key: got.fields.get(key) for key in "SVCMDHP"}))
        elif got.tag != "S":
            found.append((got.tag, got.body))
    return found


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_answer_equals_that_of_the_database(
    served: Maitred, _shared_postgres: Postgres, mode: str, name: str, wire: object
) -> None:
    statements = CONVERSATIONS[name]
    with (
        served.wire(database=mode) as client,
        Wire(("127.0.0.1", _shared_postgres.port)) as direct,
    ):
        direct.login("app", "served")
        assert conversation(client, statements) == conversation(direct, statements)
        assert client.value("select 'still here'") == "still here"


@WITH_TRANSACTIONS
@pytest.mark.parametrize("name", WITHIN_TRANSACTIONS)
def test_answer_with_transactions_inside_equals_that_of_the_database(
    served: Maitred, _shared_postgres: Postgres, mode: str, name: str
) -> None:
    statements = WITHIN_TRANSACTIONS[name]
    with (
        served.wire(database=mode) as client,
        Wire(("127.0.0.1", _shared_postgres.port)) as direct,
    ):
        direct.login("app", "served")
        for text in (statements, "rollback", "select 1"):
            assert conversation(client, text) == conversation(direct, text)
        assert client.status == direct.status == "I"


def test_transaction_stays_on_one_server_and_is_alone_there(make_maitred: object) -> None:
    maitred = make_maitred({"pool": {"size": 3}})
    with maitred.wire() as one, maitred.wire() as two:
        one.query("begin")
        first = one.backend()
        two.query("begin")
        second = two.backend()
        assert first != second
        for _ in range(5):
            assert one.backend() == first
            assert two.backend() == second
        one.query("commit")
        two.query("rollback")


def test_commit_inside_a_multi_statement_query_frees_the_server(make_maitred: object) -> None:
    maitred = make_maitred({"pool": {"size": 1}})
    with maitred.wire() as one, maitred.wire() as two:
        one.query("begin; select 1; commit; select 2")
        # With a single server this hangs (and fails by the queue timeout) unless it came free.
        assert two.value("select 'free'") == "free"
        one.query("begin; commit; begin")
        assert one.status == "T"
        two.send(query("select 'waited'"))
        assert one.value("select 'mine'") == "mine"
        one.query("commit")
        assert tags(two.read_until("Z")) == "TDCZ"


def test_queries_sent_without_waiting_are_answered_in_order(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        client.send(*(query(f"select {number}") for number in range(300)))
        found = []
        for _ in range(300):
            found += [got.values[0] for got in client.read_until("Z") if got.tag == "D"]
        assert found == [str(number) for number in range(300)]


def test_query_arrives_byte_by_byte(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        for byte in query("select 'drop by drop'"):
            client.send(bytes([byte]))
        seen = client.read_until("Z")
        assert [got.values for got in seen if got.tag == "D"] == [["drop by drop"]]


def test_parameter_status_arrives_at_login(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        assert client.parameters["server_version"].startswith("18")
        assert client.parameters["client_encoding"] == "UTF8"
        assert client.parameters["integer_datetimes"] == "on"


@WITH_TRANSACTIONS
def test_parameter_status_follows_the_setting(served: Maitred, mode: str) -> None:
    with served.wire(database=mode, application_name="before") as client:
        client.query("begin")
        client.query("set local application_name to 'renamed'")
        assert client.parameters["application_name"] == "renamed"
        client.query("rollback")
        assert client.parameters["application_name"] != "renamed"


def test_notice_and_warning_are_passed_on(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        seen = client.query("do $$ begin raise notice 'first'; raise warning 'second'; end $$")
        notices = [got.fields for got in seen if got.tag == "N"]
        assert [(each["S"], each["M"]) for each in notices] == [
            ("NOTICE", "first"),
            ("WARNING", "second"),
        ]


def test_function_call_message(served: Maitred, mode: str, _shared_postgres: Postgres) -> None:
    oid = _shared_postgres.value("select 'int4pl(int4,int4)'::regprocedure::oid::int")
    with served.wire(database=mode) as client:
        # Arguments in binary format: the message says "one format for all: 1".
        message = bytearray(function_call(oid))
        argument = b"\0\0\0\4\0\0\0\x14\0\0\0\4\0\0\0\x16"
        body = oid.to_bytes(4, "big") + b"\0\1\0\1" + b"\0\2" + argument + b"\0\1"
        message = b"F" + (len(body) + 4).to_bytes(4, "big") + body
        client.send(message)
        seen = client.read_until("Z")
        assert tags(seen) == "VZ"
        assert seen[0].body == b"\0\0\0\4\0\0\0\x2a"
        client.send(function_call(999999999))
        assert tags(client.read_until("Z")) == "EZ"
        assert client.value("select 1") == "1"


def test_session_state_is_that_of_the_session_in_session_mode(served: Maitred) -> None:
    with served.wire(database="session") as client:
        client.query("create temporary table mine (n int)")
        client.query("insert into mine values (1)")
        client.query("select pg_advisory_lock(4711)")
        assert client.value("select n from mine") == "1"
        pid = client.backend()
        assert client.backend() == pid
    with served.wire(database="session") as successor:
        # reset_query: nothing of the predecessor may be left, whichever server this is.
        assert successor.value("select to_regclass('pg_temp.mine')") is None


def test_listen_and_notify_within_a_session(served: Maitred) -> None:
    with served.wire(database="session") as listener, served.wire(database="session") as caller:
        listener.query("listen news")
        caller.query("notify news, 'extra extra'")
        found = listener.read_until("A")[-1].body
        assert found[4:] == b"news\0extra extra\0"


def test_transactions_are_refused_in_statement_mode(served: Maitred) -> None:
    with served.wire(database="statement") as client:
        # Whether the client is closed or not, it is told, and no server stays in a transaction.
        client.send(query("begin"))
        try:
            seen = client.read_until("Z")
        except Closed as closed:
            seen = closed.seen
        assert [got for got in seen if got.tag == "E"], f"BEGIN was accepted: {seen}"
    with served.wire(database="statement") as other:
        assert other.value("select now() = statement_timestamp()") == "t"
