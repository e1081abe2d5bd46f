"""The same metaparameters on every architecture, against backprop (thesis Figure 5.3)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from goaldriven.report.figures.metric_axis import chance_line, drawn, mark_diverged, metric_axis
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

_SPREAD = 0.56
"""Width over which the rules' points at one architecture lie beside one another."""


@styled
def robustness(table: pd.DataFrame, rules: list[str] | None = None) -> Figure:
    """Final metric by architecture, and the gap to backprop, a connected line for each rule.

    Points are medians over networks with their intervals; a cross on the axis stands for diverged
    networks, with their number where it is more than one; a line breaks where all diverged. Upper
    panel of each task: the metric, the dashed line is chance. Lower: what a rule lacks to (below 0)
    or has over backprop in percentage points.

    Parameters
    ----------
    table : from `robustness.by_architecture`.
    rules : the rules in the order of their colours; default the order of the table.
    """
    styles = rule_styles(rules or table["rule"])
    shown = {rule: s for rule, s in styles.items() if rule in set(table["rule"])}
    tasks = list(table.groupby("task", sort=False))
    figure = new_figure(WIDTH, 0.55 + 4.2 * len(tasks))
    panels = figure.subplots(
        2 * len(tasks), 1, squeeze=False, gridspec_kw={"height_ratios": [1.25, 1] * len(tasks)}
    )[:, 0]
    for (task, group), upper, lower in zip(tasks, panels[::2], panels[1::2], strict=True):
        _metric(upper, group, shown)
        _gap(lower, group, shown)
        label_panel(upper, f"{task}: {group['metric_name'].iloc[0]}")
        label_panel(lower, f"{task}: difference from backprop")
    rule_legend(figure, shown, markers=True)
    return figure


def _metric(axes: Axes, group: pd.DataFrame, shown: dict[str, RuleStyle]) -> None:
    ends = pd.concat([group["median"], group["low"], group["high"]])
    metric_axis(axes, ends if group["median"].between(0, 1).all() else group["median"], group)
    _lines(axes, group, shown, "", 1.0)
    for i, (rule, x, chosen) in enumerate(_positions(group, shown)):
        for centre, diverged in zip(x, chosen["diverged"], strict=True):
            mark_diverged(axes, centre, int(diverged), shown[rule], level=i % 2)
    chance_line(axes, group)
    _architectures(axes, group)


def _gap(axes: Axes, group: pd.DataFrame, shown: dict[str, RuleStyle]) -> None:
    others = group[group["reference"] != ""]
    axes.axhline(0, color=GREY, lw=0.9, ls=(0, (4, 2)), zorder=1)
    axes.annotate(
        "backprop",
        (1, 0),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        color=GREY,
        fontsize=7,
    )
    _lines(axes, others, shown, "gap_", 100.0, like=group)
    axes.set_ylabel("percentage points")
    axes.grid(axis="y", color="#ececec", lw=0.6)
    _architectures(axes, group)


def _lines(
    axes: Axes,
    table: pd.DataFrame,
    shown: dict[str, RuleStyle],
    of: str,
    factor: float,
    like: pd.DataFrame | None = None,
) -> None:
    for rule, x, chosen in _positions(table, shown, like):
        style = shown[rule]
        middle, low, high = (
            drawn(axes, factor * chosen[f"{of}{name}"].to_numpy(dtype=float))
            for name in ("median", "low", "high")
        )
        axes.vlines(x, low, high, style.colour, lw=1.0)
        axes.plot(
            x,
            middle,
            color=style.colour,
            linestyle=style.dashes,
            lw=1.1,
            marker=style.marker,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
            zorder=3,
        )


def _positions(
    table: pd.DataFrame, shown: dict[str, RuleStyle], like: pd.DataFrame | None = None
) -> list[tuple[str, np.ndarray, pd.DataFrame]]:
    """Each rule with where its points lie and its rows, one per architecture in their order."""
    order = list(dict.fromkeys((table if like is None else like)["architecture"]))
    offsets = _SPREAD * ((np.arange(len(shown)) + 0.5) / len(shown) - 0.5)
    found = []
    for offset, rule in zip(offsets, shown, strict=True):
        mine = table[table["rule"] == rule].set_index("architecture").reindex(order)
        if mine["median"].notna().any() or (mine["diverged"] > 0).any():
            mine["diverged"] = mine["diverged"].fillna(0)
            found.append((rule, np.arange(len(order)) + offset, mine))
    return found


def _architectures(axes: Axes, group: pd.DataFrame) -> None:
    names = list(dict.fromkeys(group["architecture"]))
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(names) - 0.5)
    for edge in np.arange(len(names) - 1) + 0.5:
        axes.axvline(edge, color="#efefef", lw=0.8, zorder=0)
