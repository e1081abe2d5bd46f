"""Results of experiments → what the page says of them, and the tidy tables behind its figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from goaldriven.errors import DataError
from goaldriven.report.identified import confusion_table
from goaldriven.report.names import level_label

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Experiment, Finding, Plot, Results

FOLDER = "experiments"
"""Where in a study's folder the results of experiments lie."""

ACCURACIES = ("layer_accuracy", "network_accuracy")

_COUNTED = ("chance", "train_layers", "test_layers", "test_networks")

_NO_IMPORTANCES = (*_COUNTED, "network_accuracy")

_CONFUSED = r"^layers (?P<true>.+) called (?P<predicted>.+)$"

_MOST_PANELS = 12

_MOST_MATRICES = 4
"""Confusions of more conditions are left to the tables."""

_HELD = {"classifier": "random_forest", "observables": "all", "split_kind": "network"}
"""What is shown where a column varies for which a figure has no room; else its first level."""


@dataclass(frozen=True)
class Drawing:
    """What one figure of an experiment shows.

    Attributes
    ----------
    plot : how it is drawn.
    table : the rows that are drawn, one per mark.
    held : column → the only level of it that is shown, where there are more.
    left_out : how many levels of ``plot.facet`` there is no room for.
    """

    plot: Plot
    table: pd.DataFrame
    held: dict[str, object]
    left_out: int = 0


@dataclass(frozen=True)
class Told:
    """An experiment with results.

    Attributes
    ----------
    experiment, results : as they were run.
    summary : each condition's accuracies.
    findings : what was found, beside what the paper found.
    drawings : one per figure.
    confusions : shares of layers called by each rule's name, by what else varies ("" if nothing
        does); empty where they were not counted.
    others : the experiment's other measures, mean and s.e.m. per condition; may be empty.
    """

    experiment: Experiment
    results: Results
    summary: pd.DataFrame
    findings: tuple[Finding, ...]
    drawings: tuple[Drawing, ...]
    confusions: dict[str, pd.DataFrame]
    others: pd.DataFrame


@dataclass(frozen=True)
class Untold:
    """Results that cannot be shown, and why."""

    name: str
    reason: str


def names_with_results(folder: Path) -> tuple[str, ...]:
    """Every experiment that has results in a study's folder, known or not, in alphabetic order."""
    return tuple(
        sorted(
            place.parent.name
            for place in (folder / FOLDER).glob("*/settings.json")
            if _looks_like_results(place)
        )
    )


def _looks_like_results(settings: Path) -> bool:
    """Whether a file is a record of results, or damaged: other things may lie in the folder too."""
    try:
        content = json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(content, dict) or "format" in content


def read_experiments(folder: Path) -> tuple[Told | Untold, ...]:
    """All experiments with results, in the order of the catalogue, those it lacks last."""
    names = names_with_results(folder)
    if not names:
        return ()
    from goaldriven.identify.experiments import EXPERIMENTS  # brings scikit-learn

    known = [name for name in EXPERIMENTS if name in names]
    strange = [name for name in names if name not in EXPERIMENTS]
    return (
        *(_read(folder, EXPERIMENTS[name]) for name in known),
        *(Untold(name, "this version of goaldriven has no such experiment") for name in strange),
    )


def _read(folder: Path, experiment: Experiment) -> Told | Untold:
    from goaldriven.identify.experiments import load

    try:
        return told(experiment, load(folder, experiment.name))
    except DataError as error:
        return Untold(experiment.name, str(error))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        # Tables that can be read but are not those of this version: columns or levels are missing.
        return Untold(
            experiment.name,
            f"its tables are not those of this version ({type(error).__name__}: {error}); run the "
            "experiment again",
        )


def told(experiment: Experiment, results: Results) -> Told:
    """What the page says of an experiment's results.

    Raises
    ------
    KeyError, IndexError, ValueError, TypeError : the tables lack what the experiment has.
    """
    missing = [k for k in ("networks", "grid", "n_splits") if k not in results.settings]
    if missing:
        raise KeyError(f"settings lack {', '.join(missing)}")
    summary = results.summary()
    return Told(
        experiment,
        results,
        summary,
        tuple(experiment.findings(results)),
        tuple(drawing(results, summary, plot) for plot in experiment.plots),
        confusions(results),
        others(results),
    )


