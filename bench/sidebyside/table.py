"""Rows of figures: one measure, a list of values for each target, the bar it is held against.

It must not decide anything from a result: `ok` is shown, never acted upon.
Called by the measures, which make rows, and by `bench/run.py`, which prints and stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

OURS = "maitred"
THEIRS = "pgbouncer"


@dataclass
class Row:
    """One measure.

    Args:
        measure: as the table names it.
        unit: of the values.
        bar: ratio that is asked for; at most, or at least if `higher_is_better`.
        values: by target, one value per round.
        ours, theirs: whose values make the ratio.
    """

    group: str
    measure: str
    unit: str
    higher_is_better: bool
    bar: float | None
    values: dict[str, list[float]] = field(default_factory=dict)
    ours: str = OURS
    theirs: str = THEIRS
    note: str = ""

    def add(self, target: str, value: float) -> None:
        self.values.setdefault(target, []).append(value)

    def middle(self, target: str) -> float | None:
        found = self.values.get(target)
        return median(found) if found else None

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, round by round, so that a slow minute hits both."""
        pairs = zip(self.values.get(self.ours, []), self.values.get(self.theirs, []), strict=False)
        return [ours / theirs for ours, theirs in pairs if theirs > 0]

    @property
    def ratio(self) -> float | None:
        return median(self.ratios) if self.ratios else None

    @property
    def ok(self) -> bool | None:
        if self.ratio is None or self.bar is None:
            return None
        return self.ratio >= self.bar if self.higher_is_better else self.ratio <= self.bar

    def as_json(self) -> Mapping[str, object]:
        return {
            "group": self.group,
            "measure": self.measure,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "values": self.values,
            "medians": {name: self.middle(name) for name in self.values},
            "compared": [self.ours, self.theirs],
            "ratios": self.ratios,
            "ratio": self.ratio,
            "bar": self.bar,
            "ok": self.ok,
            "note": self.note,
        }


def figure(value: float | None) -> str:
    """A number as wide as it deserves: three or four digits that mean something."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{digits}f}"


def _spread(row: Row, target: str) -> str:
    found = row.values.get(target)
    if not found:
        return "-"
    text = figure(median(found))
    return f"{text} ({figure(min(found))}..{figure(max(found))})" if len(found) > 1 else text


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return "-"
    text = f"{row.ratio:.2f}"
    if len(row.ratios) > 1:
        text += f" ({min(row.ratios):.2f}..{max(row.ratios):.2f})"
    return text


def markdown(rows: Sequence[Row]) -> str:
    """The table for people: median (lowest..highest) of the rounds."""
    head = ["measure", "unit", "maitred", "PgBouncer, ProxySQL", "direct", "ratio", "bar", "ok?"]
    lines = [head]
    for row in rows:
        bar = "-"
        if row.bar is not None:
            bar = f"{'≥' if row.higher_is_better else '≤'} {row.bar:.2f}"
        ok = {True: "yes", False: "NO", None: "-"}[row.ok]
        measure = row.measure + (f" [{row.note}]" if row.note else "")
        cells = [_spread(row, name) for name in (row.ours, row.theirs, "direct")]
        lines.append([measure, row.unit, *cells, _ratio(row), bar, ok])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)
