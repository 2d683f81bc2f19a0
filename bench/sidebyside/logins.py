"""Logins per second: every transaction opens a connection, asks once and closes it.

It must not compare different secrets: both proxies verify against the same SCRAM verifier.
Called by `bench/run.py` for the measure `logins`.
"""

from __future__ import annotations

from .measure import Plan, attempt, say, turns
from .table import Row
from .targets import LIGHT_ROLE, SCRAM_ROLE, Setup, Target

CLIENTS = 8
METHODS = {
    "trust": Setup(),
    "SCRAM": Setup(role=SCRAM_ROLE),
    "SCRAM of one iteration": Setup(role=LIGHT_ROLE),
}


def measure(plan: Plan) -> list[Row]:
    """Logins per second and CPU for each: trust, SCRAM, and SCRAM that costs the client little."""
    rows: list[Row] = []
    for method, setup in METHODS.items():
        say(f"logins, {method}")
        rate = Row("logins", f"logins per second, {method}", "logins/s", True, 1.00)
        cost = Row("logins", f"CPU per login, {method}", "µs", False, None)
        with plan.site.targets(setup) as targets:

            def run(target: Target, rate: Row = rate, cost: Row = cost) -> None:
                per_second, cpu_us = plan.pgbench.logins(
                    target, clients=CLIENTS, seconds=plan.seconds
                )
                say(f"  {target.name:<14} {per_second:9,.0f}/s  CPU {cpu_us:7.1f} µs")
                rate.add(target.name, per_second)
                if target.pid:
                    cost.add(target.name, cpu_us)

            for target in turns(plan, targets):
                attempt(f"{method} logins", target, lambda target=target: run(target))
        rows += [rate, cost]
    return rows
