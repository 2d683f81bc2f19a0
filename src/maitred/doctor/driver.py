"""A client's connection for `session`, by pg8000, which is Python alone.

It must not hide what the database says: an error ends the route with the database's own words.
Called by `session` once the extra `maitred[doctor]` is known to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pg8000.native

from maitred.config.url import Target

from .session import Catalog, DoctorError, Row, as_text
from .tls import context_for


class _Session(Catalog):
    def __init__(self, target: Target) -> None:
        where: dict[str, Any] = {"host": target.address.host, "port": target.address.port}
        if target.address.path:
            where = {"unix_sock": target.address.path}
        user = target.user or "postgres"
        try:
            self._connection: Any = pg8000.native.Connection(
                user,
                database=target.database or user,
                password=target.password,
                ssl_context=context_for(target.tls),
                timeout=30,
                **where,
            )
        except (pg8000.native.Error, OSError) as error:
            raise DoctorError(f"cannot log in: {_words(error)}") from None

    def rows(self, sql: str) -> Sequence[Row]:
        try:
            rows: Any = self._connection.run(sql)
        except (pg8000.native.Error, OSError) as error:
            raise DoctorError(f"{sql}: {_words(error)}") from None
        return as_text(rows or ())

    def close(self) -> None:
        self._connection.close()


def connect_to(target: Target) -> _Session:
    """Log in.

    Raises:
        DoctorError: with the database's or the network's words.
    """
    return _Session(target)


def _words(error: Exception) -> str:
    fields: Any = error.args[0] if error.args else ""
    try:
        return str(fields["M"])
    except (KeyError, TypeError):
        return str(error)
