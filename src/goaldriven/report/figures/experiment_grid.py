"""Accuracies of an experiment as a table in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from goaldriven.report.figures.experiment_layout import (
    Panel,
    across,
    broken,
    panels_of,
    text_inches,
    title_lines,
    titled,
)
from goaldriven.report.levels import in_order
from goaldriven.report.names import column_label, level_label
from goaldriven.report.style import WIDTH, new_figure, styled

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

_MOST_COLUMNS = 12
"""More levels than this are better read down a table than across."""

_CELL = (0.36, 0.26)
"""Least width and height of a cell in inches, for a number of two or three digits."""

_MANY = 24
_NARROW = 0.17
"""More rows than ``_MANY`` are only so high, in inches."""

_WITH_INTERVAL = (0.4, 0.32)


@styled
def grid(table: pd.DataFrame, plot: Plot) -> Figure:
    """Accuracy on layers at each pair of levels of ``plot.x`` and ``hue``, panels by ``facet``.

    Numbers are per cent, with the 95% interval over networks below where there is room; the colour
    goes from chance (white) to 100% (dark). The axis with many levels runs down.

    Parameters
    ----------
    table : columns x, hue, facet, ``metric``, ``mean``, ``low``, ``high``, ``chance``.
    """
    table = table[table["metric"] == "layer_accuracy"]
    side, down = plot.x, plot.hue
    if len(set(table[side])) > max(_MOST_COLUMNS, len(set(table[down]))):
        side, down = down, side
    columns, rows = (in_order(table[c].tolist()) for c in (side, down))
    if set(rows) == set(columns):
        rows = columns  # what was trained on, what was tested: the diagonal runs down
    column_labels = [level_label(side, level) for level in columns]
    words = [word for label in column_labels for word in label.split()]
    left = text_inches([level_label(down, level) for level in rows]) + 0.5
    panels = panels_of(table, plot.facet)
    abreast = across(len(panels), WIDTH - left, max(1.2, _CELL[0] * len(columns)))
    inches = (WIDTH - left) / abreast - 0.12
    wide = min(0.95, inches / len(columns))
    narrow = _NARROW if len(rows) > _MANY else _CELL[1]
    high = 0.34 if wide >= _WITH_INTERVAL[0] and len(rows) <= _MOST_COLUMNS else narrow
    crowded = text_inches(words) + 0.05 > wide
    if not crowded:
        column_labels = [broken(label, wide) for label in column_labels]
    deepest = max(label.count("\n") for label in column_labels)
    below = (text_inches(column_labels) if crowded else 0.15 + 0.13 * deepest) + 0.15
    n_rows = -(-len(panels) // abreast)
    above = 0.17 * title_lines(panels, inches) + 0.08
    width = left + abreast * (wide * len(columns) + 0.12) + 0.1
    figure = new_figure(
        float(np.clip(width, 3.5, WIDTH)), n_rows * (above + high * len(rows) + below) + 0.25
    )
    grid_of_axes = figure.subplots(n_rows, abreast, squeeze=False, sharey=True)
    shade = Normalize(float(table["chance"].mean()), 1.0, clip=True)
    for i, axes in enumerate(grid_of_axes.flat):
        axes.set_visible(i < len(panels))
        if i < len(panels):
            _cells(axes, panels[i], (side, columns), (down, rows), shade,
                   wide >= _WITH_INTERVAL[0] and high >= _WITH_INTERVAL[1])  # fmt: skip
            titled(axes, panels[i].title, inches)
            axes.set_xticks(range(len(columns)), column_labels, rotation=90 if crowded else 0)
            axes.tick_params(length=0)
    grid_of_axes[0, 0].set_yticks(range(len(rows)), [level_label(down, level) for level in rows])
    figure.supxlabel(_axis_label(side, plot), fontsize=8)
    figure.supylabel(_axis_label(down, plot), fontsize=8)
    return figure


def _axis_label(column: str, plot: Plot) -> str:
    return plot.x_label if column == plot.x and plot.x_label else column_label(column)


def _cells(
    axes: Axes,
    panel: Panel,
    across_: tuple[str, list[object]],
    down: tuple[str, list[object]],
    shade: Normalize,
    interval: bool,
) -> None:
    """One matrix with its numbers."""
    wide = {
        name: panel.rows.pivot(index=down[0], columns=across_[0], values=name)
        .reindex(index=down[1], columns=across_[1])
        .to_numpy(dtype=float)
        for name in ("mean", "low", "high")
    }
    axes.imshow(wide["mean"], cmap="Blues", norm=shade, aspect="auto")
    for i, j in np.ndindex(*wide["mean"].shape):
        value = wide["mean"][i, j]
        if not np.isfinite(value):
            continue
        colour = "white" if shade(value) > 0.55 else "black"
        axes.annotate(f"{100 * value:.0f}", (j, i), xytext=(0, 4 if interval else 0),
                      textcoords="offset points", ha="center", va="center", fontsize=7.5,
                      color=colour)  # fmt: skip
        if interval:
            text = f"{100 * wide['low'][i, j]:.0f}–{100 * wide['high'][i, j]:.0f}"
            axes.annotate(text, (j, i), xytext=(0, -5), textcoords="offset points", ha="center",
                          va="center", fontsize=5.8, color=colour)  # fmt: skip
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(True)
