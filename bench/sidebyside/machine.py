"""Facts about the machine and the versions that were compared.

It must not guess: what cannot be found out is left out.
Called by `bench/run.py`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import time
from pathlib import Path

from .targets import Site, maitred_program, pgbouncer_program


def facts(site: Site) -> dict[str, str]:
    """What stands above the table and in the JSON."""
    found = {
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "postgresql": site.postgres.query("SHOW server_version")[0]["server_version"],
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
    if "pgbouncer" in site.names:
        found["pgbouncer"] = _first_line([str(pgbouncer_program()), "--version"])
    if "maitred" in site.names:
        found["maitred"] = _first_line([str(maitred_program()), "--version"])
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
            found["commit"] = _first_line(command)
    return found


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def _processor() -> str:
    match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()


def _memory() -> str:
    match = re.search(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    return f"{int(match[1]) / 1024**2:.0f} GiB" if match else ""
