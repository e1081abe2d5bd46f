"""Single panels of figures of experiments: marks in rows, and lines over numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from numpy.typing import NDArray

from goaldriven.report.figures.experiment_layout import CHANCE_DASHES, Panel
from goaldriven.report.style import GREY, MOST_BANDS, RuleStyle

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot

_FEW = 6


def level_panel(
    axes: Axes, panel: Panel, plot: Plot, rows: list[object], styles: dict[object, RuleStyle]
) -> None:
    """A mark per row and hue with its interval; of accuracies, verdicts as open diamonds."""
    position = {level: i for i, level in enumerate(rows)}
    offsets = dict(zip(styles, 0.76 * ((np.arange(len(styles)) + 0.5) / len(styles) - 0.5),
                       strict=True))  # fmt: skip
    layers, networks = _filled_and_open(panel.rows)
    for level, style in styles.items():
        mine = layers[layers[plot.hue] == level]
        y = np.array([position[x] for x in mine[plot.x]], dtype=float) + offsets[level]
        axes.hlines(y, mine["low"], mine["high"], style.colour, lw=1.3, alpha=0.75)
        _marks(
            axes, mine["mean"], y, marker=style.marker, color=style.colour, markersize=4.2,
            markeredgecolor="white", markeredgewidth=0.4, zorder=3,
        )  # fmt: skip
        verdicts = networks[networks[plot.hue] == level]
        y = np.array([position[x] for x in verdicts[plot.x]], dtype=float) + offsets[level]
        _marks(
            axes, verdicts["mean"], y, marker="D", markersize=2.8, markerfacecolor="white",
            markeredgecolor=style.colour, markeredgewidth=0.8, zorder=4,
        )  # fmt: skip
    chances = layers.groupby(plot.x)["chance"].mean().dropna()
    for level, chance in chances.items():
        middle = position[level]
        axes.plot([chance, chance], [middle - 0.5, middle + 0.5], color=GREY, lw=0.9,
                  linestyle=CHANCE_DASHES, zorder=1)  # fmt: skip
    for edge in np.arange(len(rows) - 1) + 0.5:
        axes.axhline(edge, color="#efefef", lw=0.8, zorder=0)
    axes.tick_params(axis="y", length=0)


def _marks(axes: Axes, x: pd.Series, y: NDArray[np.float64], **style: Any) -> None:
    """Marks that may overlap the frame. Where there are none the layout must not make room."""
    if len(x):
        axes.plot(x, y, linestyle="none", clip_on=False, **style)


def _filled_and_open(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of accuracy on layers and on networks; other measures have filled marks alone."""
    if "metric" not in rows:
        return rows, rows.iloc[:0]
    return rows[rows["metric"] == "layer_accuracy"], rows[rows["metric"] == "network_accuracy"]


def line_panel(axes: Axes, panel: Panel, plot: Plot, styles: dict[object, RuleStyle]) -> None:
    """A line per hue with its band, and what it is to be compared with, dashed."""
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
    chance = rows.groupby(plot.x)["chance"].mean().dropna()
    if chance.empty:
        return
    if len(chance) == 1 or np.ptp(chance) < 1e-9:
        axes.axhline(chance.iloc[0], color=GREY, lw=0.9, linestyle=CHANCE_DASHES, zorder=1)
    else:
        axes.plot(chance.index, chance, color=GREY, lw=0.9, linestyle=CHANCE_DASHES, zorder=1)


def number_axis(axes: Axes, values: pd.Series, plot: Plot) -> None:
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


def padded(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return low - 0.02 * (high - low), high + 0.03 * (high - low)


def tidy_grid(grid_of_axes: np.ndarray, n_panels: int) -> None:
    """Hide panels that hold nothing; the lowest of each column then has the axis's numbers."""
    columns = grid_of_axes.shape[1]
    for i, axes in enumerate(grid_of_axes.flat):
        axes.set_visible(i < n_panels)
        if i < n_panels <= i + columns:
            axes.tick_params(axis="x", labelbottom=True)
