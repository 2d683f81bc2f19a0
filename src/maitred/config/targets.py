"""Build databases, and the endpoints they lead to, out of their sections.

Opens no connection and resolves no host. Two databases share an endpoint when both its address
and its TLS are the same. Called by `load`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from maitred.config import url
from maitred.config.read import Document, Values
from maitred.config.schema import POOL, SETTINGS
from maitred.config.tls import server_tls
from maitred.config.units import BadValue, address
from maitred.model import Address, Database, Endpoint, Place, Tls, Value
from maitred.secret import Secret, SecretMissing, resolve, secret_file

_RESERVED_PARAMETERS = ("user", "database", "replication")
_PORTS = (5432, 3306)
# Spec: the engine knows this text as the protocol's own command, for which there is no SQL.
_MYSQL_RESET = "RESET CONNECTION"


class Targets:
    """Collects databases and endpoints while sections are read."""

    def __init__(self, document: Document, values: Values, files: set[Path]) -> None:
        """Use `values` as what holds for all; note files that are read in `files`."""
        self.databases: list[Database] = []
        self.endpoints: list[Endpoint] = []
        self._document = document
        self._values = values
        self._files = files
        self._limits: dict[Address, tuple[int, Place, str]] = {}
        self._sections = 0

    def add_endpoint_limit(self, name: str, values: Values) -> None:
        """Take one `[endpoints."HOST:PORT"]`."""
        path = ("endpoints", name)
        try:
            # Why both ports: a host alone stands for whichever database is there.
            places = {address(name, default_port=port) for port in _PORTS}
        except BadValue as error:
            self._document.complain(path, f"{error}")
            return
        if "max_servers" in values:
            limit = int(str(values["max_servers"].value))
            self._limits |= dict.fromkeys(places, (limit, self._document.place(path), name))

    def add_database(self, name: str, values: Values) -> None:
        """Take one `[databases.NAME]`."""
        self._sections += 1
        target = self._target(name, values)
        # Why: the pool is checked even when the URL is wrong, to report all at once.
        pool = self._pool(name, values, target)
        if target is None:
            return
        user = str(values["user"].value) if "user" in values else target.user
        password = self._password(name, values) or (
            Secret(target.password) if target.password else None
        )
        if password and not user:
            self._document.complain(
                ("databases", name, "password"),
                f"has no user to go with; set databases.{name}.user",
            )
        tls = server_tls(self._document, self._values, values, target.tls, name, self._files)
        if tls.direct and target.dialect == "mysql":
            # Why not a problem where it holds for all: PostgreSQL databases may be meant.
            if "tls.direct" in values:
                self._document.complain(
                    ("databases", name, "tls", "direct"), "is for PostgreSQL only; remove it"
                )
            tls = replace(tls, direct=False)
        self.databases.append(
            Database(
                name=name,
                dialect=target.dialect,
                endpoint=self._endpoint(name, target, tls),
                remote_name=target.database,
                user=user or None,
                password=password,
                pool=pool,
                parameters=self._parameters(name, values, target),
                stateful_functions=self._stateful("functions", values),
                stateful_tables=self._stateful("tables", values),
                max_clients=self._own(values, "max_clients"),
                max_servers=self._own(values, "max_servers"),
                disabled=bool(values["disabled"].value) if "disabled" in values else False,
            )
        )

    def finish(self) -> None:
        """Complain about what only shows when all sections are read."""
        used = {endpoint.address for endpoint in self.endpoints}
        known = {name for where, (_, _, name) in self._limits.items() if where in used}
        strange = {name: place for _, place, name in self._limits.values() if name not in known}
        for name, place in strange.items():
            if self.endpoints:
                names = ", ".join(sorted({str(one) for one in used}))
                text = f'endpoints."{name}" is the endpoint of no database; there are {names}'
                self._document.complain_at(place, text)
        if not self._sections and not self._document.data.get("databases"):
            self._document.complain(
                (),
                'names no database; add a section [databases.NAME] with url = "postgres://…" or'
                ' "mysql://…"',
            )

    def _target(self, name: str, values: Values) -> url.Target | None:
        path = ("databases", name, "url")
        if "url" not in values:
            given = self._document.data.get("databases", {}).get(name, {})
            if "url" not in given:
                self._document.complain(
                    path[:2], f'has no url; add url = "postgres://user:password@host:5432/{name}"'
                )
            return None
        text = str(values["url"].value)
        try:
            return url.parse(self._resolve(text))
        except (BadValue, SecretMissing) as error:
            self._document.complain(path, str(error))
            return None

    def _resolve(self, text: str) -> str:
        folder = self._document.folder
        path = secret_file(text, folder=folder)
        if path:
            self._files.add(path.absolute())
        return resolve(text, folder=folder)

    def _password(self, name: str, values: Values) -> Secret | None:
        if "password" not in values:
            return None
        try:
            return Secret(self._resolve(str(values["password"].value)))
        except SecretMissing as error:
            self._document.complain(("databases", name, "password"), f"cannot be used: {error}")
            return None

    def _pool(self, name: str, values: Values, target: url.Target | None) -> dict[str, Value]:
        pool: dict[str, Value] = {}
        for setting in POOL:
            written = values.get(setting.name) or self._values.get(setting.name)
            value = written.value if written else setting.default_value
            if value is not None:
                pool[setting.field] = value
        if target and target.connect_timeout_s and "pool.connect_timeout" not in values:
            pool["connect_timeout_ms"] = target.connect_timeout_s * 1000
        is_set = "pool.reset_query" in values or "pool.reset_query" in self._values
        if target and target.dialect == "mysql" and not is_set:
            pool["reset_query"] = _MYSQL_RESET
        self._check_pool(name, values, pool)
        return pool

    def _check_pool(self, name: str, values: Values, pool: dict[str, Value]) -> None:
        pairs = (
            ("pool.min_size", "pool.size"),
            ("pool.login_retry", "pool.login_retry_max"),
        )
        for small, large in pairs:
            low, high = SETTINGS[small], SETTINGS[large]
            if int(str(pool[low.field])) <= int(str(pool[high.field])):
                continue
            path = ("databases", name)
            for key in (small, large):
                if key in values:
                    path = ("databases", name, *key.split("."))
                elif key in self._values and len(path) == 2:
                    path = tuple(key.split("."))
            text = (
                f"{small} ({low.show(pool[low.field])}) is more than {large}"
                f" ({high.show(pool[high.field])}) for database {name}; lower the first or raise"
                " the second"
            )
            self._document.complain_at(self._document.place(path), text)

    def _parameters(
        self, name: str, values: Values, target: url.Target
    ) -> tuple[tuple[str, str], ...]:
        found = dict(target.parameters)
        for key, written in values.items():
            if not key.startswith("parameters."):
                continue
            parameter = key.removeprefix("parameters.")
            if parameter in _RESERVED_PARAMETERS:
                text = f"cannot be set here; {parameter} belongs into the url"
                self._document.complain(("databases", name, "parameters", parameter), text)
            if target.dialect == "mysql" and not re.fullmatch(r"[A-Za-z_]\w*", parameter):
                text = 'is no session variable; write its plain name, such as "sql_mode"'
                self._document.complain(("databases", name, "parameters", parameter), text)
            found[parameter] = str(written.value)
        return tuple(found.items())

    def _stateful(self, what: str, values: Values) -> tuple[tuple[str, tuple[str, ...]], ...]:
        prefix = f"pool.stateful_{what}."
        found: dict[str, tuple[str, ...]] = {}
        for key, written in (self._values | values).items():
            if key.startswith(prefix) and isinstance(written.value, tuple):
                found[key.removeprefix(prefix)] = written.value
        return tuple(found.items())

    def _own(self, values: Values, key: str) -> int:
        return int(str(values[key].value)) if key in values else 0

    def _endpoint(self, database: str, target: url.Target, tls: Tls) -> str:
        where = target.address
        for endpoint in self.endpoints:
            if endpoint.address == where and endpoint.dialect != target.dialect:
                self._document.complain(
                    ("databases", database, "url"),
                    f"leads to {where} as {target.dialect}://, but another database says that a"
                    f" {endpoint.dialect}:// server is there",
                )
                return endpoint.name
            if endpoint.address == where and endpoint.tls == tls:
                return endpoint.name
        taken = {endpoint.name for endpoint in self.endpoints}
        # Why: reports and logs need a unique name; only a different TLS makes a second one.
        name = str(where) if str(where) not in taken else f"{where} ({database})"
        limit, _, _ = self._limits.get(where, (0, None, ""))
        if not limit:
            written = self._values.get("limits.servers_per_endpoint")
            limit = int(str(written.value)) if written else 0
        self.endpoints.append(
            Endpoint(name=name, dialect=target.dialect, address=where, tls=tls, max_servers=limit)
        )
        return name
