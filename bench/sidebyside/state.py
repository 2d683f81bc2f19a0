"""What each kind of session state costs: the proxy's CPU for the same work with it and without.

It must not compare different queries: what stands beside a mechanism sends as many requests of the
same size, and leaves nothing behind. Called by `bench/run.py` for the measure `state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from .measure import Plan, attempt, say
from .table import Row
from .targets import Setup, Target

CLIENTS = 32
SETS = 4
"""Different values among the clients, where they differ."""
DIFFER_BAR = 1.25

SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;"
HEAD = f"""\
\\set aid random(1, 1000000)
\\set mine :client_id % {SETS}
\\set size 5000 + :mine
"""


def _once(sql: str) -> str:
    """`sql` in a client's first transaction only."""
    return f"\\if :begun = 0\n{sql}\n\\set begun 1\n\\endif\n"


PLAIN = {
    "one select": SELECT,
    "two requests": f"SHOW work_mem;\n{SELECT}",
    "three requests": f"SELECT pg_advisory_xact_lock(:client_id);\n{SELECT}\nSELECT :client_id;",
}


@dataclass(frozen=True)
class Mechanism:
    """One kind of state: what clients run, and the plain work that it is held against."""

    name: str
    beside: str
    script: str
    bar: float | None = None


MECHANISMS = (
    Mechanism(
        "clients differ in a setting that is reported", "one select",
        _once("SET application_name TO x:mine;") + SELECT, DIFFER_BAR,
    ),
    Mechanism(
        "clients differ in one that is not", "one select",
        _once("SET work_mem TO :size;") + SELECT, DIFFER_BAR,
    ),
    Mechanism(
        "SQL PREPARE once, EXECUTE", "one select",
        _once("PREPARE p (int) AS SELECT abalance FROM pgbench_accounts WHERE aid = $1;")
        + "EXECUTE p (:aid);",
    ),
    Mechanism("clients that LISTEN", "one select", _once("LISTEN bench;") + SELECT),
    Mechanism("SET each time", "two requests", f"SET work_mem TO 5000;\n{SELECT}"),
    Mechanism(
        "advisory lock, kept and released", "three requests",
        f"SELECT pg_advisory_lock(:client_id);\n{SELECT}\nSELECT pg_advisory_unlock(:client_id);",
    ),
    Mechanism(
        "temporary table, made and dropped", "three requests",
        f"CREATE TEMPORARY TABLE kept (x int);\n{SELECT}\nDROP TABLE kept;",
    ),
    Mechanism(
        "cursor WITH HOLD, opened and closed", "three requests",
        f"DECLARE kept CURSOR WITH HOLD FOR {SELECT}\nFETCH ALL kept;\nCLOSE kept;",
    ),
)  # fmt: skip


def measure(plan: Plan) -> list[Row]:
    """CPU per transaction with each mechanism over that of the plain work beside it."""
    if "maitred" not in plan.site.names:
        return []
    found: dict[str, list[float]] = {}
    scripts = PLAIN | {mechanism.name: mechanism.script for mechanism in MECHANISMS}
    with plan.site.targets(Setup(), ("maitred",)) as targets:
        for number in range(plan.rounds):
            say(f"round {number + 1}")
            for name, script in scripts.items():
                act = partial(_run, plan, targets[0], name, script, found)
                attempt(name, targets[0], act)
    return [_row(mechanism, found) for mechanism in MECHANISMS]


def _run(plan: Plan, target: Target, name: str, script: str, found: dict[str, list[float]]) -> None:
    sample = plan.pgbench.script(
        target, HEAD + script, clients=CLIENTS, seconds=plan.seconds, variables={"begun": 0}
    )
    say(f"  {name:<46} {sample.per_second:9,.0f}/s  CPU {sample.cpu_us:6.2f} µs")
    found.setdefault(name, []).append(sample.cpu_us)


def _row(mechanism: Mechanism, found: dict[str, list[float]]) -> Row:
    name = f"CPU, {CLIENTS} clients: {mechanism.name}"
    row = Row("state", name, "µs", False, mechanism.bar, ours="with", theirs="without")
    row.values = {"with": found.get(mechanism.name, []), "without": found.get(mechanism.beside, [])}
    row.note = f"beside: {mechanism.beside}, without it"
    return row
