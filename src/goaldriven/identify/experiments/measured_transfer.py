"""Does a classifier that learned from all units without noise still work on real measurements?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.comparisons import redrawn
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.measured_conditions import (
    CLEAN,
    Condition,
    measured_cells,
    measured_conditions,
)
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot
from goaldriven.identify.experiments.views import of_measures

CLASSIFIERS = ("random_forest", "svm")
SAME, MIXED = "the condition tested", "one condition a network, at random"


def _cells(given: Material) -> Sequence[Cell]:
    conditions = measured_conditions(given, "measurement_transfer")
    same = [
        Cell(
            {"observables": cell.condition["observables"], "trained": SAME,
             "tested": Condition(str(cell.condition["units"]), str(cell.condition["noise"]),
                                 ()).label},
            cell.classifier, cell.train, cell.split, cell.number,
        )
        for cell in measured_cells(given, conditions, given.rules, CLASSIFIERS)
    ]  # fmt: skip
    mixed = mixture(conditions, given.seed)
    return [
        *same,
        *_transferred(given, conditions, CLEAN, conditions[0].draws[0]),
        *_transferred(given, conditions, MIXED, mixed),
    ]


def _transferred(
    given: Material, conditions: Sequence[Condition], name: str, train: xr.Dataset
) -> list[Cell]:
    """Trained on these examples, tested under every condition; one fit for each draw of them."""
    cells = []
    for draw in range(max(len(c.draws) for c in conditions)):
        for observables, measures in OBSERVABLES.items():
            examples = of_measures(train, measures)
            tests = {
                c.label: of_measures(c.draws[draw], measures)
                for c in conditions
                if draw < len(c.draws)
            }
            cells += [
                Cell(
                    {"observables": observables, "trained": name},
                    classifier, examples, split, number + draw * given.n_splits, tests,
                )
                for classifier in CLASSIFIERS
                for number, split in enumerate(given.splits("network", examples))
            ]  # fmt: skip
    return cells


def mixture(conditions: Sequence[Condition], seed: int) -> xr.Dataset:
    """As many examples as under one condition, each network's under one drawn at random.

    Within each rule the conditions are dealt out in turn to the networks in a random order, so that
    a condition says nothing of the rule.
    """
    whole = conditions[0].draws[0]
    names, rules = whole["network"].values.astype(str), whole["rule"].values.astype(str)
    rng = np.random.default_rng([seed, 1])
    values = whole["value"].transpose("example", "epoch", "statistic").values.copy()
    for rule in np.unique(rules):
        networks = rng.permutation(np.unique(names[rules == rule]))
        order = rng.permutation(len(conditions))
        for i, network in enumerate(networks.tolist()):
            draws = conditions[order[i % len(order)]].draws
            drawn = draws[rng.integers(len(draws))]["value"]
            rows = names == network
            values[rows] = drawn.transpose("example", "epoch", "statistic").values[rows]
    return whole.assign(value=(("example", "epoch", "statistic"), values))


def lost(results: Results, classifier: str, observables: str) -> Mapping[str, pd.Series]:
    """By what was trained on: accuracy on layers over all measurements, and what is lost.

    Each series has ``mean`` (share of layers named right under all conditions but the clean one),
    ``lost`` against training under the condition tested, with the ends ``low`` and ``high`` of its
    95% interval over networks, the same for both (`redrawn`).
    """
    tested = [name for name in results.verdicts["tested"].unique() if name != CLEAN]
    one = {"classifier": classifier, "observables": observables, "tested": tested}
    trained = [str(name) for name in results.verdicts["trained"].unique()]
    drawn = redrawn(results, {name: {**one, "trained": name} for name in trained})
    found = {}
    for name in trained:
        gap = drawn.difference(SAME, name)
        found[name] = pd.Series(
            {"mean": drawn.observed[name], "lost": gap.value, "low": gap.low, "high": gap.high}
        )
    return found


def _findings(results: Results) -> Sequence[Finding]:
    n = results.verdicts["tested"].nunique() - 1
    groups = list(dict.fromkeys(results.verdicts["observables"]))
    found = []
    for classifier in dict.fromkeys(results.verdicts["classifier"]):
        parts = []
        for observables in groups:
            by = lost(results, classifier, observables)
            parts.append(
                f"{'all observables' if observables == 'all' else observables.replace('_', ' ')} "
                f"{by[SAME]['mean']:.3f} trained under the condition tested, "
                f"{_less(by[CLEAN])} on all units without noise, {_less(by[MIXED])} on a mixture"
            )
        found.append(
            Finding(
                f"Layers named right by {classifier.replace('_', ' ')}s, mean over {n} "
                f"measurements: {'; '.join(parts)} (lost: against the condition tested, 95% "
                "interval over networks).",
                "",
                "not in the paper",
            )
        )
    return tuple(found)


def _less(row: pd.Series) -> str:
    return f"{row['mean']:.3f} (lost {row['lost']:.3f}, {row['low']:.3f} to {row['high']:.3f})"


TRANSFER = Experiment(
    "measurement_transfer",
    "From clean to noisy measurements",
    "Does a classifier trained on all units without noise name rules from real measurements?",
    "ours",
    _cells,
    _findings,
    (
        Plot("levels", "tested", "trained", "observables", title="random forest",
             table=lambda results: _of(results, "random_forest")),
        Plot("levels", "tested", "trained", "observables", title="linear SVM",
             table=lambda results: _of(results, "svm")),
    ),
    measured=True,
)  # fmt: skip


def _of(results: Results, classifier: str) -> pd.DataFrame:
    summary = results.summary()
    return summary[summary["classifier"] == classifier]


ENTRIES = (TRANSFER,)
