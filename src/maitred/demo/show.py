"""The demonstration from first to last line: start everything, drive it, report, clean up.

It must not leave a process or a folder behind, however it ends.
Called by `maitred.demo`, which is what the command line imports.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
from types import FrameType

from .load import Load, LoadResult
from .postgres import DemoError
from .proxy import Proxy
from .stage import DATABASE, MAX_CONNECTIONS, MysqlStage, PostgresStage, Stage
from .watch import Watch

SERVERS = 10


def run(
    *, once: bool = False, clients: int = 1000, seconds: float = 5.0, mysql: bool = False
) -> int:
    """Show `clients` concurrent clients on ten server connections for some seconds.

    Args:
        once: end after the report instead of staying up until Ctrl-C.
        clients: connections open at once.
        seconds: how long they ask.
        mysql: with a private MariaDB instead of an embedded PostgreSQL.

    Returns:
        The exit status: 0 only if no client saw an error.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _raise_descriptor_limit(clients)
        stage = MysqlStage() if mysql else PostgresStage()
        return _run(stage, once=once, clients=clients, seconds=seconds)
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


def _run(stage: Stage, *, once: bool, clients: int, seconds: float) -> int:
    print(f"starting a {stage.name} of its own in a temporary folder ...", flush=True)
    with stage:
        print(f"{stage.name} {stage.version()} is up, max_connections = {MAX_CONNECTIONS}")
        stage.fill()
        with Proxy(stage, servers=SERVERS, clients=clients) as proxy:
            if proxy.port != stage.preferred_port:
                print(f"port {stage.preferred_port} is taken, so another free one is used")
            print(f"maitred is up on 127.0.0.1:{proxy.port}, pool size {SERVERS}")
            status = _drive(stage, proxy, clients=clients, seconds=seconds)
            if not once:
                _stay(proxy)
    return status


def _drive(stage: Stage, proxy: Proxy, *, clients: int, seconds: float) -> int:
    print(f"opening {clients:,} clients, then asking for {seconds:g} s:", flush=True)
    load = Load(stage.load(proxy.port, clients, seconds))
    try:
        with Watch(stage, proxy) as watch:
            result = load.run(
                lambda at_s, rate, latency_ms: _progress(watch, at_s, rate, latency_ms)
            )
    finally:
        load.stop()
    if sys.stdout.isatty():
        print()
    if not proxy.is_running:
        raise DemoError(f"maitred ended by itself:\n{proxy.last_log()}")
    _report(stage, proxy, watch, result)
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


def _report(stage: Stage, proxy: Proxy, watch: Watch, result: LoadResult) -> None:
    servers = watch.servers_by_database
    rows = [
        ("clients open at once", f"{watch.clients:,}"),
        (
            "server connections used",
            f"{servers} counted by {stage.name}, {watch.servers_by_maitred} by maitred",
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
    print(f"\ntry it:   {stage.invitation(proxy.port, DATABASE)}")
    print(f"console:  {stage.invitation(proxy.port, 'maitred')}", flush=True)


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
