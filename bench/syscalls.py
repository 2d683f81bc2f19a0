#!/usr/bin/env python3
"""Count the system calls that each proxy makes per query, with strace.

It must not be used for speed: strace slows everything down, only the counts mean something.
Called by people: `.venv/bin/python bench/syscalls.py --clients 32`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time

from run import site_for
from sidebyside.measure import say
from sidebyside.pgbench import Pgbench
from sidebyside.process import BenchError, raise_descriptor_limit
from sidebyside.targets import Setup, Target

from maitred.demo.postgres import DemoError

# Spec: strace manual, -c: share, seconds, microseconds per call, calls, errors, name.
LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)
SHOWN = 12


def main() -> int:
    parser = argparse.ArgumentParser(description="system calls per query")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--protocol", default="simple", choices=("simple", "extended", "prepared"))
    parser.add_argument("--targets", default="maitred,maitred-epoll,pgbouncer")
    options = parser.parse_args()
    names = tuple(options.targets.split(","))
    if shutil.which("strace") is None:
        say("syscalls: strace is missing: apt-get install strace")
        return 2
    raise_descriptor_limit()
    try:
        with site_for(tuple({name.removesuffix("-epoll") for name in names})) as site:
            pgbench = Pgbench(site.postgres.programs)
            with site.targets(Setup(), names) as targets:
                for target in targets:
                    _count(pgbench, target, options)
    except (BenchError, DemoError) as error:
        say(f"syscalls: {error}")
        return 2
    return 0


def _count(pgbench: Pgbench, target: Target, options: argparse.Namespace) -> None:
    arguments = {"protocol": options.protocol, "clients": options.clients}
    # Why: server connections are opened before the counting starts.
    pgbench.sample(target, **arguments, seconds=2)
    command = ["strace", "-c", "-f", "-q", "-p", str(target.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        time.sleep(0.5)
        sample = pgbench.sample(target, **arguments, seconds=options.seconds)
        strace.send_signal(signal.SIGINT)
        _, text = strace.communicate()
    # Why: the warm-up second is counted by strace too, at about the same rate.
    queries = sample.per_second * (options.seconds + 1)
    calls = sorted(((int(count), name) for count, name in LINE.findall(text)), reverse=True)
    calls = [(count, name) for count, name in calls if name != "total"]
    total = sum(count for count, _ in calls) / queries
    print(f"{target.name}: {total:.2f} system calls per query ({queries:,.0f} queries)")
    for count, name in calls[:SHOWN]:
        print(f"  {count / queries:8.3f}  {name}")


if __name__ == "__main__":
    sys.exit(main())
