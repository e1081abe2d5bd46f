"""Figures of synaptic sizes over days: tidy tables of `goaldriven.synapses` → figures.

Every table has a column ``group`` (the cell type); a group keeps its colour in all figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from goaldriven.report.style import (
    GREY,
    WIDTH,
    RuleStyle,
    label_panel,
    level_pool,
    new_figure,
    rule_legend,
    styled,
)
from goaldriven.synapses.distribution import fit_lognormal

_HISTOGRAM_BINS = 36


def group_styles(groups: Sequence[str]) -> dict[str, RuleStyle]:
    """One style per group, in the order given."""
    return dict(zip(groups, level_pool(len(groups)), strict=True))


@styled
def description(table: xr.Dataset, tables: dict[str, pd.DataFrame]) -> Figure:
    """Six panels: distribution, size and change of persistent synapses, survival, coming, going.

    Parameters
    ----------
    table : the sizes.
    tables : ``weight_changes``, ``survival``, ``additions`` and ``eliminations`` of an `Analysis`;
        the panel of a table that is missing is left out.
    """
    groups = list(dict.fromkeys(table["group"].values.tolist()))
    styles = group_styles(groups)
    figure = new_figure(WIDTH, 4.6)
    panels = figure.subplots(2, 3).ravel()
    _distributions(panels[0], table, styles)
    label_panel(panels[0], "a  distribution of sizes")
    drawn = {
        "b  size of the middle half": ("weight_changes", "day", "size", "size_sem"),
        "c  change since day 0": ("weight_changes", "day", "change", "change_sem"),
        "d  survival": ("survival", "day", "survival", None),
        "e  after addition": ("additions", "days_since", "size", "size_sem"),
        "f  before elimination": ("eliminations", "days_since", "size", "size_sem"),
    }
    for axes, (title, (name, x, y, error)) in zip(panels[1:], drawn.items(), strict=True):
        if name not in tables:
            axes.remove()
            continue
        _lines(axes, tables[name], styles, x, y, error)
        label_panel(axes, title)
    _describe_axes(panels, tables)
    rule_legend(figure, styles, markers=True)
    return figure


def _distributions(axes: Axes, table: xr.Dataset, styles: dict[str, RuleStyle]) -> None:
    """Histograms over log size, with the log-normal fit of each group."""
    size = table["size"].values
    present = size[size > 0]
    edges = np.geomspace(present.min(), present.max(), _HISTOGRAM_BINS + 1)
    grid = np.geomspace(present.min(), present.max(), 200)
    for group, style in styles.items():
        mine = size[table["group"].values == group]
        x = mine[mine > 0]
        # Density per unit of ln(size), so that areas are as the eye takes them on this axis.
        counts, _ = np.histogram(x, edges)
        height = counts / (len(x) * np.diff(np.log(edges)))
        axes.stairs(height, edges, color=style.colour, fill=True, alpha=0.25, lw=0)
        curve = grid * fit_lognormal(mine).density(grid)
        axes.plot(grid, curve, color=style.colour, linestyle=style.dashes, lw=1.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.05, 0.2, 0.5, 1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size (norm.)")
    axes.set_ylabel("density per ln size")


def _lines(
    axes: Axes,
    rows: pd.DataFrame,
    styles: dict[str, RuleStyle],
    x: str,
    y: str,
    error: str | None,
) -> None:
    """Lines with error bars (± ``error``), or with bands between ``<y>_low`` and ``<y>_high``."""
    for group, style in styles.items():
        line = rows[rows["group"] == group]
        look = {"color": style.colour, "linestyle": style.dashes, "marker": style.marker}
        if error is None:
            axes.fill_between(
                line[x], line[f"{y}_low"], line[f"{y}_high"], color=style.colour, alpha=0.2, lw=0
            )
            axes.plot(line[x], line[y], lw=1.4, markersize=3.5, **look)
        else:
            axes.errorbar(
                line[x], line[y], line[error], lw=1.4, markersize=3.5, capsize=0, elinewidth=1,
                **look,
            )  # fmt: skip


def _describe_axes(panels: Sequence[Axes], tables: dict[str, pd.DataFrame]) -> None:
    labels = (
        ("day", "mean size (norm.)"),
        ("day", "mean |Δ ln size|"),
        ("day", "fraction surviving"),
        ("days since first seen", "mean size (norm.)"),
        ("days to first absent", "mean size (norm.)"),
    )
    for axes, (x, y) in zip(panels[1:], labels, strict=True):
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(bottom=0)
        if "weight_changes" in tables:
            days = _few(sorted(set(tables["weight_changes"]["day"])))
            sign = -1 if x.endswith("absent") else 1
            axes.xaxis.set_major_locator(FixedLocator([sign * day for day in days]))
    panels[3].set_ylim(0, 1.03)


def _few(days: list[float]) -> list[float]:
    """At most eight ticks among the days."""
    return days[:: max(1, -(-len(days) // 8))]


@styled
def intervals(rows: pd.DataFrame) -> Figure:
    """Change against days apart, every pair of sessions counted; bands are 95%, over dendrites."""
    styles = group_styles(list(dict.fromkeys(rows["group"])))
    figure = new_figure(3.6, 2.7)
    axes = figure.subplots()
    _lines(axes, rows, styles, "interval", "change", None)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("days apart")
    axes.set_ylabel("mean |Δ ln size|")
    axes.axhline(0, color=GREY, lw=0.8)
    rule_legend(figure, styles, markers=True)
    return figure
