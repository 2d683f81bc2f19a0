"""Child processes that cannot outlive the test run, free ports, and waiting for a condition.

Knows nothing of databases or of maitred, and never ends a process that it did not start.
Called by the other `fix_*` plug-ins and by tests that need a deadline.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# Why: generous, because it only guards against hanging; no test measures time with it.
DEADLINE_S = float(os.environ.get("MAITRED_TEST_DEADLINE", "30"))

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def eventually(
    probe: Callable[[], T],
    *,
    because: str = "the condition did not become true",
    within_s: float = DEADLINE_S,
    every_s: float = 0.05,
) -> T:
    """Call `probe` until it returns something true, and return that.

    Raises:
        AssertionError: still false (or still raising AssertionError) after `within_s`.
    """
    deadline = time.monotonic() + within_s
    last: Any = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{because} (within {within_s:g} s; last seen: {last!r})")
        time.sleep(every_s)


def settled(probe: Callable[[], T], *, for_s: float = 0.5) -> T:
    """Return what `probe` returns once that has stayed the same for a while."""
    seen, since = probe(), time.monotonic()
    while time.monotonic() - since < for_s:
        time.sleep(0.05)
        if (now := probe()) != seen:
            seen, since = now, time.monotonic()
    return seen


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody uses at this moment."""
    return free_ports(1, host)[0]


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """As many TCP ports, no two the same."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found: list[int] = []
    for port in itertools.islice(_own_ports(), 20_000):
        with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free port is left")


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports that this process may take, over and over: those first that it took long ago."""
    # Why below 32768: from there on the kernel gives them to connections that go out. Why a part:
    # what another process of this run has found may not listen yet.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = list(range(10_000 + number, 32_000, count))
    # Why not the usual one: hypothesis seeds that.
    random.SystemRandom().shuffle(ports)
    return itertools.cycle(ports)


def has_ipv6() -> bool:
    """Whether ::1 can be bound here (containers often lack it)."""
    try:
        free_port("::1")
    except OSError:
        return False
    return True


def start_bound(
    arguments: list[str], *, log: Path, parting_signal: int = signal.SIGKILL, **popen: Any
) -> subprocess.Popen[bytes]:
    """Start a child which the kernel ends when this process dies; output is appended to `log`."""
    parent = os.getpid()

    # Why safe with threads: it only makes two system calls and takes no lock.
    def bind_to_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(parting_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    with log.open("ab") as out:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=bind_to_parent,  # noqa: PLW1509
            **popen,
        )


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    statm = Path(f"/proc/{pid}/statm").read_text()
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_descriptors(pid: int) -> int:
    """How many descriptors a process holds."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
