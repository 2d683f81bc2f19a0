"""A large result, COPY out and COPY in: megabytes per second through one client.

It must not let the client be the limit: it reads into one buffer and looks at the end only.
Called by `bench/run.py` for the measure `bulk`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from . import wire_client
from .measure import Plan, attempt, say, turns
from .process import BenchError
from .table import Row
from .targets import DATABASE, Setup, Target

ROW_BYTES = 1000
TABLE = "bulk"
SINK = "bulk_in"
MEGABYTE = 1_000_000


def measure(plan: Plan) -> list[Row]:
    """Throughput of 100 MB each way, and the proxy's CPU for it."""
    megabytes = 10 if plan.quick else 100
    rows_of_table = megabytes * MEGABYTE // ROW_BYTES
    acts: dict[str, Callable[[wire_client.socket.socket], int]] = {
        f"{megabytes} MB result": lambda client: wire_client.run(client, f"SELECT * FROM {TABLE}"),
        f"COPY out, {megabytes} MB": lambda client: wire_client.run(
            client, f"COPY {TABLE} TO STDOUT"
        ),
        f"COPY in, {megabytes} MB": lambda client: _copy_in(client, megabytes),
    }
    found: list[Row] = []
    with plan.site.targets(Setup()) as targets:
        _prepare(plan, rows_of_table)
        for name, act in acts.items():
            say(name)
            rate = Row("bulk", name, "MB/s", True, 1.00)
            cost = Row("bulk", f"CPU per MB, {name}", "µs", False, None)

            def run(
                target: Target,
                act: Callable[[wire_client.socket.socket], int] = act,
                rate: Row = rate,
                cost: Row = cost,
            ) -> None:
                per_second, cpu_us = _timed(target, act)
                say(f"  {target.name:<14} {per_second:9,.0f} MB/s  CPU {cpu_us:7.1f} µs per MB")
                rate.add(target.name, per_second)
                if target.pid:
                    cost.add(target.name, cpu_us)

            for target in turns(plan, targets):
                attempt(name, target, lambda target=target: run(target))
            found += [rate, cost]
    return found


def _prepare(plan: Plan, count: int) -> None:
    client = wire_client.connect(plan.site.postgres.port, "app", DATABASE)
    for sql in (
        f"DROP TABLE IF EXISTS {TABLE}, {SINK}",
        f"CREATE UNLOGGED TABLE {TABLE} (content text)",
        # Why: compressed content would be expanded by the database for every row.
        f"ALTER TABLE {TABLE} ALTER content SET STORAGE EXTERNAL",
        f"INSERT INTO {TABLE} SELECT repeat('x', {ROW_BYTES}) FROM generate_series(1, {count})",
        f"CREATE UNLOGGED TABLE {SINK} (content text)",
        f"VACUUM ANALYZE {TABLE}",
    ):
        wire_client.run(client, sql)
    client.close()


def _copy_in(client: wire_client.socket.socket, megabytes: int) -> int:
    chunk = (b"x" * (ROW_BYTES - 1) + b"\n") * 64
    repeat = megabytes * MEGABYTE // len(chunk)
    return wire_client.copy_in(client, f"COPY {SINK} FROM STDIN", chunk, repeat)


def _timed(target: Target, act: Callable[[wire_client.socket.socket], int]) -> tuple[float, float]:
    try:
        client = wire_client.connect(target.port, target.role, DATABASE)
        try:
            wire_client.run(client, f"TRUNCATE {SINK}")
            before_ns, before_s = target.cpu_ns(), time.perf_counter()
            size = act(client)
            elapsed_s = time.perf_counter() - before_s
            spent_ns = target.cpu_ns() - before_ns
        finally:
            client.close()
    except wire_client.WireError as error:
        raise BenchError(str(error)) from error
    return size / MEGABYTE / elapsed_s, spent_ns / 1000 / (size / MEGABYTE)
