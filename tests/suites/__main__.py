"""Run the published suites on every route, keep what they found, and judge it.

Fails when a difference is not explained, and never changes an explanation.
Run as `make test-suites SUITES_ARGS="--suites pg8000 --routes direct,maitred-5"`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from suites import page, record
from suites.databases import version
from suites.explain import all_explanations, judge
from suites.outcome import Outcome
from suites.routes import ROUTES, Route, RouteError, pgbouncer_program
from suites.run import SuiteError, read, run, run_each
from suites.sources import SourceError, bring, environment
from suites.suite import Suite, all_suites

ROUTES_BY_DEFAULT = "direct,maitred-5,maitred-1,pgbouncer-5"


def main() -> int:
    """0: every difference is explained; 1: some are not; 2: a suite could not run."""
    options = _options()
    suites = all_suites()
    if unknown := set(options.suites) - set(suites):
        print(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(suites)}")
        return 2
    if not options.judge_only:
        for name in options.suites:
            try:
                _run_suite(suites[name], options)
            except (SuiteError, SourceError, RouteError) as error:
                print(error, file=sys.stderr)
                return 2
    page.write()
    return _say_verdict()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-suites SUITES_ARGS=…", description=__doc__)
    names = list(all_suites())
    parser.add_argument("--suites", type=_listed, default=names, help=", ".join(names))
    parser.add_argument(
        "--routes", type=_listed, default=_listed(ROUTES_BY_DEFAULT), help=", ".join(ROUTES)
    )
    parser.add_argument(
        "--sources", type=Path, help="a folder with tarballs and git repositories, looked at first"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "maitred-suites"
    )
    parser.add_argument(
        "--reuse", action="store_true",
        help="take the direct outcomes, and routes that are not run now, from the last run",
    )  # fmt: skip
    parser.add_argument(
        "--judge-only", action="store_true", help="run nothing; judge and print what is kept"
    )
    options = parser.parse_args()
    if unknown := set(options.routes) - set(ROUTES):
        parser.error(f"no such route: {', '.join(sorted(unknown))}; there are {', '.join(ROUTES)}")
    return options


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _run_suite(suite: Suite, options: argparse.Namespace) -> None:
    options.cache.mkdir(parents=True, exist_ok=True)
    how = {
        "python": environment(suite, options.cache),
        "source": bring(suite, options.cache, options.sources),
        "folder": options.cache / "runs",
    }
    raw = how["folder"] / f"{suite.name}-direct.jsonl"
    if not (options.reuse and suite.name in record.read_all() and raw.exists()):
        twice = [run(suite, ROUTES["direct"], **how) for _ in range(2)]
        record.write(record.begun(suite.name, suite.version, _programs(suite), *twice))
    direct = read(raw)
    for name in options.routes:
        route = ROUTES[name]
        if name != "direct" and suite.takes(route.proxy):
            here = run(suite, route, **how)
            tried = {
                test: outcome
                for test, outcome in direct.items()
                if suite.is_tried(test, route.servers)
            }
            kept = record.read_all()[suite.name]
            differences = _differences(suite, route, tried, here, kept.unsteady, how)
            # Why read again: another run may have added a route meanwhile.
            kept = record.read_all()[suite.name]
            record.write(record.extended(kept, name, _programs(suite), here, differences))


def _differences(
    suite: Suite,
    route: Route,
    direct: dict[str, Outcome],
    here: dict[str, Outcome],
    unsteady: dict[str, list[str]],
    how: dict[str, Path],
) -> dict[str, record.Difference]:
    tests = record.differing(direct, here, unsteady)
    # Why not PgBouncer's: they are counted beside ours, not explained.
    alone = run_each(suite, route, tests, **how) if route.proxy == "maitred" else {}
    return {test: record.difference(test, direct, here, alone) for test in tests}


def _programs(suite: Suite) -> dict[str, str]:
    found = {suite.database: version(suite)}
    if suite.takes("pgbouncer"):
        said = subprocess.run(
            [pgbouncer_program(), "--version"], capture_output=True, text=True, check=False
        )
        found["pgbouncer"] = said.stdout.splitlines()[0]
    return found


def _say_verdict() -> int:
    records = record.read_all()
    judged = judge(records, all_explanations())
    for name, each in records.items():
        for route, seen in each.counts.items():
            differ = len(each.differences.get(route, {}))
            numbers = ", ".join(f"{count} {outcome}" for outcome, count in seen.items())
            print(f"{name:12} {ROUTES[route].title:22} {numbers}; {differ} differ")
    for suite, route, test in judged.unexplained:
        seen = records[suite].differences[route][test]
        print(f"UNEXPLAINED {suite} {route} {test}: {seen.direct}, here {seen.here},"
              f" alone {seen.alone}: {seen.said}")  # fmt: skip
    for name, suite, pattern in judged.stale:
        print(f"STALE       {suite} {pattern}: '{name}' in explained.toml explains nothing")
    return 1 if judged.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
