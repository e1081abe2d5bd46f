"""Figures of the Markov chain: matrices, distributions, predictions, convergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from goaldriven.report.figures.synapses import group_styles
from goaldriven.report.style import (
    GREY,
    LIGHT_GREY,
    WIDTH,
    RuleStyle,
    label_panel,
    level_pool,
    new_figure,
    rule_legend,
    styled,
)

_LEAST = 0.003
"""Transition probabilities below are drawn white, as are transitions never seen."""

Line = Mapping[str, float]
"""Parameters ``mu_a``, ``mu_b``, ``var_a``, ``var_b`` of a Kesten process."""


@styled
def transitions(
    matrices: pd.DataFrame, states: pd.DataFrame, kesten: Mapping[str, Line] | None = None
) -> Figure:
    """The transition matrix of each group; rows are the size before, columns the size after.

    Parameters
    ----------
    matrices : ``markov_transitions`` of an `Analysis`. states : its ``markov_states``.
    kesten : of each group, a Kesten process to draw over its matrix: the mean of the size after
        and one standard deviation to both sides, w + μ_a w + μ_b ± √(σ_a² w² + σ_b²).
    """
    groups = list(dict.fromkeys(matrices["group"]))
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(WIDTH, 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(groups) :]:
        axes.remove()
    image: Any = None
    for axes, group in zip(panels, groups, strict=False):
        of = states[states["group"] == group]
        n = len(of)
        p = matrices.loc[matrices["group"] == group, "probability"].to_numpy().reshape(n, n)
        shown = np.ma.masked_less(p, _LEAST)
        image = axes.imshow(
            shown, norm=LogNorm(_LEAST, 1), cmap="Blues", origin="lower", aspect="equal"
        )
        axes.plot([0, n - 1], [0, n - 1], color=GREY, lw=0.7, linestyle=(0, (4, 2)))
        _size_ticks(axes, of)
        if kesten and group in kesten:
            _kesten_band(axes, of, kesten[group])
        label_panel(axes, group)
    figure.colorbar(image, ax=list(panels[: len(groups)]), shrink=0.8, label="probability")
    return figure


def _size_ticks(axes: Axes, states: pd.DataFrame) -> None:
    places, names = _state_ticks(states, 5)
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.set_xlabel("size in the next session (norm.)")
    axes.set_ylabel("size (norm.)")


def _state_ticks(states: pd.DataFrame, n: int) -> tuple[list[float], list[str]]:
    """About n ticks at lower edges of bins; absence, which is no size, has a 0."""
    step = max(1, len(states) // n)
    shown = list(range(1 + step, len(states), step))
    lower = states["from_size"].to_numpy()
    return [0.0, *(k - 0.5 for k in shown)], ["0", *(f"{lower[k]:.2g}" for k in shown)]


def _kesten_band(axes: Axes, states: pd.DataFrame, line: Line) -> None:
    """Mean and ± 1 s.d. of the next size, in the matrix's coordinates (bins of equal width)."""
    edges = np.append(states["from_size"].to_numpy()[1:], states["to_size"].to_numpy()[-1])
    w = np.linspace(edges[0], edges[-2], 100)
    mean = w + line["mu_a"] * w + line["mu_b"]
    sd = np.sqrt(np.clip(line["var_a"] * w**2 + line["var_b"], 0, None))

    # The last bin is wider than the others and would bend the lines.
    def place(size: np.ndarray) -> np.ndarray:
        at = np.arange(len(edges) - 1) + 0.5
        return np.interp(size, edges[:-1], at, left=np.nan, right=np.nan)

    for value, width in ((mean, 1.4), (mean - sd, 0.8), (mean + sd, 0.8)):
        axes.plot(place(value), place(w), color="black", lw=width)


