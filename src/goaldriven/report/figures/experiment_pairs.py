"""A measure of every pair of rules, as half tables in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from goaldriven.report.figures.experiment_layout import (
    Panel,
    across,
    panels_of,
    text_inches,
    titled,
)
from goaldriven.report.levels import in_order
from goaldriven.report.names import level_label
from goaldriven.report.style import WIDTH, new_figure, styled

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

MARKED = "#D55E00"
"""Outline of cells that are marked."""

_CELL = (0.235, 0.5)
"""Least and largest side of a cell in inches."""

_FLAT = (0.18, 0.3)
"""Least and largest height of a cell."""

_PANEL = 3.4
"""Height of a panel in inches above which its cells are as flat as may be."""


def halves(table: pd.DataFrame, plot: Plot) -> list[object]:
    """The levels of ``plot.hue`` below and above the diagonal: the first two."""
    return in_order(table[plot.hue].tolist())[:2]


@styled
def pairs(table: pd.DataFrame, plot: Plot) -> Figure:
    """A measure of every pair of ``plot.x`` and ``plot.y``, panels by ``facet``.

    Below the diagonal the first level of ``hue``, above it the second. Numbers are per cent; the
    colour goes from the measure's reference (white) to 100% (dark); marked cells are outlined.

    Parameters
    ----------
    table : columns x, y, hue, facet, ``measure``, ``mean``, ``reference`` and ``plot.mark``.
    """
    names = in_order([*table[plot.x], *table[plot.y]])
    names.sort(key=str)
    labels = [level_label(plot.x, name) for name in names]
    panels = panels_of(table, plot.facet)
    left, n = text_inches(labels) + 0.1, len(names)
    abreast = across(len(panels), WIDTH - left, _CELL[0] * n + 0.15)
    wide = min(_CELL[1], (WIDTH - left) / abreast / n - 0.15 / n)
    high = min(wide, float(np.clip(_PANEL / n, *_FLAT)))
    crowded = text_inches(labels) + 0.05 > wide
    below = (text_inches(labels) if crowded else 0.15) + 0.1
    deep = -(-len(panels) // abreast)
    figure = new_figure(
        max(3.5, left + abreast * (wide * n + 0.15)), deep * (high * n + 0.3) + below + 0.35
    )
    grid = figure.subplots(deep, abreast, squeeze=False, sharex=True, sharey=True)
    shade = Normalize(float(table["reference"].mean()), 1.0, clip=True)
    for i, axes in enumerate(grid.flat):
        axes.set_visible(i < len(panels))
        if i >= len(panels):
            continue
        _half_tables(axes, panels[i], plot, names, shade, halves(table, plot))
        titled(axes, panels[i].title, wide * n)
        axes.set_xticks(range(n), labels, rotation=90 if crowded else 0)
        if i + abreast >= len(panels):
            axes.tick_params(axis="x", labelbottom=True)
        axes.tick_params(length=0)
    grid[0, 0].set_yticks(range(n), labels)
    return figure


def _half_tables(
    axes: Axes, panel: Panel, plot: Plot, names: list[object], shade: Normalize,
    parts: list[object],
) -> None:  # fmt: skip
    place = {name: i for i, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    marked = np.zeros_like(values, dtype=bool)
    for above, part in enumerate(parts):
        for row in panel.rows[panel.rows[plot.hue] == part].to_dict("records"):
            first, last = sorted((place[row[plot.x]], place[row[plot.y]]))
            cell = (first, last) if above else (last, first)
            values[cell] = row["mean"]
            marked[cell] = bool(plot.mark) and bool(row[plot.mark])
    axes.imshow(values, cmap="Blues", norm=shade, aspect="auto")
    for i, j in np.argwhere(np.isfinite(values)):
        colour = "white" if shade(values[i, j]) > 0.55 else "black"
        axes.annotate(f"{100 * values[i, j]:.0f}", (j, i), ha="center", va="center",
                      fontsize=6.5 if len(names) > 8 else 7.5, color=colour)  # fmt: skip
    for i, j in np.argwhere(marked):
        axes.add_patch(Rectangle((j - 0.44, i - 0.42), 0.88, 0.84, fill=False, ec=MARKED, lw=1.4))
    axes.plot([-0.5, len(names) - 0.5], [-0.5, len(names) - 0.5], color="#bdbdbd", lw=0.6)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(True)
