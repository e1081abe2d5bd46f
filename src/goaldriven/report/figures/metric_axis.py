"""The axis of a validation metric: its scale, chance, and networks that have no value."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from goaldriven.report.style import GREY, RuleStyle

_CLIP = 0.001
_LOGIT_TICKS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999)


def metric_axis(axes: Axes, values: pd.Series, group: pd.DataFrame) -> None:
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


def drawn(axes: Axes, values: pd.Series | np.ndarray) -> np.ndarray:
    """Values as drawn: 0 and 1 have no place on a logit axis and lie at its clipped ends."""
    array = np.asarray(values, dtype=float)
    return np.clip(array, _CLIP, 1 - _CLIP) if axes.get_yscale() == "logit" else array


def chance_line(axes: Axes, group: pd.DataFrame) -> None:
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


def mark_diverged(axes: Axes, x: float, count: int, style: RuleStyle, level: int = 0) -> None:
    """A cross on the axis, with the number of networks where it is more than one.

    ``level``: how many lines of text higher the number stands, so that neighbours do not touch.
    """
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
            xytext=(0, 4 + 7 * level),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
