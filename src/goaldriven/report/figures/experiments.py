"""Figures of experiments: one function for each kind of `Plot`, tidy table → figure.

Every function takes the rows that are drawn (``Drawing.table`` of `goaldriven.report.drawings`)
and the plot that says which column is which. Accuracies are those on single layers, as published,
with the 95% interval over networks; where there is room, an open diamond is the accuracy of
verdicts on whole networks. Other measures of an experiment are drawn where the plot names them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from goaldriven.report.figures.experiment_grid import grid
from goaldriven.report.figures.experiment_importances import importances
from goaldriven.report.figures.experiment_layout import (
    accuracy_range,
    accuracy_ticks,
    across,
    chance_handle,
    legend,
    legend_rows,
    level_styles,
    panels_of,
    text_inches,
    title_lines,
    titled,
)
from goaldriven.report.figures.experiment_measures import measured_levels, measured_lines
from goaldriven.report.figures.experiment_pairs import pairs
from goaldriven.report.figures.experiment_panels import (
    level_panel,
    line_panel,
    number_axis,
    padded,
    tidy_grid,
)
from goaldriven.report.figures.experiment_reliability import reliability
from goaldriven.report.levels import in_order
from goaldriven.report.names import column_label, level_label
from goaldriven.report.style import WIDTH, new_figure, styled

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

ON_LAYERS = "accuracy on layers"


def experiment(table: pd.DataFrame, plot: Plot) -> Figure:
    """The figure of an experiment, by the kind of its plot."""
    if plot.kind == "lines" and not pd.api.types.is_numeric_dtype(table[plot.x]):
        return levels(table, plot)
    draw = _MEASURED.get(plot.kind) if plot.measures else None
    return (draw or _KINDS[plot.kind])(table, plot)


_MANY = 24
"""More rows than this are drawn closer together."""


@styled
def levels(table: pd.DataFrame, plot: Plot) -> Figure:
    """Accuracy at each level of ``plot.x`` (a row), coloured by ``hue``, panels by ``facet``.

    Filled marks are means over splits with the 95% interval over networks; open diamonds verdicts
    on whole networks; the dashed line is chance, row by row.

    Parameters
    ----------
    table : columns x, hue, facet, ``metric``, ``mean``, ``low``, ``high``, ``chance``.
    """
    rows = _rows(table, plot)
    labels = [level_label(plot.x, level) for level in rows]
    styles = level_styles(plot.hue, in_order(table[plot.hue].tolist()))
    panels = panels_of(table, plot.facet)
    left = text_inches(labels) + 0.3
    columns = across(len(panels), WIDTH - left, 1.35)
    inches = (WIDTH - left) / columns - 0.1
    slot, gap = (0.125, 0.08) if len(rows) <= _MANY else (0.07, 0.05)  # inches, colour and row
    slot = 0.19 if len(styles) == 1 and len(rows) <= _MANY else slot
    extra = [*_verdict_handles(table), chance_handle()]
    n_rows = -(-len(panels) // columns)
    above = 0.17 * title_lines(panels, inches) + 0.1
    height = n_rows * (max(0.5, len(rows) * (slot * len(styles) + gap)) + above + 0.15)
    height += 0.4 + 0.16 * legend_rows(plot.hue, styles, extra)
    figure = new_figure(WIDTH, height)
    grid_of_axes = figure.subplots(n_rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, panel in zip(grid_of_axes.flat, panels, strict=False):
        level_panel(axes, panel, plot, rows, styles)
        titled(axes, panel.title, inches)
        axes.set_xlim(*padded(accuracy_range(table)))
        accuracy_ticks(axes, "x", inches)
    tidy_grid(grid_of_axes, len(panels))
    first = grid_of_axes[0, 0]
    first.set_yticks(range(len(rows)), labels)
    first.set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(ON_LAYERS, fontsize=8)
    legend(figure, plot.hue, styles, extra=extra)
    return figure


def _rows(table: pd.DataFrame, plot: Plot) -> list[object]:
    """The levels in their order; statistics, of which there are many, by accuracy."""
    rows = in_order(table[plot.x].tolist())
    if plot.x != "statistic":
        return rows
    first = in_order(table[plot.hue].tolist())[0]
    chosen = table[(table[plot.hue] == first) & (table["metric"] == "layer_accuracy")]
    mean = chosen.groupby(plot.x)["mean"].mean().to_dict()
    return sorted(rows, key=lambda level: -mean.get(level, 0.0))


def _verdict_handles(table: pd.DataFrame) -> list[Line2D]:
    if not (table["metric"] == "network_accuracy").any():
        return []
    return [
        Line2D([], [], linestyle="none", marker="D", markersize=3.6, markerfacecolor="white",
               markeredgecolor="black", label="verdict on a whole network")
    ]  # fmt: skip


@styled
def lines(table: pd.DataFrame, plot: Plot) -> Figure:
    """Accuracy on layers over a numeric ``plot.x``, a line per ``hue``, panels by ``facet``.

    Bands are 95% intervals over networks (left out where there are many lines); the dashed line is
    chance.

    Parameters
    ----------
    table : columns x (numbers), hue, facet, ``metric``, ``mean``, ``low``, ``high``, ``chance``.
    """
    table = table[table["metric"] == "layer_accuracy"]
    styles = level_styles(plot.hue, in_order(table[plot.hue].tolist()))
    panels = panels_of(table, plot.facet)
    columns = across(len(panels), WIDTH - 0.4, 2.1, most=3 if len(panels) != 4 else 2)
    n_rows = -(-len(panels) // columns)
    extra = [chance_handle()]
    inches = (WIDTH - 0.5) / columns - 0.1
    height = 0.35 + 0.16 * legend_rows(plot.hue, styles, extra)
    figure = new_figure(WIDTH, height + n_rows * (1.75 if n_rows > 1 else 2.4))
    grid_of_axes = figure.subplots(n_rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, panel in zip(grid_of_axes.flat, panels, strict=False):
        line_panel(axes, panel, plot, styles)
        titled(axes, panel.title, inches)
        axes.set_ylim(*padded(accuracy_range(table)))
        accuracy_ticks(axes, "y", 1.5)
    tidy_grid(grid_of_axes, len(panels))
    number_axis(grid_of_axes[0, 0], table[plot.x], plot)
    figure.supxlabel(plot.x_label or column_label(plot.x), fontsize=8)
    figure.supylabel(ON_LAYERS, fontsize=8)
    legend(figure, plot.hue, styles, lines=True, extra=extra)
    return figure


_KINDS: dict[str, Callable[[pd.DataFrame, Plot], Figure]] = {
    "levels": levels,
    "lines": lines,
    "grid": grid,
    "importances": importances,
    "reliability": reliability,
    "pairs": pairs,
}

_MEASURED: dict[str, Callable[[pd.DataFrame, Plot], Figure]] = {
    "levels": measured_levels,
    "lines": measured_lines,
}
"""Of measures other than accuracies, where that is another function."""
