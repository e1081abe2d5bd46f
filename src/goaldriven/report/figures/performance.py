"""How well networks perform: at the end of training, and through it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from goaldriven.report.figures.metric_axis import chance_line, drawn, mark_diverged, metric_axis
from goaldriven.report.style import (
    MOST_BANDS,
    WIDTH,
    RuleStyle,
    label_panel,
    new_figure,
    rule_legend,
    rule_styles,
    styled,
)


@styled
def task_performance(performance: pd.DataFrame, rules: list[str] | None = None) -> Figure:
    """Final validation metric of every network: a panel per task, a column per architecture.

    Points are networks, boxes reach from the lower to the upper quartile with a line at the
    median; a cross on the axis is a diverged network; the dashed line is chance.

    Parameters
    ----------
    performance : from `tables.final_performance`.
    rules : the rules in the order of their colours; default the order of the table.
    """
    styles = rule_styles(rules or performance["rule"])
    shown = {rule: s for rule, s in styles.items() if rule in set(performance["rule"])}
    tasks = list(performance.groupby("task", sort=False))
    figure = new_figure(WIDTH, 0.5 + 2.3 * len(tasks))
    panels = figure.subplots(len(tasks), 1, squeeze=False)[:, 0]
    for axes, (task, group) in zip(panels, tasks, strict=True):
        architectures = list(dict.fromkeys(group["architecture"]))
        metric_axis(axes, group["final_metric"], group)
        width = 0.8 / len(shown)
        for i, (rule, style) in enumerate(shown.items()):
            for j, architecture in enumerate(architectures):
                chosen = group[(group["rule"] == rule) & (group["architecture"] == architecture)]
                centre = j - 0.4 + (i + 0.5) * width
                _box_and_points(axes, centre, width, chosen, style)
                diverged = int(chosen["final_metric"].isna().sum())
                mark_diverged(axes, centre, diverged, style, level=i % 2)
        chance_line(axes, group)
        axes.set_xticks(range(len(architectures)), architectures)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.5, len(architectures) - 0.5)
        label_panel(axes, str(task))
    rule_legend(figure, shown, lines=False)
    return figure


def _box_and_points(
    axes: Axes, centre: float, width: float, chosen: pd.DataFrame, style: RuleStyle
) -> None:
    values = drawn(axes, np.sort(chosen["final_metric"].dropna().to_numpy(dtype=float)))
    half = 0.36 * width
    ends = [centre - half, centre + half]
    if values.size:
        lower, middle, upper = np.percentile(values, [25, 50, 75])
        axes.fill_between(ends, lower, upper, color=style.colour, alpha=0.25, lw=0)
        # Spread over the width by rank in steps, not at random: the same data, the same picture.
        spread = ((np.arange(values.size) * 0.618) % 1 - 0.5) * 1.5 * half
        axes.plot(
            centre + spread,
            values,
            style.marker,
            color=style.colour,
            markersize=3,
            markeredgecolor="white",
            markeredgewidth=0.3,
        )
        axes.plot(ends, [middle] * 2, color=style.colour, lw=1.8, solid_capstyle="butt", zorder=2.5)


@styled
def learning_curves(curves: pd.DataFrame, rules: list[str] | None = None) -> Figure:
    """Validation metric through learning: median over networks, shaded between the quartiles.

    More than six rules are drawn without the shading.

    Parameters
    ----------
    curves : from `tables.learning_curves`; a panel per task, a line per rule.
    rules : the rules in the order of their colours; default the order of the table.
    """
    styles = rule_styles(rules or curves["rule"])
    shown = {rule: s for rule, s in styles.items() if rule in set(curves["rule"])}
    tasks = list(curves.groupby("task", sort=False))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = new_figure(WIDTH if columns > 1 else 5.0, 0.45 + 2.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes, (task, group) in zip(panels, tasks, strict=False):
        metric_axis(axes, pd.concat([group["lower_quartile"], group["upper_quartile"]]), group)
        for rule, style in shown.items():
            line = group[group["rule"] == rule]
            if len(shown) <= MOST_BANDS:
                band = (drawn(axes, line[c]) for c in ("lower_quartile", "upper_quartile"))
                axes.fill_between(line["epoch"], *band, color=style.colour, alpha=0.2, lw=0)
            axes.plot(
                line["epoch"],
                drawn(axes, line["median"]),
                color=style.colour,
                linestyle=style.dashes,
                lw=1.6,
            )
        chance_line(axes, group)
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        label_panel(axes, str(task))
    rule_legend(figure, shown)
    return figure
