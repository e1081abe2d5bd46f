"""Importances of statistics (or of other features) in an experiment, as bars."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from goaldriven.report.levels import in_order
from goaldriven.report.names import group_label, level_label
from goaldriven.report.style import WIDTH, group_colour, new_figure, styled
from goaldriven.specs import STATISTICS

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

_LABELS = {
    "gini": "Gini importance\n(summed over the trajectory)",
    "permutation": "permutation importance\n(accuracy lost)",
    "permutation by statistic": "permutation importance\n(accuracy lost)",
    "gini by epoch": "Gini importance\n(summed over the statistics)",
    "permutation by epoch": "permutation importance of an epoch\n(accuracy lost)",
    "layer_accuracy": "accuracy on layers\nby itself",
}

_COLOURED = ("weight", "activation", "activity_change", "layer_position")


@styled
def importances(table: pd.DataFrame, plot: Plot) -> Figure:
    """Importance of each level of ``plot.x``, a panel for each kind of importance.

    Bars are means ± s.e.m. (not over networks: see the caption); statistics are sorted by the first
    panel of their row and coloured by measure, epochs in their order. Kinds with the same levels
    stand side by side.

    Parameters
    ----------
    table : columns x, ``metric``, ``mean``, ``sem`` and, where there are several kinds of one
        metric, ``importance``.
    """
    rows = _rows_of_panels(_kinds(table), plot)
    orders = [_order(row[0][1], plot.x) for row in rows]
    heights = [max(0.8, 0.158 * len(order)) for order in orders]
    figure = new_figure(WIDTH, sum(heights) + 0.65 * len(rows) + 0.3)
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    for i, (row, order) in enumerate(zip(rows, orders, strict=True)):
        first: Axes | None = None
        side_by_side = grid[i].subgridspec(1, len(row))
        for j, (label, bars) in enumerate(row):
            axes = figure.add_subplot(side_by_side[j], sharey=first)
            _bars(axes, label, bars, plot.x, order)
            if first is None:
                axes.set_yticks(range(len(order)), [level_label(plot.x, name) for name in order])
                axes.set_ylim(len(order) - 0.4, -0.6)
            else:
                axes.tick_params(axis="y", labelleft=False)
            first = first or axes
    named = [m for m in dict.fromkeys(_measure(str(n)) for n in orders[0]) if m in _COLOURED]
    if named:
        figure.legend(
            handles=[Patch(color=group_colour(m), label=group_label(m)) for m in named],
            loc="outside upper center",
            ncols=len(named),
            handlelength=1.1,
        )
    return figure


def _bars(axes: Axes, label: str, rows: pd.DataFrame, x: str, order: list[object]) -> None:
    place = {level: i for i, level in enumerate(order)}
    axes.barh(
        [place[level] for level in rows[x]],
        rows["mean"],
        0.78,
        color=[group_colour(_measure(str(level))) for level in rows[x]],
        xerr=rows["sem"].fillna(0.0),
        error_kw={"elinewidth": 0.8, "capsize": 1.3, "capthick": 0.8},
    )
    axes.axvline(0, color="black", lw=0.7)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="y", length=0)


def _kinds(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Label and rows of each panel: of each metric, and of each kind where it has several."""
    keys = [c for c in ("metric", "importance") if c in table]
    found = []
    for levels, rows in table.groupby(keys, sort=False, dropna=False):
        names = [level for level in levels if isinstance(level, str)]
        label = next((_LABELS[n] for n in names if n in _LABELS), " ".join(names))
        found.append((label.replace("_", " "), rows))
    known = list(_LABELS.values())
    return sorted(found, key=lambda f: known.index(f[0]) if f[0] in known else len(known))


def _rows_of_panels(
    kinds: list[tuple[str, pd.DataFrame]], plot: Plot
) -> list[list[tuple[str, pd.DataFrame]]]:
    """Kinds of importance of the same levels side by side, others below."""
    rows: dict[frozenset[object], list[tuple[str, pd.DataFrame]]] = {}
    for label, table in kinds:
        rows.setdefault(frozenset(table[plot.x]), []).append((label, table))
    return list(rows.values())


def _order(first: pd.DataFrame, x: str) -> list[object]:
    """Numbers, and epochs, by size; names by the mean, the highest first."""
    levels = list(dict.fromkeys(first[x]))
    if any(not isinstance(level, str) for level in levels):
        return in_order(levels)
    epochs = {level: int(m[1]) for level in levels if (m := re.fullmatch(r"epoch (\d+)", level))}
    mean = first.groupby(x)["mean"].mean().to_dict()
    others = [level for level in levels if level not in epochs]
    return [
        *sorted(others, key=lambda level: -mean[level]),
        *sorted(epochs, key=lambda level: epochs[level]),
    ]


def _measure(level: str) -> str:
    """The measure of a statistic, else the name itself, which may have a colour of its own."""
    return STATISTICS[level].measure if level in STATISTICS else level
