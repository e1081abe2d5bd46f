"""Figures of experiments: one function for each kind of `Plot`, tidy table → figure.

Every function takes the rows that are drawn (``Drawing.table`` of `goaldriven.report.experiments`)
and the plot that says which column is which. Accuracies are those on single layers, as published,
with the 95% interval over networks; where there is room, an open diamond is the accuracy of
verdicts on whole networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from goaldriven.report.experiments import in_order
from goaldriven.report.figures.experiment_grid import grid
from goaldriven.report.figures.experiment_importances import importances
from goaldriven.report.figures.experiment_layout import (
    CHANCE_DASHES,
    Panel,
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
from goaldriven.report.names import column_label, level_label
from goaldriven.report.style import GREY, MOST_BANDS, WIDTH, RuleStyle, new_figure, styled

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

ON_LAYERS = "accuracy on layers"


def experiment(table: pd.DataFrame, plot: Plot) -> Figure:
    """The figure of an experiment, by the kind of its plot."""
    if plot.kind == "lines" and not pd.api.types.is_numeric_dtype(table[plot.x]):
        return levels(table, plot)
    return _KINDS[plot.kind](table, plot)


_FEW = 6

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
        _level_panel(axes, panel, plot, rows, styles)
        titled(axes, panel.title, inches)
        axes.set_xlim(*_padded(accuracy_range(table)))
        accuracy_ticks(axes, "x", inches)
    _tidy_grid(grid_of_axes, len(panels))
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


def _level_panel(
    axes: Axes, panel: Panel, plot: Plot, rows: list[object], styles: dict[object, RuleStyle]
) -> None:
    position = {level: i for i, level in enumerate(rows)}
    offsets = dict(zip(styles, 0.76 * ((np.arange(len(styles)) + 0.5) / len(styles) - 0.5),
                       strict=True))  # fmt: skip
    by_metric = dict(list(panel.rows.groupby("metric")))
    layers = by_metric.get("layer_accuracy", panel.rows.iloc[:0])
    for level, style in styles.items():
        mine = layers[layers[plot.hue] == level]
        y = np.array([position[x] for x in mine[plot.x]], dtype=float) + offsets[level]
        axes.hlines(y, mine["low"], mine["high"], style.colour, lw=1.3, alpha=0.75)
        axes.plot(
            mine["mean"], y, style.marker, color=style.colour, markersize=4.2,
            markeredgecolor="white", markeredgewidth=0.4, zorder=3, clip_on=False,
        )  # fmt: skip
        networks = by_metric.get("network_accuracy", panel.rows.iloc[:0])
        networks = networks[networks[plot.hue] == level]
        y = np.array([position[x] for x in networks[plot.x]], dtype=float) + offsets[level]
        axes.plot(
            networks["mean"], y, "D", markersize=2.8, markerfacecolor="white",
            markeredgecolor=style.colour, markeredgewidth=0.8, zorder=4, clip_on=False,
        )  # fmt: skip
    chances = layers.groupby(plot.x)["chance"].mean()
    for level, chance in chances.items():
        middle = position[level]
        axes.plot([chance, chance], [middle - 0.5, middle + 0.5], color=GREY, lw=0.9,
                  linestyle=CHANCE_DASHES, zorder=1)  # fmt: skip
    for edge in np.arange(len(rows) - 1) + 0.5:
        axes.axhline(edge, color="#efefef", lw=0.8, zorder=0)
    axes.tick_params(axis="y", length=0)


def _verdict_handles(table: pd.DataFrame) -> list[Line2D]:
    if not (table["metric"] == "network_accuracy").any():
        return []
    return [
        Line2D([], [], linestyle="none", marker="D", markersize=3.6, markerfacecolor="white",
               markeredgecolor="black", label="verdict on a whole network")
    ]  # fmt: skip


def _padded(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return low - 0.02 * (high - low), high + 0.03 * (high - low)


def _tidy_grid(grid_of_axes: np.ndarray, n_panels: int) -> None:
    """Hide panels that hold nothing; the lowest of each column then has the axis's numbers."""
    columns = grid_of_axes.shape[1]
    for i, axes in enumerate(grid_of_axes.flat):
        axes.set_visible(i < n_panels)
        if i < n_panels <= i + columns:
            axes.tick_params(axis="x", labelbottom=True)


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
        _line_panel(axes, panel, plot, styles)
        titled(axes, panel.title, inches)
        axes.set_ylim(*_padded(accuracy_range(table)))
        accuracy_ticks(axes, "y", 1.5)
    _tidy_grid(grid_of_axes, len(panels))
    _number_axis(grid_of_axes[0, 0], table[plot.x], plot)
    figure.supxlabel(plot.x_label or column_label(plot.x), fontsize=8)
    figure.supylabel(ON_LAYERS, fontsize=8)
    legend(figure, plot.hue, styles, lines=True, extra=extra)
    return figure


def _line_panel(axes: Axes, panel: Panel, plot: Plot, styles: dict[object, RuleStyle]) -> None:
    rows = panel.rows.sort_values(plot.x)
    for level, style in styles.items():
        mine = rows[rows[plot.hue] == level]
        axes.plot(
            mine[plot.x], mine["mean"], color=style.colour, linestyle=style.dashes, lw=1.4,
            marker=style.marker, markersize=3.8, markeredgecolor="white", markeredgewidth=0.4,
            zorder=3,
        )  # fmt: skip
        if len(mine) == 1:  # a band of one point has no width
            axes.vlines(mine[plot.x], mine["low"], mine["high"], style.colour, lw=1.0, alpha=0.75)
        elif len(styles) <= MOST_BANDS:
            axes.fill_between(mine[plot.x], mine["low"], mine["high"], color=style.colour,
                              alpha=0.15, lw=0)  # fmt: skip
    chance = rows.groupby(plot.x)["chance"].mean()
    if len(chance) == 1 or np.ptp(chance) < 1e-9:
        axes.axhline(chance.iloc[0], color=GREY, lw=0.9, linestyle=CHANCE_DASHES, zorder=1)
    else:
        axes.plot(chance.index, chance, color=GREY, lw=0.9, linestyle=CHANCE_DASHES, zorder=1)


def _number_axis(axes: Axes, values: pd.Series, plot: Plot) -> None:
    """A logarithmic scale where it is asked for, linear around 0 where there is one.

    Few numbers are themselves the ticks; of many, the powers of ten.
    """
    if not plot.log_x:
        return
    positive = values[values > 0]
    if len(positive) == len(values):
        axes.set_xscale("log")
    elif len(positive):
        axes.set_xscale("symlog", linthresh=positive.min(), linscale=0.5)
    axes.xaxis.set_minor_formatter(NullFormatter())
    numbers = np.unique(values)
    if len(numbers) <= _FEW:
        axes.xaxis.set_major_locator(FixedLocator(numbers.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


_KINDS: dict[str, Callable[[pd.DataFrame, Plot], Figure]] = {
    "levels": levels,
    "lines": lines,
    "grid": grid,
    "importances": importances,
}
