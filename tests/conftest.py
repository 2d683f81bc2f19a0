"""Lists the plug-ins that hold the fixtures, and the options that hold for every ring.

Holds no fixture itself; those live in `fix_*.py` beside it.
Called by pytest.
"""

from __future__ import annotations

import faulthandler
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# Why: with import mode "importlib" pytest adds nothing to the path, and tests import the
# classes of the plug-ins by name.
sys.path.insert(0, str(_HERE))

# Why this order: a plug-in comes before those that import it, so that its asserts are rewritten.
pytest_plugins = [
    "fix_processes",
    "fix_wire",
    "fix_postgres",
    "fix_certificates",
    "fix_mariadb",
    "fix_mysql",
    "fix_network",
    "fix_maitred",
    "fix_crowd",
    "fix_parity",
    "fix_mysql_packets",
    "fix_mysql_stream",
    "fix_mysql_wire",
    "fix_mysql_front",
    "fix_mysql_parity",
]

# Why: a hung test must not hang the run; nothing else depends on this figure.
_DEADLINE_S = 120
_RINGS = {"live": "live", "break": "break_", "examples": "live"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("maitred")
    group.addoption("--run-slow", action="store_true", help="run the long variants too")
    group.addoption(
        "--backends",
        default="io_uring,epoll",
        help="reactor back ends to run against, comma separated",
    )
    group.addoption(
        "--isolation-clients", type=int, default=400, help="concurrent clients of that test"
    )
    group.addoption(
        "--isolation-seconds", type=float, default=6.0, help="how long each variant of it runs"
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "live: needs running databases (started by the tests themselves)",
        "break_: cuts networks and kills servers",
        "slow: takes long; in live and break left out unless --run-slow is given",
        "servers(least): how many servers a scenario played on both sides needs at least",
        "deadline(seconds): after how long a test counts as hung",
        "flavour(names): the databases that this MySQL test is for, mariadb or mysql",
        "one_backend: what it tests lies above the reactor; every back end with --run-slow",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Why: an explicit -m decides by itself, so that `-m slow` needs no second option.
    run_slow = config.getoption("--run-slow") or "slow" in (config.getoption("-m") or "")
    skip = pytest.mark.skip(reason="slow; give --run-slow")
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0] if _HERE in item.path.parents else ""
        if folder not in _RINGS:
            continue
        item.add_marker(_RINGS[folder])
        if not run_slow and item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test of our rings that hangs, with the stack of every thread."""
    folder = item.path.relative_to(_HERE).parts[0] if _HERE in item.path.parents else ""
    if folder not in _RINGS:
        return (yield)
    marker = item.get_closest_marker("deadline")
    seconds = marker.args[0] if marker else _DEADLINE_S

    def give_up(*_: object) -> None:
        faulthandler.dump_traceback()
        pytest.fail(f"hung: not finished after {seconds} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(seconds))
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def pytest_report_header(config: pytest.Config) -> list[str]:
    import fix_maitred
    import fix_mariadb
    import fix_mysql
    import fix_postgres

    return [
        f"engine: {fix_maitred.engine_build()}",
        f"back ends: {', '.join(fix_maitred.backends(config))}; kernel {platform.release()}",
        f"databases: {fix_postgres.version()}; {fix_mariadb.version()}",
        f"MySQL: {fix_mysql.version()}",
    ]
