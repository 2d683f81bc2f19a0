"""What the last full run of a suite found, as it is kept in `results/`.

Pure: outcomes in, a record out; it runs nothing and explains nothing.
Called by `__main__`, which writes records, and by `page` and `explain`, which read them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from suites.outcome import Outcome
from suites.suite import HERE

RESULTS = HERE / "results"
_SAID_CHARACTERS = 160


@dataclass(frozen=True)
class Difference:
    """A test that ended otherwise through a proxy than directly."""

    direct: str
    here: str
    # How it ended through the same proxy in a process of its own, with nobody else there.
    alone: str
    said: str


@dataclass(frozen=True)
class Record:
    """One suite: how often which outcome on which route, and every difference."""

    suite: str
    version: str
    # Programs that took part, by name.
    programs: dict[str, str]
    counts: dict[str, dict[str, int]]
    # Tests whose outcome differs between two direct runs: they prove nothing about a proxy.
    unsteady: dict[str, list[str]]
    # By route and test.
    differences: dict[str, dict[str, Difference]]

    def tests(self) -> int:
        return sum(self.counts["direct"].values())


def begun(
    suite: str,
    version: str,
    programs: dict[str, str],
    first: dict[str, Outcome],
    second: dict[str, Outcome],
) -> Record:
    """The record of two direct runs; the second is the one that others are compared with."""
    return Record(
        suite, version, programs, {"direct": counts(second)}, unsteady(first, second), {}
    )  # fmt: skip


def extended(
    record: Record,
    route: str,
    programs: dict[str, str],
    here: dict[str, Outcome],
    differences: dict[str, Difference],
) -> Record:
    """The record with a route more, or with a route renewed."""
    return replace(
        record,
        programs=programs,
        counts={**record.counts, route: counts(here)},
        differences={**record.differences, route: differences},
    )


def counts(outcomes: dict[str, Outcome]) -> dict[str, int]:
    """How many tests ended how."""
    return dict(sorted(Counter(each.outcome for each in outcomes.values()).items()))


def unsteady(first: dict[str, Outcome], second: dict[str, Outcome]) -> dict[str, list[str]]:
    """Tests with two outcomes in two runs, with both."""
    found = {test: [_of(first, test), _of(second, test)] for test in {**first, **second}}
    return {test: both for test, both in sorted(found.items()) if both[0] != both[1]}


def differing(
    direct: dict[str, Outcome], here: dict[str, Outcome], without: dict[str, list[str]]
) -> list[str]:
    """Tests that ended otherwise, in the order of the direct run."""
    return [
        test
        for test in {**direct, **here}
        if test not in without and _of(direct, test) != _of(here, test)
    ]


def difference(
    test: str, direct: dict[str, Outcome], here: dict[str, Outcome], alone: dict[str, Outcome]
) -> Difference:
    """The difference of one test, its error without what changes from run to run."""
    # Why not where nobody looked: what PgBouncer's users see there is theirs to explain.
    said = here[test].said if test in here and test in alone else ""
    said = re.sub(r"\b(port|127\.0\.0\.1:|server=|PID|pid) ?\d+", r"\1 N", said)
    said = re.sub(r"0x[0-9a-f]{6,}", "0x…", said)
    said = re.sub(r"/\S*/(?=[^/\s])", "", said)
    return Difference(
        _of(direct, test), _of(here, test), _of(alone, test), said[:_SAID_CHARACTERS].strip()
    )


def _of(outcomes: dict[str, Outcome], test: str) -> str:
    return outcomes[test].outcome if test in outcomes else "absent"


def write(record: Record, folder: Path = RESULTS) -> None:
    """Keep it as JSON, one difference per line, so that two runs can be compared by eye."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(asdict(record), indent=1, ensure_ascii=False, sort_keys=True)
    (folder / f"{record.suite}.json").write_text(text + "\n")


def read_all(folder: Path = RESULTS) -> dict[str, Record]:
    """Every record by the name of its suite."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        fields = json.loads(path.read_text())
        fields["differences"] = {
            route: {test: Difference(**each) for test, each in tests.items()}
            for route, tests in fields["differences"].items()
        }
        found[path.stem] = Record(**fields)
    return found
