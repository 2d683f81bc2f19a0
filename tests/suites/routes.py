"""The ways from a suite to its database: directly, through maitred, through PgBouncer.

Each run gets a database of its own, so that no suite meets what another one left behind.
Called by `run`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fix_maitred import Maitred
from fix_mariadb import MariaDB
from fix_postgres import Postgres, _identity, temporary_folder
from fix_processes import eventually, free_port, start_bound
from suites.databases import database
from suites.suite import Suite

# Why so short: tests that need more servers than there are must fail for it, not hang for long.
QUEUE_TIMEOUT_S = 3


class RouteError(Exception):
    """A proxy cannot be started here; the text says what to do."""


@dataclass(frozen=True)
class Route:
    """One way: which proxy, if any, and how many servers each of its pools may open."""

    name: str
    title: str
    proxy: str = ""
    servers: int = 0


ROUTES = {
    route.name: route
    for route in (
        Route("direct", "directly"),
        Route("maitred-5", "maitred, 5 servers", "maitred", 5),
        Route("maitred-1", "maitred, 1 server", "maitred", 1),
        Route("pgbouncer-5", "PgBouncer, 5 servers", "pgbouncer", 5),
        Route("pgbouncer-1", "PgBouncer, 1 server", "pgbouncer", 1),
    )
}


@contextlib.contextmanager
def opened(route: Route, suite: Suite, source: Path, log: Path) -> Iterator[int]:
    """The port where the suite shall connect; everything behind it ends with the block.

    Args:
        log: Where the proxy's log is left.
    """
    with database(suite, source) as behind:
        if route.proxy == "pgbouncer":
            assert isinstance(behind, Postgres)
            way = _pgbouncer(route, behind, log)
        elif route.proxy == "maitred":
            way = _maitred(route, suite, behind, log)
        else:
            way = contextlib.nullcontext(behind.port)
        with way as port:
            yield port


@contextlib.contextmanager
def _maitred(route: Route, suite: Suite, behind: Postgres | MariaDB, log: Path) -> Iterator[int]:
    pool = {"mode": "transaction", "size": route.servers, "queue_timeout": f"{QUEUE_TIMEOUT_S}s"}
    config: dict[str, Any] = {"pool": pool, "auth": {"method": "trust"}}
    if isinstance(behind, MariaDB):
        config["databases"] = {"*": {"url": f"mysql://127.0.0.1:{behind.port}"}}
        config["auth"]["mysql_method"] = "mysql_native_password"
        config["users"] = {name: {"password": word} for name, word in suite.users.items()}
        if suite.trusts:
            shown = {
                "certificate": behind.certificate,
                "key": behind.certificate.with_suffix(".key"),
            }
            config["tls"] = {"client": {"mode": "allow", **shown}}
    else:
        config["databases"] = {"*": {"url": f"postgres://127.0.0.1:{behind.port}"}}
    one = Maitred(config, backend="auto")
    try:
        one.start()
        yield one.mysql_port if isinstance(behind, MariaDB) else one.port
        one.stop()
    finally:
        shutil.copy(one.log, log)
        one.remove()


@contextlib.contextmanager
def _pgbouncer(route: Route, postgres: Postgres, log: Path) -> Iterator[int]:
    folder, port = temporary_folder(), free_port()
    folder.chmod(0o755)
    users, ini = folder / "users.txt", folder / "pgbouncer.ini"
    with postgres.connect("postgres", "postgres") as admin:
        names = [name for (name,) in admin.execute("select rolname from pg_roles").fetchall()]
    users.write_text("".join(f'"{name}" ""\n' for name in names))
    # Why these: without them many clients are refused at login; the rest are its defaults.
    ini.write_text(f"""
[databases]
* = host=127.0.0.1 port={postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {route.servers}
max_client_conn = 1000
query_wait_timeout = {QUEUE_TIMEOUT_S}
ignore_startup_parameters = extra_float_digits, options
""")
    process = start_bound([pgbouncer_program(), str(ini)], log=log, **_identity(postgres.bin))
    try:
        eventually(lambda: _listens(port), because=f"PgBouncer did not start, see {log}")
        yield port
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(folder)


def pgbouncer_program() -> str:
    """Raises: RouteError: PgBouncer is not installed."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RouteError(
            "PgBouncer is not installed: apt-get install pgbouncer, or leave it out with --routes"
        )
    return found


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