@styled
def predictions(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Per group: stationary and empirical distribution, correlation of changes, survival.

    Parameters
    ----------
    tables : ``markov_states``, ``markov_correlations``, ``markov_survival`` and ``survival`` of an
        `Analysis`; panels without their table are left out.
    """
    groups = list(dict.fromkeys(tables["markov_states"]["group"]))
    styles = group_styles(groups)
    figure = new_figure(WIDTH, 0.4 + 2.2 * len(groups))
    panels = figure.subplots(len(groups), 3, squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        style = styles[group]
        found = {n: t[t["group"] == group] for n, t in tables.items()}
        _distribution(row[0], found["markov_states"], style)
        label_panel(row[0], f"{group}: distribution")
        for axes, name in zip(row[1:], ("markov_correlations", "markov_survival"), strict=True):
            if name not in found or found[name].empty:
                axes.remove()
        if len(found.get("markov_correlations", ())):
            _correlations(row[1], found["markov_correlations"], style)
            label_panel(row[1], f"{group}: correlation of changes")
        if len(found.get("markov_survival", ())):
            _survival(row[2], found["markov_survival"], found["survival"], style)
            label_panel(row[2], f"{group}: survival")
    pair = {
        "data": RuleStyle("#3d3d3d", "none", "o"),
        "Markov chain": RuleStyle("#3d3d3d", "-", ""),
    }
    rule_legend(figure, pair, markers=True)
    return figure


def _distribution(axes: Axes, states: pd.DataFrame, style: RuleStyle) -> None:
    k = states["state"]
    axes.fill_between(
        k, states["stationary_low"], states["stationary_high"], color=style.colour, alpha=0.2, lw=0
    )
    axes.plot(k, states["stationary"], color=style.colour, lw=1.4)
    low = states["occupancy"] - states["occupancy_low"]
    high = states["occupancy_high"] - states["occupancy"]
    axes.errorbar(
        k, states["occupancy"], [low.clip(lower=0), high.clip(lower=0)],
        linestyle="none", marker="o", markersize=3, elinewidth=0.8, color=style.colour,
    )  # fmt: skip
    axes.set_xticks(*_state_ticks(states, 4))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size (norm.)")
    axes.set_ylabel("probability")


def _correlations(axes: Axes, rows: pd.DataFrame, style: RuleStyle) -> None:
    axes.axhline(0, color=LIGHT_GREY, lw=0.8)
    axes.fill_between(
        rows["lag"], rows["model_low"], rows["model_high"], color=style.colour, alpha=0.2, lw=0
    )
    axes.plot(rows["lag"], rows["model"], color=style.colour, lw=1.4)
    error = [rows["data"] - rows["data_low"], rows["data_high"] - rows["data"]]
    axes.errorbar(
        rows["lag"], rows["data"], [e.clip(lower=0) for e in error],
        linestyle="none", marker="o", markersize=3, elinewidth=0.8, color=style.colour,
    )  # fmt: skip
    axes.set_xticks(rows["lag"])
    axes.set_xlabel("days between changes")
    axes.set_ylabel("correlation")


def _survival(axes: Axes, rows: pd.DataFrame, data: pd.DataFrame, style: RuleStyle) -> None:
    axes.fill_between(
        rows["day"], rows["predicted_low"], rows["predicted_high"],
        color=style.colour, alpha=0.2, lw=0,
    )  # fmt: skip
    axes.plot(rows["day"], rows["predicted"], color=style.colour, lw=1.4)
    axes.errorbar(
        data["day"], data["survival"], data["survival_sem"],
        linestyle="none", marker="o", markersize=3, elinewidth=0.8, color=style.colour,
    )  # fmt: skip
    axes.set_ylim(0, 1.03)
    axes.set_xticks(data["day"])
    axes.set_xlabel("day")
    axes.set_ylabel("fraction surviving")


@styled
def convergence(rows: pd.DataFrame) -> Figure:
    """Distance of different starting distributions to the stationary one, day by day.

    Parameters
    ----------
    rows : ``markov_convergence`` of an `Analysis`.
    """
    groups = list(dict.fromkeys(rows["group"]))
    starts = list(dict.fromkeys(rows["start"]))
    styles = dict(zip(starts, level_pool(len(starts)), strict=True))
    figure = new_figure(WIDTH, 2.8)
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    once = rows.drop_duplicates(["group", "start", "days"])
    for axes, group in zip(panels, groups, strict=True):
        for start, style in styles.items():
            line = once[(once["group"] == group) & (once["start"] == start)]
            axes.plot(
                line["days"], line["distance"], color=style.colour, linestyle=style.dashes, lw=1.5
            )
        axes.set_yscale("log")
        axes.set_ylim(1e-3, 1.2)
        axes.set_xlim(0, once["days"].max())
        axes.set_xlabel("days")
        label_panel(axes, group)
    panels[0].set_ylabel("distance to the stationary\ndistribution (total variation)")
    rule_legend(figure, styles)
    return figure
