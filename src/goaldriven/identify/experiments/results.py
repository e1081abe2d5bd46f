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
from goaldriven.identify.calibration.networks import wilson
from goaldriven.identify.experiments.tidy_csv import read_table
from goaldriven.identify.splits import TEST_SHARE
from goaldriven.identify.uncertainty import corrected_sem
from goaldriven.trajectories.atomic import write_bytes

FOLDER = "experiments"
FORMAT = 2
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
        ``network_accuracy``), ``mean``, ``sem`` (over splits, see `corrected_sem`; NaN for one),
        ``low`` and ``high`` (95% over networks, see `interval`), ``chance`` (of layers or networks,
        see `goaldriven.identify.chance`), ``splits``, ``networks``.
        """
        # Other columns are of measures of single experiments.
        varied = [column for column in self.condition if column in self.verdicts]
        keys = [*varied, "classifier", "split_kind"]
        chance_of = {"layer_accuracy": "chance", "network_accuracy": "network_chance"}
        sizes = ("train_layers", "test_layers")
        means = {name: self._means(name, keys) for name in (*chance_of.values(), *sizes)}
        groups: dict[Any, pd.DataFrame] = dict(
            list(self.verdicts.groupby(keys, sort=False, dropna=False))
        )
        rows = []
        for metric in ("layer_accuracy", "network_accuracy"):
            for key, values in self._of(metric).groupby(keys, sort=False, dropna=False)["value"]:
                train, test = (means[name][key] for name in sizes)
                low, high = interval(groups[key], metric, test / (train + test))
                rows.append(
                    dict(zip(keys, key, strict=True))
                    | {"metric": metric, "mean": values.mean(),
                       "sem": corrected_sem(values, test / train), "low": low, "high": high,
                       "chance": means[chance_of[metric]][key], "splits": len(values),
                       "networks": groups[key]["network"].nunique()}
                )  # fmt: skip
        return pd.DataFrame(rows)

    def _means(self, metric: str, keys: list[str]) -> dict[Any, float]:
        means = self._of(metric).groupby(keys, sort=False, dropna=False)["value"].mean()
        return {key: float(value) for key, value in means.items()}

    def _of(self, metric: str) -> pd.DataFrame:
        return self.table[self.table["metric"] == metric]


def interval(verdicts: pd.DataFrame, metric: str, share: float = TEST_SHARE) -> tuple[float, float]:
    """95% interval of the accuracy on new networks of the same kinds: Wilson's.

    Each network counts by its mean over the splits that test it, in layer accuracy weighted by its
    layers; where networks are not independent of each other (column ``cluster``), clusters take
    their place. With p the mean and s its standard error from the scatter within rules, Wilson's
    interval is that of n = p(1 − p)/s² independent ones, but at most as many as there are layers
    (networks); n = the networks where all are named right, or all wrong. Other networks would have
    made other classifiers, and those tested under one split are trained on under another: n is
    divided by 1/m + 1/(1 − r), with m tests per network and the tested ``share`` r of all; by
    1/(1 − r) for a single split.

    Source: Wilson 1927; Nadeau & Bengio 2003.
    """
    layerwise = metric == "layer_accuracy"
    columns = {
        "right": ("layers_correct" if layerwise else "correct", "mean"),
        "weight": ("layers", "mean"),
        "tests": ("layers", "size"),
    }
    if "cluster" in verdicts:
        columns["cluster"] = ("cluster", "first")
    units = verdicts.groupby(["rule", "network"], sort=True).agg(**columns).reset_index()
    if not layerwise:
        units["weight"] = 1.0
    most = units["weight"].sum()
    tests = units["tests"].mean()
    if "cluster" in units and units["cluster"].nunique() < len(units):
        units = units.groupby("cluster")[["right", "weight"]].sum().assign(rule="all")
    p = units["right"].sum() / units["weight"].sum()
    n = _effective(units.assign(off=units["right"] - p * units["weight"]), p, most)
    several = "split" in verdicts and verdicts["split"].nunique() > 1
    n /= (1 / tests if several else 0.0) + 1 / (1 - share)
    low, high = wilson(p, n)
    return float(low), float(high)


def _effective(units: pd.DataFrame, p: float, most: float) -> float:
    """The number of independent trials whose mean would scatter as that of these units does."""
    groups = units.groupby("rule")["off"]
    size = groups.size()
    scatter = (groups.var(ddof=1).fillna(0.0) * size).sum() / units["weight"].sum() ** 2
    if scatter <= 0 or not 0 < p < 1:
        return float(len(units))
    return float(min(p * (1 - p) / scatter, most))


def bootstrapped(verdicts: pd.DataFrame, metric: str, seed: int = 0) -> tuple[float, float]:
    """95% of bootstraps of networks, drawn within their rules, of a mean that may be negative.

    As of differences between classifiers, in the columns of verdicts.
    """
    correct = "layers_correct" if metric == "layer_accuracy" else "correct"
    per_network = verdicts.groupby(["rule", "network"], sort=True).agg(
        right=(correct, "mean"), layers=("layers", "mean")
    )
    right = per_network["right"].to_numpy(dtype=float)
    weight = per_network["layers"].to_numpy(dtype=float)
    if metric != "layer_accuracy":
        weight = np.ones_like(right)
    rng = np.random.default_rng(seed)
    numerator, denominator = np.zeros(BOOTSTRAPS), np.zeros(BOOTSTRAPS)
    rules = per_network.index.get_level_values("rule").to_numpy()
    for rule in np.unique(rules):
        members: NDArray[np.intp] = np.flatnonzero(rules == rule)
        drawn = members[rng.integers(len(members), size=(BOOTSTRAPS, len(members)))]
        numerator += right[drawn].sum(axis=1)
        denominator += weight[drawn].sum(axis=1)
    low, high = np.percentile(numerator / denominator, [2.5, 97.5])
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
