"""maitred itself, as a user starts it: `python -m maitred serve -c file` in a process of its own.

Never reaches into the process; what a test wants to know it asks at the console, over HTTP or
in the log. Tests ask for `served` (one per back end and run, shared) or for `make_maitred`.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fix_postgres import Postgres, temporary_folder
from fix_processes import eventually, free_ports, open_descriptors, resident_bytes, start_bound
from fix_wire import Closed, Wire

MODES = ("transaction", "session", "statement")
CONSOLE = "maitred"
_RUNNING = pytest.StashKey[list["Maitred"]]()


class Maitred:
    """One maitred process and the ways to talk to it."""

    def __init__(self, config: dict[str, Any], *, backend: str, workers: int = 1) -> None:
        self.folder = temporary_folder()
        self.folder.chmod(0o755)
        self.port, self.admin_port, self.mysql_port = free_ports(3)
        self.backend = backend
        self.config = copy.deepcopy(config)
        listen = self.config.setdefault("listen", {})
        listen.setdefault("postgres", f"127.0.0.1:{self.port}")
        listen.setdefault("admin", f"127.0.0.1:{self.admin_port}")
        if serves_mysql(self.config):
            listen.setdefault("mysql", f"127.0.0.1:{self.mysql_port}")
        engine = self.config.setdefault("engine", {})
        engine.setdefault("backend", backend)
        engine.setdefault("workers", workers)
        self.file = self.folder / "maitred.toml"
        self.log = self.folder / "maitred.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.write()

    # Its life

    def write(self, text: str | None = None) -> None:
        """Write the configuration as it is now, or `text` in its place, in one step."""
        draft = self.file.with_suffix(".new")
        draft.write_text(toml(self.config) if text is None else text)
        draft.replace(self.file)

    def start(self) -> Maitred:
        self.process = start_bound(
            [*command(), "serve", "-c", str(self.file)], log=self.log, cwd=self.folder
        )
        eventually(self._answers, because=f"maitred did not start:\n{self.file.read_text()}")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"maitred ended with {self.process.returncode}:\n{self.log_text()}")
        # Why asked first: after kill -9 the kernel may hold the old listeners a moment longer.
        if self.config["listen"].get("admin") and self.http("/readyz")[0] != 200:
            return False
        for dialect, port in (("postgres", self.port), ("mysql", self.mysql_port)):
            if "127.0.0.1" not in str(self.config["listen"].get(dialect)):
                continue
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
        return True

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within_s: float = 30.0) -> int:
        """Exit status, once it has ended by itself."""
        assert self.process is not None
        code = self.process.wait(within_s)
        self.process = None
        return code

    def stop(self) -> None:
        """End it; complains when it had died before or does not end in time."""
        process, self.process = self.process, None
        if process is None:
            return
        died = process.poll()
        if died is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                pytest.fail("maitred did not end within 20 s of SIGINT")
        assert died is None, f"maitred died during the test with status {died}"
        assert "panicked" not in self.log_text(), "a thread of the engine panicked"

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.wait()

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def reload(self, text: str | None = None) -> None:
        """Write the configuration and send SIGHUP; the caller waits for the effect."""
        self.write(text)
        self.signal(signal.SIGHUP)

    # Its clients

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def mysql_address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.mysql_port)

    def wire(self, user: str = "app", database: str = "shop", **options: Any) -> Wire:
        """A logged-in raw connection."""
        kept = ("timeout_s", "preamble", "receive_buffer")
        made = Wire(self.address, **{key: options.pop(key) for key in kept if key in options})
        try:
            made.login(user, database, **options)
        except BaseException:
            made.close()
            raise
        return made

    def place(self, user: str = "app", database: str = "shop") -> dict[str, Any]:
        """Keyword arguments for psycopg."""
        return {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": database}

    def connect(self, user: str = "app", database: str = "shop", **more: Any) -> psycopg.Connection:
        """psycopg, autocommit unless said otherwise."""
        return psycopg.connect(**({"autocommit": True} | self.place(user, database) | more))

    def dsn(self, user: str = "app", database: str = "shop", **more: Any) -> str:
        parts = self.place(user, database) | more
        return " ".join(f"{name}={value}" for name, value in parts.items())

    # Its operators

    def console(self, statement: str, user: str = "postgres") -> list[dict[str, str | None]]:
        """Run a console command; its rows by column name.

        Raises:
            ConsoleError: the console refused.
        """
        with self.wire(user, CONSOLE, timeout_s=60) as operator:
            seen = operator.query(statement)
        errors = [got for got in seen if got.tag == "E"]
        if errors:
            raise ConsoleError(errors[0].code, errors[0].fields["M"])
        columns = next((got.columns for got in seen if got.tag == "T"), [])
        return [dict(zip(columns, got.values, strict=True)) for got in seen if got.tag == "D"]

    def pool(self, database: str = "shop") -> dict[str, int]:
        """The numbers of all pools of `database` added up, from SHOW POOLS."""
        total: dict[str, int] = {}
        for row in self.console("SHOW POOLS"):
            if row["database"] != database:
                continue
            for name, value in row.items():
                if value is not None and value.lstrip("-").isdigit():
                    total[name] = total.get(name, 0) + int(value)
        return total

    def http(self, path: str) -> tuple[int, str]:
        """Status and body of a GET at the admin listener; 0 when nobody listens."""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels as written there."""
        status, body = self.http("/metrics")
        assert status == 200, body
        found = {}
        for line in body.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    def descriptors(self) -> int:
        return open_descriptors(self.pid)


