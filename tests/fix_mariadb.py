"""A real MariaDB of the tests' own, from the packages of the distribution.

Never touches a database that it did not create; everything is in a temporary folder.
Tests ask for `mariadb` (one per run, must be left running) or `own_mariadb` (may be broken).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest

from fix_certificates import Authority
from fix_postgres import temporary_folder
from fix_processes import eventually, free_port, start_bound

PASSWORD = "opensesame"

# Why: the SQL of each user is fixed here so that tests can name a user by how it logs in.
USERS = {
    "app": f"identified via mysql_native_password using password('{PASSWORD}')",
    "other": f"identified via mysql_native_password using password('{PASSWORD}')",
    "app_native": f"identified via mysql_native_password using password('{PASSWORD}')",
    "app_ed25519": f"identified via ed25519 using password('{PASSWORD}')",
    "app_empty": "identified via mysql_native_password using ''",
    "app_tls": f"identified via mysql_native_password using password('{PASSWORD}') require ssl",
    "app_x509": f"identified via mysql_native_password using password('{PASSWORD}') require x509",
    "reader": f"identified via mysql_native_password using password('{PASSWORD}')",
    "replicator": f"identified via mysql_native_password using password('{PASSWORD}')",
}
DATABASES = ("shop", "warehouse", "served")


def program(name: str) -> str:
    """Where one of MariaDB's programs is.

    Raises:
        RuntimeError: it is not installed; says what to install.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"{name} is missing: on Debian, apt-get install mariadb-server")
    return found


