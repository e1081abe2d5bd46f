"""How often verdicts are right, over how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from goaldriven.report.figures.experiment_layout import (
    CHANCE_DASHES,
    Panel,
    legend,
    legend_rows,
    level_styles,
    panels_of,
    titled,
    wrapped,
)
from goaldriven.report.figures.experiment_measures import drawn_measures, reference_handles
from goaldriven.report.levels import in_order
from goaldriven.report.names import column_label
from goaldriven.report.style import GREY, WIDTH, RuleStyle, new_figure, styled

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

_MOST_ABREAST = 4


@styled
def reliability(table: pd.DataFrame, plot: Plot) -> Figure:
    """A measure over the confidence ``plot.x``, by ``hue``; below, the verdicts in each bin.

    Marks lie at the mean confidence of a bin, with their 95% intervals; on the dashed diagonal the
    verdicts are right as often as they are sure. The counts are on a logarithmic scale.

    Parameters
    ----------
    table : columns x, hue, facet, ``left``, ``right``, ``count``, ``measure``, ``mean``, ``low``,
        ``high``; one row per bin that is not empty.
    """
    styles = level_styles(plot.hue, in_order(table[plot.hue].tolist()))
    panels = panels_of(table, plot.facet)
    abreast = min(_MOST_ABREAST, len(panels))
    deep = -(-len(panels) // abreast)
    inches = min(2.4, (WIDTH - 0.5) / abreast - 0.1)
    [measure] = drawn_measures(table, plot)
    extra = reference_handles([measure])
    height = 0.4 + 0.16 * legend_rows(plot.hue, styles, extra) + deep * (inches + 0.95)
    figure = new_figure(WIDTH if abreast > 2 else 5.0, height)
    grid = figure.subplots(
        2 * deep, abreast, squeeze=False, sharex=True, sharey="row",
        gridspec_kw={"height_ratios": [inches, 0.6] * deep},
    )  # fmt: skip
    for i, panel in enumerate(panels):
        down, along = 2 * (i // abreast), i % abreast
        _curve(grid[down, along], panel, plot, styles)
        _counts(grid[down + 1, along], panel, plot, styles, table["count"].max())
        titled(grid[down, along], panel.title, inches)
    for i in range(len(panels), deep * abreast):
        for row in (0, 1):
            grid[2 * (i // abreast) + row, i % abreast].set_visible(False)
    for i in range(deep):
        grid[2 * i, 0].set_ylabel(wrapped(measure.label, 1.5))
        grid[2 * i + 1, 0].set_ylabel("verdicts")
    figure.supxlabel(plot.x_label or column_label(plot.x), fontsize=8)
    legend(figure, plot.hue, styles, extra=extra)
    return figure


def _curve(axes: Axes, panel: Panel, plot: Plot, styles: dict[object, RuleStyle]) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.9, linestyle=CHANCE_DASHES, zorder=1)
    for level, style in styles.items():
        mine = panel.rows[panel.rows[plot.hue] == level].sort_values(plot.x)
        if mine.empty:  # marks beyond the frame would have room made for them
            continue
        axes.vlines(mine[plot.x], mine["low"], mine["high"], style.colour, lw=1.2, alpha=0.6)
        axes.plot(
            mine[plot.x], mine["mean"], style.marker, color=style.colour, markersize=4.2,
            markeredgecolor="white", markeredgewidth=0.4, zorder=3, clip_on=False,
        )  # fmt: skip
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5]))
    axes.grid(color="#ececec", lw=0.6)


def _counts(
    axes: Axes, panel: Panel, plot: Plot, styles: dict[object, RuleStyle], most: float
) -> None:
    """A bar per bin and hue, side by side within the bin."""
    for i, (level, style) in enumerate(styles.items()):
        mine = panel.rows[panel.rows[plot.hue] == level]
        share = 0.9 * (mine["right"] - mine["left"]) / len(styles)
        start = mine["left"] + 0.05 * (mine["right"] - mine["left"]) + i * share
        axes.bar(start, mine["count"], share, align="edge", color=style.colour)
    axes.set_yscale("log")
    powers = range(int(np.log10(most)) + 1)
    axes.set_ylim(0.6, 1.6 * max(most, 2.0))
    axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
