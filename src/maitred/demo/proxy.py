"""maitred itself, as a user would start it: `maitred serve -c file` in a process of its own.

It must not reach into the running process; what it wants to know it asks at the console.
Called by `maitred.demo`.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from .postgres import DemoError, free_port
from .stage import DATABASE, ROLE, Stage

CONFIGURATION = """\
[listen]
{dialect} = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin_port}"

[pool]
mode = "transaction"
size = {servers}
queue_timeout = "60s"

[databases.{database}]
url = "{dialect}://{role}@127.0.0.1:{database_port}/{database}"

[auth]
method = "trust"
mysql_method = "trust"

[users.{role}]
admin = true

[limits]
clients = {clients}
"""


class Proxy:
    """One maitred in front of one database; use it as a context manager."""

    def __init__(self, stage: Stage, *, servers: int, clients: int) -> None:
        self.port = free_port(stage.preferred_port)
        self.admin_port = free_port()
        self.file = stage.folder / "maitred.toml"
        self._log = stage.folder / "maitred.log"
        self._stage = stage
        self._process: subprocess.Popen[bytes] | None = None
        self.file.write_text(
            CONFIGURATION.format(
                dialect=stage.dialect,
                port=self.port,
                admin_port=self.admin_port,
                servers=servers,
                database=DATABASE,
                role=ROLE,
                database_port=stage.port,
                # Why more: the console, and the client that the report invites to.
                clients=clients + 100,
            )
        )

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "maitred", "serve", "-c", self.file],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._await_ready(15.0)
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

    def _await_ready(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while self.is_running and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise DemoError(f"maitred did not start:\n{self.last_log()}")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def last_log(self) -> str:
        """The end of what maitred logged."""
        return self._log.read_text(errors="replace")[-2000:].strip()

    def console(self, command: str) -> list[dict[str, str]]:
        """Rows that the console answers.

        Raises:
            DemoError: with maitred's message.
        """
        return self._stage.console(self.port, command)

    def stop(self) -> None:
        """End this maitred; clients that are still there are not waited for."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            process.send_signal(number)
            try:
                process.wait(5)
                return
            except subprocess.TimeoutExpired:
                continue