def drawing(results: Results, summary: pd.DataFrame, plot: Plot) -> Drawing:
    """The rows that a figure shows: one per mark and metric.

    Where another column than the figure's own varies within a mark, only one of its levels is kept:
    the random forest, all observables, splits by network, or the first there is.

    Raises
    ------
    KeyError : a column of the figure is not in the table.
    """
    table = summary if plot.kind != "importances" else _importances(results, plot.x)
    own = [plot.x] if plot.kind == "importances" else list(columns_of(plot))
    rows = table[table[own].notna().all(axis=1)]
    keys = [*own, *(c for c in ("importance", "metric") if c not in own and c in rows)]
    held: dict[str, object] = {}
    for column in [*_HELD, *(c for c in results.condition if c not in _HELD)]:
        if column in keys or column not in rows:
            continue
        if rows.groupby(keys, dropna=False)[column].nunique(dropna=False).max() > 1:
            levels = list(dict.fromkeys(rows[column]))
            level = _HELD[column] if _HELD.get(column) in levels else levels[0]
            rows, held[column] = rows[rows[column] == level], level
    left_out: list[object] = []
    if plot.facet is not None and plot.kind != "importances":
        left_out = in_order(rows[plot.facet].tolist())[_MOST_PANELS:]
        rows = rows[~rows[plot.facet].isin(left_out)]
    return Drawing(plot, rows.reset_index(drop=True), held, len(left_out))


def columns_of(plot: Plot) -> tuple[str, ...]:
    """The columns that a figure has an axis, a colour or a panel for."""
    return tuple(dict.fromkeys(c for c in (plot.x, plot.hue, plot.facet) if c))


def _importances(results: Results, x: str) -> pd.DataFrame:
    """Mean and s.e.m. of every importance of each level of ``x``, by metric.

    The experiment ``importance`` has its s.e.m. over trees or permutations; elsewhere it is over
    splits. Accuracy on networks and counts are left out: a figure of importances has no room.
    """
    table = results.table
    if {"importance", "importance_sd"} <= set(table["metric"]):
        from goaldriven.identify.experiments.importance import importances

        return importances(results).assign(metric="importance")
    return _means(results, table[table[x].notna() & ~table["metric"].isin(_NO_IMPORTANCES)])


def _means(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    keys = [*results.condition, "classifier", "split_kind", "metric"]
    values = rows.groupby(keys, sort=False, dropna=False)["value"]
    return values.agg(["mean", "sem", "count"]).rename(columns={"count": "n"}).reset_index()


def others(results: Results) -> pd.DataFrame:
    """Mean and s.e.m. over splits of measures other than accuracies, counts and confusions.

    Columns: the condition's, ``classifier``, ``split_kind``, ``metric``, ``mean``, ``sem``, ``n``.
    """
    metric = results.table["metric"].astype(str)
    common = metric.isin([*ACCURACIES, *_COUNTED]) | metric.str.match(_CONFUSED)
    return _means(results, results.table[~common])


def confusions(results: Results) -> dict[str, pd.DataFrame]:
    """Shares of each rule's layers called by each rule's name, by what else varies ("" if nothing).

    Tables as of `identified.confusion_table`, of all observables where there are several groups.
    Empty where nothing was counted, or for more than `_MOST_MATRICES` conditions.
    """
    table = results.table
    counts = table.join(table["metric"].astype(str).str.extract(_CONFUSED))
    counts = counts.dropna(subset=["true", "predicted"]).rename(columns={"value": "count"})
    if "observables" not in counts:
        counts = counts.assign(observables="all")
    groups = list(dict.fromkeys(counts["observables"]))
    varying = [
        c for c in results.condition if c != "observables" and counts[c].nunique(dropna=False) > 1
    ]
    if counts.empty:
        return {}
    shown = "all" if "all" in groups else groups[0]
    if not varying:
        return {"": confusion_table(counts, shown)}
    if len(counts[varying].drop_duplicates()) > _MOST_MATRICES:
        return {}
    return {
        ", ".join(level_label(c, level) for c, level in zip(varying, levels, strict=True)):
            confusion_table(part, shown)
        for levels, part in counts.groupby(varying, sort=False, dropna=False)
    }  # fmt: skip


def statuses(found: Iterable[Told]) -> list[tuple[str, int]]:
    """How many findings have each status, in a fixed order, those that occur."""
    order = ("reproduced", "not reproduced", "not testable here", "not in the paper")
    every = [finding.status for one in found for finding in one.findings]
    return [(status, every.count(status)) for status in order if status in every]


def in_order(levels: Sequence[object]) -> list[object]:
    """Each level once: words as they came, then numbers by size.

    >>> in_order(["none", "128/0", "32/1", "32/0", "none"]), in_order([9, 2.0, 4])
    (['none', '32/0', '32/1', '128/0'], [2.0, 4, 9])
    """
    once = list(dict.fromkeys(levels))
    numbers = {level: parts for level in once if (parts := _numbers(level))}
    words = [level for level in once if level not in numbers]
    return [*words, *sorted(numbers, key=lambda level: numbers[level])]


def _numbers(level: object) -> tuple[float, ...]:
    """A number, or several between strokes (levels of two factors at once); none in a word."""
    try:
        return tuple(float(part) for part in str(level).split("/"))
    except ValueError:
        return ()
