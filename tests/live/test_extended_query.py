"""Extended queries message by message: portals, row limits, Flush, pipelines, errors within them.

Compares with what the database itself answers to the same bytes.
Run by pytest.
"""

from __future__ import annotations

import random

import pytest

from fix_maitred import Maitred
from fix_postgres import Postgres
from fix_wire import (
    Wire,
    bind,
    close,
    describe,
    execute,
    extended,
    flush,
    message,
    parse,
    query,
    sync,
    tags,
)

WITH_TRANSACTIONS = pytest.mark.parametrize("mode", ["transaction", "session"], indirect=True)

# Why random(): a constant would already fail while it is planned, at Bind.
FAILS_LATE = "select 1/(random()*0)::int"

# Batches of messages, each ending in exactly one Sync, and what they must look like.
BATCHES = {
    "one query": (extended("select 1") + sync(), "12TDCZ"),
    "only a sync": (sync(), "Z"),
    "flush before sync": (extended("select 1") + flush() + sync(), "12TDCZ"),
    "only parsed": (parse("select 1") + sync(), "1Z"),
    "parameters": (extended("select $1::text || $2::text", ("a", "b")) + sync(), "12TDCZ"),
    "no data": (extended("set local work_mem = '5MB'") + sync(), "12nCZ"),
    "empty statement": (extended("") + sync(), "12nIZ"),
    "describe statement": (
        parse("select $1::int4", "d") + describe("S", "d") + close("S", "d") + sync(),
        "1tT3Z",
    ),
    "two portals": (
        parse("select generate_series(1, 5)", "g")
        + bind(name="g", portal="p1") + bind(name="g", portal="p2")
        + execute(2, "p1") + execute(1, "p2") + execute(0, "p1") + close("P", "p2")
        + close("S", "g") + sync(),
        "122DDsDsDDDC33Z",
    ),
    "row limit reached exactly": (
        parse("select generate_series(1, 2)") + bind() + execute(2) + execute(2) + sync(),
        "12DDsCZ",
    ),
    "error in parse": (parse("selec 1") + bind() + execute() + sync(), "EZ"),
    "error in execute": (extended(FAILS_LATE) + extended("select 2") + sync(), "12TEZ"),
    "error in the second": (
        extended("select 1") + extended(FAILS_LATE) + extended("select 3") + sync(),
        "12TDC12TEZ",
    ),
    "close of nothing": (close("S", "unheard_of") + close("P", "unheard_of") + sync(), "33Z"),
    "bind to an unknown statement": (bind(name="unheard_of") + execute() + sync(), "EZ"),
    "execute an unknown portal": (execute(0, "unheard_of") + sync(), "EZ"),
    "wrong parameter count": (parse("select $1::int4") + bind() + execute() + sync(), "1EZ"),
    "bad parameter value": (extended("select $1::int4", ("x",)) + sync(), "1EZ"),
    "two statements in one parse": (parse("select 1; select 2") + sync(), "EZ"),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_batch_is_answered_as_by_the_database(
    served: Maitred, _shared_postgres: Postgres, mode: str, name: str
) -> None:
    batch, shape = BATCHES[name]
    with Wire(("127.0.0.1", _shared_postgres.port)) as direct, served.wire(database=mode) as client:
        direct.login("app", "served")
        for peer in (direct, client):
            peer.send(batch)
        expected, found = direct.read_until("Z"), client.read_until("Z")
        assert tags(expected) == shape, "this test is wrong about PostgreSQL"
        assert tags(found) == shape
        for left, right in zip(expected, found, strict=True):
            if left.tag == "E":
                assert (left.code, left.fields["M"]) == (right.code, right.fields["M"])
            else:
                assert left == right
        assert client.value("select 'still here'") == "still here"


def test_many_syncs_in_flight_with_errors_in_between(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        sent, expected = [], []
        for number in range(500):
            bad = number % 7 == 3
            sent.append(extended(f"select {number}/{0 if bad else 1}") + sync())
            expected.append("E" if bad else str(number))
        client.send(*sent)
        found = []
        for _ in range(500):
            answer = [got for got in client.read_until("Z") if got.tag in "DE"]
            found.append("E" if answer[-1].tag == "E" else answer[-1].values[0])
        assert found == expected


def test_simple_and_extended_mix_in_one_write(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        client.send(
            query("select 1"), extended("select 2"), sync(), query("select 1/0"),
            extended("select 3"), sync(), sync(), query("select 4"),
        )  # fmt: skip
        shapes = [tags(client.read_until("Z")) for _ in range(6)]
        assert shapes == ["TDCZ", "12TDCZ", "EZ", "12TDCZ", "Z", "TDCZ"]


def test_flush_brings_answers_without_sync(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        client.send(parse("select $1::int4", "f"), describe("S", "f"), flush())
        assert tags(client.read_until("T")) == "1tT"
        client.send(bind(("5",), name="f"), execute(), flush())
        seen = client.read_until("C")
        assert [got.values for got in seen if got.tag == "D"] == [["5"]]
        client.send(sync())
        assert tags(client.read_until("Z")) == "Z"
        client.send(parse("select bad_column"), flush())
        assert tags(client.read_until("E")) == "E"
        # Everything up to the next Sync is skipped, also what comes in a later write.
        client.send(extended("select 1"), flush())
        client.send(sync())
        assert tags(client.read_until("Z")) == "Z"
        assert client.value("select 1") == "1"


@WITH_TRANSACTIONS
def test_portal_survives_syncs_within_a_transaction(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        client.query("begin")
        client.send(parse("select generate_series(1, 10)"), bind(portal="kept"), sync())
        client.read_until("Z")
        found: list[str | None] = []
        for _ in range(4):
            client.send(execute(3, "kept"), sync())
            found += [got.values[0] for got in client.read_until("Z") if got.tag == "D"]
        assert found == [str(number) for number in range(1, 11)]
        client.query("commit")
        client.send(execute(3, "kept"), sync())
        assert tags(client.read_until("Z")) == "EZ"


@WITH_TRANSACTIONS
def test_implicit_transaction_of_a_batch_is_rolled_back_as_a_whole(
    served: Maitred, mode: str
) -> None:
    table = f"batched_{mode}_{served.backend}"
    with served.wire(database=mode) as client:
        client.query(f"drop table if exists {table}; create table {table} (n int)")
        client.send(
            extended(f"insert into {table} values (1)"), extended("select 1/0::int"),
            extended(f"insert into {table} values (2)"), sync(),
        )  # fmt: skip
        client.read_until("Z")
        assert client.value(f"select count(*) from {table}") == "0"
        client.query(f"drop table {table}")


@WITH_TRANSACTIONS
def test_begin_and_commit_in_different_batches(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        client.send(extended("begin"), sync(), extended("select 1"), sync())
        client.read_until("Z")
        assert client.status == "T"
        client.read_until("Z")
        assert client.status == "T"
        client.send(extended("select 1/0::int"), sync())
        client.read_until("Z")
        assert client.status == "E"
        client.send(extended("rollback"), sync())
        client.read_until("Z")
        assert client.status == "I"


def test_any_split_of_the_bytes_gives_the_same_answers(served: Maitred, mode: str) -> None:
    dice = random.Random(4)
    stream = b"".join(BATCHES[name][0] for name in BATCHES)
    with served.wire(database=mode) as client:
        for _ in range(5):
            rest = stream
            while rest:
                size = dice.choice((1, 2, 5, 6, 50, 500))
                client.send(rest[:size])
                rest = rest[size:]
            shapes = [tags(client.read_until("Z")) for _ in BATCHES]
            assert shapes == [shape for _, shape in BATCHES.values()]


def test_unknown_message_is_a_protocol_violation(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client, served.wire(database=mode) as bystander:
        client.send(message("!", b"what is this"))
        seen = client.read_to_end()
        assert seen[-1].tag == "E"
        assert seen[-1].code == "08P01"
        assert bystander.value("select 1") == "1"
