"""Messages of tens of megabytes in both directions, streamed within bounded memory.

The bound is on growth of maitred's resident memory, sampled while bytes are in flight.
Run by pytest.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fix_maitred import Maitred
from fix_wire import bind, describe, execute, message, parse, query, sync

MEGABYTE = 1 << 20
SIZE = 32 * MEGABYTE
# Why: far below SIZE, so that holding one message whole cannot pass; far above buffers and
# allocator noise.
MAY_GROW = 12 * MEGABYTE


@contextmanager
def growth_bounded(maitred: Maitred, most: int = MAY_GROW) -> Iterator[None]:
    """Fail when resident memory grows by more than `most` at any time within the block."""
    before = maitred.resident_bytes()
    peak = [before]
    over = threading.Event()

    def sample() -> None:
        while not over.is_set():
            peak[0] = max(peak[0], maitred.resident_bytes())
            time.sleep(0.01)

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert peak[0] - before < most, f"memory grew by {(peak[0] - before) / MEGABYTE:.0f} MiB"


def test_large_result_row(served: Maitred, mode: str) -> None:
    with served.wire(database=mode, timeout_s=60) as client, growth_bounded(served):
        seen = client.query(f"select repeat('x', {SIZE})")
        assert [len(got.values[0] or "") for got in seen if got.tag == "D"] == [SIZE]


def test_large_result_of_many_rows(served: Maitred, mode: str) -> None:
    with served.wire(database=mode, timeout_s=60) as client, growth_bounded(served):
        client.send(query("select repeat('x', 1000) from generate_series(1, 32000)"))
        rows = 0
        while (got := client.read()).tag != "Z":
            rows += got.tag == "D"
        assert rows == 32000


def test_large_simple_query(served: Maitred, mode: str) -> None:
    text = "y" * SIZE
    with served.wire(database=mode, timeout_s=60) as client, growth_bounded(served):
        digest = client.value(f"select md5('{text}')")
        assert digest == hashlib.md5(text.encode()).hexdigest()


def test_large_bind_parameter_and_result(served: Maitred, mode: str) -> None:
    text = "z" * SIZE
    with served.wire(database=mode, timeout_s=60) as client, growth_bounded(served):
        client.send(parse("select $1::text"), bind((text,)), describe(), execute(), sync())
        seen = client.read_until("Z")
        assert [got.values[0] == text for got in seen if got.tag == "D"] == [True]


def test_large_copy_in_and_out(served: Maitred, mode: str) -> None:
    table = f"large_{mode}_{served.backend}"
    row = message("d", b"w" * (MEGABYTE - 1) + b"\n")
    with served.wire(database=mode, timeout_s=60) as client:
        client.query(f"drop table if exists {table}; create unlogged table {table} (t text)")
        with growth_bounded(served):
            client.send(query(f"copy {table} from stdin"))
            client.read_until("G")
            for _ in range(SIZE // MEGABYTE):
                client.send(row)
            client.send(message("c"))
            assert client.read_until("Z")[0].text == f"COPY {SIZE // MEGABYTE}"
            client.send(query(f"copy {table} to stdout"))
            size = 0
            while (got := client.read()).tag != "Z":
                size += len(got.body) if got.tag == "d" else 0
            assert size == SIZE
        client.query(f"drop table {table}")


def test_large_pipeline_does_not_deadlock(served: Maitred, mode: str) -> None:
    # Both sides have much to say at once: the client keeps writing while answers pile up.
    batch = parse("select repeat('p', 20000)") + bind() + execute() + sync()
    count = 2000
    with served.wire(database=mode, timeout_s=60) as client, growth_bounded(served):
        writer = threading.Thread(target=lambda: [client.send(batch) for _ in range(count)])
        writer.start()
        for _ in range(count):
            client.read_until("Z")
        writer.join()


def test_message_longer_than_the_limit_is_refused(make_maitred: object) -> None:
    maitred = make_maitred({"limits": {"message": "1MiB"}})
    with maitred.wire() as client, maitred.wire() as bystander:
        client.send(b"Q" + (2 * MEGABYTE).to_bytes(4, "big") + b"select 1 --" + b"x" * 100)
        seen = client.read_to_end()
        assert seen[-1].tag == "E"
        assert "limits.message" in str(seen[-1].fields)
        assert bystander.value("select 1") == "1"


@pytest.mark.slow
def test_message_close_to_one_gibibyte(served: Maitred) -> None:
    with served.wire(database="transaction", timeout_s=110) as client, growth_bounded(served):
        size = 900 * MEGABYTE
        client.send(query(f"select repeat('x', {size})"))
        head = client.read()
        assert head.tag == "T"
        tag_and_length = client.take(5)
        assert tag_and_length[:1] == b"D"
        left = int.from_bytes(tag_and_length[1:], "big") - 4
        while left:
            left -= len(client.take(min(left, 4 * MEGABYTE)))
        assert client.read_until("Z")[-1].tag == "Z"
