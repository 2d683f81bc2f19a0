"""A real MySQL of the tests' own, where one can be had: from `make mysql`, or installed.

Never touches a database that it did not create; everything is in a temporary folder.
Tests ask for `mysql` (one per run, must be left running); without a server they say so and are
left out, which the head of the run announces.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fix_mariadb import PASSWORD, MariaDB, remove_mariadb
from fix_postgres import temporary_folder
from fix_processes import free_port

# What `make mysql` unpacks.
UNPACKED = Path(__file__).parents[1] / ".venv" / "state" / "mysql" / "root"
MISSING = "no MySQL server here: `make mysql` gets one, MAITRED_TEST_MYSQLD names one"

_SHA2 = f"identified with caching_sha2_password by '{PASSWORD}'"
_USERS = {
    "app": _SHA2,
    "other": _SHA2,
    "app_sha2": _SHA2,
    "app_empty": "identified with caching_sha2_password by ''",
    "app_tls": f"{_SHA2} require ssl",
    "app_x509": f"{_SHA2} require x509",
    "reader": _SHA2,
    "replicator": _SHA2,
}


@dataclass
class MySQL(MariaDB):
    """One MySQL server; what may be done to it is what may be done to MariaDB."""

    kind: str = "mysql"

    def plugins(self) -> list[str]:
        return []

    def users(self) -> dict[str, str]:
        return _USERS

    def grants(self) -> list[str]:
        return [
            "grant reload, process, backup_admin, replication client on *.* to app@'%'",
            "grant select on shop.* to reader@'%'",
            "grant select on shop.* to replicator@'%'",
            "grant replication slave, replication client on *.* to replicator@'%'",
        ]

    def command(self) -> list[str]:
        found = mysqld()
        if found is None:
            raise RuntimeError(MISSING)
        return found

    def options(self) -> dict[str, Any]:
        others = {"innodb-log-file-size", "innodb-data-file-path", "innodb-doublewrite",
                  "aria-pagecache-buffer-size"}  # fmt: skip
        found = {name: value for name, value in super().options().items() if name not in others}
        return (
            found
            | _places()
            | {
                "innodb-redo-log-capacity": "16M",
                "mysqlx": 0,
                "performance-schema": 0,
                "secure-file-priv": "",
            }
        )

    def initialize(self) -> list[str]:
        places = [f"--{name}={value}" for name, value in _places().items()]
        return [*self.command(), "--no-defaults", "--initialize-insecure",
                f"--datadir={self.data}",
                "--innodb-redo-log-capacity=16M", *places]  # fmt: skip


@cache
def mysqld() -> list[str] | None:
    """How a MySQL server is started here; None where there is none.

    Why a list: an unpacked one needs the C library that lies beside it.
    """
    named = os.environ.get("MAITRED_TEST_MYSQLD")
    if named:
        return named.split()
    loaders = sorted(UNPACKED.glob("usr/lib*/ld-linux-*.so.*"))
    if loaders:
        libraries = ":".join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu*")))
        server = str(UNPACKED / "usr/sbin/mysqld")
        return [str(loaders[0]), "--library-path", libraries, server]
    installed = shutil.which("mysqld", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    # Why asked: MariaDB answers to that name, too.
    if installed and "MariaDB" not in _says([installed]):
        return [installed]
    return None


def version() -> str:
    """What `mysqld --version` says, or how to get one."""
    found = mysqld()
    return _says(found).split("/")[-1] if found else MISSING


def _says(command: list[str]) -> str:
    told = [*command, "--no-defaults", "--version"]
    return subprocess.run(told, capture_output=True, text=True, check=False).stdout.strip()


def _places() -> dict[str, Path]:
    """Where an unpacked server finds its own files."""
    told = mysqld() or []
    server = next((Path(part) for part in told if part.endswith("/sbin/mysqld")), None)
    if server is None or server.parent == Path("/usr/sbin"):
        return {}
    usr = server.parents[1]
    return {
        "basedir": usr,
        "lc-messages-dir": usr / "share/mysql",
        "character-sets-dir": usr / "share/mysql/charsets",
        "plugin-dir": usr / "lib/mysql/plugin",
    }


def create_mysql(**settings: Any) -> MySQL:
    """A server of one's own; `settings` are options of mysqld, `_` for `-`, None for a flag."""
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    server = MySQL(temporary_folder(), free_port(), named)
    try:
        return server.create()
    except BaseException:
        remove_mariadb(server)
        raise


@pytest.fixture(scope="session")
def _shared_mysql() -> Iterator[MySQL]:
    if mysqld() is None:
        pytest.skip(MISSING)
    server = create_mysql()
    yield server
    remove_mariadb(server)


@pytest.fixture
def mysql(_shared_mysql: MySQL) -> MySQL:
    """The MySQL of the whole run, without anybody's connections."""
    _shared_mysql.kill_all()
    return _shared_mysql


@pytest.fixture
def own_mysql() -> Iterator[MySQL]:
    """A MySQL that the test may stop, restart or crash."""
    if mysqld() is None:
        pytest.skip(MISSING)
    server = create_mysql()
    yield server
    server.stop(signal.SIGKILL)
    remove_mariadb(server)
