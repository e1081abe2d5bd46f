"""The numbers of experiments as tables, folded away below their figures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from goaldriven.report.blocks import Download, Table
from goaldriven.report.drawings import Drawing, columns_of
from goaldriven.report.experiments import Told, not_drawn
from goaldriven.report.figures.experiment_measures import drawn_measures
from goaldriven.report.names import column_label, level_label, plural

_MOST_ROWS = 150
"""A longer table is cut on the page; its CSV is whole."""

_NOT_TABLED = ("reliability",)
"""Rows per bin are left to the CSV."""


def tables(one: Told) -> list[Table]:
    """The accuracies that the figures show, their other measures, and measures of no figure.

    The accuracies of the summary are left out where no figure shows them: they need not be
    the right measure of an experiment that has others.
    """
    own = [drawing for drawing in one.drawings if drawing.whole is not None]
    found = []
    if len(own) < len(one.drawings) or not one.drawings:
        found.append(_accuracies(one, one.summary, one.results.condition, "summary"))
    for drawing in own:
        number = one.drawings.index(drawing) + 1
        name = f"table_{number}" if number > 1 else "table"
        if not drawing.plot.measures and drawing.whole is not None:
            keys = [c for c in (*columns_of(drawing.plot), *drawing.held)
                    if c not in ("classifier", "split_kind")]  # fmt: skip
            found.append(_accuracies(one, drawing.whole, keys, name, drawing.plot.title))
        elif drawing.plot.kind not in _NOT_TABLED:
            found.append(_measures(one, drawing, name))
    if not one.others.empty:
        found.append(_others(one))
    return found


def _accuracies(
    one: Told, table: pd.DataFrame, condition: Sequence[str], name: str, of: str = ""
) -> Table:
    """A whole summary, layers and networks side by side."""
    every = [k for k in (*condition, "classifier", "split_kind") if k in table]
    keys = [k for k in every if table[k].nunique() > 1] or ["classifier"]
    rows: list[tuple[str, ...]] = []
    cut = 0
    for _, group in table.groupby(every, sort=False, dropna=False):
        if len(rows) == _MOST_ROWS:
            cut += 1
            continue
        by_metric = {row["metric"]: row for row in group.to_dict("records")}
        first = next(iter(by_metric.values()))
        rows.append(
            (
                *(level_label(k, first[k]) for k in keys),
                *(_interval(by_metric.get(m)) for m in ("layer_accuracy", "network_accuracy")),
                f"{first['chance']:.3f}",
            )
        )
    what = f"Accuracies, {of}" if of else "All accuracies of this experiment"
    return Table(
        f"{what} ({_count(len(rows), len(rows) + cut)}): mean ± s.e.m. over splits (95% interval "
        "over networks).",
        (*map(column_label, keys), "on layers", "on networks", "chance"),
        tuple(rows),
        (Download(f"experiment_{one.experiment.name}_{name}.csv", table),),
        text_columns=len(keys),
        folded=True,
    )


def _count(shown: int, whole: int) -> str:
    cut = "" if shown == whole else f", of which the first {shown} are on the page"
    return f"{plural(whole, 'row')}{cut}"


def _interval(row: Mapping[Hashable, Any] | None) -> str:
    if row is None or np.isnan(row["mean"]):
        return "–"
    sem = "" if np.isnan(row["sem"]) else f" ± {row['sem']:.3f}"
    return f"{row['mean']:.3f}{sem} ({row['low']:.3f}–{row['high']:.3f})"


def _measures(one: Told, drawing: Drawing, name: str) -> Table:
    """The measures of a figure side by side, a row per mark; what is marked has a star."""
    plot, table = drawing.plot, drawing.table
    every = list(columns_of(plot))
    keys = [k for k in every if table[k].nunique() > 1] or every[:1]
    measures = drawn_measures(table, plot)
    groups = dict(list(table.groupby(every, sort=False)))
    rows = []
    for group in list(groups.values())[:_MOST_ROWS]:
        by_measure = {row["measure"]: row for row in group.to_dict("records")}
        first = next(iter(by_measure.values()))
        star = "*" if plot.mark and first[plot.mark] else ""
        cells = (_measure(by_measure.get(m.column)) + star for m in measures)
        rows.append((*(level_label(k, first[k]) for k in keys), *cells))
    starred = f"; * {column_label(plot.mark)}" if plot.mark else ""
    title = plot.title or one.experiment.title
    return Table(
        f"{title[0].upper()}{title[1:]} ({_count(len(rows), len(groups))}): in brackets the 95% "
        f"interval over networks{starred}.",
        (*map(column_label, keys), *(m.label for m in measures)),
        tuple(rows),
        (Download(f"experiment_{one.experiment.name}_{name}.csv", _tidy(drawing)),),
        text_columns=len(keys),
        folded=True,
    )


def _tidy(drawing: Drawing) -> pd.DataFrame:
    return drawing.table if drawing.whole is None else drawing.whole


def _measure(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return "–"
    ends = "" if np.isnan(row["low"]) else f" ({row['low']:.3f}–{row['high']:.3f})"
    return f"{row['mean']:.3f}{ends}"


def _others(one: Told) -> Table:
    """Measures that no figure shows; the CSV has all."""
    downloads = (Download(f"experiment_{one.experiment.name}_other.csv", one.others),)
    untold = not_drawn(one)
    if untold.empty:
        return Table(
            f"All measures behind the figures, {plural(len(one.others), 'row')}: see the CSV.",
            ("metric", "rows"),
            tuple((level_label("", m), str(n)) for m, n in one.others["metric"].value_counts(
                sort=False).items()),
            downloads,
            folded=True,
        )  # fmt: skip
    values = _with_intervals(untold)
    keys = [c for c in untold.columns if c not in ("mean", "sem", "n")]
    keys = [k for k in keys if k == "metric" or untold[k].nunique(dropna=False) > 1]
    rows = tuple(
        (
            *(level_label(k, row[k]) for k in keys),
            f"{row['mean']:.4g}"
            + ("" if np.isnan(row["sem"]) else f" ± {row['sem']:.2g}")
            + ("" if np.isnan(row["low"]) else f" ({row['low']:.4g}–{row['high']:.4g})"),
        )
        for row in values.head(_MOST_ROWS).to_dict("records")
    )
    more = len(one.others) - len(untold)
    drawn = f"; {plural(more, 'row')} about what the figures show: see the CSV" if more else ""
    return Table(
        f"Other measures of this experiment ({_count(len(rows), len(values))}{drawn}): mean ± "
        "s.e.m. over splits, in brackets the 95% interval, where there are any.",
        (*map(column_label, keys), "value"),
        rows,
        downloads,
        text_columns=len(keys),
        folded=True,
    )


def _with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``metric_low`` and ``metric_high`` as columns of those of ``metric``."""
    keys = [c for c in table.columns if c not in ("metric", "mean", "sem", "n")]
    low, high = (_ends(table, keys, end) for end in ("low", "high"))
    joined = table.merge(low, how="left", on=[*keys, "metric"])
    joined = joined.merge(high, how="left", on=[*keys, "metric"])
    whole = set(joined.loc[joined["low"].notna(), "metric"])
    ends = joined["metric"].str.removesuffix("_low").str.removesuffix("_high")
    return joined[(ends == joined["metric"]) | ~ends.isin(whole)]


def _ends(table: pd.DataFrame, keys: list[str], end: str) -> pd.DataFrame:
    rows = table[table["metric"].str.endswith(f"_{end}")]
    metric = rows["metric"].str.removesuffix(f"_{end}")
    return rows[keys].assign(metric=metric, **{end: rows["mean"]})
