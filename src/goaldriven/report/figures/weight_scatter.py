"""Backward against forward weights, connection by connection (thesis Figures 5.2 and 5.9)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from goaldriven.report.style import GREY, WIDTH, label_panel, new_figure, styled
from goaldriven.report.tables import POSITIONS

_ACROSS = (3, 5)
"""At least and at most so many rules beside one another; more go into further blocks of rows."""

_SIDE = 1.4
"""Inches of a panel with its tick labels, at most."""

_ONE_SCALE = 3.0
"""Up to this factor between the ranges of W and B both axes have the same scale."""

_MARGIN = 0.6
"""Inches left of the panels."""

# Light to dark, in grey too: from the first record shown to the last.
_RECORDS = ("#c9c9c9", "#56B4E9", "#08306B")


@styled
def weight_scatter(pairs: pd.DataFrame, rules: list[str] | None = None) -> Figure:
    """Backward weights over the forward weights of the same connections, one point for each.

    Columns: rules; rows: an early, a middle and a deep layer. Light to dark: the records, from the
    first. On the dashed line B = W; points on another line through 0 are aligned up to their size.
    Where W and B differ in range by more than a factor of three, each axis has its own scale. The
    text gives angle and norm ratio of the whole layer at the last record.

    Parameters
    ----------
    pairs : from `tables.weight_pairs`.
    rules : all of the report's rules in their order; default those of the table.
    """
    shown = [r for r in dict.fromkeys(rules or pairs["rule"]) if r in set(pairs["rule"])]
    positions = [p for p in POSITIONS if p in set(pairs["position"])]
    blocks = -(-len(shown) // _ACROSS[1])
    across = max(_ACROSS[0], -(-len(shown) // max(blocks, 1)))
    side = min(_SIDE, (WIDTH - _MARGIN) / across)
    height = 0.6 + blocks * (0.15 + len(positions) * (side - 0.1))
    figure = new_figure(_MARGIN + across * side, height)
    panels = figure.subplots(blocks * len(positions), across, squeeze=False)
    for cell in range(blocks * across):
        block, column = divmod(cell, across)
        stack = panels[block * len(positions) : (block + 1) * len(positions), column]
        if cell >= len(shown):
            for axes in stack:
                axes.remove()
            continue
        mine = pairs[pairs["rule"] == shown[cell]]
        for axes, position in zip(stack, positions, strict=True):
            _panel(axes, mine[mine["position"] == position])
            if column == 0:
                axes.set_ylabel(f"{position}{_layer(pairs, position)}", fontsize=7.5)
        label_panel(stack[0], shown[cell])
    figure.supxlabel("forward weight", fontsize=8)
    figure.supylabel("backward weight", fontsize=8)
    _legend(figure, pairs)
    return figure


def _layer(pairs: pd.DataFrame, position: str) -> str:
    """The layer's name, where it is the same in every network."""
    names = set(pairs[pairs["position"] == position]["layer"])
    return f": {names.pop()}" if len(names) == 1 else " layer"


def _panel(axes: Axes, points: pd.DataFrame) -> None:
    if points.empty:
        axes.text(0.5, 0.5, "no pairs", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    w_limit, b_limit = _limits(points)
    for axis_line in (axes.axhline, axes.axvline):
        axis_line(0, color="#e4e4e4", lw=0.6, zorder=1)
    reach = min(w_limit, b_limit)
    axes.plot([-reach, reach], [-reach, reach], color=GREY, lw=0.8, ls=(0, (4, 2)), zorder=2)
    for z, (epoch, colour) in enumerate(_colours(points).items(), start=3):
        chosen = points[points["epoch"] == epoch]
        axes.plot(
            chosen["forward_weight"],
            chosen["backward_weight"],
            "o",
            color=colour,
            markersize=2.2,
            markeredgewidth=0,
            zorder=z,
            rasterized=True,  # hundreds of points a panel would swell the SVG
        )
    _scale(axes, w_limit, b_limit)
    last = points[points["epoch"] == points["epoch"].max()].iloc[0]
    axes.text(
        0.04,
        0.97,
        f"{last['weight_angle']:.0f}°  ×{_ratio(last['weight_norm_ratio'])}",
        transform=axes.transAxes,
        va="top",
        fontsize=6.5,
        zorder=9,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
    )


def _limits(points: pd.DataFrame) -> tuple[float, float]:
    """Half-widths of the axes; one for both where they are not far apart."""
    w, b = (
        float(points[column].abs().max()) or 1e-12
        for column in ("forward_weight", "backward_weight")
    )
    if max(w, b) <= _ONE_SCALE * min(w, b):
        w = b = max(w, b)
    return 1.08 * w, 1.08 * b


def _scale(axes: Axes, w_limit: float, b_limit: float) -> None:
    """Three round ticks an axis."""
    axes.set_xlim(-w_limit, w_limit)
    axes.set_ylim(-b_limit, b_limit)
    axes.set_box_aspect(1)
    for axis, limit in ((axes.xaxis, w_limit), (axes.yaxis, b_limit)):
        tick = _round_down(0.85 * limit)
        axis.set_major_locator(FixedLocator([-tick, 0, tick]))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.3g}".replace("-", "−")))
        axis.set_tick_params(labelsize=6.5, length=2, pad=1.5)


def _round_down(value: float) -> float:
    """The largest number of one digit that is not above ``value``.

    >>> _round_down(0.74), _round_down(0.05), _round_down(31)
    (0.7, 0.05, 30.0)
    """
    power = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.floor(value / power + 1e-9) * power:.0e}")


def _ratio(value: float) -> str:
    """Three significant digits, without an exponent while it can be read so."""
    return f"{value:.2g}" if 1e-3 <= value < 1e4 else f"{value:.0e}"


def _colours(pairs: pd.DataFrame) -> dict[int, str]:
    epochs = [int(e) for e in np.sort(pairs["epoch"].unique())]
    steps = np.linspace(len(_RECORDS) - 1, 0, len(epochs))[::-1].round().astype(int)
    return {epoch: _RECORDS[i] for epoch, i in zip(epochs, steps, strict=True)}


def _legend(figure: Figure, pairs: pd.DataFrame) -> None:
    handles = [
        Line2D([], [], color=colour, marker="o", ls="none", markersize=4, label=f"epoch {epoch}")
        for epoch, colour in _colours(pairs).items()
    ]
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (4, 2)), label="B = W"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
