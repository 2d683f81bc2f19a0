"""The example applications' own tests say the same directly and through maitred, with few servers.

Knows nothing of what they test; migrations, locks and cursors are theirs.
Run by pytest; `make test-suites` compares the same tests one by one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fix_maitred import Maitred
from fix_mariadb import PASSWORD, MariaDB
from fix_mysql_front import Front
from fix_postgres import Postgres

pytestmark = pytest.mark.one_backend
HERE = Path(__file__).parent
# What each is started with, and what it prints last when all is well.
APPLICATIONS = {
    "django_shop": (["manage.py", "test"], "OK"),
    "sqlalchemy_ledger": (["-m", "pytest", "-q", "tests.py"], "6 passed"),
}


def run(name: str, url: str) -> None:
    arguments, promise = APPLICATIONS[name]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=HERE / name, env={**os.environ, "DATABASE_URL": url},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert promise in said


def postgres_url(port: int) -> str:
    return f"postgresql://app@127.0.0.1:{port}/shop"


def mysql_url(port: int) -> str:
    return f"mysql://app:{PASSWORD}@127.0.0.1:{port}/shop"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_passes_its_tests_directly(postgres: Postgres, name: str) -> None:
    run(name, postgres_url(postgres.port))


@pytest.mark.parametrize("servers", [5, 1])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_passes_its_tests_on_few_servers(
    make_maitred: Callable[..., Maitred], postgres_port: int, name: str, servers: int
) -> None:
    # Why any database: Django creates one for its tests, and drops it.
    anywhere = {"*": {"url": f"postgres://127.0.0.1:{postgres_port}"}}
    one = make_maitred({"pool": {"size": servers}, "databases": anywhere})
    run(name, postgres_url(one.port))


def test_the_django_application_passes_its_tests_directly_on_mysql(endpoint: MariaDB) -> None:
    run("django_shop", mysql_url(roomy(endpoint).port))


@pytest.mark.parametrize("servers", [5, 1])
def test_the_django_application_passes_its_tests_on_few_mysql_servers(
    make_front: Callable[..., Front], endpoint: MariaDB, servers: int
) -> None:
    anywhere = {"*": {"url": f"mysql://127.0.0.1:{roomy(endpoint).port}"}}
    front = make_front({"pool": {"size": servers}, "databases": anywhere})
    run("django_shop", mysql_url(front.address[1]))


def roomy(endpoint: MariaDB) -> MariaDB:
    """One on which the user may make the database that Django tests in."""
    endpoint.rows("grant all on test_shop.* to app@'%'")
    return endpoint
