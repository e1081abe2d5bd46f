"""Results of identification → the tidy tables behind the figures."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from goaldriven.identify import Identification

FOLDER = "identify"
"""Where in a study's folder an identification is saved."""

SPLIT_KINDS = ("network", "layer")
"""The first that there is, is the headline."""


@dataclass(frozen=True)
class Results:
    """What the page says of an identification.

    Attributes
    ----------
    accuracy, confusion, importances : see the functions of this file.
    rules, statistics : those that the classifiers were given.
    network_ids : the networks whose layers were examples.
    observables, split_kind : of the headline: all observables, splits by network, where there are.
    settings : of the `Identification`.
    open_verdicts : see `open_verdict_table`; of the headline's observables.
    """

    accuracy: pd.DataFrame
    confusion: pd.DataFrame
    importances: pd.DataFrame
    rules: tuple[str, ...]
    statistics: tuple[str, ...]
    network_ids: frozenset[str]
    observables: str
    split_kind: str
    settings: dict[str, Any]
    open_verdicts: pd.DataFrame

    def best(self, split_kind: str | None = None, observables: str | None = None) -> dict[Any, Any]:
        """The row of the most accurate classifier; of the headline unless told otherwise."""
        return best_classifier(
            self.accuracy, split_kind or self.split_kind, observables or self.observables
        )


def read_results(folder: Path) -> Results | None:
    """The identification saved in a study folder; None if there is none.

    Raises
    ------
    DataError : it is damaged.
    """
    if not (folder / FOLDER / "identification.json").exists():
        return None
    from goaldriven.identify import (
        load,  # brings scikit-learn, which tables and figures do not need
    )

    return results_of(load(folder / FOLDER, classifiers=False))


def results_of(identification: Identification) -> Results:
    """What the page says of an `Identification`."""
    settings = dict(identification.settings)
    accuracy = identification.summary()
    groups = list(dict.fromkeys(accuracy["observables"]))
    observables = "all" if "all" in groups else str(groups[0])
    kinds = [k for k in SPLIT_KINDS if k in set(accuracy["split_kind"])]
    split_kind = kinds[0]
    return Results(
        accuracy=accuracy,
        confusion=confusion_table(identification.confusion, observables),
        importances=importance_table(identification.importances, observables, split_kind),
        rules=tuple(settings["rules"]),
        statistics=tuple(settings["statistics"][observables]),
        network_ids=frozenset(settings["networks"]),
        observables=observables,
        split_kind=split_kind,
        settings=settings,
        open_verdicts=open_verdict_table(identification.open_verdicts, observables),
    )


def open_verdict_table(verdicts: pd.DataFrame, observables: str = "all") -> pd.DataFrame:
    """What classifiers that may say "none of these" say of networks they were not trained on.

    One row per classifier: ``networks``, shares ``right``, ``none`` ("none of these"), ``covered``
    (true rule in the conformal set), each with the ends of its 95% interval over networks (Wilson),
    ``set_size``, mean ``probability`` of the likeliest rule, ``alpha``.
    """
    from goaldriven.identify.calibration import wilson
    from goaldriven.identify.open_verdicts import BETWEEN, NONE

    rows = []
    chosen = verdicts[verdicts["observables"] == observables]
    for classifier, part in chosen.groupby("classifier", sort=False):
        sets = [text.split(BETWEEN) if text else [] for text in part["conformal_set"]]
        covered = [rule in one for rule, one in zip(part["rule"], sets, strict=True)]
        row: dict[str, Any] = {"classifier": classifier, "networks": part["network"].nunique()}
        for name, hits in (("right", part["correct"] == 1), ("none", part["verdict"] == NONE),
                           ("covered", pd.Series(covered))):  # fmt: skip
            share = float(hits.mean())
            low, high = wilson(share, row["networks"])
            row |= {name: share, f"{name}_low": float(low), f"{name}_high": float(high)}
        row["set_size"] = float(np.mean([len(one) for one in sets]))
        row |= {n: float(part[n].mean()) for n in ("probability", "alpha")}
        rows.append(row)
    return pd.DataFrame(rows)


def confusion_table(confusion: pd.DataFrame, observables: str = "all") -> pd.DataFrame:
    """Share of each true rule's test examples that is called by each rule's name.

    Counts are summed over splits first, so that each test example weighs the same. Columns:
    classifier, split_kind, true, predicted, count, fraction (the rows of a matrix sum to 1; NaN
    for a rule that was never tested).
    """
    chosen = confusion[confusion["observables"] == observables]
    keys = ["classifier", "split_kind", "true", "predicted"]
    counts = chosen.groupby(keys, sort=False)["count"].sum().reset_index()
    totals = counts.groupby(keys[:3], sort=False)["count"].transform("sum")
    return counts.assign(fraction=np.where(totals > 0, counts["count"] / totals, np.nan))


def importance_table(
    importances: pd.DataFrame, observables: str = "all", split_kind: str = "network"
) -> pd.DataFrame:
    """Importances of statistics for one forest: the random forest, or the first other there is.

    Columns: classifier, kind (``gini`` or ``permutation``), statistic, measure, mean, sem, n; the
    most important first. Empty where no forest was among the classifiers.
    """
    columns = ["classifier", "kind", "statistic", "measure", "mean", "sem", "n"]
    chosen = importances[
        (importances["split_kind"] == split_kind) & (importances["observables"] == observables)
    ]
    forests = list(dict.fromkeys(chosen[chosen["kind"] == "gini"]["classifier"]))
    if not forests:
        return chosen.iloc[:0][columns]
    forest = "random_forest" if "random_forest" in forests else forests[0]
    table = chosen[chosen["classifier"] == forest][columns]
    return table.sort_values(["kind", "mean"], ascending=[True, False], ignore_index=True)


def best_classifier(
    accuracy: pd.DataFrame, split_kind: str, observables: str = "all"
) -> dict[Hashable, Any]:
    """The row of `Identification.summary` with the highest mean accuracy on layers."""
    rows = accuracy[
        (accuracy["split_kind"] == split_kind)
        & (accuracy["observables"] == observables)
        & (accuracy["unit"] == "layer")
    ]
    return rows.sort_values("mean", ascending=False, kind="stable").to_dict("records")[0]
