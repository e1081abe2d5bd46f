"""How weights change from one observation to the next, and which rule says it best."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from goaldriven.report.style import (
    GREY,
    LIGHT_GREY,
    WIDTH,
    RuleStyle,
    label_panel,
    new_figure,
    rule_legend,
    rule_styles,
    styled,
)
from goaldriven.specs import RULES

_SYNAPSES = (RuleStyle("#000000", "-", "X"), RuleStyle(GREY, (0, (1, 1)), "P"))
"""What is not a learning rule: real synapses of one and of another cell type."""


@styled
def weight_dynamics(moments: pd.DataFrame, comparison: pd.DataFrame, group: str = "rule") -> Figure:
    """Relative drift and spread of weights by their size, and held-out densities of rules.

    Left: mean Δw over mean w in bins of equal count; a curve that falls through 0 pulls weights
    back to a set point. Middle: standard deviation of Δw over mean w; level where changes scale
    with weights, falling as 1/w (dashed) where they do not. Right: log density of held-out weights
    less that of the best rule of synaptic dynamics, with 95% intervals.

    Parameters
    ----------
    moments : as `synapses.networks.weight_moments`, one curve per level of ``group``.
    comparison : rows of ``name`` (model), ``value``, ``low``, ``high`` and ``group``, such as the
        ``comparison`` rows of `synapses.networks.fit_networks`.
    group : the column that tells curves apart: learning rules, cell types.
    """
    levels = list(dict.fromkeys([*moments[group], *comparison[group]]))
    styles = _styles(levels)
    figure = new_figure(WIDTH, 3.0)
    drift, spread, models = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    for level, style in styles.items():
        mine = moments[moments[group] == level]
        if mine.empty:
            continue
        look = {"color": style.colour, "ls": style.dashes, "marker": style.marker,
                "lw": 1.1, "ms": 2.6, "mew": 0}  # fmt: skip
        drift.plot(mine["w_mean"], mine["dw_mean"] / mine["w_mean"], **look)
        spread.plot(mine["w_mean"], np.sqrt(mine["dw_var"]) / mine["w_mean"], **look)
    _finish_drift(drift)
    _finish_spread(spread, moments)
    _models(models, comparison, group, styles)
    rule_legend(figure, styles, markers=True)
    return figure


def _styles(levels: list[str]) -> dict[str, RuleStyle]:
    known = rule_styles([level for level in levels if level in RULES])
    others = [level for level in levels if level not in RULES]
    if len(others) <= len(_SYNAPSES):
        return {**known, **dict(zip(others, _SYNAPSES, strict=False))}
    return rule_styles(levels)


def _finish_drift(axes: Axes) -> None:
    axes.axhline(0, color=LIGHT_GREY, lw=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.1, linscale=2)
    axes.set_xlabel("w (1: a middling synapse)")
    axes.set_ylabel("mean Δw / mean w")
    label_panel(axes, "a  drift")


def _finish_spread(axes: Axes, moments: pd.DataFrame) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    x = np.geomspace(moments["w_mean"].min(), moments["w_mean"].max(), 50)
    additive = np.sqrt(low * high) / x
    axes.plot(x, additive, color=LIGHT_GREY, ls=(0, (4, 2)), lw=0.9, zorder=1)
    axes.set_ylim(low, high)
    axes.set_xlabel("w (1: a middling synapse)")
    axes.set_ylabel("s.d. Δw / mean w")
    label_panel(axes, "b  spread")


def _models(axes: Axes, comparison: pd.DataFrame, group: str, styles: dict[str, RuleStyle]) -> None:
    order = comparison.groupby("name")["value"].mean().sort_values().index
    place = {name: i for i, name in enumerate(order)}
    shown = [level for level in styles if level in set(comparison[group])]
    for k, level in enumerate(shown):
        mine = comparison[comparison[group] == level]
        y = mine["name"].map(place) - 0.32 * (2 * k / max(len(shown) - 1, 1) - 1)
        error = [mine["value"] - mine["low"], mine["high"] - mine["value"]]
        style = styles[level]
        axes.errorbar(
            mine["value"], y, xerr=np.maximum(error, 0), fmt=style.marker, color=style.colour,
            ms=3.2, mew=0, lw=0.8,
        )  # fmt: skip
    for i in range(len(order) - 1):
        axes.axhline(i + 0.5, color="#ececec", lw=0.6, zorder=0)
    axes.axvline(0, color=LIGHT_GREY, lw=0.8, zorder=1)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xticks([-10, -1, -0.1, 0], ["−10", "−1", "−0.1", "0"])
    axes.minorticks_off()
    axes.set_yticks(range(len(order)), list(order))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("log density − best (nats)")
    label_panel(axes, "c  which rule")
