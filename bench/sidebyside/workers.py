"""Two workers over one, in front of a stub server, so that no database is the limit.

It must not claim what the machine cannot show: with few cores the clients and the stub share
them with the workers, so the capacity by CPU stands beside the throughput.
Called by `bench/run.py` for the measure `workers`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from maitred.demo.postgres import free_port

from .measure import Plan, attempt, say, turns
from .process import BenchError, Process
from .table import Row
from .targets import DATABASE, Setup, Target

ROOT = Path(__file__).parents[2]
CLIENTS = 32
DEPTH = 100
# Cores that two workers, the stub and the clients need to be out of each other's way.
ROOMY = 5


def stub_program(example: str = "stub_postgres") -> Path:
    """Build a stub server of the engine's examples.

    Raises:
        BenchError: cargo is missing or the build failed.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise BenchError("cargo is missing, and the stub server is built with it")
    command = [
        cargo,
        "build",
        "--release",
        "--quiet",
        "--example",
        example,
        "-p",
        "maitred-reactor",
    ]
    done = subprocess.run(command, cwd=ROOT / "engine", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"the stub server could not be built: {done.stderr[-600:]}")
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "engine" / "target"))
    return folder / "release" / "examples" / example


def measure(plan: Plan) -> list[Row]:
    """Queries per second and CPU per query with one worker and with two."""
    port = free_port()
    stub = Process([stub_program(), "--port", str(port)], plan.site.folder / "stub.log")
    try:
        stub.await_port(port)
        return _measure(plan, port)
    finally:
        stub.stop()


def _measure(plan: Plan, port: int) -> list[Row]:
    cores = os.cpu_count() or 1
    short = cores < ROOMY
    note = f"{cores} cores shared with clients and stub" if short else ""
    rate = Row("workers", "two workers over one, throughput", "queries/s", True, 1.60, note=note)
    capacity = Row("workers", "two workers over one, capacity by CPU", "queries/s", True, 1.60)
    rate.ours, rate.theirs = capacity.ours, capacity.theirs = "two workers", "one worker"
    one = plan.site.targets(Setup(workers=1, database_port=port), ("maitred",))
    two = plan.site.targets(Setup(workers=2, database_port=port), ("maitred",))
    with one as single, two as double:
        named = [(1, "one worker", *single), (2, "two workers", *double)]

        def run(workers: int, name: str, target: Target) -> None:
            per_second, cpu_us = _pipelines(target, plan.seconds)
            say(f"  {name:<14} {per_second:9,.0f}/s  CPU {cpu_us:6.3f} µs")
            rate.add(name, per_second)
            capacity.add(name, workers * 1e6 / cpu_us)

        by_port = {target.port: (workers, name) for workers, name, target in named}
        for target in turns(plan, [target for *_, target in named]):
            attempt("pipelines", target, lambda target=target: run(*by_port[target.port], target))
    return [rate, capacity]


def _pipelines(target: Target, seconds: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "sidebyside.pipelines", str(target.port), target.role]
    before = target.cpu_ns()
    done = subprocess.run(
        [*command, DATABASE, str(CLIENTS), str(DEPTH), str(seconds)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    spent_ns = target.cpu_ns() - before
    if done.returncode != 0:
        raise BenchError(done.stderr[-500:])
    answered, elapsed_s = done.stdout.split()
    return float(answered) / float(elapsed_s), spent_ns / 1000 / max(1, int(answered))
