"""Take apart the URL of a database, whatever its dialect.

Reads no file and resolves no host; certificates are only named here.
Called by `load` and `targets`.
"""

from __future__ import annotations

from maitred.config import url_mysql, url_postgres
from maitred.config.units import BadValue
from maitred.config.url_parts import Target


def parse(url: str) -> Target:
    """Take `url` apart.

    Returns:
        The target; the dialect's own port where none is given, the host localhost.

    Raises:
        BadValue: with what to change; the text never holds the password.
    """
    scheme, found, rest = url.partition("://")
    if found and scheme in url_postgres.SCHEMES:
        return url_postgres.parse(rest)
    if found and scheme in url_mysql.SCHEMES:
        return url_mysql.parse(rest)
    raise BadValue(
        'must begin with "postgres://", "postgresql://", "mysql://" or "mariadb://", for example'
        ' "postgres://user:password@host:5432/name" or "mysql://user:password@host:3306/name"'
    )
