"""MySQL clients: sysbench's three loads, memory, logins; beside ProxySQL where one is installed.

It must not compare different queries: a cell is one script, one protocol, one number of clients.
Called by `bench/run.py` for the measures `mysql` and those that begin with `mysql-`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .measure import Plan, attempt, say, turns
from .memory import bytes_per_client, idle_clients
from .mysql_targets import MysqlSite, private_mariadb, proxysql_program
from .process import BenchError
from .sysbench import Load, Sample, sysbench
from .table import Row
from .targets import Target

SCRIPTS = ("oltp_point_select", "oltp_read_only", "oltp_read_write")
THREADS = (1, 32, 200)
# Origin: ProxySQL 2.7 needed 23 and 37 µs where 20 and 30 are asked for.
CPU_BARS = {1: 1.00, 32: 0.87, 200: 0.81}
THROUGHPUT_BARS = {1: 1.00, 32: 1.00, 200: 1.15}
LOGIN_THREADS = 32


@contextlib.contextmanager
def _site(plan: Plan) -> Iterator[MysqlSite]:
    """A MariaDB with sysbench's table, for as long as the block lasts."""
    names = [name for name in plan.site.names if name != "pgbouncer"]
    try:
        proxysql_program()
        names.insert(1, "proxysql")
    except BenchError as missing:
        say(f"  {missing}")
    with private_mariadb() as mariadb:
        folder = plan.site.folder
        site = MysqlSite(mariadb.port, folder, tuple(names), folder)
        sysbench("mysql").fill(Target("direct", mariadb.port, None))
        yield site


def _row(measure: str, unit: str, *, more: bool, bar: float | None, note: str = "") -> Row:
    return Row("mysql", f"MySQL: {measure}", unit, more, bar, theirs="proxysql", note=note)


def measure(plan: Plan) -> list[Row]:
    """CPU per query, throughput and p99 of each script, without and with prepared statements."""
    scripts = SCRIPTS[:1] if plan.quick else SCRIPTS
    threads = THREADS[1:2] if plan.quick else THREADS
    rows: list[Row] = []
    with _site(plan) as site, site.targets() as targets:
        for script in scripts:
            for prepared in (False, True):
                for count in threads:
                    rows += _rows(plan, targets, Load(script, prepared, count))
    return rows


def _rows(plan: Plan, targets: list[Target], load: Load) -> list[Row]:
    found = run_load(plan, targets, load)
    cpu = _row(f"CPU per query, {load}", "µs", more=False, bar=CPU_BARS[load.threads])
    cpu.values = {name: [s.cpu_us for s in got] for name, got in found.items() if name != "direct"}
    bar = THROUGHPUT_BARS[load.threads]
    rate = _row(f"throughput, {load}", "queries/s", more=True, bar=bar)
    rate.values = {name: [s.per_second for s in got] for name, got in found.items()}
    late = _row(f"p99 of a transaction, {load}", "ms", more=False, bar=1.00)
    late.values = {name: [s.p99_ms for s in got] for name, got in found.items()}
    return [cpu, rate, late]


def run_load(plan: Plan, targets: list[Target], load: Load) -> dict[str, list[Sample]]:
    """All rounds of one load, targets in turn."""
    say(str(load))
    runner, found = sysbench("mysql"), dict[str, list[Sample]]()

    def run(target: Target) -> None:
        sample = runner.sample(target, load, seconds=plan.seconds)
        say(
            f"  {target.name:<14} {sample.per_second:9,.0f}/s  p99 {sample.p99_ms:7.2f} ms"
            f"  CPU {sample.cpu_us:6.2f} µs"
        )
        found.setdefault(target.name, []).append(sample)

    for target in turns(plan, targets):
        attempt(str(load), target, lambda target=target: run(target))
    return found


def measure_epoll(plan: Plan) -> list[Row]:
    """CPU per query of the epoll back end."""
    rows: list[Row] = []
    with _site(plan) as site, site.targets(("maitred-epoll", "proxysql")) as targets:
        for threads in THREADS[1:]:
            load = Load(SCRIPTS[0], False, threads)
            row = _row(f"CPU per query, epoll back end, {load}", "µs", more=False, bar=1.00)
            row.ours = "maitred-epoll"
            found = run_load(plan, targets, load)
            row.values = {name: [s.cpu_us for s in got] for name, got in found.items()}
            rows.append(row)
    return rows


def measure_memory(plan: Plan) -> list[Row]:
    """Growth of the resident set over idle clients, plain and with TLS."""
    clients = idle_clients(plan)
    rows: list[Row] = []
    with _site(plan) as site:
        proxies = tuple(name for name in site.names if name != "direct")
        for tls, most in ((False, "4 KiB"), (True, "52 KiB")):
            words = "with TLS" if tls else "plain"
            row = _row(
                f"memory per idle client, {words}, {clients:,} clients", "bytes", more=False,
                bar=1.00, note=f"at most {most}",
            )  # fmt: skip
            for _ in range(max(1, plan.rounds // 2)):
                for name in proxies:
                    with site.targets((name,), tls=tls) as targets:

                        def run(row: Row = row, target: Target = targets[0]) -> None:
                            value = bytes_per_client(target, clients, "mysql")
                            say(f"  {target.name:<14} {value:,.0f} bytes per idle client")
                            row.add(target.name, value)

                        attempt("idle clients", targets[0], run)
            rows.append(row)
    return rows


def measure_logins(plan: Plan) -> list[Row]:
    """Logins per second, each with one query and a goodbye, and the CPU of one."""
    rate = _row("logins per second, native password", "logins/s", more=True, bar=1.00)
    cost = _row("CPU per login, native password", "µs", more=False, bar=1.00)
    runner = sysbench("mysql")
    with _site(plan) as site, site.targets() as targets:

        def run(target: Target) -> None:
            sample = runner.logins(target, site.folder, threads=LOGIN_THREADS, seconds=plan.seconds)
            say(f"  {target.name:<14} {sample.per_second:9,.0f}/s  CPU {sample.cpu_us:7.1f} µs")
            rate.add(target.name, sample.per_second)
            if target.pid:
                cost.add(target.name, sample.cpu_us)

        for target in turns(plan, targets):
            attempt("logins", target, lambda target=target: run(target))
    return [rate, cost]
