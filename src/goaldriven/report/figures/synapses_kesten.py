"""Figures of the Kesten process and of the comparison of rules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from goaldriven.report.figures.synapses import group_styles
from goaldriven.report.figures.synapses_markov import Line
from goaldriven.report.style import (
    GREY,
    LIGHT_GREY,
    WIDTH,
    RuleStyle,
    label_panel,
    new_figure,
    rule_legend,
    styled,
)


@styled
def moments(rows: pd.DataFrame, full: Mapping[str, Line], without: Mapping[str, Line]) -> Figure:
    """Mean change against size, and variance of change against squared size, with their lines.

    Points are bins of equal count; solid the fit with an additive part, dashed the one without.

    Parameters
    ----------
    rows : ``kesten_moments`` of an `Analysis`.
    full, without : group → parameters of the two fits.
    """
    groups = list(dict.fromkeys(rows["group"]))
    styles = group_styles(groups)
    figure = new_figure(WIDTH, 0.4 + 2.2 * len(groups))
    panels = figure.subplots(len(groups), 2, squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        of = rows[rows["group"] == group]
        for axes, x, y, slope, intercept in (
            (row[0], "w_mean", "dw_mean", "mu_a", "mu_b"),
            (row[1], "w2_mean", "dw_var", "var_a", "var_b"),
        ):
            style = styles[group]
            axes.axhline(0, color=LIGHT_GREY, lw=0.8)
            axes.plot(of[x], of[y], "o", markersize=3.5, color=style.colour)
            grid = np.array([0, of[x].max() * 1.03])
            for fits, dashes in ((full, "-"), (without, (0, (4, 2)))):
                if group in fits:
                    line = fits[group]
                    axes.plot(
                        grid, line[slope] * grid + line[intercept], color="black", lw=1.1,
                        linestyle=dashes,
                    )  # fmt: skip
            axes.set_xlim(0, grid[1])
        row[0].set_xlabel("size w (norm.)")
        row[0].set_ylabel("mean change, E[Δw]")
        row[1].set_xlabel("squared size, w²")
        row[1].set_ylabel("variance of change, Var[Δw]")
        label_panel(row[0], f"{group}: mean")
        label_panel(row[1], f"{group}: variance")
    legend = {
        "bins of equal count": RuleStyle("#3d3d3d", "none", "o"),
        "Kesten": RuleStyle("#000000", "-", ""),
        "without additive part": RuleStyle("#000000", (0, (4, 2)), ""),
    }
    rule_legend(figure, legend, markers=True)
    return figure


@styled
def comparison(rows: pd.DataFrame, best: Mapping[str, str]) -> Figure:
    """How much worse each rule predicts held-out dendrites than the best, with 95% intervals.

    Parameters
    ----------
    rows : ``comparison`` of an `Analysis` (metric ``difference`` is drawn).
    best : group → name of its best rule, for the labels.
    """
    shown = rows[rows["metric"] == "difference"]
    groups = list(dict.fromkeys(shown["group"]))
    styles = group_styles(groups)
    models = list(dict.fromkeys(shown["model"]))
    figure = new_figure(WIDTH, 0.9 + 0.2 * len(models))
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        of = shown[shown["group"] == group].iloc[::-1]
        _differences(axes, of, styles[group])
        label_panel(axes, f"{group}: best is {best[group]}")
    return figure


def _differences(axes: Axes, rows: pd.DataFrame, style: RuleStyle) -> None:
    place = np.arange(len(rows))
    error = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    axes.axvline(0, color=GREY, lw=0.8)
    axes.errorbar(
        rows["value"], place, xerr=[e.clip(lower=0) for e in error], linestyle="none",
        marker=style.marker, markersize=4, color=style.colour, elinewidth=1,
    )  # fmt: skip
    axes.set_yticks(place, [str(m) for m in rows["model"]])
    # Rules hundreds of times worse than the rest would flatten it: they run off with a symlog axis.
    spread = -rows["value"]
    if spread.max() > 20 * max(float(np.median(spread[spread > 0])), 1e-3):
        axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlabel("log density less the best's (nats per pair)")
