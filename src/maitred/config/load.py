"""Turn a file, or a single URL, into a checked `Config`; every problem is found in one go.

Derives no password verifiers and talks to no engine; files it names are read, nothing is written.
Called by `prepare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from maitred.config import check, url
from maitred.config.read import Document, Values, Written, allowed, is_open, open_setting
from maitred.config.schema import SETTINGS
from maitred.config.setting import Scope, Setting
from maitred.config.targets import Targets
from maitred.config.tls import client_tls
from maitred.config.units import BadValue, address
from maitred.errors import ConfigInvalid, Problem
from maitred.model import Address, Config, Dialect, Effective, Listener, Settings, User, Value
from maitred.secret import Secret, SecretMissing, resolve, secret_file

COMMAND_LINE = "command line"

# Why: settings of listeners that the engine has among its limits.
_LISTEN_LIMITS = ("listen.backlog", "listen.mysql_version")


@dataclass(frozen=True, slots=True)
class Layer:
    """Values by path that win over the file; problems with them name `origin`."""

    origin: str
    values: Mapping[tuple[str, ...], object]


def from_file(path: Path, layers: Sequence[Layer] = ()) -> Config:
    """Read `path`; later layers win.

    Raises:
        ConfigInvalid: with every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise ConfigInvalid([Problem(str(path), None, reason)]) from None
    except UnicodeDecodeError:
        raise ConfigInvalid([Problem(str(path), None, "is not UTF-8 text")]) from None
    document = Document.from_text(text, source=str(path), folder=path.absolute().parent)
    _put_on(document, layers)
    return _Loading(document, {path.absolute()}).config()


def from_url(text: str, layers: Sequence[Layer] = ()) -> Config:
    """Make a configuration for one database out of its URL.

    The database has the URL's name (`*` without one). The URL's user may log in with the URL's
    password and use the console; without a password everybody may, from this machine only.

    Raises:
        ConfigInvalid: with every problem found.
    """
    source = COMMAND_LINE
    try:
        target = url.parse(resolve(text, folder=Path.cwd()))
    except (BadValue, SecretMissing) as error:
        raise ConfigInvalid([Problem(source, None, f"the URL {error}")]) from None
    document = Document(source=source, folder=Path.cwd(), data={})
    document.override(("databases", target.database or "*", "url"), text, origin=source)
    if target.user:
        document.override(("users", target.user, "admin"), True, origin=source)
    if target.user and target.password:
        # Why: a plain password that happens to look like a reference must stay itself.
        if target.password.startswith(("env:", "file:")):
            problem = "the URL's password cannot begin with env: or file:; use a configuration file"
            raise ConfigInvalid([Problem(source, None, problem)])
        document.override(("users", target.user, "password"), target.password, origin=source)
    else:
        method = "mysql_method" if target.dialect == "mysql" else "method"
        document.override(("auth", method), "trust", origin=source)
    _put_on(document, layers)
    config = _Loading(document, set()).config()
    is_open = config.method_of(target.dialect) == "trust"
    if is_open and not all(one.address.is_local for one in config.listeners):
        text = (
            "the URL has no password, so clients cannot be asked for one, and maitred would be open"
            " to the network; put a password into the URL, write a configuration file, or listen on"
            " 127.0.0.1"
        )
        raise ConfigInvalid([Problem(source, None, text)])
    return config


def dialect_of(text: str) -> Dialect:
    """Tell what the URL of a command line is for; PostgreSQL where it cannot be read."""
    try:
        return url.parse(resolve(text, folder=Path.cwd())).dialect
    except (BadValue, SecretMissing):
        # `from_url` tells what is wrong with it.
        return "postgres"


def _put_on(document: Document, layers: Sequence[Layer]) -> None:
    for layer in layers:
        for path, value in layer.values.items():
            document.override(path, value, origin=layer.origin)


