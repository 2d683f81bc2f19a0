"""What a database has that `pool.stateful_functions` and `pool.stateful_tables` should name.

It must not change anything. Called by the package's door.
"""

from __future__ import annotations

from . import mysql_bodies, postgres_bodies
from .bodies import Body, Stateful
from .session import connector


def examine_routines(url: str) -> tuple[list[Stateful], list[Body]]:
    """Return what belongs into the configuration, and the bodies that the account may not read.

    Raises:
        DoctorError: the URL cannot be read, the driver is missing, nobody answers.
    """
    dialect, connect = connector(url)
    session = connect()
    try:
        of_its_kind = postgres_bodies if dialect == "postgres" else mysql_bodies
        return of_its_kind.examine(session)
    finally:
        session.close()
