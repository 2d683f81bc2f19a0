"""What the demonstration needs of a database, and both databases that it can be shown with.

It must not start maitred or count anything. Called by `maitred.demo.show` and `maitred.demo.watch`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol, Self

from maitred.model import Dialect

from . import load
from .mysql import PrivateMariadb, client_rows
from .postgres import DemoError, EmbeddedPostgres, psql_rows

DATABASE = "demo"
ROLE = "demo"
# Fewer than the clients by far: the database alone would refuse most of them.
MAX_CONNECTIONS = 30


class Stage(Protocol):
    """A database of the demonstration's own; a context manager."""

    dialect: Dialect
    name: str
    preferred_port: int

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    @property
    def folder(self) -> Path:
        """Where its files are, and maitred's may be."""
        ...

    @property
    def port(self) -> int: ...

    def version(self) -> str:
        """As the database says it."""
        ...

    def fill(self) -> None:
        """Make 100,000 rows.

        Raises:
            DemoError: with the words of the program that did it.
        """
        ...

    def servers(self) -> int:
        """Connections of maitred's, as the database counts them."""
        ...

    def load(self, port: int, clients: int, seconds: float) -> list[str | Path]:
        """The command of `clients` that ask at `port`."""
        ...

    def console(self, port: int, command: str) -> list[dict[str, str]]:
        """What maitred's console at `port` answers."""
        ...

    def invitation(self, port: int, database: str) -> str:
        """What to type to reach `database` at `port`."""
        ...


class PostgresStage:
    """The embedded PostgreSQL, with its pgbench and psql."""

    dialect: Dialect = "postgres"
    name = "PostgreSQL"
    preferred_port = 6432

    def __init__(self) -> None:
        settings = {"max_connections": str(MAX_CONNECTIONS)}
        self._postgres = EmbeddedPostgres(database=DATABASE, role=ROLE, settings=settings)

    def __enter__(self) -> Self:
        self._postgres.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.stop()

    @property
    def folder(self) -> Path:
        return self._postgres.folder

    @property
    def port(self) -> int:
        return self._postgres.port

    def version(self) -> str:
        return self._postgres.query("SHOW server_version")[0]["server_version"]

    def fill(self) -> None:
        try:
            load.fill(self._postgres.programs, self.port, ROLE, DATABASE)
        except subprocess.CalledProcessError as failed:
            raise DemoError(f"could not fill the database: {failed.stderr}") from failed

    def servers(self) -> int:
        sql = (
            "SELECT count(*) AS servers FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(self._postgres.query(sql)[0]["servers"])

    def load(self, port: int, clients: int, seconds: float) -> list[str | Path]:
        return [
            *(self._postgres.programs / "pgbench", "-n", "-S", "-P", "1"),
            *("-j", str(min(2, clients)), "-c", str(clients), "-T", str(max(1, round(seconds)))),
            *load.where(port, ROLE, DATABASE),
        ]

    def console(self, port: int, command: str) -> list[dict[str, str]]:
        where = ["-h", "127.0.0.1", "-p", str(port), "-U", ROLE, "-d", "maitred"]
        return psql_rows(self._postgres.programs, where, command)

    def invitation(self, port: int, database: str) -> str:
        program = "psql" if shutil.which("psql") else str(self._postgres.programs / "psql")
        return f"{program} -h 127.0.0.1 -p {port} -U {ROLE} {database}"


class MysqlStage:
    """A private MariaDB of the programs that are installed, asked by clients written in Python."""

    dialect: Dialect = "mysql"
    name = "MariaDB"
    preferred_port = 6033

    def __init__(self) -> None:
        settings = {"max-connections": str(MAX_CONNECTIONS)}
        self._mariadb = PrivateMariadb(database=DATABASE, role=ROLE, settings=settings)

    def __enter__(self) -> Self:
        self._mariadb.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._mariadb.stop()

    @property
    def folder(self) -> Path:
        return self._mariadb.folder

    @property
    def port(self) -> int:
        return self._mariadb.port

    def version(self) -> str:
        return self._mariadb.query("SELECT VERSION() AS version")[0]["version"]

    def fill(self) -> None:
        sql = (
            "CREATE TABLE items (id INT PRIMARY KEY, price INT NOT NULL)"
            " SELECT seq AS id, seq % 1000 AS price FROM seq_1_to_100000"
        )
        self._mariadb.query(sql, database=DATABASE)

    def servers(self) -> int:
        table = "information_schema.processlist"
        sql = f"SELECT COUNT(*) AS servers FROM {table} WHERE user = '{ROLE}'"
        return int(self._mariadb.query(sql)[0]["servers"])

    def load(self, port: int, clients: int, seconds: float) -> list[str | Path]:
        program = [sys.executable, "-m", "maitred.demo.mysql_load"]
        return [*program, str(port), ROLE, DATABASE, str(clients), str(seconds)]

    def console(self, port: int, command: str) -> list[dict[str, str]]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--user", ROLE, "maitred"]
        return client_rows(self._mariadb.client, where, command)

    def invitation(self, port: int, database: str) -> str:
        return f"mariadb -h 127.0.0.1 -P {port} -u {ROLE} {database}"
