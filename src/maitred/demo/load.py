"""The thousand clients: pgbench, or what prints as it does; many connections, one short read each.

It must not know which proxy is under it; it sees a command and what that prints.
Called by `maitred.demo`.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRESS = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+) ms")
TRANSACTIONS = re.compile(r"number of transactions actually processed: (\d+)")
FAILED = re.compile(r"number of failed transactions: (\d+)")
RATE = re.compile(r"tps = ([\d.]+)")
LATENCY = re.compile(r"latency average = ([\d.]+) ms")


@dataclass
class LoadResult:
    """What the clients saw."""

    queries: int = 0
    per_second: float = 0.0
    latency_ms: float = 0.0
    failed: int = 0
    errors: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        return self.queries > 0 and not self.failed and not self.errors


def fill(folder: Path, port: int, role: str, database: str) -> None:
    """Create pgbench's tables, 100,000 rows.

    Raises:
        subprocess.CalledProcessError: pgbench's own words are in `stderr`.
    """
    subprocess.run(
        [folder / "pgbench", "-i", "-q", "-s", "1", *where(port, role, database)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )


class Load:
    """Many connections open at once, each asking as fast as it is answered."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._name = Path(command[0]).name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._errors: list[str] = []

    def run(self, on_progress: Callable[[float, float, float], None]) -> LoadResult:
        """Wait for the end; `on_progress` gets seconds, queries per second, milliseconds."""
        out, err = self._process.stdout, self._process.stderr
        assert out is not None and err is not None
        reader = threading.Thread(target=self._read_progress, args=(err, on_progress), daemon=True)
        reader.start()
        text = out.read()
        status = self._process.wait()
        reader.join()
        return self._result(text, status)

    def _read_progress(
        self, lines: Iterable[str], on_progress: Callable[[float, float, float], None]
    ) -> None:
        for line in lines:
            match = PROGRESS.match(line)
            if match:
                on_progress(float(match[1]), float(match[2]), float(match[3]))
            elif "error" in line or "fatal" in line.lower() or "aborted" in line:
                self._errors.append(line.strip())

    def _result(self, text: str, status: int) -> LoadResult:
        def number(pattern: re.Pattern[str]) -> float:
            match = pattern.search(text)
            return float(match[1]) if match else 0.0

        if status != 0 and not self._errors:
            self._errors.append(f"{self._name} ended with status {status}")
        return LoadResult(
            queries=int(number(TRANSACTIONS)),
            per_second=number(RATE),
            latency_ms=number(LATENCY),
            failed=int(number(FAILED)),
            errors=self._errors,
        )

    def stop(self) -> None:
        """End the clients now, if they still run."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def where(port: int, role: str, database: str) -> list[str]:
    """The options by which PostgreSQL's programs find a database of this machine."""
    return ["-h", "127.0.0.1", "-p", str(port), "-U", role, database]
