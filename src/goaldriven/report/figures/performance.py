"""How well networks perform: at the end of training, and through it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from goaldriven.report.style import (
    GREY,
    WIDTH,
    RuleStyle,
    label_panel,
    new_figure,
    rule_legend,
    rule_styles,
    styled,
)

_CLIP = 0.001
_LOGIT_TICKS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999)


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
        _metric_axis(axes, group["final_metric"], group)
        width = 0.8 / len(shown)
        for i, (rule, style) in enumerate(shown.items()):
            for j, architecture in enumerate(architectures):
                chosen = group[(group["rule"] == rule) & (group["architecture"] == architecture)]
                centre = j - 0.4 + (i + 0.5) * width
                _box_and_points(axes, centre, width, chosen, style)
        _chance_line(axes, group)
        axes.set_xticks(range(len(architectures)), architectures)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.5, len(architectures) - 0.5)
        label_panel(axes, str(task))
    rule_legend(figure, shown, lines=False)
    return figure


def _box_and_points(
    axes: Axes, centre: float, width: float, chosen: pd.DataFrame, style: RuleStyle
) -> None:
    values = _drawn(axes, np.sort(chosen["final_metric"].dropna().to_numpy(dtype=float)))
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
    _mark_diverged(axes, centre, int(chosen["final_metric"].isna().sum()), style)


def _mark_diverged(axes: Axes, x: float, count: int, style: RuleStyle) -> None:
    """A cross on the axis, with the number of networks where it is more than one."""
    if not count:
        return
    on_axis = axes.get_xaxis_transform()
    axes.plot(
        x,
        0,
        "x",
        color=style.colour,
        markersize=4.5,
        markeredgewidth=1.3,
        transform=on_axis,
        clip_on=False,
        zorder=5,
    )
    if count > 1:
        axes.annotate(
            str(count),
            (x, 0),
            xycoords=on_axis,
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )


@styled
def learning_curves(curves: pd.DataFrame, rules: list[str] | None = None) -> Figure:
    """Validation metric through learning: median over networks, shaded between the quartiles.

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
        _metric_axis(axes, pd.concat([group["lower_quartile"], group["upper_quartile"]]), group)
        for rule, style in shown.items():
            line = group[group["rule"] == rule]
            band = (_drawn(axes, line[c]) for c in ("lower_quartile", "upper_quartile"))
            axes.fill_between(line["epoch"], *band, color=style.colour, alpha=0.2, lw=0)
            axes.plot(
                line["epoch"],
                _drawn(axes, line["median"]),
                color=style.colour,
                linestyle=style.dashes,
                lw=1.6,
            )
        _chance_line(axes, group)
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        label_panel(axes, str(task))
    rule_legend(figure, shown)
    return figure


def _metric_axis(axes: Axes, values: pd.Series, group: pd.DataFrame) -> None:
    """A logit axis for fractions, so that 0.97 and 0.99 stay apart with chance still in sight."""
    finite = values[np.isfinite(values)]
    chance = group["chance"].dropna()
    low = min([*finite, *chance], default=0.0)
    high = max([*finite, *chance], default=1.0)
    axes.set_ylabel(f"validation {group['metric_name'].iloc[0]}")
    axes.grid(axis="y", color="#ececec", lw=0.6)
    if low < 0 or high > 1:
        return
    axes.set_yscale("logit")
    bottom = _next_below(max(low, _CLIP))
    top = _next_above(min(high, 1 - _CLIP))
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_locator(FixedLocator(_ticks(bottom, top)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _ticks(bottom: float, top: float) -> list[float]:
    return [t for t in _LOGIT_TICKS if bottom <= t <= top]


def _next_below(value: float) -> float:
    """A limit a little below the value, by a fixed step in log odds."""
    return 1 / (1 + (1 - value) / value * np.exp(0.5))


def _next_above(value: float) -> float:
    return 1 / (1 + (1 - value) / value * np.exp(-0.5))


def _drawn(axes: Axes, values: pd.Series | np.ndarray) -> np.ndarray:
    """Values as drawn: 0 and 1 have no place on a logit axis and lie at its clipped ends."""
    array = np.asarray(values, dtype=float)
    return np.clip(array, _CLIP, 1 - _CLIP) if axes.get_yscale() == "logit" else array


def _chance_line(axes: Axes, group: pd.DataFrame) -> None:
    chance = group["chance"].dropna()
    if chance.empty:
        return
    axes.axhline(chance.iloc[0], color=GREY, lw=0.9, linestyle=(0, (4, 2)), zorder=1)
    axes.annotate(
        "chance",
        (1, chance.iloc[0]),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        color=GREY,
        fontsize=7,
    )
