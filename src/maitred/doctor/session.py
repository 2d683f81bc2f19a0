"""A client's connection to whatever a URL leads to, as the examinations need it.

It must not be needed by the product: the drivers come with the extra `maitred[doctor]`. Called by
`isolation` and `routines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from maitred.config.units import BadValue
from maitred.config.url import Target, parse
from maitred.model import Dialect

Row = Sequence[str | None]


class DoctorError(Exception):
    """The examination could not be made; the text says what to change."""


class Session(Protocol):
    """One client's connection."""

    def ask(self, sql: str) -> str | None:
        """Run a simple query; the first value of its last result, as text."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class Catalog(Session, Protocol):
    """A connection that may be asked for whole tables."""

    def rows(self, sql: str) -> Sequence[Row]:
        """Run a simple query; the rows of its last result, as text."""
        ...

    def ask(self, sql: str) -> str | None:
        """As `Session.ask`."""
        rows = self.rows(sql)
        return str(rows[0][0]) if rows else None


def as_text(rows: Iterable[Sequence[object]]) -> list[Row]:
    """Return a driver's rows with every value as text."""
    return [[None if value is None else str(value) for value in row] for row in rows]


Connect = Callable[[], Session]


def connector(url: str) -> tuple[Dialect, Callable[[], Catalog]]:
    """Return what is spoken at `url`, and what logs in there.

    Raises:
        DoctorError: the URL cannot be read, or the driver is missing.
    """
    try:
        target = parse(url)
    except BadValue as error:
        raise DoctorError(f"the URL {error}") from None
    return target.dialect, _driver(target)


def _driver(target: Target) -> Callable[[], Catalog]:
    # Why here: the extra brings it, and the rest of the package works without.
    try:
        if target.dialect == "postgres":
            from .driver import connect_to  # noqa: PLC0415
        else:
            from .mysql_driver import connect_to  # noqa: PLC0415
    except ImportError:
        raise DoctorError("a driver is missing: pip install 'maitred[doctor]'") from None
    return lambda: connect_to(target)
