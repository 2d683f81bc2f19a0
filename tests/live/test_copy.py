"""COPY in every way it can go, message by message.

Run by pytest; COPY of clients that vanish stands in the break ring.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fix_maitred import Maitred
from fix_wire import bind, execute, extended, message, parse, query, sync, tags, text


@pytest.fixture
def table(served: Maitred, mode: str) -> Iterator[str]:
    name = f"copies_{mode}_{served.backend}"
    with served.wire(database=mode) as client:
        client.query(f"drop table if exists {name}; create table {name} (n int)")
        yield name
        client.query(f"drop table {name}")


def data(*numbers: int) -> bytes:
    return b"".join(message("d", f"{number}\n".encode()) for number in numbers)


DONE = message("c")


def fail(why: str) -> bytes:
    return message("f", text(why))


def count(served: Maitred, mode: str, table: str) -> int:
    with served.wire(database=mode) as client:
        return int(client.value(f"select count(*) from {table}") or 0)


def test_copy_in_by_simple_query(served: Maitred, mode: str, table: str) -> None:
    with served.wire(database=mode) as client:
        client.send(query(f"copy {table} from stdin"))
        assert tags(client.read_until("G")) == "G"
        client.send(data(1, 2, 3), DONE)
        seen = client.read_until("Z")
        assert seen[0].text == "COPY 3"
    assert count(served, mode, table) == 3


def test_copy_in_sent_without_waiting_for_the_answer(
    served: Maitred, mode: str, table: str
) -> None:
    with served.wire(database=mode) as client:
        client.send(query(f"copy {table} from stdin"), data(*range(1000)), DONE, query("select 1"))
        assert tags(client.read_until("Z")) == "GCZ"
        assert tags(client.read_until("Z")) == "TDCZ"
    assert count(served, mode, table) == 1000


def test_copy_in_by_extended_query(served: Maitred, mode: str, table: str) -> None:
    with served.wire(database=mode) as client:
        client.send(parse(f"copy {table} from stdin"), bind(), execute(), sync())
        assert tags(client.read_until("G")) == "12G"
        # Why the second Sync: the database ignores the one that came before the COPY had begun.
        client.send(data(1, 2), DONE, sync())
        assert tags(client.read_until("Z")) == "CZ"
        assert client.value(f"select count(*) from {table}") == "2"


def test_copy_that_the_client_fails(served: Maitred, mode: str, table: str) -> None:
    with served.wire(database=mode) as client:
        client.send(query(f"copy {table} from stdin"), data(1), fail("changed my mind"))
        seen = client.read_until("Z")
        assert tags(seen) == "GEZ"
        assert "changed my mind" in seen[1].fields["M"]
        assert client.value(f"select count(*) from {table}") == "0"


def test_copy_that_the_database_fails(served: Maitred, mode: str, table: str) -> None:
    with served.wire(database=mode) as client:
        client.send(query(f"copy {table} from stdin"), message("d", b"not a number\n"))
        # The client goes on sending; the database throws that away until the end of the COPY.
        client.send(data(*range(5000)), DONE, query("select 'after'"))
        assert tags(client.read_until("Z")) == "GEZ"
        assert tags(client.read_until("Z")) == "TDCZ"
    assert count(served, mode, table) == 0


def test_copy_of_a_table_that_does_not_exist(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        client.send(query("copy nowhere from stdin"), data(1), DONE)
        assert tags(client.read_until("Z")) == "EZ"
        assert client.value("select 1") == "1"


def test_copy_out_by_simple_and_extended_query(served: Maitred, mode: str) -> None:
    statement = "copy (select generate_series(1, 100)) to stdout"
    with served.wire(database=mode) as client:
        for sent in (query(statement), extended(statement) + sync()):
            client.send(sent)
            seen = client.read_until("Z")
            rows = [got.body for got in seen if got.tag == "d"]
            assert rows == [f"{number}\n".encode() for number in range(1, 101)]
            assert [got.tag for got in seen][-3:] == ["c", "C", "Z"]


def test_copy_out_that_fails_half_way(served: Maitred, mode: str) -> None:
    statement = "copy (select 1/(50-n) from generate_series(1, 100) n) to stdout"
    with served.wire(database=mode) as client:
        seen = client.query(statement)
        assert tags(seen).endswith("dEZ")
        assert client.value("select 1") == "1"


def test_two_copies_in_one_query(served: Maitred, mode: str, table: str) -> None:
    with served.wire(database=mode) as client:
        client.send(query(f"copy {table} from stdin; copy {table} to stdout; select 1"))
        client.read_until("G")
        client.send(data(7), DONE)
        assert tags(client.read_until("Z")) == "CHdcCTDCZ"


def test_flush_and_sync_within_copy_are_ignored(served: Maitred, mode: str, table: str) -> None:
    with served.wire(database=mode) as client:
        client.send(query(f"copy {table} from stdin"))
        client.read_until("G")
        client.send(data(1), message("H"), sync(), data(2), DONE)
        assert tags(client.read_until("Z")) == "CZ"
        assert client.value(f"select count(*) from {table}") == "2"


def test_stray_copy_messages_are_ignored_as_the_database_does(served: Maitred, mode: str) -> None:
    with served.wire(database=mode) as client:
        client.send(data(1), DONE, fail("late"), query("select 1"))
        assert tags(client.read_until("Z")) == "TDCZ"
