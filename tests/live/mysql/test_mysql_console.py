"""The console for MySQL's clients: real drivers connect to it and read its tables.

Asks maitred itself, so none of it runs with `--direct`. Run by pytest.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import mysql.connector
import pymysql
import pytest
import sqlalchemy

from fix_mariadb import program
from fix_mysql_front import Front
from fix_mysql_wire import MysqlError

pytestmark = [pytest.mark.one_backend, pytest.mark.flavour("mariadb")]

ADMIN = {"users": {"app": {"admin": True}, "other": {"stats": True}}}


@pytest.fixture
def operated(make_front: Callable[..., Front]) -> Front:
    front = make_front(ADMIN)
    front.operated  # noqa: B018
    assert front.wire().value("select 1") == "1"
    return front


def test_the_clients_program_reads_tables(operated: Front) -> None:
    where = ["--host=127.0.0.1", f"--port={operated.address[1]}", "--user=app", "maitred"]
    done = subprocess.run(
        [program("mariadb"), "--no-defaults", "--batch", *where, "-e", "SHOW POOLS; SHOW VERSION"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    head, pool, version, words = done.stdout.splitlines()
    row = dict(zip(head.split("\t"), pool.split("\t"), strict=True))
    assert (row["database"], row["protocol"], row["pool_mode"]) == ("shop", "mysql", "transaction")
    assert (version, words.partition(" ")[0]) == ("version", "maitred")


def test_drivers_connect_and_read_tables(operated: Front) -> None:
    place: dict[str, Any] = operated.place(database=None)
    with pymysql.connect(**place, database="maitred") as one, one.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        assert [row[0] for row in cursor.fetchall()] == ["shop"]
    with mysql.connector.connect(**place, database="maitred") as two, two.cursor() as cursor:
        cursor.execute("SHOW LISTS")
        assert dict(cursor.fetchall())["databases"] == 1
    url = sqlalchemy.URL.create("mysql+pymysql", "app", place["password"], "127.0.0.1",
                                place["port"], "maitred")  # fmt: skip
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as three:
        found = three.execute(sqlalchemy.text("SHOW STATS")).mappings().one()
        assert (found["database"], found["total_query_count"] >= 1) == ("shop", True)
    engine.dispose()


def test_commands_are_for_admins(operated: Front) -> None:
    with operated.wire("other", "maitred") as other:
        refused = other.error("PAUSE shop")
        assert "may not use PAUSE" in refused.text
        assert refused.state == "42501"
    with operated.wire("app", "maitred") as admin:
        admin.run("PAUSE shop", "RESUME shop")
        wrong = admin.error("SHOW NONSENSE")
        assert 'the console has no command "SHOW NONSENSE"' in wrong.text


def test_statements_cannot_be_prepared_there(operated: Front) -> None:
    with operated.wire("app", "maitred") as admin, pytest.raises((MysqlError, AssertionError)):
        admin.prepared("SHOW POOLS")
