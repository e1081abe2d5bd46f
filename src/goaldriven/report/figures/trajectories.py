"""Example trajectories of observables, by learning rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from goaldriven.report.names import statistic_label
from goaldriven.report.style import (
    WIDTH,
    label_panel,
    new_figure,
    rule_legend,
    rule_styles,
    styled,
)

_COLUMNS = 3


@styled
def trajectories(
    medians: pd.DataFrame, single: pd.DataFrame | None = None, rules: list[str] | None = None
) -> Figure:
    """Trajectories of a few statistics: thick medians per rule over thin lines of single layers.

    Parameters
    ----------
    medians : from `tables.median_trajectories`; a panel per statistic.
    single : from `tables.trajectories`, the layers to draw as thin lines; None for none.
    rules : the rules in the order of their colours; default the order of the table.

    Axes that hold positive values over more than a factor of 20 are logarithmic. Thin lines that
    leave the span of 98% of the values leave the panel.
    """
    styles = rule_styles(rules or medians["rule"])
    shown = {rule: s for rule, s in styles.items() if rule in set(medians["rule"])}
    statistics = list(dict.fromkeys(medians["statistic"]))
    columns = min(_COLUMNS, len(statistics))
    rows = -(-len(statistics) // columns)
    figure = new_figure(WIDTH, 0.45 + 1.75 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes in panels[len(statistics) :]:
        axes.remove()
    for axes, statistic in zip(panels, statistics, strict=False):
        median = medians[medians["statistic"] == statistic]
        thin = single[single["statistic"] == statistic] if single is not None else None
        for rule, style in shown.items():
            if thin is not None:
                _thin_lines(axes, thin[thin["rule"] == rule], style.colour, len(shown))
            line = median[median["rule"] == rule]
            axes.plot(line["epoch"], line["median"], color="white", lw=3.2, zorder=3)
            axes.plot(
                line["epoch"],
                line["median"],
                color=style.colour,
                linestyle=style.dashes,
                lw=1.9,
                zorder=4,
            )
        _value_axis(axes, median, thin)
        label_panel(axes, statistic_label(statistic))
        axes.set_xlim(median["epoch"].min(), max(median["epoch"].max(), 1))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("value of the statistic (units of the network)", fontsize=8)
    rule_legend(figure, shown)
    return figure


def _thin_lines(axes: Axes, single: pd.DataFrame, colour: str, n_rules: int) -> None:
    """One thin line per layer, as one rasterised collection: hundreds would swell the SVG."""
    if single.empty:
        return
    groups = single.groupby(["network_id", "layer"], sort=False)
    lines = [np.column_stack((group["epoch"], group["value"])) for _, group in groups]
    alpha = float(np.clip(12 / len(lines), 0.12, 0.5)) if n_rules > 1 else 0.3
    axes.add_collection(
        LineCollection(lines, colors=colour, linewidths=0.5, alpha=alpha, rasterized=True)
    )


def _value_axis(axes: Axes, median: pd.DataFrame, single: pd.DataFrame | None) -> None:
    """Scale and limits from the middle 98% of the values and all the medians."""
    values = median["median"].to_numpy(dtype=float)
    if single is not None and len(single):
        drawn = single["value"].to_numpy(dtype=float)
        drawn = drawn[np.isfinite(drawn)]
        values = np.concatenate([values, np.percentile(drawn, [1, 99])]) if drawn.size else values
    values = values[np.isfinite(values)]
    if values.size == 0:
        return
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 20:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
        return
    margin = 0.06 * (high - low) or max(abs(high), 1e-12) * 0.1
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.ticklabel_format(axis="y", scilimits=(-2, 4), useMathText=True)
    axes.yaxis.get_offset_text().set_fontsize(7)
