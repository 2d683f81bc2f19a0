"""A MySQL client's connection for `session`, by PyMySQL, which is Python alone.

It must not hide what the database says: an error ends the route with the database's own words.
Called by `session` once the extra `maitred[doctor]` is known to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from maitred.config.url import Target

from .session import Catalog, DoctorError, Row, as_text
from .tls import context_for


class _Session(Catalog):
    def __init__(self, target: Target) -> None:
        where: dict[str, Any] = {"host": target.address.host, "port": target.address.port}
        if target.address.path:
            where = {"unix_socket": target.address.path}
        try:
            self._connection: Any = pymysql.connect(
                user=target.user or "root",
                password=target.password or "",
                database=target.database or None,
                ssl=context_for(target.tls),
                client_flag=CLIENT.MULTI_STATEMENTS,
                autocommit=None,
                connect_timeout=30,
                read_timeout=30,
                **where,
            )
        except (pymysql.MySQLError, OSError) as error:
            raise DoctorError(f"cannot log in: {_words(error)}") from None

    def rows(self, sql: str) -> Sequence[Row]:
        rows: Any = ()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                rows = cursor.fetchall()
                while cursor.nextset():
                    rows = cursor.fetchall()
        except (pymysql.MySQLError, OSError) as error:
            raise DoctorError(f"{sql}: {_words(error)}") from None
        return as_text(rows)

    def close(self) -> None:
        self._connection.close()


def connect_to(target: Target) -> _Session:
    """Log in.

    Raises:
        DoctorError: with the database's or the network's words.
    """
    return _Session(target)


def _words(error: Exception) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)
