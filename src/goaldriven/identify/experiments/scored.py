"""Scores of whole networks, and rows about several splits together.

A network's score is the mean over its layers; what is inferred here has networks as its units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.identify.calibration import average_over_layers, first_of_each
from goaldriven.identify.experiments.cache import Fit, Matrix
from goaldriven.identify.experiments.cells import WHOLE, Cell
from goaldriven.identify.experiments.outcomes import conditions

Row = dict[str, Any]

POOLED = float("nan")
"""In the column ``split``: of all splits together."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Networks with their scores, (network, rule), and their true rules, in order of their rows."""

    networks: NDArray[Any]
    scores: Matrix
    truth: NDArray[np.str_]


def judged(cell: Cell, fit: Fit) -> Scored:
    """The tested networks, by the classifier of the whole training part."""
    return _scored(cell, cell.split.test, fit.scores[WHOLE])


def out_of_fold(cell: Cell, fit: Fit) -> Scored:
    """The training networks, by classifiers that did not see them (probe ``out_of_fold``)."""
    return _scored(cell, cell.split.train, fit.found["out_of_fold"])


def _scored(cell: Cell, rows: NDArray[np.intp], scores: Matrix) -> Scored:
    labels = cell.train["network"].values[rows]
    truth = first_of_each(cell.train["rule"].values.astype(str)[rows], labels)
    return Scored(*average_over_layers(scores, labels), truth)


def together(cells: Sequence[Cell], fits: Sequence[Fit]) -> list[list[tuple[Cell, Fit]]]:
    """The splits of each condition and classifier, in the order in which they first occur."""
    groups: dict[tuple[Any, ...], list[tuple[Cell, Fit]]] = {}
    for cell, fit in zip(cells, fits, strict=True):
        key = (*cell.condition.items(), cell.classifier, cell.split.kind)
        groups.setdefault(key, []).append((cell, fit))
    return list(groups.values())


def of_all_splits(cell: Cell) -> Row:
    """The columns of rows about all splits of a cell's condition."""
    return conditions(cell, WHOLE) | {"split": POOLED}


def rows(keys: Row, values: Mapping[str, float]) -> Iterator[Row]:
    """One row per metric."""
    for metric, value in values.items():
        yield keys | {"metric": metric, "value": float(value)}


def with_interval(metric: str, value: float, low: float, high: float) -> dict[str, float]:
    """A metric and the ends of its 95% interval, by their names in the table."""
    return {metric: value, f"{metric}_low": low, f"{metric}_high": high}


def wide(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Metrics as columns: one row per level of ``columns`` (means where there are several splits).

    Rows that lack one of the columns are left out, and metrics that occur nowhere else with them.
    """
    complete = table.dropna(subset=list(columns))
    means = complete.groupby([*columns, "metric"], sort=False)["value"].mean()
    return means.unstack("metric").reset_index().rename_axis(columns=None)


def said(row: pd.Series, metric: str) -> str:
    """A metric with its interval over networks.

    >>> said(pd.Series(with_interval("detection", 0.5, 0.25, 0.75)), "detection")
    '0.50 (0.25–0.75)'
    """
    return f"{row[metric]:.2f} ({row[f'{metric}_low']:.2f}–{row[f'{metric}_high']:.2f})"
