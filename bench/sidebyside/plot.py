"""Plots of the table, one PNG per group of measures.

It must not be needed: without matplotlib the bench prints its table and stores its JSON.
Called by `bench/run.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median

from .table import Row, figure

COLOURS = {
    "maitred": "#2a6f97",
    "maitred-epoll": "#61a5c2",
    "pgbouncer": "#c9793b",
    "proxysql": "#c9793b",
}
OTHER = ("#8d99ae", "#5c677d")


def plot(rows: Sequence[Row], folder: Path, title: str) -> list[Path]:
    """Draw medians as bars and the rounds' range as whiskers; the files written."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    written: list[Path] = []
    for group, members in groupby(rows, key=lambda row: row.group):
        shown = [row for row in members if row.values]
        if not shown:
            continue
        figure_, axes = plt.subplots(
            1, len(shown), figsize=(2.6 * len(shown) + 0.6, 4.2), squeeze=False
        )
        for axis, row in zip(axes[0], shown, strict=True):
            _bars(axis, row)
        figure_.suptitle(f"{group} ({title})", fontsize=9)
        figure_.tight_layout()
        file = folder / f"{group}.png"
        figure_.savefig(file, dpi=110)
        plt.close(figure_)
        written.append(file)
    return written


def _bars(axis, row: Row) -> None:
    names = list(row.values)
    middles = [median(row.values[name]) for name in names]
    below = [m - min(row.values[name]) for name, m in zip(names, middles, strict=True)]
    above = [max(row.values[name]) - m for name, m in zip(names, middles, strict=True)]
    colours = [COLOURS.get(name, OTHER[i % 2]) for i, name in enumerate(names)]
    drawn = axis.bar(names, middles, yerr=[below, above], color=colours, capsize=3)
    axis.bar_label(drawn, labels=[figure(value) for value in middles], fontsize=7, padding=2)
    arrow = "higher is better" if row.higher_is_better else "lower is better"
    axis.set_title(row.measure.replace(", ", "\n"), fontsize=8)
    axis.set_ylabel(f"{row.unit}, {arrow}", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.margins(y=0.15)
