"""Bytes of the proxy's memory for each idle client.

It must not reuse a proxy that has served something else: memory that was once needed stays.
Called by `bench/run.py` for the measure `memory`.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .measure import Plan, attempt, say
from .process import BenchError
from .table import Row
from .targets import Setup, Target

CLIENTS = 10_000
OPENERS = 4
# Why: the first clients make the proxy allocate what it keeps whatever the number of clients.
WARM_CLIENTS = 50
SETTLE_S = 1.0


def measure(plan: Plan) -> list[Row]:
    """Growth of the resident set over 10,000 clients that asked once and are idle."""
    clients = idle_clients(plan)
    row = Row("memory", f"memory per idle client, {clients:,} clients", "bytes", False, 1.00)
    proxies = tuple(name for name in plan.site.names if name != "direct")
    for _ in range(max(1, plan.rounds // 2)):
        for name in proxies:
            with plan.site.targets(Setup(), (name,)) as targets:

                def run(target: Target = targets[0]) -> None:
                    value = bytes_per_client(target, clients, "postgres")
                    say(f"  {target.name:<14} {value:,.0f} bytes per idle client")
                    row.add(target.name, value)

                attempt("idle clients", targets[0], run)
    return [row]


def idle_clients(plan: Plan) -> int:
    """How many clients to hold idle, as the limit of open files allows."""
    clients = CLIENTS // 10 if plan.quick else CLIENTS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Why: PgBouncer wants descriptors for every client that its configuration allows.
    if limit != resource.RLIM_INFINITY and limit < clients + 500:
        clients = max(100, limit - 500)
        say(f"memory: only {clients} idle clients, the limit of open files is {limit}")
    return clients


def bytes_per_client(target: Target, clients: int, dialect: str) -> float:
    """Growth of the target's resident set over `clients` that asked once."""
    with _idle(target, WARM_CLIENTS, 1, dialect):
        time.sleep(SETTLE_S)
        before = target.resident_bytes()
        with _idle(target, clients, OPENERS, dialect):
            time.sleep(SETTLE_S)
            after = target.resident_bytes()
    return (after - before) / clients


@contextlib.contextmanager
def _idle(target: Target, clients: int, openers: int, dialect: str) -> Iterator[None]:
    spoken = f"{dialect}+tls" if target.tls else dialect
    command = [sys.executable, "-m", "sidebyside.idle", str(target.port), spoken]
    running = [
        subprocess.Popen(
            [*command, str(clients // openers)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(openers)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                assert process.stderr is not None
                process.kill()
                raise BenchError(process.stderr.read()[-500:])
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()
