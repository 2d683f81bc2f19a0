"""CPU of the proxy for a query by MySQL's protocol over that by PostgreSQL's, in the same minutes.

It must not compare databases: both protocols have a stub server behind them that answers at once
with the same row, and the same load in front of them. Called by `bench/run.py` for `mysql-ratio`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from maitred.demo.postgres import free_port

from .measure import Plan, attempt, say, turns
from .mysql_targets import POOL, MysqlSite
from .process import Process
from .sysbench import DATABASE, Load, sysbench
from .table import Row
from .targets import Setup, Target
from .workers import stub_program

THREADS = (32, 200)
# Why a rate as well: with as much as the clients get, the two have other loads, and a proxy that
# is busier has more to do at each turn. Half of what two cores manage.
RATES = (0, 20_000)
# As many bytes as the column has that sysbench reads.
BYTES = 120
BAR = 1.10


@contextlib.contextmanager
def _stub(plan: Plan, example: str) -> Iterator[int]:
    port = free_port()
    command = [stub_program(example), "--port", str(port), "--bytes", str(BYTES)]
    stub = Process(command, plan.site.folder / f"{example}.log")
    try:
        stub.await_port(port)
        yield port
    finally:
        stub.stop()


def measure(plan: Plan) -> list[Row]:
    """The ratio at 32 and 200 clients, without and with prepared statements, at full load and at
    the same, by both back ends."""
    rows: list[Row] = []
    with _stub(plan, "stub_mysql") as mysql, _stub(plan, "stub_postgres") as postgres:
        folder = plan.site.folder
        site = MysqlSite(mysql, folder, ("maitred",), folder)
        for backend in ("", "-epoll"):
            name = f"maitred{backend}"
            setup = Setup(database_port=postgres, pool=POOL, database=DATABASE)
            with (
                site.targets((name,)) as [by_mysql],
                plan.site.targets(setup, (name,)) as [by_postgres],
            ):
                runs = {"MySQL": ("mysql", by_mysql), "PostgreSQL": ("pgsql", by_postgres)}
                for prepared, threads, rate in itertools.product((False, True), THREADS, RATES):
                    load = Load("oltp_point_select", prepared, threads, rate)
                    rows.append(_row(plan, load, backend.removeprefix("-"), runs))
    return rows


def _row(plan: Plan, load: Load, backend: str, runs: dict[str, tuple[str, Target]]) -> Row:
    words = f", {backend}" if backend else ""
    row = Row(
        "mysql-ratio", f"CPU per query, MySQL over PostgreSQL, {load}{words}", "µs", False, BAR
    )
    row.ours, row.theirs = "MySQL", "PostgreSQL"
    say(row.measure)
    by_port = {target.port: (name, driver) for name, (driver, target) in runs.items()}

    def run(target: Target) -> None:
        name, driver = by_port[target.port]
        sample = sysbench(driver).sample(target, load, seconds=plan.seconds)
        say(f"  {name:<14} {sample.per_second:9,.0f}/s  CPU {sample.cpu_us:6.2f} µs")
        row.add(name, sample.cpu_us)

    for target in turns(plan, [target for _, target in runs.values()]):
        attempt(str(load), target, lambda target=target: run(target))
    return row
