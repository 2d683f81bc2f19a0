"""Facts about the machine and the versions that were compared.

It must not guess: what cannot be found out is left out.
Called by `bench/run.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import subprocess
import time
from pathlib import Path

from .targets import Site, maitred_program, pgbouncer_program

ROOT = Path(__file__).parents[2]


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
            found["sources now"] = _first_line(command)
        found["engine"] = engine()
    return found


def engine() -> str:
    """The native engine that is in place: its build, its age, and the start of its hash.

    Why: sources say nothing about it; it may be older than they are, or the one for tests.
    """
    file = next(iter(sorted(ROOT.glob("src/maitred/_engine.abi3.so"))), None)
    if file is None:
        return "not found beside the sources"
    content = file.read_bytes()
    build = "of an unknown build"
    for kept in sorted((ROOT / ".venv" / "state").glob("engine-*.so")):
        if kept.read_bytes() == content:
            build = kept.stem.removeprefix("engine-")
    sources = (ROOT / "engine").glob("*/src/**/*.rs")
    newer = sum(path.stat().st_mtime > file.stat().st_mtime for path in sources)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))
    text = f"{build}, {hashlib.sha256(content).hexdigest()[:12]}, in place since {made}"
    return text + (f", OLDER than {newer} source files" if newer else "")


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def _processor() -> str:
    match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()


def _memory() -> str:
    match = re.search(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    return f"{int(match[1]) / 1024**2:.0f} GiB" if match else ""
