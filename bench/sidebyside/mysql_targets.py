"""MySQL's side of `targets`: maitred, ProxySQL and MariaDB itself, each at a port of 127.0.0.1.

It must not favour anybody: the same pool, threads and password method for both proxies.
Called by `mysql` and `ratio`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maitred.demo.mysql import PrivateMariadb
from maitred.demo.postgres import free_port

from .process import BenchError, Process
from .sysbench import DATABASE
from .targets import MAX_CLIENTS, PASSWORD, ROLE, Target, maitred_program

# Origin: what MySQL's proxies are usually compared with; sysbench's 200 threads then have to wait.
POOL = 32
SETTINGS = {
    "max-connections": "400",
    "innodb-buffer-pool-size": "256M",
    "performance-schema": "OFF",
    "skip-log-bin": "",
    "innodb-doublewrite": "0",
}
FIRST = (f"ALTER USER '{ROLE}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';",)


def private_mariadb() -> PrivateMariadb:
    """A MariaDB for the bench, not started yet."""
    return PrivateMariadb(database=DATABASE, role=ROLE, settings=SETTINGS, first=FIRST)


@dataclass(frozen=True)
class MysqlSite:
    """A database by its port, a folder for files, which targets are wanted."""

    port: int
    folder: Path
    names: tuple[str, ...]
    # With server.crt and server.key, where TLS is possible.
    certificates: Path

    @contextlib.contextmanager
    def targets(
        self, names: tuple[str, ...] | None = None, *, tls: bool = False
    ) -> Iterator[list[Target]]:
        """Start the wanted targets; they end with the block."""
        processes: list[Process] = []
        try:
            yield [
                self._start(name, tls, processes)
                for name in names or self.names
                if name.removesuffix("-epoll") in self.names
            ]
        finally:
            for process in processes:
                process.stop()

    def _start(self, name: str, tls: bool, processes: list[Process]) -> Target:
        if name == "direct":
            return Target(name, self.port, None)
        port = free_port()
        folder = self.folder / f"{name}-{port}"
        folder.mkdir(mode=0o755)
        if name == "proxysql":
            process = self._proxysql(folder, port, tls)
        else:
            process = self._maitred(folder, port, tls, is_epoll=name.endswith("-epoll"))
        processes.append(process)
        process.await_port(port)
        return Target(name, port, process.pid, tls=tls)

    def _maitred(self, folder: Path, port: int, tls: bool, *, is_epoll: bool) -> Process:
        lines = [
            "[listen]",
            f'mysql = "127.0.0.1:{port}"',
            'admin = ""',
            "[engine]",
            "workers = 1",
            f'backend = "{"epoll" if is_epoll else "auto"}"',
            "[pool]",
            f"size = {POOL}",
            'queue_timeout = "60s"',
            f"[databases.{DATABASE}]",
            f'url = "mysql://{ROLE}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"',
            "[auth]",
            'mysql_method = "mysql_native_password"',
            f"[users.{ROLE}]",
            f'password = "{PASSWORD}"',
            "[limits]",
            f"clients = {MAX_CLIENTS}",
        ]
        if tls:
            lines += [
                "[tls.client]",
                'mode = "require"',
                f'certificate = "{self.certificates / "server.crt"}"',
                f'key = "{self.certificates / "server.key"}"',
            ]
        file = folder / "maitred.toml"
        file.write_text("\n".join(lines) + "\n")
        return Process([maitred_program(), "serve", "-c", file], folder / "log")

    def _proxysql(self, folder: Path, port: int, tls: bool) -> Process:
        data = folder / "data"
        data.mkdir()
        if tls:
            # Spec: ProxySQL manual, "SSL configuration for frontends": taken from its data folder.
            for stem, name in (("key", "key"), ("crt", "cert"), ("crt", "ca")):
                source = self.certificates / f"server.{stem}"
                shutil.copy(source, data / f"proxysql-{name}.pem")
        file = folder / "proxysql.cnf"
        file.write_text(
            f"""\
datadir="{data}"
admin_variables={{ mysql_ifaces="127.0.0.1:{free_port()}" }}
mysql_variables={{
  threads=1
  interfaces="127.0.0.1:{port}"
  max_connections={MAX_CLIENTS}
  have_ssl={"true" if tls else "false"}
  monitor_enabled=false
}}
mysql_servers=( {{ hostgroup=0, address="127.0.0.1", port={self.port}, max_connections={POOL} }} )
mysql_users=( {{
  username="{ROLE}", password="{PASSWORD}", default_schema="{DATABASE}",
  max_connections={MAX_CLIENTS}
}} )
"""
        )
        options = ["-f", "--initial", "--idle-threads", "--no-version-check"]
        command = [proxysql_program(), *options, "-c", file, "-D", data]
        return Process(command, folder / "log")


def proxysql_program() -> Path:
    """Raises: BenchError: ProxySQL is not installed."""
    found = shutil.which("proxysql", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/bin")
    if found is None:
        raise BenchError("ProxySQL is not installed: packages are at https://proxysql.com")
    return Path(found)
