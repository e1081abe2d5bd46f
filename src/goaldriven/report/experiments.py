"""Results of experiments → what the page says of them, and the tidy tables behind its figures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from goaldriven.errors import DataError
from goaldriven.report.drawings import COUNTED, Drawing, drawings, means
from goaldriven.report.identified import confusion_table
from goaldriven.report.names import level_label

if TYPE_CHECKING:
    from goaldriven.identify.experiments import Experiment, Finding, Results

FOLDER = "experiments"
"""Where in a study's folder the results of experiments lie."""

ACCURACIES = ("layer_accuracy", "network_accuracy")

_CONFUSED = r"^layers (?P<true>.+) called (?P<predicted>.+)$"

_MOST_MATRICES = 4
"""Confusions of more conditions are left to the tables."""


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
        drawings(results, summary, experiment.plots),
        confusions(results),
        others(results),
    )


def others(results: Results) -> pd.DataFrame:
    """Mean and s.e.m. over splits of measures other than accuracies, counts and confusions.

    Columns: the condition's, ``classifier``, ``split_kind``, ``metric``, ``mean``, ``sem``, ``n``.
    """
    metric = results.table["metric"].astype(str)
    common = metric.isin([*ACCURACIES, *COUNTED]) | metric.str.match(_CONFUSED)
    return means(results, results.table[~common])


def not_drawn(one: Told) -> pd.DataFrame:
    """The rows of ``others`` that no table of a figure tells.

    Such a table tells the metrics that it has columns of, and whatever varies with the same columns
    of the condition as it does.
    """
    told_here = pd.Series(False, index=one.others.index)
    condition = [c for c in one.results.condition if one.others[c].nunique(dropna=False) > 1]
    has = one.others[condition].notna()
    for whole in (drawing.whole for drawing in one.drawings if drawing.whole is not None):
        own = [c in whole for c in condition]
        told_here |= one.others["metric"].isin(whole.columns)
        if any(own):
            told_here |= (has == own).all(axis=1)
    return one.others[~told_here]


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
    order = (
        "reproduced", "not reproduced", "undecided", "not testable here", "not in the paper",
    )  # fmt: skip
    every = [finding.status for one in found for finding in one.findings]
    return [(status, every.count(status)) for status in order if status in every]
