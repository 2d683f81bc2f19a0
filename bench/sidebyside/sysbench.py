"""Run sysbench against a target and read what it prints, for both kinds of database.

It must not count the clients' logins: figures come from the window after the first second.
Called by `mysql` and `ratio`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .process import BenchError
from .targets import PASSWORD, ROLE, Target

DATABASE = "sbtest"
ROWS = 100_000
# Spec: sysbench 1.0, `log_histogram` and `report_intermediate` print these lines.
PROGRESS = re.compile(r"\[ \d+s \] thds: \d+ tps: [\d.]+ qps: ([\d.]+)")
QUERIES = re.compile(r"queries: +\d+ +\(([\d.]+) per sec\.\)")
EVENTS = re.compile(r"total number of events: +(\d+)")
P99 = re.compile(r"99th percentile: +([\d.]+)")
LOGINS = """\
function thread_init()
  drv = sysbench.sql.driver()
end
function event()
  local con = drv:connect()
  con:query("SELECT 1")
  con:disconnect()
end
"""


@dataclass(frozen=True)
class Load:
    """What the threads do."""

    script: str
    prepared: bool
    threads: int
    # Transactions per second; 0: as many as they get.
    rate: int = 0

    def __str__(self) -> str:
        """As a row of the table names it."""
        protocol = "prepared" if self.prepared else "text"
        rate = f", {self.rate:,}/s" if self.rate else ""
        return f"{self.script.removeprefix('oltp_')}, {self.threads} clients, {protocol}{rate}"


@dataclass(frozen=True)
class Sample:
    """One run: what clients saw, and what the proxy spent on it."""

    per_second: float
    cpu_us: float
    p99_ms: float


@dataclass(frozen=True)
class Sysbench:
    """sysbench of the system, for one kind of database: "mysql" or "pgsql"."""

    program: Path
    driver: str

    def _command(self, target: Target, script: str | Path, threads: int) -> list[str | Path]:
        where = {"host": "127.0.0.1", "port": target.port, "user": ROLE, "db": DATABASE}
        if self.driver == "mysql":
            where["password"] = PASSWORD
        return [
            *(self.program, script, f"--db-driver={self.driver}"),
            *(f"--{self.driver}-{name}={value}" for name, value in where.items()),
            *("--tables=1", f"--table-size={ROWS}", "--rand-type=uniform", "--percentile=99"),
            f"--threads={threads}",
        ]

    def fill(self, target: Target) -> None:
        """Make the table that all scripts use."""
        self._run([*self._command(target, "oltp_read_write", 1), "prepare"], target)

    def logins(self, target: Target, folder: Path, *, threads: int, seconds: int) -> Sample:
        """Connect, ask once, leave, over and over; `cpu_us` is of one of these."""
        script = folder / "logins.lua"
        script.write_text(LOGINS)
        before = target.cpu_ns()
        command = [*self._command(target, script, threads), f"--time={seconds}", "run"]
        text = self._run(command, target)
        spent_ns = target.cpu_ns() - before
        count, p99 = EVENTS.search(text), P99.search(text)
        if count is None or p99 is None or int(count[1]) == 0:
            raise BenchError(f"sysbench printed no figures:\n{text[-800:]}")
        logins = int(count[1])
        return Sample(logins / seconds, spent_ns / 1000 / logins, float(p99[1]))

    def sample(self, target: Target, load: Load, *, seconds: int) -> Sample:
        """Run `load` for `seconds`, one more of them as warm-up."""
        command = [
            *self._command(target, load.script, load.threads),
            *(f"--db-ps-mode={'auto' if load.prepared else 'disable'}", "--report-interval=1"),
            *(f"--time={seconds + 1}", f"--rate={load.rate}", "run"),
        ]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        ) as running:  # fmt: skip
            try:
                window = _Window(target)
                assert running.stdout is not None
                for line in running.stdout:
                    window.feed(line)
            finally:
                running.kill()
        return window.close(load)

    def _run(self, command: list[str | Path], target: Target) -> str:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            words = (done.stdout + done.stderr).strip()[-800:]
            raise BenchError(f"sysbench at {target.name}: {words}")
        return done.stdout


class _Window:
    """Counts queries and CPU between the first and the last progress line."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)
        self._queries = 0.0
        self._text: list[str] = []

    def feed(self, line: str) -> None:
        self._text.append(line)
        match = PROGRESS.match(line)
        if match is None:
            return
        now = (time.monotonic(), self._target.cpu_ns())
        if self._first is None:
            self._first = now
        else:
            self._queries += float(match[1]) * (now[0] - self._last[0])
        self._last = now

    def close(self, load: Load) -> Sample:
        text = "".join(self._text)
        p99 = P99.search(text)
        if self._first is None or self._queries <= 0 or p99 is None or "FATAL" in text:
            raise BenchError(f"sysbench, {load}, at {self._target.name}: {text[-800:]}")
        elapsed_s = self._last[0] - self._first[0]
        spent_ns = self._last[1] - self._first[1]
        return Sample(
            self._queries / elapsed_s, spent_ns / 1000 / self._queries, float(p99[1])
        )  # fmt: skip


def sysbench(driver: str) -> Sysbench:
    """Raises: BenchError: sysbench is not installed."""
    found = shutil.which("sysbench")
    if found is None:
        raise BenchError("sysbench is not installed: apt-get install sysbench")
    return Sysbench(Path(found), driver)
