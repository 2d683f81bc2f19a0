"""Results larger than memory should hold: streamed, with a bound on what waits for a slow reader.

Measures resident memory of the process from outside. Run by pytest.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fix_mysql_front import Front
from fix_mysql_packets import Ok

DIGITS = "(select 0 d union all " + " union all ".join(f"select {n}" for n in range(1, 10)) + ")"
# 100,000 rows of 1,000 bytes.
LARGE = (
    f"select repeat('x', 1000) from {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} e, {DIGITS} f"
).encode()
BOUND = 8 << 20


@pytest.mark.parametrize("form", ["", "COMPRESS"], ids=["plain", "compressed"])
@pytest.mark.parametrize("clients", [1, 4])
def test_a_stalled_reader_of_100_mb_costs_bounded_memory(
    make_front: Callable[..., Front], clients: int, form: str
) -> None:
    front = make_front()
    maitred = front.operated
    readers = [front.wire(receive_buffer=1 << 16, timeout_s=60, with_=form) for _ in range(clients)]
    other = front.wire()
    before = maitred.resident_bytes()
    for reader in readers:
        reader.send("QUERY", LARGE)
    time.sleep(3)
    grown = maitred.resident_bytes() - before
    assert grown < BOUND * clients, f"{grown >> 20} MiB for {clients} stalled readers"
    assert other.value("select 1") == "1"
    for reader in readers:
        rows = 0
        assert reader.read_packet() == b"\x01"
        reader.read_packet()
        reader.read_packet()
        while (body := reader.read_packet())[:1] != b"\xfe":
            assert len(body) == 1003
            rows += 1
        assert rows == 100_000
    # Why not before: only now is it sure that everything went through.
    assert maitred.resident_bytes() - before < 2 * BOUND * clients


def test_a_reader_that_leaves_in_the_middle_frees_its_server(
    make_front: Callable[..., Front],
) -> None:
    front = make_front({"pool": {"size": 1}})
    for _ in range(3):
        reader = front.wire()
        reader.send("QUERY", LARGE)
        reader.read_packet()
        reader.reset()
    assert front.wire().value("select 1") == "1"


def test_a_large_insert_is_streamed(make_front: Callable[..., Front]) -> None:
    front = make_front()
    client = front.wire()
    client.run("create table wide (b longblob)")
    before = front.maitred.resident_bytes() if front.maitred else 0
    for size in (1 << 20, 20 << 20, 40 << 20):
        (done,) = client.query(b"insert into wide values ('" + b"z" * size + b"')")
        assert isinstance(done, Ok)
        assert client.value("select max(length(b)) from wide") == str(size)
    if front.maitred:
        # Why so much: a statement may be held whole while it is judged and while it waits.
        assert front.maitred.resident_bytes() - before < 160 << 20
