"""Run one suite through one route and collect the outcome of each of its tests, by pytest or node.

Judges nothing; that is `explain`. A hanging test ends after a minute; where it cannot be ended,
pytest is, and begins again behind it.
Called by `__main__`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from suites import node
from suites.outcome import Outcome
from suites.routes import Route, opened
from suites.suite import HERE, Suite

TEST_TIMEOUT_S = 60
# Why three: set-up and tear-down of a test have their own minute.
STALL_S = 3 * TEST_TIMEOUT_S + 20


class SuiteError(Exception):
    """The suite did not run at all."""


def run(
    suite: Suite, route: Route, *, python: Path, source: Path, folder: Path
) -> dict[str, Outcome]:
    """Outcomes of all tests by id, in the order of the run.

    Args:
        folder: Where the log of pytest, that of the proxy and the raw outcomes are left.

    Raises:
        SuiteError: No test ran.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{suite.name}-{route.name}"
    began = time.monotonic()
    with opened(route, suite, source, folder / f"{name}.proxy.log") as port:
        suite.place_files(source, port)
        if suite.runner == "node":
            files = node.files(suite, source)
            found = node.run(files, source, suite.variables(port), folder / name)
        else:
            arguments = suite.pytest_arguments(port, route.servers)
            found = _pytest(suite, arguments, port, python, source, folder / name)
    if not found:
        raise SuiteError(f"no test of {suite.title} ran; see {folder / name}.log")
    print(f"{name}: {len(found)} tests in {time.monotonic() - began:.0f} s", flush=True)
    return found


def run_each(
    suite: Suite, route: Route, tests: list[str], *, python: Path, source: Path, folder: Path
) -> dict[str, Outcome]:
    """Outcomes of some tests, each in a process of its own behind the same proxy.

    Why: a test that fails may leave its connection open, and those after it fail for that alone.
    """
    found: dict[str, Outcome] = {}
    if not tests:
        return found
    name = f"{suite.name}-{route.name}-alone"
    (folder / f"{name}.log").unlink(missing_ok=True)
    with opened(route, suite, source, folder / f"{name}.proxy.log") as port:
        suite.place_files(source, port)
        if suite.runner == "node":
            # Why no more: each of its tests has a process of its own anyway.
            return node.run(tests, source, suite.variables(port), folder / name)
        options = [each for each in suite.pytest_arguments(port) if each.startswith("-")]
        for test in tests:
            arguments = [test, *options]
            alone = _pytest(suite, arguments, port, python, source, folder / name)
            found |= {test: alone[test]} if test in alone else {}
    return found


def _pytest(
    suite: Suite, arguments: list[str], port: int, python: Path, source: Path, trace: Path
) -> dict[str, Outcome]:
    raw = trace.with_name(f"{trace.name}.jsonl")
    raw.unlink(missing_ok=True)
    raw.with_suffix(".done").unlink(missing_ok=True)
    cache = trace.with_name(f"{trace.name}.cache")
    command = [
        str(python), "-m", "pytest", "-p", "suite_outcomes", "-o", f"cache_dir={cache}",
        "--continue-on-collection-errors", f"--timeout={TEST_TIMEOUT_S}", *arguments,
    ]  # fmt: skip
    found: dict[str, Outcome] = {}
    shutil.rmtree(cache, ignore_errors=True)
    while _stalls(command, source, _environment(suite, port, raw), raw, trace):
        # Why: psycopg's suite takes what a killed run left there for a crash, and refuses to go on.
        shutil.rmtree(cache, ignore_errors=True)
        before, found = len(found), read(raw)
        if len(found) == before:
            raise SuiteError(f"{trace.name} stalls before its first test")
        # Why by hook and not by argument: there may be thousands.
        raw.with_suffix(".done").write_text("\n".join(found))
    return read(raw)


def _stalls(
    command: list[str], source: Path, environment: dict[str, str], raw: Path, trace: Path
) -> bool:
    """Run pytest; True: it had to be ended, because one test did not."""
    with trace.with_name(f"{trace.name}.log").open("ab") as out:
        process = subprocess.Popen(
            command, cwd=source, env=environment, stdout=out,
            stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip
        began = time.time()
        try:
            while process.poll() is None:
                time.sleep(0.2)
                heard = raw.stat().st_mtime if raw.exists() else began
                if time.time() - max(began, heard) > STALL_S:
                    return True
        finally:
            process.kill()
            process.wait()
    return False


def _environment(suite: Suite, port: int, raw: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "PYTEST", "PYTHON"))
    }
    return {
        **kept,
        "PYTHONPATH": str(HERE / "plugin"),
        # Why: ids of parametrized tests must be the same in every run.
        "PYTHONHASHSEED": "0",
        "SUITE_OUTCOMES": str(raw),
        "SUITE_DONE": str(raw.with_suffix(".done")),
        **suite.variables(port),
    }


def read(raw: Path) -> dict[str, Outcome]:
    """What the plug-in wrote."""
    if not raw.exists():
        return {}
    lines = (json.loads(line) for line in raw.read_text().splitlines())
    return {line["test"]: Outcome(line["outcome"], line["said"]) for line in lines}
