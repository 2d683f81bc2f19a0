"""Every example runs and prints what it promises.

Run by pytest; the examples themselves know nothing of tests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fix_maitred import Maitred

pytestmark = pytest.mark.one_backend
HERE = Path(__file__).parent

SAYS = {
    "psycopg_many_clients.py": "50 clients, ",
    "asyncpg_pool.py": "sum of 100 answers: 9900",
    "retry_after_a_lost_server.py": "42 after 2 tries on one connection",
}


def run(name: str, maitred: Maitred) -> str:
    place = maitred.place()
    url = f"postgresql://{place['user']}@{place['host']}:{place['port']}/{place['dbname']}"
    told = url if name.startswith("asyncpg") else maitred.dsn()
    done = subprocess.run(
        [sys.executable, str(HERE / name), told], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    found = {path.name for path in HERE.glob("*.py") if not path.name.startswith("test_")}
    assert found == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example_says_what_it_promises(make_maitred: Callable[..., Maitred], name: str) -> None:
    said = run(name, make_maitred({"pool": {"size": 4}}))
    assert SAYS[name] in said
    if name == "psycopg_many_clients.py":
        assert 1 <= int(said.split(",")[1].split()[0]) <= 4
