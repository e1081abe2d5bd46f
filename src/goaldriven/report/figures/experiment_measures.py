"""Measures of an experiment other than accuracies: a panel for each, by levels or over numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from goaldriven.report.figures.experiment_layout import (
    CHANCE_DASHES,
    Panel,
    accuracy_range,
    accuracy_ticks,
    legend,
    legend_rows,
    level_styles,
    panels_of,
    text_inches,
    titled,
    wrapped,
)
from goaldriven.report.figures.experiment_panels import (
    level_panel,
    line_panel,
    number_axis,
    padded,
)
from goaldriven.report.levels import in_order
from goaldriven.report.names import column_label, level_label
from goaldriven.report.style import GREY, WIDTH, new_figure, styled

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot
    from goaldriven.identify.experiments.spec import Measure

_MANY = 24
"""More marks down a panel than this are drawn closer together."""

_FEW = 6
"""So many numbers of an axis are themselves its ticks."""


@styled
def measured_levels(table: pd.DataFrame, plot: Plot) -> Figure:
    """Measures (columns of panels) at each level of ``plot.x`` (rows), by ``facet`` (panels down).

    Of a single measure the levels of ``facet`` stand side by side. Marks have their 95% intervals;
    dashed is what each is to be compared with, row by row.

    Parameters
    ----------
    table : columns x, hue, facet, ``measure``, ``mean``, ``low``, ``high``, ``reference``.
    """
    measures = drawn_measures(table, plot)
    rows = in_order(table[plot.x].tolist())
    labels = [level_label(plot.x, level) for level in rows]
    styles = level_styles(plot.hue, in_order(table[plot.hue].tolist()))
    places = _places(table, plot, measures)
    left = text_inches(labels) + 0.5
    inches = (WIDTH - left) / places.shape[1] - 0.1
    slot, gap = (0.125, 0.08) if len(rows) * len(styles) <= 2 * _MANY else (0.075, 0.05)
    slot = 0.19 if len(styles) == 1 and len(rows) <= _MANY else slot
    extra = reference_handles(measures)
    one = max(0.5, len(rows) * (slot * len(styles) + gap)) + 0.3
    lowest = 0.4 + 0.12 * max(wrapped(m.label, inches).count("\n") for m in measures)
    figure = new_figure(
        WIDTH, one * len(places) + lowest + 0.16 * legend_rows(plot.hue, styles, extra)
    )
    grid = figure.subplots(*places.shape, squeeze=False, sharex="col", sharey=True)
    for at, axes in np.ndenumerate(grid):
        panel, measure = places[at]
        level_panel(axes, panel, plot, rows, styles)
        titled(axes, panel.title if at[1] == 0 or len(measures) == 1 else "", inches)
        axes.set_xlim(*padded(measure_range(table, measure)))
        accuracy_ticks(axes, "x", inches)
        if at[0] == len(places) - 1:
            axes.set_xlabel(wrapped(measure.label, inches))
    for axes in grid[:, 0]:
        axes.set_ylabel(plot.x_label or column_label(plot.x))
    grid[0, 0].set_yticks(range(len(rows)), labels)
    grid[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    legend(figure, plot.hue, styles, extra=extra)
    return figure


def _places(table: pd.DataFrame, plot: Plot, measures: Sequence[Measure]) -> np.ndarray:
    """Panel and measure of each place, (row, column)."""
    panels = panels_of(table.rename(columns={"reference": "chance"}), plot.facet)
    found = [
        (Panel(panel.title, panel.rows[panel.rows["measure"] == measure.column]), measure)
        for panel in panels
        for measure in measures
    ]
    shape = (1, len(panels)) if len(measures) == 1 else (len(panels), len(measures))
    places = np.empty(len(found), dtype=object)
    places[:] = found
    return places.reshape(shape)


@styled
def measured_lines(table: pd.DataFrame, plot: Plot) -> Figure:
    """Measures (panels down) over a numeric ``plot.x``, a line per ``hue``, by ``facet`` (across).

    Bands are 95% intervals, where there are any; dashed is what each is to be compared with.

    Parameters
    ----------
    table : columns x (numbers), hue, facet, ``measure``, ``mean``, ``low``, ``high``,
        ``reference``.
    """
    measures = drawn_measures(table, plot)
    styles = level_styles(plot.hue, in_order(table[plot.hue].tolist()))
    panels = panels_of(table.rename(columns={"reference": "chance"}), plot.facet)
    inches = (WIDTH - 0.5) / len(panels) - 0.1
    extra = reference_handles(measures)
    height = 0.55 + 0.16 * legend_rows(plot.hue, styles, extra) + 1.55 * len(measures)
    figure = new_figure(WIDTH, height)
    grid = figure.subplots(len(measures), len(panels), squeeze=False, sharex=True, sharey="row")
    for i, measure in enumerate(measures):
        for j, panel in enumerate(panels):
            axes = grid[i, j]
            mine = panel.rows[panel.rows["measure"] == measure.column]
            line_panel(axes, Panel(panel.title, mine), plot, styles)
            titled(axes, panel.title if i == 0 else "", inches)
            axes.set_ylim(*padded(measure_range(table, measure)))
            accuracy_ticks(axes, "y", 1.5)
        grid[i, 0].set_ylabel(wrapped(measure.label, 1.5))
    numbers = np.unique(table[plot.x])
    if plot.log_x:
        number_axis(grid[0, 0], table[plot.x], plot)
    elif len(numbers) <= _FEW:
        grid[0, 0].xaxis.set_major_locator(FixedLocator(numbers.tolist()))
        grid[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.supxlabel(plot.x_label or column_label(plot.x), fontsize=8)
    legend(figure, plot.hue, styles, lines=True, extra=extra)
    return figure


def drawn_measures(table: pd.DataFrame, plot: Plot) -> list[Measure]:
    """Those that the table has."""
    return [measure for measure in plot.measures if (table["measure"] == measure.column).any()]


def reference_handles(measures: Sequence[Measure]) -> list[Line2D]:
    """One dashed line for the legend, whatever it is in each panel."""
    named = dict.fromkeys(m.reference_label for m in measures if m.reference_label)
    if not named:
        return []
    label = " or ".join(named)
    return [Line2D([], [], color=GREY, lw=0.9, linestyle=CHANCE_DASHES, label=label)]


def measure_range(table: pd.DataFrame, measure: Measure) -> tuple[float, float]:
    """Limits that hold a measure with its intervals and what it is compared with."""
    mine = table[table["measure"] == measure.column].rename(columns={"reference": "chance"})
    ends = mine[["mean", "low", "high", "chance"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    if low >= 0 and high <= 1:
        return accuracy_range(mine)
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin
