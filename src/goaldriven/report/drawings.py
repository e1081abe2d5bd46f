"""Results of an experiment and a plot → the rows that its figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from goaldriven.report.levels import in_order

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Plot, Results
    from goaldriven.identify.experiments.spec import Measure

COUNTED = (
    "chance",
    "network_chance",
    "train_layers",
    "test_layers",
    "test_networks",
)

_NO_IMPORTANCES = (*COUNTED, "network_accuracy")

_MOST_PANELS = 12

_HELD = {"classifier": "random_forest", "observables": "all", "split_kind": "network"}
"""What is shown where a column varies for which a figure has no room; else its first level."""

_BINS = ("left", "right", "count")
"""What `Plot` asks for beside the measure where its kind is ``"reliability"``."""


@dataclass(frozen=True)
class Drawing:
    """What one figure of an experiment shows.

    Attributes
    ----------
    plot : how it is drawn.
    table : the rows that are drawn, one per mark: columns of the plot, ``mean``, ``low``, ``high``
        and, of accuracies, ``metric`` and ``chance``, of other measures ``measure`` (its column)
        and ``reference``.
    held : column → the only level of it that is shown, where there are more.
    left_out : how many levels of ``plot.facet`` there is no room for.
    whole : the plot's own table, of which ``table`` is a part; None where it is the summary.
    """

    plot: Plot
    table: pd.DataFrame
    held: dict[str, object]
    left_out: int = 0
    whole: pd.DataFrame | None = None


def drawings(results: Results, summary: pd.DataFrame, plots: Sequence[Plot]) -> tuple[Drawing, ...]:
    """One per plot; none of those whose table has no number to draw, of too few networks say."""
    every = (drawing(results, summary, plot) for plot in plots)
    return tuple(one for one in every if one.plot.table is None or not one.table.empty)


def drawing(results: Results, summary: pd.DataFrame, plot: Plot) -> Drawing:
    """The rows that a figure shows: one per mark and metric.

    Where another column than the figure's own varies within a mark, only one of its levels is kept:
    the random forest, all observables, splits by network, or the first there is.

    Raises
    ------
    KeyError : a column of the figure is not in the table.
    """
    whole = None if plot.table is None else plot.table(results).reset_index(drop=True)
    if plot.kind == "importances":
        table = _importances(results, plot.x)
    elif whole is None:
        table = summary
    else:
        table = _measured(whole, plot, results.condition) if plot.measures else whole
    own = [plot.x] if plot.kind == "importances" else list(columns_of(plot))
    rows = table[table[own].notna().all(axis=1)]
    keys = [*own, *(c for c in ("importance", "metric", "measure") if c not in own and c in rows)]
    rows, held = _hold(rows, keys, [*_HELD, *(c for c in results.condition if c not in _HELD)])
    left_out: list[object] = []
    if plot.facet is not None and plot.kind != "importances":
        left_out = in_order(rows[plot.facet].tolist())[_MOST_PANELS:]
        rows = rows[~rows[plot.facet].isin(left_out)]
    return Drawing(plot, rows.reset_index(drop=True), held, len(left_out), whole)


def columns_of(plot: Plot) -> tuple[str, ...]:
    """The columns that a figure has an axis, a colour or a panel for."""
    return tuple(dict.fromkeys(c for c in (plot.x, plot.y, plot.hue, plot.facet) if c))


def _hold(
    rows: pd.DataFrame, keys: list[str], columns: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, object]]:
    """One level of each of these columns where it varies within a mark, and which."""
    held: dict[str, object] = {}
    for column in columns:
        if column in keys or column not in rows or rows.empty:
            continue
        if rows.groupby(keys, dropna=False)[column].nunique(dropna=False).max() > 1:
            levels = list(dict.fromkeys(rows[column]))
            level = _HELD[column] if _HELD.get(column) in levels else levels[0]
            rows, held[column] = rows[rows[column] == level], level
    return rows, held


def _measured(table: pd.DataFrame, plot: Plot, condition: Sequence[str]) -> pd.DataFrame:
    """A table with measures in columns → one row per mark and measure.

    Measures that were nowhere determined have no row.
    """
    # Whatever may vary within a mark, so that it is seen that it does.
    more = [c for c in ("classifier", "split_kind", *condition) if c in table]
    asked = [*(_BINS if plot.kind == "reliability" else ()), *([plot.mark] if plot.mark else ())]
    named = list(dict.fromkeys([*columns_of(plot), *more, *asked]))
    parts = [
        pd.DataFrame(
            {name: table[name] for name in named}
            | {
                "measure": measure.column,
                "mean": table[measure.column],
                "low": table.get(f"{measure.column}_low", np.nan),
                "high": table.get(f"{measure.column}_high", np.nan),
                "reference": _reference(table, measure),
            }
        ).dropna(subset="mean")
        for measure in plot.measures
        if measure.column in table
    ]
    if not parts:
        return table[named].iloc[:0].assign(measure="", mean=0.0, low=0.0, high=0.0, reference=0.0)
    return pd.concat(parts, ignore_index=True)


def _reference(table: pd.DataFrame, measure: Measure) -> pd.Series | float:
    if isinstance(measure.reference, str):
        return table[measure.reference]
    return np.nan if measure.reference is None else measure.reference


def _importances(results: Results, x: str) -> pd.DataFrame:
    """Mean and s.e.m. of every importance of each level of ``x``, by metric.

    The experiment ``importance`` has its s.e.m. over trees or permutations and splits; elsewhere it
    is over splits; nowhere over networks. Accuracy on networks and counts are left out: a figure of
    importances has no room.
    """
    table = results.table
    if {"importance", "importance_sd"} <= set(table["metric"]):
        from goaldriven.identify.experiments.importance import importances

        return importances(results).assign(metric="importance")
    return means(results, table[table[x].notna() & ~table["metric"].isin(_NO_IMPORTANCES)])


def means(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and s.e.m. over splits of each metric of each condition."""
    keys = [*results.condition, "classifier", "split_kind", "metric"]
    values = rows.groupby(keys, sort=False, dropna=False)["value"]
    return values.agg(["mean", "sem", "count"]).rename(columns={"count": "n"}).reset_index()
