"""What an experiment is: a question, what varies, what is measured, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from goaldriven.identify.experiments.cache import Fit
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.results import Results

Row = dict[str, Any]
Status = Literal[
    "reproduced", "not reproduced", "undecided", "not testable here", "not in the paper"
]
"""How a finding compares with the paper's; undecided where the data do not tell, as the interval
of what the paper claims holds both it and its contrary."""


@dataclass(frozen=True)
class Measure:
    """One of an experiment's own numbers, to be drawn in place of its accuracies.

    Attributes
    ----------
    column : of the plot's table; its 95% interval is in ``<column>_low`` and ``<column>_high``,
        where it has one.
    label : what it is, for an axis.
    reference : what it is to be compared with, a column of the table or a number, drawn dashed.
    reference_label : what that is.
    """

    column: str
    label: str
    reference: str | float | None = None
    reference_label: str = ""


@dataclass(frozen=True)
class Plot:
    """How an experiment's summary, or another table of its results, is drawn.

    Attributes
    ----------
    kind : ``"levels"`` (one mark per level of ``x``), ``"lines"`` (over a numeric ``x``),
        ``"grid"`` (a table of ``x`` × ``hue`` in colour), ``"importances"``, ``"reliability"``
        (a measure over the confidence ``x``, and below it how many verdicts there are: columns
        ``left``, ``right`` and ``count`` of bins) or ``"pairs"`` (a measure of each pair of ``x``
        and ``y`` in colour: of one level of ``hue`` below the diagonal, of another above).
    x, hue, facet : columns of the table.
    x_label : for the axis.
    log_x : whether it is logarithmic.
    y : the other column of ``"pairs"``.
    table : results → the table: tidy, one row per mark with the measures in columns. Without
        ``measures`` it has the columns of `Results.summary`, which is the table if this is None.
    measures : what is drawn of the table, a panel each; for kinds other than ``"levels"`` and
        ``"lines"`` a single one.
    mark : a column of truth values: where true, a cell of ``"pairs"`` is outlined.
    title : what the figure shows, in a few words, where an experiment has several.
    """

    kind: Literal["levels", "lines", "grid", "importances", "reliability", "pairs"]
    x: str
    hue: str = "classifier"
    facet: str | None = None
    x_label: str = ""
    log_x: bool = False
    y: str = ""
    table: Callable[[Results], pd.DataFrame] | None = None
    measures: tuple[Measure, ...] = ()
    mark: str = ""
    title: str = ""


@dataclass(frozen=True)
class Finding:
    """What an experiment found, in numbers, beside what the paper found.

    ``statement`` is one or two sentences; ``paper`` what was published; ``status`` how the two
    compare.
    """

    statement: str
    paper: str
    status: Status


@dataclass(frozen=True)
class Experiment:
    """One question to a study, answered by classifiers.

    Attributes
    ----------
    name, title : for the command line, and for people.
    question : in one sentence.
    source : where it comes from, e.g. a figure of the paper; ours where there is none.
    cells : what varies, as cells to fit.
    findings : what the results say.
    plots : how they are drawn.
    measure : more rows from a cell and its fit than every experiment has.
    measured : whether it is about the study's measurements, and so outdated when they change.
    after : rows about the whole experiment, from all cells and fits.
    """

    name: str
    title: str
    question: str
    source: str
    cells: Callable[[Material], Sequence[Cell]]
    findings: Callable[[Results], Sequence[Finding]]
    plots: tuple[Plot, ...] = ()
    measure: Callable[[Cell, Fit], Iterable[Row]] | None = None
    measured: bool = False
    after: Callable[[Material, Sequence[Cell], Sequence[Fit]], Iterable[Row]] | None = None


def accuracy(
    summary: pd.DataFrame, metric: str = "network_accuracy", **levels: object
) -> pd.Series:
    """The only row of a summary with these levels.

    Raises
    ------
    KeyError : there is none, or more than one.
    """
    chosen = summary[summary["metric"] == metric]
    for column, level in levels.items():
        chosen = chosen[chosen[column] == level]
    if len(chosen) != 1:
        raise KeyError(f"{levels} names {len(chosen)} rows of the summary, not one")
    return chosen.iloc[0]


def told(row: pd.Series) -> str:
    """A mean with its uncertainties: over splits, and over networks.

    >>> told(pd.Series({"mean": 0.9, "sem": 0.01, "low": 0.85, "high": 0.94}))
    '0.900 ± 0.010 (0.850–0.940)'
    """
    sem = "" if pd.isna(row["sem"]) else f" ± {row['sem']:.3f}"
    return f"{row['mean']:.3f}{sem} ({row['low']:.3f}–{row['high']:.3f})"
