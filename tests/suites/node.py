"""Run a suite of node's: each test file is one test, in a process of its own, one after the other.

Judges nothing. The exit status says how it ended, as it does to poku, which these files are for.
Called by `run`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from suites.outcome import Outcome
from suites.suite import Suite

# As the suite has it set for poku.
FILE_TIMEOUT_S = 60
# How poku begins a line about what it leaves out.
_SKIPPED = "\N{LARGE CIRCLE}"
# And how about an assertion that does not hold.
_REFUTED = "\N{HEAVY BALLOT X}"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def files(suite: Suite, source: Path) -> list[str]:
    """The test files below the folders that the suite names, by their place in the source."""
    return [
        str(each.relative_to(source))
        for folder in suite.arguments
        for each in sorted((source / folder).rglob("*.test.mts"))
    ]


def run(
    tests: list[str], source: Path, variables: dict[str, str], trace: Path
) -> dict[str, Outcome]:
    """Outcomes of all `tests` by file; `trace`: beginning of the names of what is left behind."""
    found: dict[str, Outcome] = {}
    environment = {**os.environ, "NO_COLOR": "1", **variables}
    with (
        trace.with_name(f"{trace.name}.log").open("w") as log,
        trace.with_name(f"{trace.name}.jsonl").open("w") as raw,
    ):
        for test in tests:
            status, said = _node(source, test, environment)
            log.write(f"== {test}: {status}\n{said}\n")
            found[test] = _outcome(status, said)
            line = {"test": test, "outcome": found[test].outcome, "said": found[test].said}
            raw.write(json.dumps(line) + "\n")
            raw.flush()
    return found


def _node(source: Path, test: str, environment: dict[str, str]) -> tuple[int | None, str]:
    """Exit status, None when it had to be ended, and what it printed."""
    try:
        done = subprocess.run(
            ["node", "--import=tsx", test], cwd=source, env=environment, timeout=FILE_TIMEOUT_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return None, _text(late.stdout)
    return done.returncode, _text(done.stdout)


def _text(printed: bytes | None) -> str:
    return _COLOUR.sub("", (printed or b"").decode(errors="replace"))


def _outcome(status: int | None, said: str) -> Outcome:
    if status == 0:
        is_skipped = any(line.startswith(_SKIPPED) for line in said.splitlines())
        return Outcome("skipped" if is_skipped else "passed")
    if status is None:
        return Outcome("failed", f"did not end within {FILE_TIMEOUT_S} s")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    refuted = [line for line in lines if line.startswith(_REFUTED)]
    telling = refuted or [line for line in lines if "Error" in line]
    return Outcome("failed", (telling or lines or [""])[0][:300])
