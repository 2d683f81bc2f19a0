"""Check what settings mean together: what cannot work is a problem, what surprises is a warning.

Looks only at a `Config` that is otherwise complete; single values were checked before.
Called by `load`.
"""

from __future__ import annotations

from collections.abc import Iterator

from maitred.config.read import Document
from maitred.model import Config

_VERIFIER = "SCRAM-SHA-256$"


def together(config: Config, document: Document) -> list[str]:
    """Note problems in `document`; return warnings."""
    _names(config, document)
    _addresses(config, document)
    _method(config, document)
    return [*_warnings(config)]


def _names(config: Config, document: Document) -> None:
    for name in config.console_names:
        if any(database.name == name for database in config.databases):
            document.complain(
                ("databases", name),
                "has the name of the console; rename the database or change console.names",
            )


def _addresses(config: Config, document: Document) -> None:
    if config.admin and config.admin in config.listeners:
        document.complain(
            ("listen", "admin"), f"is {config.admin}, which listen.postgres has already"
        )
    # Why: a listener that is its own endpoint would open servers to itself without end.
    for database in config.databases:
        endpoint = next(one for one in config.endpoints if one.name == database.endpoint)
        if endpoint.address in config.listeners:
            document.complain(
                ("databases", database.name, "url"),
                f"leads to {endpoint.address}, where maitred itself listens",
            )


def _method(config: Config, document: Document) -> None:
    path = ("auth", "method")
    if config.auth_method == "cert" and not (
        config.client_tls and config.client_tls.mode.startswith("verify")
    ):
        document.complain(path, 'is "cert", which needs tls.client.mode = "verify-full"')
    if config.auth_method in ("trust", "cert"):
        return
    if not config.users and not config.userlist:
        document.complain(
            path,
            f'is "{config.auth_method}", but there is no user who could log in; add [users.NAME]'
            " with a password, or auth.userlist",
        )
    for user in config.users:
        if user.password is None:
            continue
        stored = user.password.reveal()
        if config.auth_method == "scram-sha-256" and _is_md5(stored):
            document.complain(
                ("users", user.name, "password"),
                "is an md5 hash, with which scram-sha-256 cannot be spoken; store the plain"
                ' password or a SCRAM verifier, or set auth.method = "md5"',
            )


def _is_md5(stored: str) -> bool:
    return len(stored) == 35 and stored.startswith("md5")


def _warnings(config: Config) -> Iterator[str]:
    if config.auth_method not in ("trust", "cert") and not config.userlist:
        for user in config.users:
            if user.password is None:
                yield f"users.{user.name} has no password, so nobody can log in by that name"
    if config.auth_method == "trust":
        far = [str(one) for one in config.listeners if not one.is_local]
        if far:
            yield f"auth.method is trust and {', '.join(far)} is open: anybody may log in"
    if config.auth_method == "password" and config.client_tls is None:
        yield "auth.method is password without tls.client: passwords travel in clear text"
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


def _cannot_log_in(config: Config, database: str) -> Iterator[str]:
    for user in config.users:
        stored = user.password.reveal() if user.password else ""
        if stored.startswith(_VERIFIER) or _is_md5(stored):
            yield (
                f"databases.{database} logs in as each client's own user, but of {user.name} only a"
                " verifier is known: the database must not ask that user for a password, or the"
                " url must name a user"
            )