class ConsoleError(Exception):
    """The console refused a command."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def command() -> list[str]:
    """How maitred is started; MAITRED_COMMAND replaces it, for a build somewhere else."""
    return os.environ.get("MAITRED_COMMAND", f"{sys.executable} -m maitred").split()


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `maitred doctor` with these arguments says, and how it ends."""
    return subprocess.run(
        [*command(), "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def engine_build() -> str:
    done = subprocess.run([*command(), "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[-1:][0] if done.stdout else "not built"


def backends(config: pytest.Config) -> list[str]:
    """The back ends asked for that this kernel allows."""
    wanted = config.getoption("--backends").split(",")
    return [name for name in wanted if name != "io_uring" or _io_uring_allowed()]


def _io_uring_allowed() -> bool:
    """Ask the kernel itself: io_uring_setup with a bad pointer says EFAULT where it is allowed."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(425, 1, None)
    return ctypes.get_errno() == errno.EFAULT


def toml(config: dict[str, Any]) -> str:
    """The configuration as TOML text; None leaves a key out."""
    lines: list[str] = []
    _write_table(lines, (), config)
    return "\n".join(lines) + "\n"


def _write_table(lines: list[str], path: tuple[str, ...], table: dict[str, Any]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if path and (plain or not table):
        lines.append(f"\n[{'.'.join(json.dumps(part) for part in path)}]")
    for key, value in plain.items():
        if value is not None:
            lines.append(f"{json.dumps(key)} = {_value(value)}")
    for key, value in table.items():
        if isinstance(value, dict):
            _write_table(lines, (*path, key), value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    return json.dumps(str(value)) if isinstance(value, (str, Path)) else str(value)


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with `change` laid over it, table by table."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def serves_mysql(config: dict[str, Any]) -> bool:
    """Whether any database of a configuration is MySQL's."""
    found = config.get("databases", {}).values()
    return any(str(each.get("url", "")).startswith("mysql") for each in found)


def basic(port: int, **databases: dict[str, Any]) -> dict[str, Any]:
    """The configuration that tests start from: one database `shop`, trust, five servers."""
    return {
        "pool": {
            "mode": "transaction",
            "size": 5,
            "queue_timeout": "20s",
            # Why: tests ask on which server they are, and are to stay as free as they were.
            "pin_ignore": ["backend pid"],
        },
        "databases": databases or {"shop": {"url": f"postgres://app@127.0.0.1:{port}/shop"}},
        "users": {"postgres": {"admin": True}, "app": {}},
        "auth": {"method": "trust"},
    }


@pytest.fixture
def make_maitred(
    request: pytest.FixtureRequest, postgres_port: int, backend: str
) -> Iterator[Callable[..., Maitred]]:
    """Start a maitred of the test's own: `make_maitred({"pool": {"size": 1}})`.

    The tables given are laid over `basic`; `replace=True` takes them alone.
    """
    made: list[Maitred] = request.node.stash.setdefault(_RUNNING, [])

    def make(
        config: dict[str, Any] | None = None,
        *,
        port: int | None = None,
        workers: int = 1,
        replace: bool = False,
        start: bool = True,
    ) -> Maitred:
        base = {} if replace else basic(port or postgres_port)
        one = Maitred(merge(base, config or {}), backend=backend, workers=workers)
        made.append(one)
        return one.start() if start else one

    yield make
    problems = []
    for each in made:
        try:
            each.stop()
        except (AssertionError, pytest.fail.Exception) as problem:
            problems.append(f"{problem}\n{each.log_text()[-4000:]}")
    for each in made:
        each.remove()
    assert not problems, "\n".join(problems)


@pytest.fixture
def postgres_port(request: pytest.FixtureRequest) -> int:
    """The database behind maitred: the one that the test asks for by its fixture."""
    own = "own_postgres" in request.fixturenames
    return request.getfixturevalue("own_postgres" if own else "postgres").port


@pytest.fixture(scope="session")
def _served(_shared_postgres: Postgres) -> Iterator[dict[str, Maitred]]:
    started: dict[str, Maitred] = {}
    yield started
    for each in started.values():
        each.remove()


@pytest.fixture
def served(
    request: pytest.FixtureRequest,
    _served: dict[str, Maitred],
    _shared_postgres: Postgres,
    backend: str,
) -> Maitred:
    """A maitred that many tests share: databases `transaction`, `session` and `statement`.

    Each is the same database `served` behind a pool of five in the mode of its name.
    """
    found = _served.get(backend)
    if found and found.process and (status := found.process.poll()) is not None:
        del _served[backend]
        pytest.fail(f"the shared maitred had died, status {status}:\n{found.log_text()[-4000:]}")
    if found is None:
        url = f"postgres://app@127.0.0.1:{_shared_postgres.port}/served"
        databases = {mode: {"url": url, "pool": {"mode": mode}} for mode in MODES}
        found = _served[backend] = Maitred(
            basic(_shared_postgres.port, **databases), backend=backend
        ).start()
    request.node.stash.setdefault(_RUNNING, []).append(found)
    return found


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each pool mode; also the name of a database of `served`."""
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on every back end, or on the first alone where the test says that it tells no more."""
    if "backend" not in metafunc.fixturenames:
        return
    names = backends(metafunc.config)
    alone = next(metafunc.definition.iter_markers("one_backend"), None)
    if alone and not metafunc.config.getoption("--run-slow"):
        names = names[:1]
    metafunc.parametrize("backend", names)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if report.failed:
        for each in item.stash.get(_RUNNING, []):
            text = each.log_text()[-2500:]
            report.sections.append((f"maitred ({each.backend}), end of its log", text))
    return report


def refusal(maitred: Maitred, *arguments: str, **options: Any) -> dict[str, str]:
    """The error fields with which a login is refused."""
    try:
        maitred.wire(*arguments, **options).close()
    except Closed as closed:
        return closed.seen[-1].fields
    raise AssertionError("the login was accepted")


def trouble(maitred: Maitred, statement: str = "select 1") -> dict[str, str]:
    """The error fields that a newcomer gets, at login or for its first statement.

    Why either: the first client of a pool needs a server to log in, the later ones do not.
    """
    try:
        with maitred.wire() as client:
            return client.error(statement).fields
    except Closed as closed:
        return closed.seen[-1].fields


def names_setting(fields: dict[str, str], setting: str) -> bool:
    """Whether an error tells the reader to change exactly this setting."""
    told = " ".join(fields.get(part, "") for part in "MDH")
    return re.search(rf"(?<![\w.]){re.escape(setting)}(?![\w.]*\w)", told) is not None