@dataclass(slots=True)
class _Loading:
    """One run over a document."""

    document: Document
    files: set[Path]
    effective: list[Effective] = field(default_factory=list[Effective])
    values: Values = field(default_factory=dict[str, Written])

    def config(self) -> Config:
        document = self.document
        self.values = document.global_values()
        for name, setting in SETTINGS.items():
            if Scope.GLOBAL in setting.scopes and not is_open(setting):
                self._show(name, setting, self.values.get(name))
        for name, written in self.values.items():
            if setting := open_setting(name):
                self._show(name, setting, written)
        users = tuple(self._users())
        targets = Targets(document, self.values, self.files)
        for name, values in document.named_values("endpoints"):
            self._show_section("endpoints", name, values, Scope.ENDPOINT)
            targets.add_endpoint_limit(name, values)
        for name, values in document.named_values("databases"):
            self._show_section("databases", name, values, Scope.DATABASE)
            targets.add_database(name, values)
        targets.finish()
        config = Config(
            source=document.source,
            listeners=self._listeners({one.dialect for one in targets.databases}),
            proxy_protocol=bool(self._value("listen.proxy_protocol")),
            unix_mode=self._int("listen.unix_mode"),
            admin=address(self._str("listen.admin")) if self._str("listen.admin") else None,
            client_tls=client_tls(document, self.values, self.files),
            endpoints=tuple(targets.endpoints),
            databases=tuple(targets.databases),
            users=users,
            auth_method=self._str("auth.method"),
            mysql_method=self._str("auth.mysql_method"),
            userlist=self._userlist(),
            limits=self._limits(),
            console_names=self._names("console.names"),
            stats_period_ms=self._int("console.stats_period"),
            drain_delay_ms=self._int("limits.drain_delay"),
            log_level=self._str("log.level"),
            log_format=self._str("log.format"),
            log_connections=bool(self._value("log.connections")),
            slow_query_ms=self._int("log.slow_query"),
            workers=self._int("engine.workers"),
            backend=self._str("engine.backend"),
            effective=tuple(self.effective),
            files=frozenset(self.files),
        )
        warnings = check.together(config, document)
        if document.problems:
            raise ConfigInvalid(document.problems)
        return replace(config, warnings=tuple(warnings))

    def _value(self, name: str) -> Value:
        written = self.values.get(name)
        value = written.value if written else SETTINGS[name].default_value
        if value is None:
            raise LookupError(f"{name} has no default")
        return value

    def _int(self, name: str) -> int:
        value = self._value(name)
        return value if isinstance(value, int) else 0

    def _str(self, name: str) -> str:
        return str(self._value(name))

    def _names(self, name: str) -> tuple[str, ...]:
        value = self._value(name)
        return value if isinstance(value, tuple) else (str(value),)

    def _listeners(self, spoken: set[Dialect]) -> tuple[Listener, ...]:
        found: dict[Address, Listener] = {}
        for dialect in get_args(Dialect):
            path = ("listen", dialect)
            # Why: a file that only sets up one of them opens no port for the other; one without a
            # good database has problems enough.
            wanted = dialect in spoken or (dialect == "postgres" and not spoken)
            if ".".join(path) not in self.values and not wanted:
                continue
            texts = self._names(".".join(path))
            for text in texts:
                one = address(text)
                if one in found:
                    self.document.complain(path, f"names {text} twice")
                if dialect == "mysql" and one.path.rpartition("/")[2].startswith(".s.PGSQL."):
                    self.document.complain(
                        path, f'has "{text}"; a MySQL socket is a file: "unix:/run/maitred.sock"'
                    )
                found[one] = Listener(dialect, one)
            if not texts and dialect in spoken:
                self.document.complain(path, "names no address; nobody could connect")
        return tuple(found.values())

    def _limits(self) -> Settings:
        fields: dict[str, Value] = {}
        for name, setting in SETTINGS.items():
            if setting.field and (name.startswith("limits.") or name in _LISTEN_LIMITS):
                fields[setting.field] = self._value(name)
        return fields

    def _userlist(self) -> Path | None:
        text = self._str("auth.userlist")
        if not text:
            return None
        path = (self.document.folder / Path(text).expanduser()).absolute()
        self.files.add(path)
        return path

    def _users(self) -> Sequence[User]:
        document, result = self.document, list[User]()
        defaults = {name: one.default_value for name, one in allowed(Scope.USER).items()}
        for name, values in document.named_values("users"):
            self._show_section("users", name, values, Scope.USER)
            value = {key: one.value for key, one in values.items()}
            pool = {
                setting.field: value[key]
                for key, setting in allowed(Scope.USER).items()
                if key in value and setting.field
            }
            clients, servers = value.get("max_clients"), value.get("max_servers")
            result.append(
                User(
                    name=name,
                    password=self._password(name, value.get("password")),
                    pool=pool,
                    max_clients=int(str(clients or 0)),
                    max_servers=int(str(servers or 0)),
                    admin=bool(value.get("admin", defaults["admin"])),
                    stats=bool(value.get("stats", defaults["stats"])),
                    place=document.place(("users", name)),
                )
            )
        return result

    def _password(self, user: str, text: Value | None) -> Secret | None:
        if text is None:
            return None
        folder = self.document.folder
        path = secret_file(str(text), folder=folder)
        if path:
            self.files.add(path.absolute())
        try:
            return Secret(resolve(str(text), folder=folder))
        except SecretMissing as error:
            self.document.complain(("users", user, "password"), f"cannot be used: {error}")
            return None

    def _show(self, name: str, setting: Setting, written: Written | None) -> None:
        default = setting.show(setting.default_value)
        value = setting.show(written.value) if written else default
        place = written.place if written else None
        self.effective.append(Effective(name, value, default, setting.reloadable, place))

    def _show_section(self, section: str, name: str, values: Values, scope: Scope) -> None:
        known = allowed(scope)
        for key, written in values.items():
            if setting := known.get(key) or open_setting(key):
                self._show(f"{section}.{name}.{key}", setting, written)
