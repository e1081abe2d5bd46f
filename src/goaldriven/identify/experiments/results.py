"""An experiment's results: tidy tables, their summary, and the files they lie in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.identify.experiments.tidy_csv import read_table
from goaldriven.trajectories.atomic import write_bytes

FOLDER = "experiments"
FORMAT = 1
FIXED = ("classifier", "split_kind", "split")
BOOTSTRAPS = 1000


@dataclass(frozen=True, eq=False)
class Results:
    """What came of one experiment on one study.

    Attributes
    ----------
    experiment : its name.
    table : tidy, one row per number: ``experiment``, the condition's columns, ``classifier``,
        ``split_kind``, ``split``, ``seed``, ``metric``, ``value``.
    verdicts : one row per tested network in each cell.
    settings : grid, seed, splits, statistics, rules, networks, versions.
    """

    experiment: str
    table: pd.DataFrame
    verdicts: pd.DataFrame
    settings: Mapping[str, Any]

    @property
    def condition(self) -> list[str]:
        """The columns that vary in this experiment."""
        fixed = {"experiment", *FIXED, "seed", "metric", "value"}
        return [c for c in self.table.columns if c not in fixed]

    def summary(self) -> pd.DataFrame:
        """Each condition's accuracies with their uncertainty over splits and over networks.

        Columns: the condition's, ``classifier``, ``split_kind``, ``metric`` (``layer_accuracy`` or
        ``network_accuracy``), ``mean``, ``sem`` (over splits, s/√n; NaN for one), ``low`` and
        ``high`` (95% of 1,000 bootstraps of networks within rules, each network by its mean over
        the splits that test it; see `interval`), ``chance`` (of layers or networks),
        ``best_constant`` (what always naming one rule would reach on layers), ``splits``,
        ``networks``.
        """
        # Other columns are of measures of single experiments.
        varied = [column for column in self.condition if column in self.verdicts]
        keys = [*varied, "classifier", "split_kind"]
        chance_of = {"layer_accuracy": "chance", "network_accuracy": "network_chance"}
        means = {name: self._means(name, keys) for name in (*chance_of.values(), "best_constant")}
        groups: dict[Any, pd.DataFrame] = dict(
            list(self.verdicts.groupby(keys, sort=False, dropna=False))
        )
        rows = []
        for metric in ("layer_accuracy", "network_accuracy"):
            for key, values in self._of(metric).groupby(keys, sort=False, dropna=False)["value"]:
                low, high = interval(groups[key], metric)
                rows.append(
                    dict(zip(keys, key, strict=True))
                    | {"metric": metric, "mean": values.mean(), "sem": values.sem(), "low": low,
                       "high": high, "chance": means[chance_of[metric]][key],
                       "best_constant": means["best_constant"][key], "splits": len(values),
                       "networks": groups[key]["network"].nunique()}
                )  # fmt: skip
        return pd.DataFrame(rows)

    def _means(self, metric: str, keys: list[str]) -> dict[Any, float]:
        means = self._of(metric).groupby(keys, sort=False, dropna=False)["value"].mean()
        return {key: float(value) for key, value in means.items()}

    def _of(self, metric: str) -> pd.DataFrame:
        return self.table[self.table["metric"] == metric]


def interval(verdicts: pd.DataFrame, metric: str, seed: int = 0) -> tuple[float, float]:
    """95% of bootstraps of networks, drawn within their rules; see `Results.summary`.

    Layer accuracy is weighted by the networks' layers. Where networks are not independent of each
    other (column ``cluster``), whole clusters are drawn, over all rules.
    """
    correct = "layers_correct" if metric == "layer_accuracy" else "correct"
    columns = {"right": (correct, "mean"), "layers": ("layers", "mean")}
    if "cluster" in verdicts:
        columns["cluster"] = ("cluster", "first")
    per_network = verdicts.groupby(["rule", "network"], sort=True).agg(**columns)
    right = per_network["right"].to_numpy(dtype=float)
    weight = per_network["layers"].to_numpy(dtype=float)
    if metric != "layer_accuracy":
        weight = np.ones_like(right)
    drawn_from = per_network.index.get_level_values("rule").to_numpy()
    if "cluster" in per_network and per_network["cluster"].nunique() < len(per_network):
        of, clusters = pd.factorize(per_network["cluster"])
        right, weight = np.bincount(of, right), np.bincount(of, weight)
        drawn_from = np.zeros(len(clusters))
    rng = np.random.default_rng(seed)
    numerator, denominator = np.zeros(BOOTSTRAPS), np.zeros(BOOTSTRAPS)
    for stratum in np.unique(drawn_from):
        members: NDArray[np.intp] = np.flatnonzero(drawn_from == stratum)
        drawn = members[rng.integers(len(members), size=(BOOTSTRAPS, len(members)))]
        numerator += right[drawn].sum(axis=1)
        denominator += weight[drawn].sum(axis=1)
    low, high = np.percentile(numerator / denominator, [2.5, 97.5])
    return float(low), float(high)


def paired_interval(differences: pd.Series, seed: int = 0) -> tuple[float, float]:
    """95% of bootstraps of the mean over networks, drawn within their rules.

    ``differences`` has one value per network, of the same network under two conditions, and a level
    ``rule`` of its index.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(BOOTSTRAPS)
    for _, of_rule in differences.groupby(level="rule"):
        numbers = of_rule.to_numpy(dtype=float)
        total += numbers[rng.integers(len(numbers), size=(BOOTSTRAPS, len(numbers)))].sum(axis=1)
    low, high = np.percentile(total / len(differences), [2.5, 97.5])
    return float(low), float(high)


def save(results: Results, folder: Path) -> None:
    """Write the tables as CSV and the settings as JSON to ``folder/experiments/<name>/``.

    Raises
    ------
    StudyError : a file cannot be written; names path and reason.
    """
    place = folder / FOLDER / results.experiment
    for name, table in (("results", results.table), ("verdicts", results.verdicts)):
        write_bytes(place / f"{name}.csv", table.to_csv(index=False).encode())
    settings = {"format": FORMAT, **results.settings}
    write_bytes(place / "settings.json", json.dumps(settings, indent=1).encode())


def load(folder: str | Path, experiment: str) -> Results:
    """The results of an experiment that was run, as they were when they were saved.

    Raises
    ------
    DataError : there are none, they are damaged, or another version wrote them.
    """
    place = Path(folder) / FOLDER / experiment
    try:
        settings = json.loads((place / "settings.json").read_text(encoding="utf-8"))
        if settings.pop("format") != FORMAT:
            raise DataError(
                f"{place} must hold results of this version of goaldriven, got those of another; "
                "run the experiment again"
            )
        numbers = settings.get("numbers")  # earlier versions did not say which columns are
        table = read_table(place / "results.csv", (*FIXED, "seed", "metric", "value"), numbers)
        verdicts = read_table(place / "verdicts.csv", (*FIXED, "network", "rule"), numbers)
    except FileNotFoundError:
        raise DataError(f"DIR must hold results of experiment {experiment!r}, got none") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place} cannot be read: {error}; run the experiment again") from None
    return Results(experiment, table, verdicts, settings)


def with_results(folder: str | Path, names: Sequence[str]) -> tuple[str, ...]:
    """Those of these experiments that have results in a study's folder."""
    place = Path(folder) / FOLDER
    return tuple(name for name in names if (place / name / "settings.json").exists())
