"""Select-only load: CPU per query, throughput and p99 from the same runs.

It must not compare different queries: every cell is one protocol and one number of clients.
Called by `bench/run.py` for the measures `cpu`, `throughput`, `p99`, `tls` and `epoll`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .measure import Plan, attempt, say, turns
from .pgbench import Sample
from .table import Row
from .targets import Setup, Target

# PostgreSQL of the bench takes 300 connections, so more clients cannot reach it directly.
MOST_DIRECT = 250


@dataclass(frozen=True)
class Cell:
    """One load."""

    protocol: str
    clients: int

    def suits(self, target: Target) -> bool:
        if target.name == "direct":
            return self.clients <= MOST_DIRECT
        # Why: PgBouncer before 1.21 has no prepared statements in transaction mode.
        return not (target.name == "pgbouncer" and self.protocol == "prepared")


CPU_BARS = {32: 0.80, 200: 0.65}
THROUGHPUT_BARS = {1: 1.00, 32: 1.00, 200: 1.15, 900: 1.15}
P99_BARS = {32: 1.00, 200: 1.00}
PROTOCOLS = ("simple", "extended", "prepared")


def _cells(plan: Plan) -> list[Cell]:
    wanted: list[Cell] = []
    if plan.wants("cpu"):
        wanted += [Cell(protocol, clients) for protocol in PROTOCOLS for clients in CPU_BARS]
    if plan.wants("throughput"):
        wanted += [Cell("simple", clients) for clients in THROUGHPUT_BARS]
    if plan.wants("p99"):
        wanted += [Cell("simple", clients) for clients in P99_BARS]
    return sorted(set(wanted), key=lambda cell: (PROTOCOLS.index(cell.protocol), cell.clients))


def measure(plan: Plan) -> list[Row]:
    """CPU per query, throughput and p99 over the cells that are wanted."""
    cells = _cells(plan)
    if not cells:
        return []
    with plan.site.targets(Setup()) as targets:
        samples = {cell: run_cell(plan, targets, cell) for cell in cells}
    return [*_cpu_rows(plan, samples), *_throughput_rows(plan, samples), *_p99_rows(plan, samples)]


def run_cell(plan: Plan, targets: list[Target], cell: Cell) -> dict[str, list[Sample]]:
    """All rounds of one cell, targets in turn."""
    say(f"{cell.protocol}, {cell.clients} clients")
    found: dict[str, list[Sample]] = {}
    suitable = [target for target in targets if cell.suits(target)]

    def run(target: Target) -> None:
        sample = plan.pgbench.sample(
            target, protocol=cell.protocol, clients=cell.clients, seconds=plan.seconds
        )
        say(
            f"  {target.name:<14} {sample.per_second:9,.0f}/s  p99 {sample.p99_ms:7.2f} ms"
            f"  CPU {sample.cpu_us:6.2f} µs"
        )
        found.setdefault(target.name, []).append(sample)

    for target in turns(plan, suitable):
        attempt(f"{cell.protocol}@{cell.clients}", target, lambda target=target: run(target))
    return found


Samples = dict[Cell, dict[str, list[Sample]]]


def _cpu_rows(plan: Plan, samples: Samples) -> list[Row]:
    rows: list[Row] = []
    for cell, found in samples.items():
        if not plan.wants("cpu") or cell.clients not in CPU_BARS:
            continue
        name = f"CPU per query, {cell.clients} clients, {cell.protocol}"
        row = Row("cpu", name, "µs", False, CPU_BARS[cell.clients])
        for target, values in found.items():
            if target != "direct":
                row.values[target] = [sample.cpu_us for sample in values]
        other = samples.get(Cell("extended", cell.clients), {})
        if cell.protocol == "prepared" and "pgbouncer" in other:
            row.values["pgbouncer"] = [sample.cpu_us for sample in other["pgbouncer"]]
            row.note = "PgBouncer: its extended figure, it lacks prepared"
        rows.append(row)
    return rows


def _throughput_rows(plan: Plan, samples: Samples) -> list[Row]:
    rows: list[Row] = []
    for clients, bar in THROUGHPUT_BARS.items():
        found = samples.get(Cell("simple", clients))
        if found is None or not plan.wants("throughput"):
            continue
        row = Row("throughput", f"throughput, {clients} clients", "queries/s", True, bar)
        row.values = {name: [s.per_second for s in values] for name, values in found.items()}
        rows.append(row)
    return rows


def _p99_rows(plan: Plan, samples: Samples) -> list[Row]:
    rows: list[Row] = []
    for clients, bar in P99_BARS.items():
        found = samples.get(Cell("simple", clients))
        if found is None or not plan.wants("p99"):
            continue
        row = Row("p99", f"p99 latency, {clients} clients", "ms", False, bar)
        row.values = {name: [s.p99_ms for s in values] for name, values in found.items()}
        rows.append(row)
    return rows


def measure_tls(plan: Plan) -> list[Row]:
    """CPU per query with TLS between the clients and the proxy."""
    cell = Cell("simple", 32)
    proxies = tuple(name for name in plan.site.names if name != "direct")
    with plan.site.targets(Setup(tls=True), proxies) as targets:
        found = run_cell(plan, targets, cell)
    row = Row("tls", "CPU per query with client TLS, 32 clients", "µs", False, 1.00)
    row.values = {name: [s.cpu_us for s in values] for name, values in found.items()}
    return [row]


def measure_epoll(plan: Plan) -> list[Row]:
    """CPU per query of the epoll back end."""
    rows: list[Row] = []
    names = tuple(name for name in ("maitred-epoll", "pgbouncer") if _is_wanted(plan, name))
    with plan.site.targets(Setup(), names) as targets:
        for clients in CPU_BARS:
            found = run_cell(plan, targets, Cell("simple", clients))
            name = f"CPU per query, epoll back end, {clients} clients"
            row = Row("epoll", name, "µs", False, 1.00, ours="maitred-epoll")
            row.values = {key: [s.cpu_us for s in values] for key, values in found.items()}
            rows.append(row)
    return rows


def _is_wanted(plan: Plan, name: str) -> bool:
    return name.removesuffix("-epoll") in plan.site.names
