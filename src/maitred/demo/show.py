"""The demonstration from first to last line: start everything, drive it, report, clean up.

It must not leave a process or a folder behind, however it ends.
Called by `maitred.demo`, which is what the command line imports.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType

from .load import Load, LoadResult, fill
from .postgres import DemoError, EmbeddedPostgres
from .proxy import PREFERRED_PORT, Proxy
from .watch import Watch

DATABASE = "demo"
ROLE = "demo"
SERVERS = 10
# Fewer than the clients by far: PostgreSQL alone would refuse most of them.
MAX_CONNECTIONS = 30


def run(*, once: bool = False, clients: int = 1000, seconds: float = 5.0) -> int:
    """Show `clients` concurrent clients on ten server connections for some seconds.

    Args:
        once: end after the report instead of staying up until Ctrl-C.
        clients: connections open at once.
        seconds: how long they ask.

    Returns:
        The exit status: 0 only if no client saw an error.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(once=once, clients=clients, seconds=seconds)
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        return 130
    except DemoError as error:
        print(f"maitred demo: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(*, once: bool, clients: int, seconds: float) -> int:
    _raise_descriptor_limit(clients)
    print("starting an embedded PostgreSQL in a temporary folder ...", flush=True)
    settings = {"max_connections": str(MAX_CONNECTIONS)}
    with EmbeddedPostgres(database=DATABASE, role=ROLE, settings=settings) as postgres:
        version = postgres.query("SHOW server_version")[0]["server_version"]
        print(f"PostgreSQL {version} is up, max_connections = {MAX_CONNECTIONS}")
        try:
            fill(postgres.programs, postgres.port, ROLE, DATABASE)
        except subprocess.CalledProcessError as failed:
            raise DemoError(f"could not fill the database: {failed.stderr}") from failed
        proxy = Proxy(
            postgres.folder,
            programs=postgres.programs,
            database=DATABASE,
            role=ROLE,
            database_port=postgres.port,
            servers=SERVERS,
            clients=clients,
        )
        with proxy:
            if proxy.port != PREFERRED_PORT:
                print(f"port {PREFERRED_PORT} is taken, so another free one is used")
            print(f"maitred is up on 127.0.0.1:{proxy.port}, pool size {SERVERS}")
            status = _drive(postgres, proxy, clients=clients, seconds=seconds)
            if not once:
                _stay(proxy)
    return status


def _drive(postgres: EmbeddedPostgres, proxy: Proxy, *, clients: int, seconds: float) -> int:
    print(f"opening {clients:,} clients, then asking for {seconds:g} s:", flush=True)
    load = Load(postgres.programs, proxy.port, ROLE, DATABASE, clients=clients, seconds=seconds)
    try:
        with Watch(postgres, proxy) as watch:
            result = load.run(
                lambda at_s, rate, latency_ms: _progress(watch, at_s, rate, latency_ms)
            )
    finally:
        load.stop()
    if sys.stdout.isatty():
        print()
    if not proxy.is_running:
        raise DemoError(f"maitred ended by itself:\n{proxy.last_log()}")
    _report(postgres, proxy, watch, result)
    return 0 if result.is_clean else 1


def _progress(watch: Watch, at_s: float, rate: float, latency_ms: float) -> None:
    line = (
        f"  {at_s:4.1f} s  {rate:9,.0f} queries/s  {latency_ms:7.1f} ms each"
        f"  {watch.clients:6,} clients on {watch.servers_by_database} server connections"
    )
    end = "\n"
    if sys.stdout.isatty():
        line, end = f"\r{line}  ", ""
    print(line, end=end, flush=True)


def _report(postgres: EmbeddedPostgres, proxy: Proxy, watch: Watch, result: LoadResult) -> None:
    servers = watch.servers_by_database
    rows = [
        ("clients open at once", f"{watch.clients:,}"),
        (
            "server connections used",
            f"{servers} counted by PostgreSQL, {watch.servers_by_maitred} by maitred",
        ),
        ("multiplexing ratio", f"{watch.clients / servers:,.0f} : 1" if servers else "unknown"),
        ("queries", f"{result.queries:,}"),
        ("queries per second", f"{result.per_second:,.0f}"),
        ("latency, average", f"{result.latency_ms:.1f} ms"),
        ("wait for a server", _waits(proxy)),
        ("errors seen by clients", f"{result.failed + len(result.errors)}"),
    ]
    print()
    for name, value in rows:
        print(f"  {name:<26}{value}")
    for error in result.errors[:5]:
        print(f"    {error}")
    program = "psql" if shutil.which("psql") else str(postgres.programs / "psql")
    print(f"\ntry it:   {program} -h 127.0.0.1 -p {proxy.port} -U {ROLE} {DATABASE}")
    print(f"console:  {program} -h 127.0.0.1 -p {proxy.port} -U {ROLE} maitred", flush=True)


def _waits(proxy: Proxy) -> str:
    for row in proxy.console("SHOW WAITS"):
        if row["database"] == DATABASE:
            p50, p99 = (int(row[column]) / 1000 for column in ("p50_us", "p99_us"))
            return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    return "nobody waited"


def _stay(proxy: Proxy) -> None:
    print("\nrunning until Ctrl-C", flush=True)
    try:
        while proxy.is_running:
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nstopping", flush=True)
        return
    raise DemoError(f"maitred ended by itself:\n{proxy.last_log()}")


def _raise_descriptor_limit(clients: int) -> None:
    """Let this process and its children open as many files as the machine allows.

    Raises:
        DemoError: not enough for the clients.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < clients + 100:
        raise DemoError(
            f"{clients} clients need {clients + 100} open files and the limit is {limit}:"
            " raise it with `ulimit -n`, or ask for fewer with --clients"
        )
