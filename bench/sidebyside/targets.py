"""What is measured: maitred, PgBouncer and the database itself, each at a port of 127.0.0.1.

It must not favour anybody: the same pool, mode, limits and quiet logs for both proxies.
Called by the measures.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maitred.demo.postgres import EmbeddedPostgres, free_port

from .process import BenchError, Process, cpu_ns, resident_bytes

POOL = 20
MAX_CLIENTS = 12000
ROLE = "app"
SCRAM_ROLE = "scram_app"
# Why: the usual 4096 iterations are the client's work; with one, the proxy's share can be seen.
LIGHT_ROLE = "scram_light"
PASSWORD = "bench"  # Why: of a throw-away role of a throw-away database on the loopback.
DATABASE = "bench"


@dataclass(frozen=True)
class Setup:
    """How the proxies of one measure are configured."""

    tls: bool = False
    # Who logs in: without a password, or one of those who use SCRAM.
    role: str = ROLE
    workers: int = 1
    backend: str = "auto"
    # Another database than the embedded one, by port: the stub.
    database_port: int | None = None
    # Server connections of the pool.
    pool: int = POOL
    database: str = DATABASE


@dataclass(frozen=True)
class Target:
    """Something with a port to which a load can be sent."""

    name: str
    port: int
    pid: int | None
    tls: bool = False
    role: str = ROLE

    def cpu_ns(self) -> int:
        """On-CPU nanoseconds so far; 0 for the database, which is not compared by CPU."""
        return cpu_ns(self.pid) if self.pid else 0

    def resident_bytes(self) -> int:
        return resident_bytes(self.pid) if self.pid else 0


@dataclass(frozen=True)
class Site:
    """What all measures share: the database, a folder for files, which targets are wanted."""

    postgres: EmbeddedPostgres
    folder: Path
    names: tuple[str, ...]
    # SCRAM verifiers by role.
    secrets: dict[str, str]

    @contextlib.contextmanager
    def targets(self, setup: Setup, names: tuple[str, ...] | None = None) -> Iterator[list[Target]]:
        """Start the wanted targets with `setup`; they end with the block."""
        processes: list[Process] = []
        try:
            yield [
                self._start(name, setup, processes)
                for name in names or self.names
                if name.removesuffix("-epoll") in self.names
            ]
        finally:
            for process in processes:
                process.stop()

    def _start(self, name: str, setup: Setup, processes: list[Process]) -> Target:
        if name == "direct":
            port = setup.database_port or self.postgres.port
            return Target(name, port, None, role=setup.role)
        port = free_port()
        folder = self.folder / f"{name}-{port}"
        folder.mkdir(mode=0o755)
        if name == "pgbouncer":
            process = self._pgbouncer(folder, port, setup)
        else:
            backend = "epoll" if name.endswith("-epoll") else setup.backend
            process = self._maitred(folder, port, setup, backend)
        processes.append(process)
        process.await_port(port)
        return Target(name, port, process.pid, tls=setup.tls, role=setup.role)

    def _pgbouncer(self, folder: Path, port: int, setup: Setup) -> Process:
        users = folder / "users.txt"
        known = {ROLE: "", **self.secrets}
        users.write_text("".join(f'"{role}" "{secret}"\n' for role, secret in known.items()))
        tls = [
            "client_tls_sslmode = require",
            f"client_tls_cert_file = {self.folder / 'server.crt'}",
            f"client_tls_key_file = {self.folder / 'server.key'}",
        ]
        lines = [
            "[databases]",
            f"{setup.database} = host=127.0.0.1 port={setup.database_port or self.postgres.port}"
            f" user={ROLE}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            f"auth_type = {_method(setup)}",
            f"auth_file = {users}",
            "pool_mode = transaction",
            f"default_pool_size = {setup.pool}",
            f"max_client_conn = {MAX_CLIENTS}",
            "log_connections = 0",
            "log_disconnections = 0",
            "ignore_startup_parameters = extra_float_digits",
            *(tls if setup.tls else []),
        ]
        file = folder / "pgbouncer.ini"
        file.write_text("\n".join(lines) + "\n")
        return Process([pgbouncer_program(), "-q", file], folder / "log", drop_root=True)

    def _maitred(self, folder: Path, port: int, setup: Setup, backend: str) -> Process:
        lines = [
            "[listen]",
            f'postgres = "127.0.0.1:{port}"',
            'admin = ""',
            "[engine]",
            f"workers = {setup.workers}",
            f'backend = "{backend}"',
            "[pool]",
            'mode = "transaction"',
            f"size = {setup.pool}",
            f"[databases.{setup.database}]",
            f'url = "postgres://{ROLE}@127.0.0.1:{setup.database_port or self.postgres.port}'
            f'/{setup.database}"',
            "[auth]",
            f'method = "{_method(setup)}"',
            *(f'[users.{role}]\npassword = "{secret}"' for role, secret in self.secrets.items()),
            "[limits]",
            f"clients = {MAX_CLIENTS}",
        ]
        if setup.tls:
            lines += [
                "[tls.client]",
                'mode = "require"',
                f'certificate = "{self.folder / "server.crt"}"',
                f'key = "{self.folder / "server.key"}"',
            ]
        file = folder / "maitred.toml"
        file.write_text("\n".join(lines) + "\n")
        return Process([maitred_program(), "serve", "-c", file], folder / "log")


def _method(setup: Setup) -> str:
    return "trust" if setup.role == ROLE else "scram-sha-256"


def pgbouncer_program() -> Path:
    """Raises: BenchError: PgBouncer is not installed."""
    found = shutil.which(
        "pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )
    if found is None:
        raise BenchError(
            "PgBouncer is not installed: apt-get install pgbouncer, or leave it out with"
            " --targets maitred,direct"
        )
    return Path(found)


def maitred_program() -> Path:
    """Raises: BenchError: maitred is not built."""
    program = Path(sys.executable).parent / "maitred"
    if not program.exists():
        raise BenchError(f"{program} is missing: run `make build`")
    return program
