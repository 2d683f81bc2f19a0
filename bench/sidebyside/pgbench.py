"""Run pgbench against a target and read what it prints and logs.

It must not count the clients' logins: figures come from the window after the first second.
Called by the measures.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .process import BenchError
from .targets import DATABASE, PASSWORD, Target

PROGRESS = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps")
RATE = re.compile(r"tps = ([\d.]+)")
# Why: one transaction in four is enough for a p99 and costs pgbench little.
SAMPLING = 0.25


@dataclass(frozen=True)
class Sample:
    """One run: what clients saw, and what the proxy spent on it."""

    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Pgbench:
    """pgbench of the embedded package."""

    programs: Path

    def _program(self, target: Target) -> Path:
        if not target.tls:
            return self.programs / "pgbench"
        # Why: the embedded package is built without TLS. Debian's pgbench has it.
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
        return debian[-1] if debian else self.programs / "pgbench"

    def _environment(self, target: Target) -> dict[str, str]:
        mode = "require" if target.tls else "disable"
        found = {**os.environ, "PGSSLMODE": mode, "PGGSSENCMODE": "disable", "PGPASSWORD": PASSWORD}
        if target.tls and self._program(target).parent == self.programs:
            found["LD_PRELOAD"] = str(_libpq_with_tls())
        return found

    def _where(self, target: Target) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(target.port), "-U", target.role, DATABASE]

    def fill(self, target: Target, scale: int) -> None:
        """Create pgbench's tables, 100,000 rows per unit of scale."""
        self._run(["-i", "-q", "-s", str(scale)], target)

    def _run(self, options: list[str], target: Target) -> str:
        done = subprocess.run(
            [self._program(target), *options, *self._where(target)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=self._environment(target),
        )
        if done.returncode != 0:
            raise BenchError(f"pgbench at {target.name}: {done.stderr.strip()[-800:]}")
        return done.stdout

    def logins(self, target: Target, *, clients: int, seconds: int) -> tuple[float, float]:
        """Logins per second, and the target's CPU microseconds for each.

        Every transaction opens a connection, asks `SELECT 1` and closes it.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write("SELECT 1;\n")
            script.flush()
            options = ["-n", "-C", "-f", script.name, "-c", str(clients), "-j", "2"]
            before = target.cpu_ns()
            text = self._run([*options, "-T", str(seconds)], target)
            spent = target.cpu_ns() - before
        rate = RATE.search(text)
        count = re.search(r"actually processed: (\d+)", text)
        if rate is None or count is None:
            raise BenchError(f"pgbench printed no rate:\n{text}")
        return float(rate[1]), spent / 1000 / max(1, int(count[1]))

    def sample(self, target: Target, *, protocol: str, clients: int, seconds: int) -> Sample:
        """Select-only load of `clients` for `seconds`, one more of them as warm-up."""
        return self._sample(target, ["-S", "-M", protocol], clients, seconds)

    def script(
        self,
        target: Target,
        script: str,
        *,
        clients: int,
        seconds: int,
        variables: Mapping[str, int],
    ) -> Sample:
        """As `sample`, with a script of pgbench's; `cpu_us` is of one run of it."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            options = [f"-D{name}={value}" for name, value in variables.items()]
            return self._sample(target, ["-f", file.name, *options], clients, seconds)

    def _sample(self, target: Target, load: list[str], clients: int, seconds: int) -> Sample:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *(self._program(target), "-n", *load),
                *("-c", str(clients), "-j", str(min(2, clients)), "-T", str(seconds + 1)),
                *("-P", "1", "--progress-timestamp"),
                *("-l", "--sampling-rate", str(SAMPLING), "--log-prefix", f"{folder}/log"),
                *self._where(target),
            ]
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment(target),
            ) as running:
                try:
                    window = _Window(target)
                    assert running.stderr is not None
                    for line in running.stderr:
                        window.feed(line)
                finally:
                    running.kill()
            return window.close(Path(folder), clients)


def _libpq_with_tls() -> Path:
    """The libpq that psycopg's binary package brings, to be put under a pgbench without TLS."""
    package = importlib.util.find_spec("psycopg_binary")
    if package is not None and package.origin is not None:
        libraries = Path(package.origin).parents[1] / "psycopg_binary.libs"
        if found := sorted(libraries.glob("libpq-*")):
            return found[-1]
    raise BenchError(
        "no pgbench with TLS here: apt-get install postgresql, or pip install 'psycopg[binary]'"
    )


class _Window:
    """Counts queries and CPU between the first and the last progress line."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)
        self._queries = 0.0
        self._text: list[str] = []

    def feed(self, line: str) -> None:
        match = PROGRESS.match(line)
        if match is None:
            self._text.append(line)
            return
        now = (float(match[1]), self._target.cpu_ns())
        if self._first is None:
            self._first = now
        else:
            self._queries += float(match[2]) * (now[0] - self._last[0])
        self._last = now

    def close(self, folder: Path, clients: int) -> Sample:
        errors = [line for line in self._text if "error" in line or "abort" in line]
        if self._first is None or self._queries <= 0 or errors:
            said = "".join(self._text)[-800:]
            raise BenchError(f"pgbench with {clients} clients at {self._target.name}: {said}")
        elapsed_s = self._last[0] - self._first[0]
        spent_ns = self._last[1] - self._first[1]
        latencies = sorted(_latencies_ms(folder, self._first[0]))
        return Sample(
            per_second=self._queries / elapsed_s,
            cpu_us=spent_ns / 1000 / self._queries,
            p50_ms=_quantile(latencies, 0.50),
            p99_ms=_quantile(latencies, 0.99),
        )


def _latencies_ms(folder: Path, since_s: float) -> list[float]:
    # Spec: pgbench manual, "Per-Transaction Logging": client, transaction, microseconds, script,
    # seconds and microseconds of the end.
    found: list[float] = []
    for file in folder.iterdir():
        for line in file.read_text().splitlines():
            fields = line.split()
            if len(fields) >= 6 and int(fields[4]) >= since_s:
                found.append(int(fields[2]) / 1000)
    return found


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
