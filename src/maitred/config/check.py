"""Check what settings mean together: what cannot work is a problem, what surprises is a warning.

Looks only at a `Config` that is otherwise complete; single values were checked before.
Called by `load`.
"""

from __future__ import annotations

from collections.abc import Iterator

from maitred.config.read import Document
from maitred.model import Config, Dialect
from maitred.secret import MYSQL_FORMS, form

_METHODS: dict[Dialect, str] = {"postgres": "method", "mysql": "mysql_method"}
_WITHOUT_PASSWORD = ("trust", "cert")


def together(config: Config, document: Document) -> list[str]:
    """Note problems in `document`; return warnings."""
    _names(config, document)
    _addresses(config, document)
    _methods(config, document)
    _users(config, document)
    return [*_warnings(config)]


def _names(config: Config, document: Document) -> None:
    for name in config.console_names:
        if any(database.name == name for database in config.databases):
            document.complain(
                ("databases", name),
                "has the name of the console; rename the database or change console.names",
            )


def _addresses(config: Config, document: Document) -> None:
    taken = {one.address: one.dialect for one in config.listeners}
    if config.admin and config.admin in taken:
        document.complain(
            ("listen", "admin"),
            f"is {config.admin}, which listen.{taken[config.admin]} has already",
        )
    # Why: a listener that is its own endpoint would open servers to itself without end.
    for database in config.databases:
        endpoint = next(one for one in config.endpoints if one.name == database.endpoint)
        if endpoint.address in taken:
            document.complain(
                ("databases", database.name, "url"),
                f"leads to {endpoint.address}, where maitred itself listens",
            )


def _methods(config: Config, document: Document) -> None:
    for dialect, name in _METHODS.items():
        if not config.speaks(dialect):
            continue
        path, method = ("auth", name), config.method_of(dialect)
        if method == "cert" and not (
            config.client_tls and config.client_tls.mode.startswith("verify")
        ):
            document.complain(path, 'is "cert", which needs tls.client.mode = "verify-full"')
        if method in _WITHOUT_PASSWORD:
            continue
        if not config.users and not config.userlist:
            document.complain(
                path,
                f'is "{method}", but there is no user who could log in; add [users.NAME] with a'
                " password, or auth.userlist",
            )
        is_local = all(one.address.path for one in config.listeners if one.dialect == "mysql")
        if dialect == "mysql" and method == "password" and not config.client_tls and not is_local:
            document.complain(
                path,
                'is "password", which MySQL clients send over TLS only; set tls.client.mode ='
                ' "require", or another auth.mysql_method',
            )


def _users(config: Config, document: Document) -> None:
    if not config.speaks("postgres") or config.auth_method != "scram-sha-256":
        return
    for user in config.users:
        # Why not with MySQL clients about: the hash may be meant for them.
        if user.password and not config.speaks("mysql") and form(user.password.reveal()) == "md5":
            document.complain(
                ("users", user.name, "password"),
                "is an md5 hash, with which scram-sha-256 cannot be spoken; store the plain"
                ' password or a SCRAM verifier, or set auth.method = "md5"',
            )


def _warnings(config: Config) -> Iterator[str]:
    spoken: list[Dialect] = [dialect for dialect in _METHODS if config.speaks(dialect)]
    if config.asks_passwords and not config.userlist:
        for user in config.users:
            if user.password is None:
                yield f"users.{user.name} has no password, so nobody can log in by that name"
    for dialect in spoken:
        far = [str(one.address) for one in config.listeners
               if one.dialect == dialect and not one.address.is_local]  # fmt: skip
        if config.method_of(dialect) == "trust" and far:
            name = _METHODS[dialect]
            yield f"auth.{name} is trust and {', '.join(far)} is open: anybody may log in"
        if all(one.dialect != dialect for one in config.databases):
            yield f"listen.{dialect} is set, but no database is {dialect}://"
    if config.speaks("postgres") and config.auth_method == "password" and not config.client_tls:
        yield "auth.method is password without tls.client: passwords travel in clear text"
    yield from _of_no_use(config)
    if config.admin and not config.admin.is_local:
        yield f"listen.admin is {config.admin}: metrics are readable by anybody who can reach it"
    for database in config.databases:
        if database.pool.get("queue_timeout_ms") == 0:
            yield f"databases.{database.name}: pool.queue_timeout is off; clients may wait for ever"
        if database.user is None and int(str(database.pool.get("min_size", 0))):
            yield (
                f"databases.{database.name}: pool.min_size has an effect only for users who have"
                " logged in, because the url names no user"
            )
        if database.user is None:
            yield from _cannot_log_in(config, database.name)


def _of_no_use(config: Config) -> Iterator[str]:
    """Users of whom only a form is known that no listener can check."""
    for user in config.users:
        kind = form(user.password.reveal()) if user.password else "plain"
        if kind == "plain":
            continue
        dialect = "mysql" if kind in MYSQL_FORMS else "postgres"
        if not config.speaks(dialect) and config.listeners:
            yield (
                f"users.{user.name}.password is a hash that only {dialect} clients can be checked"
                " with, and none can connect; store the plain password"
            )


def _cannot_log_in(config: Config, database: str) -> Iterator[str]:
    for user in config.users:
        if user.password and form(user.password.reveal()) != "plain":
            yield (
                f"databases.{database} logs in as each client's own user, but of {user.name} only a"
                " verifier is known: the database must not ask that user for a password, or the"
                " url must name a user"
            )
