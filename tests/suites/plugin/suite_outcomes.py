"""A pytest plug-in that appends the outcome of each test to a file, one JSON object per line.

Lives in the suite's own pytest process and imports nothing of ours; what it wrote survives a crash.
Loaded by `run` with `-p suite_outcomes`.
"""

import json
import os
from pathlib import Path

_RANK = {"passed": 0, "skipped": 1, "failed": 2}
_worst = {}


def pytest_collection_modifyitems(config, items):
    """Leave out what an earlier pytest of this run has done, or has got stuck in."""
    file = Path(os.environ["SUITE_DONE"])
    if file.exists():
        done = set(file.read_text(encoding="utf-8").split("\n"))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
        items[:] = [item for item in items if item.nodeid not in done]


def pytest_runtest_logstart(nodeid, location):
    """What is said of a test that never ends, and taken back by a later line."""
    _write(test=nodeid, outcome="failed", said="did not end")


def pytest_runtest_logreport(report):
    """Keep the worst of set-up, call and tear-down; write it when the test is over."""
    outcome, said = report.outcome, ""
    if hasattr(report, "wasxfail"):
        outcome = "skipped"
    if outcome == "failed":
        said = _crash(report)
    kept = _worst.get(report.nodeid)
    if kept is None or _RANK[outcome] > _RANK[kept[0]]:
        _worst[report.nodeid] = (outcome, said)
    if report.when == "teardown":
        outcome, said = _worst.pop(report.nodeid)
        _write(test=report.nodeid, outcome=outcome, said=said)


def pytest_collectreport(report):
    """A module that cannot be imported is an outcome, too."""
    if report.outcome != "passed":
        _write(test=report.nodeid, outcome=report.outcome, said=_crash(report))


def _crash(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr or "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if crash else lines[-1])[:300] if lines else ""


def _write(**fields):
    with Path(os.environ["SUITE_OUTCOMES"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")
