"""A throw-away MariaDB out of the programs that are installed on this machine.

It must not touch another MariaDB or MySQL of this machine: own folder, free port, own process
handle. Called by `maitred.demo` and by the programs in `bench/`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from .postgres import DemoError, free_port

SUPERUSER = "root"
# Why: daemons are in folders that a plain user's PATH has not.
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/mysql/bin")


def program(name: str) -> Path:
    """Where one of MariaDB's programs is.

    Raises:
        DemoError: it is not installed.
    """
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS]))
    if found is None:
        raise DemoError(
            f"{name} is missing: install MariaDB (Debian and Ubuntu: apt-get install"
            " mariadb-server; Fedora: dnf install mariadb-server; macOS: brew install mariadb)"
        )
    return Path(found)


class PrivateMariadb:
    """One MariaDB in a folder of its own; use it as a context manager.

    Args:
        database: created at start, all rights to `role`.
        role: the plain user that may log in over TCP without a password.
        settings: options of mariadbd by name; "" for a flag.
        first: SQL for the first start, a statement a line.
    """

    def __init__(
        self,
        *,
        database: str,
        role: str,
        settings: Mapping[str, str] | None = None,
        first: tuple[str, ...] = (),
    ) -> None:
        self.database = database
        self.role = role
        self.settings = dict(settings or {})
        self.first = first
        self.port = 0
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._daemon = program("mariadbd")
        self._install = program("mariadb-install-db")
        self.client = program("mariadb")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise DemoError("MariaDB is not running")
        return self._process.pid

    def start(self) -> None:
        """Create the folder, initialise it and wait until MariaDB answers.

        Raises:
            DemoError: with the end of MariaDB's own log.
        """
        # Why /tmp: the path of a Unix socket may have 107 bytes, and TMPDIR is often longer.
        self.folder = Path(tempfile.mkdtemp(prefix="maitred-my-", dir="/tmp"))
        self._initialise()
        self.port = free_port()
        self._launch()
        self._await_ready(30.0)

    def _initialise(self) -> None:
        done = subprocess.run(
            [
                *(self._install, "--no-defaults", f"--datadir={self.folder / 'data'}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db", *_as_root()),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip()[-800:]
            raise DemoError(f"mariadb-install-db failed in {self.folder}: {words}")

    def _launch(self) -> None:
        first = self.folder / "first.sql"
        account = f"'{self.role}'@'127.0.0.1'"
        lines = [
            f"CREATE DATABASE `{self.database}`;",
            f"CREATE USER {account} IDENTIFIED BY '';",
            f"GRANT ALL ON `{self.database}`.* TO {account};",
            *self.first,
        ]
        first.write_text("\n".join(lines) + "\n")
        options = {
            "datadir": str(self.folder / "data"),
            "socket": str(self.folder / "socket"),
            "pid-file": str(self.folder / "pid"),
            "bind-address": "127.0.0.1",
            "port": str(self.port),
            "init-file": str(first),
            "skip-name-resolve": "",
            "innodb-flush-log-at-trx-commit": "0",
            "character-set-server": "utf8mb4",
            **self.settings,
        }
        told = [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._daemon, "--no-defaults", *told, *_as_root()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                # Why: Ctrl-C is for us; we stop MariaDB in order.
                start_new_session=True,
            )

    def _await_ready(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while self._process is not None and self._process.poll() is None:
            with contextlib.suppress(DemoError):
                self.query("SELECT 1")
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        log = (self.folder / "log").read_text(errors="replace")
        raise DemoError(f"the private MariaDB did not start:\n{log[-2000:]}")

    def query(self, sql: str, *, database: str = "mysql") -> list[dict[str, str]]:
        """Run `sql` as the superuser over the private socket; rows by column name.

        Raises:
            DemoError: with MariaDB's message.
        """
        where = ["--socket", str(self.folder / "socket"), "--user", SUPERUSER, database]
        return client_rows(self.client, where, sql)

    def stop(self) -> None:
        """Stop this MariaDB, and no other, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                process.send_signal(number)
                try:
                    process.wait(20)
                    break
                except subprocess.TimeoutExpired:
                    continue
        if self.folder.name.startswith("maitred-my-"):
            shutil.rmtree(self.folder, ignore_errors=True)


def client_rows(client: Path, where: list[str], sql: str) -> list[dict[str, str]]:
    """What the program `mariadb` prints for `sql` at `where` (its options): rows by column name.

    Raises:
        DemoError: with the server's message.
    """
    try:
        done = subprocess.run(
            [client, "--no-defaults", "--batch", "--connect-timeout=10", *where, "-e", sql],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise DemoError(f"no answer within 30 s to: {sql}") from late
    if done.returncode != 0:
        raise DemoError(done.stderr.strip() or f"mariadb ended with {done.returncode}")
    rows = csv.DictReader(io.StringIO(done.stdout), delimiter="\t", quoting=csv.QUOTE_NONE)
    return list(rows)


def _as_root() -> list[str]:
    """MariaDB refuses to run as root unless it is told to."""
    return ["--user=root"] if os.geteuid() == 0 else []
