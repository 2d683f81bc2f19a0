"""A result of the console: typed columns and rows of text.

Knows nothing of what it holds; only how a row becomes what the engine sends.
Used by `show`, `commands` and `console`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `kind` is "text", "int4", "int8" or "numeric"."""

    name: str
    kind: str = "text"


def columns(spec: str) -> tuple[Column, ...]:
    """Read `"name other:int4"`; the kind is text where none is written."""
    parts = (one.partition(":") for one in spec.split())
    return tuple(Column(name, kind or "text") for name, _, kind in parts)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; a row is a mapping by column name."""

    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]

    @classmethod
    def of(cls, columns: tuple[Column, ...], rows: Iterable[Mapping[str, Cell]]) -> Table:
        """Take `rows` in their order."""
        return cls(columns, tuple(rows))

    def answer(self) -> dict[str, Any]:
        """Return what `answer_console` takes."""
        return {
            "columns": [(column.name, column.kind) for column in self.columns],
            "rows": [[_text(row[column.name]) for column in self.columns] for row in self.rows],
            "tag": "SHOW",
        }


def _text(cell: Cell) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, bool):
        # Spec: PgBouncer sends 0 and 1 in integer columns for its switches.
        return "1" if cell else "0"
    if isinstance(cell, float):
        return f"{cell:.0f}"
    return cell if isinstance(cell, str) else str(cell)
