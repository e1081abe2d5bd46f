"""Results of identification → the tidy tables behind the figures."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from goaldriven.specs import STATISTICS

KEYS = ["classifier", "observables", "split_kind"]


@dataclass(frozen=True)
class Results:
    """What the page says of an identification.

    Attributes
    ----------
    accuracy, confusion, importances : from the functions of this file.
    chance : accuracy of guessing.
    rules, statistics : those that the classifiers were given.
    n_networks : how many networks' layers they were given; None if that is not known.
    description : one sentence on settings, for the methods.
    """

    accuracy: pd.DataFrame
    confusion: pd.DataFrame
    importances: pd.DataFrame
    chance: float
    rules: tuple[str, ...]
    statistics: tuple[str, ...]
    n_networks: int | None
    description: str

    @property
    def n_statistics(self) -> int:
        return len(self.statistics)


def read_results(folder: Path) -> Results | None:
    """The identification saved in a study folder; None if there is none."""
    if not (folder / "identify").is_dir():
        return None
    acc, net, conf, imp = (
        pd.read_csv(folder / "identify" / f"{n}.csv")
        for n in ("accuracy", "network_accuracy", "confusion", "importances")
    )
    rules = tuple(dict.fromkeys(conf["true"]))
    statistics = tuple(s for s in dict.fromkeys(imp["statistic"]) if s in STATISTICS)
    return Results(
        accuracy_summary(acc, net),
        confusion_summary(conf),
        importance_summary(imp),
        1 / len(rules),
        rules,
        statistics,
        None,
        "Interim.",
    )


def accuracy_summary(layers: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """Mean and s.e.m. over splits of the test accuracy.

    The standard error of the mean over n splits is s/√n, with s the sample standard deviation
    (divisor n − 1); NaN for one split.

    Parameters
    ----------
    layers, networks : accuracies of single layers and of verdicts on whole networks, with columns
        classifier, observables, split_kind, split, accuracy.

    Returns
    -------
    Columns: classifier, observables, split_kind, unit (``layer`` or ``network``), mean, sem,
    splits.
    """
    frames = []
    for unit, frame in (("layer", layers), ("network", networks)):
        if frame.empty:
            continue
        groups = frame.groupby(KEYS, sort=False, observed=True)["accuracy"]
        summary = groups.agg(["mean", "sem", "count"]).reset_index()
        frames.append(summary.rename(columns={"count": "splits"}).assign(unit=unit))
    columns = [*KEYS, "unit", "mean", "sem", "splits"]
    return (
        pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    )


def confusion_summary(confusion: pd.DataFrame, observables: str = "all") -> pd.DataFrame:
    """Share of each true rule's test examples that is called by each rule's name.

    Counts are summed over splits first, so that each test example weighs the same. Columns:
    classifier, split_kind, true, predicted, fraction (the rows of a matrix sum to 1).
    """
    chosen = confusion[confusion["observables"] == observables]
    keys = ["classifier", "split_kind", "true", "predicted"]
    counts = chosen.groupby(keys, sort=False, observed=True)["count"].sum().reset_index()
    totals = counts.groupby(keys[:3], sort=False)["count"].transform("sum")
    counts["fraction"] = np.where(totals > 0, counts["count"] / totals, np.nan)
    return counts


def importance_summary(importances: pd.DataFrame, split_kind: str = "network") -> pd.DataFrame:
    """Importances of statistics, each with its measure; the layer's position has its own.

    Columns: kind (``gini`` or ``permutation``), statistic, measure, mean, sem; the largest first.
    """
    chosen = importances[importances["split_kind"] == split_kind].copy()
    chosen["measure"] = [
        STATISTICS[s].measure if s in STATISTICS else "layer_position" for s in chosen["statistic"]
    ]
    table = chosen[["kind", "statistic", "measure", "mean", "sem"]]
    return table.sort_values(["kind", "mean"], ascending=[True, False], ignore_index=True)


def best_classifier(
    summary: pd.DataFrame, split_kind: str, observables: str = "all"
) -> dict[Hashable, Any]:
    """The row of `accuracy_summary` with the highest mean accuracy on layers."""
    rows = summary[
        (summary["split_kind"] == split_kind)
        & (summary["observables"] == observables)
        & (summary["unit"] == "layer")
    ]
    return rows.sort_values("mean", ascending=False, kind="stable").to_dict("records")[0]
