"""The private database behind a route, as a suite wants it: PostgreSQL or MariaDB.

Knows nothing of proxies; every one is new, and gone with its block.
Called by `routes`, and by `__main__` for what took part.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg

import fix_mariadb
import fix_postgres
from fix_mariadb import MariaDB, create_mariadb, remove_mariadb
from fix_postgres import Postgres, create_postgres, remove_postgres
from suites.suite import Suite


@contextlib.contextmanager
def database(suite: Suite, source: Path) -> Iterator[Postgres | MariaDB]:
    """One of the suite's kind, running, with its setup done."""
    kind = {"postgres": _postgres, "mariadb": _mariadb}[suite.database]
    with kind(suite, source) as made:
        for name, statements in suite.setup.items():
            for statement in statements:
                made.rows(statement, database=name)
        yield made


def version(suite: Suite) -> str:
    """Name and version of what stands behind a suite."""
    if suite.database == "postgres":
        return fix_postgres.version().replace("postgres (PostgreSQL)", "PostgreSQL")
    # Why cut: "mariadbd  Ver 10.11.x-MariaDB-… for debian-linux-gnu on x86_64 (Debian 12)".
    return f"MariaDB {fix_mariadb.version().split('Ver ')[-1].split('-')[0]}"


@contextlib.contextmanager
def _postgres(suite: Suite, source: Path) -> Iterator[Postgres]:
    postgres = create_postgres({"max_connections": 300, "max_prepared_transactions": 50})
    try:
        with postgres.connect("postgres", "postgres") as admin:
            _stand_in(suite.stand_ins, postgres, admin)
        yield postgres
    finally:
        remove_postgres(postgres)


def _stand_in(names: list[str], postgres: Postgres, admin: psycopg.Connection) -> None:
    """Let PostgreSQL find an empty extension of each name."""
    shared = postgres.folder / "share"
    extensions = shared / "extension"
    extensions.mkdir(parents=True)
    for name in names:
        (extensions / f"{name}.control").write_text("default_version = '0'\n")
        (extensions / f"{name}--0.sql").write_text("")
    if names:
        admin.execute(f"alter system set extension_control_path = '{shared}:$system'")
        admin.execute("select pg_reload_conf()")


@contextlib.contextmanager
def _mariadb(suite: Suite, source: Path) -> Iterator[MariaDB]:
    mariadb = create_mariadb(**suite.settings)
    try:
        if suite.trusts:
            shutil.copy(mariadb.authority, source / suite.trusts)
        yield mariadb
    finally:
        remove_mariadb(mariadb)
