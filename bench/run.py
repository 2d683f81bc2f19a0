#!/usr/bin/env python3
"""Compare maitred, PgBouncer and the database itself, side by side in the same minutes.

It must not judge: it prints, plots and stores what it saw, and ends with status 0 whatever that is.
Called by `make bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sidebyside import bulk, load, logins, machine, memory, mysql, ratio, state, workers
from sidebyside.measure import Plan, say
from sidebyside.pgbench import Pgbench
from sidebyside.plot import plot
from sidebyside.process import BenchError, raise_descriptor_limit
from sidebyside.table import Row, markdown
from sidebyside.targets import (
    DATABASE,
    LIGHT_ROLE,
    PASSWORD,
    ROLE,
    SCRAM_ROLE,
    Site,
    Target,
    maitred_program,
    pgbouncer_program,
)

from maitred.demo.postgres import DemoError, EmbeddedPostgres

OUT = Path(__file__).parent / "out"
SCALE = 10
HBA = f"""\
local all {{superuser}} trust
host all {{role}} 127.0.0.1/32 trust
host all {SCRAM_ROLE},{LIGHT_ROLE} 127.0.0.1/32 scram-sha-256
"""
SETTINGS = {
    "max_connections": "300",
    "shared_buffers": "256MB",
    "autovacuum": "off",
    "max_wal_size": "4GB",
    "log_min_messages": "fatal",
}
# Measures of one program are run together: cpu, throughput and p99 come from the same runs.
MEASURES: dict[str, Callable[[Plan], list[Row]]] = {
    "cpu": load.measure,
    "throughput": load.measure,
    "p99": load.measure,
    "memory": memory.measure,
    "logins": logins.measure,
    "tls": load.measure_tls,
    "bulk": bulk.measure,
    "workers": workers.measure,
    "epoll": load.measure_epoll,
    "state": state.measure,
    "mysql": mysql.measure,
    "mysql-epoll": mysql.measure_epoll,
    "mysql-memory": mysql.measure_memory,
    "mysql-logins": mysql.measure_logins,
    "mysql-ratio": ratio.measure,
}


def main() -> int:
    """Run what is asked for; 2 if it cannot be run at all."""
    options = _options()
    raise_descriptor_limit()
    try:
        if "pgbouncer" in options.targets:
            pgbouncer_program()
        if "maitred" in options.targets:
            maitred_program()
        with site_for(options.targets) as site:
            pgbench = Pgbench(site.postgres.programs)
            plan = Plan(
                *(site, pgbench, options.rounds, options.seconds, options.quick, options.only)
            )
            rows, facts = _run(plan, machine.facts(site))
    except (BenchError, DemoError) as error:
        say(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        say("bench: stopped")
        return 130
    _publish(rows, facts, options.out)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="maitred, PgBouncer and direct, side by side")
    parser.add_argument("--only", default="", help=f"some of {','.join(MEASURES)}")
    parser.add_argument("--targets", default="maitred,pgbouncer,direct")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=int, default=5, help="of each run, after a warm-up of one"
    )
    parser.add_argument("--quick", action="store_true", help="small: only shows that it works")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.only = frozenset(filter(None, options.only.split(",")))
    options.targets = tuple(filter(None, options.targets.split(",")))
    if unknown := options.only - MEASURES.keys():
        parser.error(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    if unknown := set(options.targets) - {"maitred", "pgbouncer", "direct"}:
        parser.error(f"no such target: {', '.join(unknown)}")
    if options.quick:
        options.rounds, options.seconds = 1, 2
    if options.rounds < 1 or options.seconds < 2:
        parser.error("at least one round of at least 2 seconds")
    return options


@contextlib.contextmanager
def site_for(names: tuple[str, ...]) -> Iterator[Site]:
    """A database with its tables and roles, and a folder, for as long as the block lasts."""
    with EmbeddedPostgres(database=DATABASE, role=ROLE, settings=SETTINGS, hba=HBA) as postgres:
        secrets = {
            role: _scram_role(postgres, role, iterations)
            for role, iterations in ((SCRAM_ROLE, 4096), (LIGHT_ROLE, 1))
        }
        folder = Path(tempfile.mkdtemp(prefix="maitred-bench-"))
        try:
            folder.chmod(0o755)
            _certificate(folder)
            Pgbench(postgres.programs).fill(Target("direct", postgres.port, None), SCALE)
            yield Site(postgres, folder, names, secrets)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _scram_role(postgres: EmbeddedPostgres, role: str, iterations: int) -> str:
    postgres.query(
        f"SET scram_iterations = {iterations}; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"
    )
    sql = f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"
    return postgres.query(sql)[0]["rolpassword"]


def _certificate(folder: Path) -> None:
    if shutil.which("openssl") is None:
        say("openssl is missing: the measure tls will be left out")
        return
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-keyout", folder / "server.key", "-out", folder / "server.crt"),
        ],
        check=True,
        capture_output=True,
    )
    # Why: PgBouncer runs as another user; the key is made for this run and goes with its folder.
    (folder / "server.key").chmod(0o644)


def _run(plan: Plan, facts: dict[str, str]) -> tuple[list[Row], dict[str, str]]:
    for name, value in facts.items():
        say(f"{name}: {value}")
    rows: list[Row] = []
    done: set[Callable[[Plan], list[Row]]] = set()
    for name, measure in MEASURES.items():
        if not plan.wants(name) or measure in done:
            continue
        done.add(measure)
        say(f"== {name}")
        try:
            rows += measure(plan)
        except (BenchError, OSError) as error:
            say(f"  left out: {error}")
    if "engine" in facts and (after := machine.engine()) != facts["engine"]:
        facts["WARNING"] = f"the engine or its sources changed during the run: now {after}"
    return rows, facts


def _publish(rows: list[Row], facts: dict[str, str], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    document = {"facts": facts, "rows": [row.as_json() for row in rows]}
    (out / "results.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    text = "\n".join(f"{name}: {value}" for name, value in facts.items())
    text += "\n\n" + markdown(rows) + "\n"
    (out / "results.md").write_text(text)
    print(f"\n{text}")
    try:
        files = plot(rows, out, f"PostgreSQL {facts['postgresql']}, {facts['date']}")
    except ImportError:
        say("no plots: pip install 'maitred[bench]'")
        files = []
    say(f"written: {', '.join(str(file) for file in [out / 'results.json', *files])}")


if __name__ == "__main__":
    sys.exit(main())