@dataclass
class MariaDB:
    """One MariaDB server: its folder, its port, and what may be done to it."""

    folder: Path
    port: int
    settings: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    kind: str = "mariadb"

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def scratch(self) -> Path:
        return self.folder / "tmp"

    @property
    def log(self) -> Path:
        return self.folder / "mariadb.log"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def authority(self) -> Path:
        """The certificate of who signed the server's."""
        return self.folder / "tls" / "authority.pem"

    @property
    def certificate(self) -> Path:
        """What the server shows; its key lies beside it."""
        return self.folder / "tls" / "server.crt"

    def create(self) -> MariaDB:
        """A copy of the installed template; leaves it running."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(_template(type(self)), self.folder, dirs_exist_ok=True)
        self.start()
        return self

    def install(self) -> None:
        """A data folder, certificates, users and databases; leaves it stopped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [*self.initialize(), *_as_root()], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"the data folder was not made:\n{done.stdout}\n{done.stderr}")
        signer = Authority(self.folder / "tls", "authority")
        signer.server("server")
        signer.issue("app_x509", stem="client")
        # Why: root may come over TCP, where no name is resolved.
        first = self.folder / "first.sql"
        first.write_text(
            "create user if not exists root@'127.0.0.1';\n"
            "grant all on *.* to root@'127.0.0.1' with grant option;\n"
        )
        self.start(**{"init-file": first})
        with self.connect("root", None, password="") as admin, admin.cursor() as cursor:
            for statement in [*self.plugins(), *self.accounts()]:
                cursor.execute(statement)
        self.stop()
        first.unlink()

    def initialize(self) -> list[str]:
        """The command that makes the data folder."""
        return [program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
                "--innodb-log-file-size=4M",
                "--innodb-data-file-path=ibdata1:2M:autoextend"]  # fmt: skip

    def plugins(self) -> list[str]:
        """The statements that load what the server does not bring by itself."""
        return ["install soname 'auth_ed25519'"]

    def accounts(self) -> list[str]:
        """The statements that make users and databases."""
        made = [f"create database {name}" for name in DATABASES]
        for user, login in self.users().items():
            made.append(f"create user {user}@'%' {login}")
            if user not in ("reader", "replicator"):
                made += [f"grant all on {name}.* to {user}@'%'" for name in DATABASES]
        return made + self.grants()

    def users(self) -> dict[str, str]:
        """How each user logs in."""
        return USERS

    def grants(self) -> list[str]:
        """Rights beyond the databases."""
        return [
            # Why: FLUSH TABLES WITH READ LOCK, BACKUP LOCK, and to see all threads.
            "grant reload, process, binlog monitor on *.* to app@'%'",
            "grant select on shop.* to reader@'%'",
            "grant select on shop.* to replicator@'%'",
            "grant replication slave, binlog monitor on *.* to replicator@'%'",
        ]

    def command(self) -> list[str]:
        """How the server is started."""
        return [program("mariadbd")]

    def options(self) -> dict[str, Any]:
        """Its settings by their names on the command line; None for a flag."""
        return {
            "datadir": self.data,
            "port": self.port,
            "bind-address": "127.0.0.1",
            "socket": self.socket,
            "pid-file": self.folder / "pid",
            # Why: who starts removes what looks like a temporary table there, whoever's it is.
            "tmpdir": self.scratch,
            "skip-name-resolve": None,
            "max-connections": 300,
            "innodb-log-file-size": "4M",
            "innodb-data-file-path": "ibdata1:2M:autoextend",
            "innodb-buffer-pool-size": "32M",
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-doublewrite": 0,
            "aria-pagecache-buffer-size": "8M",
            "key-buffer-size": "1M",
            "max-allowed-packet": "64M",
            "character-set-server": "utf8mb4",
            "default-time-zone": "+00:00",
            "local-infile": 1,
            # Why: for the test of a binary log passed through.
            "log-bin": self.folder / "binlog",
            "server-id": 1,
            # Why: with a binary log, only administrators may make functions otherwise.
            "log-bin-trust-function-creators": 1,
            "ssl-ca": self.authority,
            "ssl-cert": self.folder / "tls" / "server.crt",
            "ssl-key": self.folder / "tls" / "server.key",
        }

    def start(self, **once: Any) -> None:
        """Start and wait until it accepts connections; `once` are settings for this time."""
        self.scratch.mkdir(exist_ok=True)
        chosen = self.options() | self.settings | once
        told = [f"--{name}" if value is None else f"--{name}={value}"
                for name, value in chosen.items()]  # fmt: skip
        self.process = start_bound(
            [*self.command(), "--no-defaults", *told, *_as_root()],
            log=self.log, cwd=self.folder,
        )  # fmt: skip
        try:
            eventually(self.is_ready)
        except AssertionError as late:
            raise AssertionError(f"it did not start:\n{self.log.read_text()}") from late

    def is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended:\n{self.log.read_text()}")
        try:
            self.connect("root", None, password="").close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop in order, or by the signal given, and wait for the end."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        process.wait(60)

    def restart(self, number: int = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    def place(self, user: str = "app", database: str | None = "shop") -> dict[str, Any]:
        """Keyword arguments for PyMySQL, aiomysql, asyncmy."""
        found = {"host": "127.0.0.1", "port": self.port, "user": user, "password": PASSWORD}
        return found | ({"database": database} if database else {})

    def connect(
        self, user: str = "app", database: str | None = "shop", **more: Any
    ) -> pymysql.Connection[Any]:
        """A direct connection, around any proxy; autocommit."""
        place = {"autocommit": True} | self.place(user, database) | more
        return pymysql.connect(**place)

    def rows(self, sql: str, *parameters: Any, database: str | None = "shop") -> list[Any]:
        """Run one statement as root on a connection of its own."""
        with (
            self.connect("root", database, password="") as admin,
            admin.cursor() as cursor,
        ):
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def value(self, sql: str, *parameters: Any, database: str | None = "shop") -> Any:
        return self.rows(sql, *parameters, database=database)[0][0]

    def threads(self, *users: str) -> list[int]:
        """Connection ids of clients, oldest first; of the users named, or of all but root."""
        named = f"user in ({', '.join(map(repr, users))})" if users else "user <> 'root'"
        found = self.rows(
            f"select id from information_schema.processlist where {named} "
            "and user not in ('system user', 'event_scheduler') order by id",
            database=None,
        )
        return [thread for (thread,) in found]

    def kill(self, *threads: int) -> None:
        """End connections as an administrator does."""
        for thread in threads:
            try:
                self.rows(f"kill connection {thread}", database=None)
            except pymysql.err.OperationalError as error:
                # Why: 1094 says that it has gone by itself since it was asked for.
                if error.args[0] != 1094:
                    raise

    def kill_all(self) -> None:
        self.kill(*self.threads())

    def clear(self) -> None:
        """Drop whatever tests made in the databases; the databases stay, so nobody loses one."""
        named = ", ".join(map(repr, DATABASES))
        found = self.rows(
            "select if(table_type = 'VIEW', 'view', 'table'), table_schema, table_name "
            f"from information_schema.tables where table_schema in ({named}) "
            "union all select routine_type, routine_schema, routine_name "
            f"from information_schema.routines where routine_schema in ({named})",
            database=None,
        )
        for kind, schema, name in found:
            self.rows(f"drop {kind} if exists `{schema}`.`{name}`", database=None)


def _as_root() -> list[str]:
    """MariaDB refuses to run as root unless it is told to."""
    return ["--user=root"] if os.geteuid() == 0 else []


_INSTALLED: dict[type[MariaDB], Path] = {}


def _template(kind: type[MariaDB]) -> Path:
    """The folder of an installed server that is copied for each one started; made once a run."""
    if kind not in _INSTALLED:
        made = kind(temporary_folder(), free_port())
        try:
            made.install()
        except BaseException:
            remove_mariadb(made)
            raise
        stale = [
            *made.folder.glob("binlog*"),
            made.log,
            made.folder / "pid",
            made.data / "auto.cnf",
        ]
        for each in stale:
            each.unlink(missing_ok=True)
        _INSTALLED[kind] = made.folder
    return _INSTALLED[kind]


def version() -> str:
    """What `mariadbd --version` says."""
    try:
        told = [program("mariadbd"), "--no-defaults", "--version"]
    except RuntimeError as missing:
        return str(missing)
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    return done.stdout.strip().replace(told[0], "mariadbd")


def create_mariadb(**settings: Any) -> MariaDB:
    """A server of one's own; `settings` are options of mariadbd, `_` for `-`, None for a flag."""
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    server = MariaDB(temporary_folder(), free_port(), named)
    try:
        return server.create()
    except BaseException:
        remove_mariadb(server)
        raise


def remove_mariadb(server: MariaDB) -> None:
    server.stop(signal.SIGKILL)
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _installed() -> Iterator[None]:
    yield
    for folder in _INSTALLED.values():
        shutil.rmtree(folder, ignore_errors=True)
    _INSTALLED.clear()


@pytest.fixture(scope="session")
def _shared_mariadb() -> Iterator[MariaDB]:
    server = create_mariadb()
    yield server
    remove_mariadb(server)


@pytest.fixture
def mariadb(_shared_mariadb: MariaDB) -> MariaDB:
    """The MariaDB of the whole run, without anybody's connections."""
    _shared_mariadb.kill_all()
    return _shared_mariadb


@pytest.fixture(scope="module")
def _module_mariadb() -> Iterator[MariaDB]:
    server = create_mariadb()
    yield server
    remove_mariadb(server)


@pytest.fixture
def own_mariadb(_module_mariadb: MariaDB) -> MariaDB:
    """A MariaDB that the test may stop, restart or crash; started again for the next test."""
    if _module_mariadb.process is None or _module_mariadb.process.poll() is not None:
        _module_mariadb.process = None
        _module_mariadb.start()
    _module_mariadb.kill_all()
    return _module_mariadb
