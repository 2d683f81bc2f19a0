"""Processes that the bench starts and what the kernel knows about them.

It must not touch a process that it did not start; each is stopped by its own handle.
Called by `targets` and by the measures.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

from maitred.demo.postgres import ACCOUNT


class BenchError(Exception):
    """A part of the bench cannot run; the text says what to change."""


class Process:
    """A daemon with its output in a file."""

    def __init__(self, arguments: list[str | Path], log: Path, *, drop_root: bool = False) -> None:
        account = ACCOUNT if drop_root and os.geteuid() == 0 else None
        self.name = Path(arguments[0]).name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                user=account,
                group=account,
                extra_groups=[] if account else None,
                # Why: Ctrl-C is for the bench, which then stops its processes in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def await_port(self, port: int, within_s: float = 20.0) -> None:
        """Wait until somebody accepts on `port`.

        Raises:
            BenchError: with the end of the process's log.
        """
        deadline = time.monotonic() + within_s
        while self._popen.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        text = self.log.read_text(errors="replace")[-1500:]
        raise BenchError(f"{self.name} did not come up on port {port}:\n{text}")

    def stop(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._popen.poll() is not None:
                return
            self._popen.send_signal(number)
            try:
                self._popen.wait(5)
            except subprocess.TimeoutExpired:
                continue


def cpu_ns(pid: int) -> int:
    """Nanoseconds that all threads of `pid` have been on a CPU."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # Why: the thread ended between the listing and the reading.
    return total


def resident_bytes(pid: int) -> int:
    """Memory of `pid` that is in RAM now."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"/proc/{pid}/smaps_rollup has no Rss line")


def raise_descriptor_limit() -> int:
    """Let this process and its children open as many files as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20
