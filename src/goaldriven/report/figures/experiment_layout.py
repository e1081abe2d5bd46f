"""What the figures of experiments share: styles of levels, panels, legends, chance."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from goaldriven.report.levels import in_order
from goaldriven.report.names import level_label
from goaldriven.report.style import (
    GREY,
    WIDTH,
    RuleStyle,
    group_colour,
    level_pool,
    rule_styles,
)

CHANCE_DASHES = (0, (4, 2))

_LETTER = 0.062
"""Inches that a letter of a label takes."""

_LARGER_LETTER = 0.07
"""Inches that a letter of an axis's label takes."""

_ORDERED = 4
"""From this many numeric levels on, colours go from dark to light with the number."""


@dataclass(frozen=True)
class Panel:
    """One small panel: its title and its rows."""

    title: str
    rows: pd.DataFrame


def panels_of(table: pd.DataFrame, facet: str | None) -> list[Panel]:
    """The rows of each level of ``facet``; all in one without."""
    if facet is None or table.empty:
        return [Panel("", table)]
    return [
        Panel(level_label(facet, level), table[table[facet] == level])
        for level in in_order(table[facet].tolist())
    ]


def across(n_panels: int, width: float, least: float, most: int = 4) -> int:
    """How many panels of at least ``least`` inches stand side by side, rows evenly filled."""
    fitting = int(np.clip(width / least, 1, most))
    rows = -(-n_panels // fitting)
    return -(-n_panels // rows)


def text_inches(labels: Sequence[str], most: float = 2.4) -> float:
    """About the width of the longest of these labels."""
    return min(most, _LETTER * max((len(label) for label in labels), default=0))


def titled(axes: Axes, title: str, inches: float) -> None:
    """A title on the left, broken into lines that fit a panel this wide."""
    letters = max(10, int(inches / _LETTER))
    axes.set_title("\n".join(textwrap.wrap(title, letters)), loc="left", pad=4)


def title_lines(panels: Sequence[Panel], inches: float) -> int:
    """How many lines the longest of the panels' titles takes."""
    letters = max(10, int(inches / _LETTER))
    return max(len(textwrap.wrap(panel.title, letters)) for panel in panels)


def level_styles(column: str, levels: Sequence[object]) -> dict[object, RuleStyle]:
    """One style per level: rules and observables have their own, many numbers a scale."""
    if column == "rule":
        of_rules = rule_styles(str(level) for level in levels)
        return {level: of_rules[str(level)] for level in levels}
    pool = dict(zip(levels, level_pool(len(levels)), strict=True))
    if column == "observables":
        return {
            level: dataclasses.replace(style, colour=group_colour(str(level)))
            for level, style in pool.items()
        }
    if len(levels) >= _ORDERED and not any(isinstance(level, str) for level in levels):
        scale = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(levels)))
        return {
            level: dataclasses.replace(style, colour=to_hex(colour), dashes="-")
            for (level, style), colour in zip(pool.items(), scale, strict=True)
        }
    return pool


def legend(
    figure: Figure,
    column: str,
    styles: dict[object, RuleStyle],
    *,
    lines: bool = False,
    extra: Sequence[Line2D] = (),
) -> None:
    """One legend above the figure, in as many columns as fit."""
    handles = [
        Line2D(
            [], [], color=style.colour, linestyle=style.dashes if lines else "none", lw=1.5,
            marker=style.marker, markersize=4.2, label=level_label(column, level),
        )
        for level, style in styles.items()
    ]  # fmt: skip
    handles += extra
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=_legend_columns([str(handle.get_label()) for handle in handles]),
        handlelength=2.4,
        columnspacing=1.4,
    )


def legend_rows(column: str, styles: dict[object, RuleStyle], extra: Sequence[Line2D]) -> int:
    """How many rows `legend` will take in a figure of full width, at the most."""
    labels = [level_label(column, level) for level in styles]
    labels += [str(handle.get_label()) for handle in extra]
    return -(-len(labels) // _legend_columns(labels))


def _legend_columns(labels: Sequence[str]) -> int:
    """All in one row if they fit, else columns as wide as the longest."""
    inches = [0.58 + _LETTER * len(label) for label in labels]
    return len(labels) if sum(inches) < WIDTH else max(1, int(WIDTH / max(inches)))


def chance_handle() -> Line2D:
    return Line2D([], [], color=GREY, lw=0.9, linestyle=CHANCE_DASHES, label="chance")


def accuracy_range(table: pd.DataFrame) -> tuple[float, float]:
    """Limits, in tenths, that hold all intervals and chance and are at least 0.4 apart."""
    ends = table[["mean", "low", "high", "chance"]].to_numpy(dtype=float)
    low = max(0.0, np.floor(10 * np.nanmin(ends) + 1e-9) / 10)
    high = min(1.0, np.ceil(10 * np.nanmax(ends) - 1e-9) / 10)
    if high - low < 0.4:
        high = min(1.0, low + 0.4)
        low = max(0.0, high - 0.4)
    return float(round(low, 1)), float(round(high, 1))


def accuracy_ticks(axes: Axes, which: str, inches: float) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(int(np.clip(inches / 0.33, 2, 5)), steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis=which, color="#ececec", lw=0.6)  # type: ignore[arg-type]


def broken(label: str, inches: float) -> str:
    """The label of a tick broken between its words where it is wider than this."""
    letters = max(1, int(inches / _LETTER))
    return "\n".join(textwrap.wrap(label, letters, break_long_words=False))


def wrapped(label: str, inches: float) -> str:
    """The label of an axis broken into lines that fit."""
    return "\n".join(textwrap.wrap(label, max(10, int(inches / _LARGER_LETTER))))
