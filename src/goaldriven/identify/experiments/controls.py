"""Controls: what little is enough, and what must not be."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, Status, accuracy, told
from goaldriven.identify.experiments.views import (
    of_statistics,
    over_time,
    permuted_labels,
    positions_alone,
    records,
)

CLASSIFIERS = ("random_forest", "svm")


def _average(given: Material) -> Sequence[Cell]:
    return [
        cell
        for name in OBSERVABLES
        for seen, examples in (
            ("trajectory", given.observables(name)),
            ("its average", over_time(given.observables(name))),
        )
        for cell in given.cells(examples, CLASSIFIERS, observables=name, seen=seen)
    ]


def _average_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    loss, text = {}, []
    for classifier in CLASSIFIERS:
        whole, mean = (
            accuracy(summary, "layer_accuracy", observables="all", classifier=classifier, seen=seen)
            for seen in ("trajectory", "its average")
        )
        loss[classifier] = whole["mean"] - mean["mean"]
        text.append(f"{classifier.replace('_', ' ')} {told(whole)} → {told(mean)}")
    hurts = loss["svm"] > 0 and loss["svm"] > loss["random_forest"]
    return (
        Finding(
            "Layers named right from the whole trajectory and from its average over time, all "
            f"observables, splits by network: {'; '.join(text)}.",
            "Averaging over time lowered the SVM's accuracy most, the forest's less (Figure 2b).",
            "reproduced" if hurts else "not reproduced",
        ),
    )


TRAJECTORY_AVERAGE = Experiment(
    "trajectory_average",
    "Average instead of trajectory",
    "Is the time course of the observables needed, or would their average over learning do?",
    "Figure S2b",
    _average,
    _average_found,
    (Plot("levels", "observables", "seen", "classifier"),),
)


OBSERVED = "observables"


def _performance(given: Material) -> Sequence[Cell]:
    last = given.curves.sizes["epoch"]
    metric = of_statistics(given.curves, ["metric"])
    seen = {
        "loss and metric": given.curves,
        "metric curve": metric,
        "loss curve": of_statistics(given.curves, ["loss"]),
        "final metric": records(metric, last - 1, last),
        OBSERVED: given.examples,
    }
    return [
        cell
        for name, examples in seen.items()
        for cell in given.cells(examples, CLASSIFIERS, seen=name)
    ]


def _performance_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    rows = {
        seen: accuracy(summary, classifier="random_forest", seen=seen)
        for seen in dict.fromkeys(summary["seen"])
    }
    observed = rows.pop(OBSERVED)
    best = max(rows.values(), key=lambda row: row["mean"])
    return (
        Finding(
            "Networks named right from performance alone (random forest): "
            + ", ".join(f"{seen} {told(row)}" for seen, row in rows.items())
            + f"; from all observables {told(observed)}; chance {best['chance']:.2f}.",
            "Task performance was a confounded indicator: SGDM and IA were easily separated though "
            "they performed alike (Figure S2a).",
            "reproduced" if observed["mean"] > best["mean"] else "not reproduced",
        ),
    )


PERFORMANCE = Experiment(
    "performance",
    "Performance alone",
    "Could the rules be told simply by how well the networks do?",
    "Figure S2a",
    _performance,
    _performance_found,
    (Plot("levels", "seen", "classifier"),),
)


def _initial(given: Material) -> Sequence[Cell]:
    return [
        cell
        for name in OBSERVABLES
        for kind in ("start", "network")
        for cell in given.cells(
            records(given.observables(name), 0, 1), CLASSIFIERS, kind, observables=name
        )
    ]


def _no_better_than_chance(
    results: Results, levels: dict[str, object], what: str, metric: str = "layer_accuracy"
) -> Finding:
    """A control: accuracy must not exceed chance by more than two standard errors of networks."""
    summary = results.summary()
    rows = summary[summary["metric"] == metric]
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    above = rows[rows["mean"] - rows["chance"] > 2 * _standard_error(rows)]
    highest = rows.sort_values("mean").iloc[-1]
    status: Status = "not in the paper"
    verdict = (
        "none is above chance by two standard errors"
        if above.empty
        else f"LEAK: {len(above)} of {len(rows)} are above chance by two standard errors"
    )
    return Finding(
        f"{what}: highest {told(highest)}, chance {highest['chance']:.3f}; {verdict}.", "", status
    )


def _standard_error(rows: pd.DataFrame) -> pd.Series:
    """Of networks: a quarter of the width of their 95% interval."""
    return (rows["high"] - rows["low"]) / 4


INITIALISATION = Experiment(
    "initialisation",
    "Initial networks",
    "Before learning nothing should tell the rules apart: does anything?",
    "ours",
    _initial,
    lambda results: (
        _no_better_than_chance(
            results, {"split_kind": "task+architecture+model_seed"},
            "Layers of untrained networks, those with equal initial weights kept on one side",
        ),
        _no_better_than_chance(
            results, {"split_kind": "network"},
            "With twins of equal initial weights on both sides (expected below chance: a twin in "
            "the training part always has another rule)",
        ),
    ),
    (Plot("levels", "observables", "classifier", "split_kind"),),
)  # fmt: skip

LAYER_POSITION = Experiment(
    "layer_position",
    "Layer position alone",
    "Does the position of a layer in the hierarchy tell the rule?",
    "ours",
    lambda given: given.cells(positions_alone(given.examples), CLASSIFIERS, seen="position"),
    lambda results: (_no_better_than_chance(results, {}, "Layers named by their position alone"),),
    (Plot("levels", "seen", "classifier"),),
)

PERMUTED_LABELS = Experiment(
    "permuted_labels",
    "Permuted labels",
    "Do the classifiers find rules where there are none?",
    "ours",
    lambda given: [
        cell
        for name in OBSERVABLES
        for cell in given.cells(
            permuted_labels(given.observables(name), given.seed), CLASSIFIERS, observables=name
        )
    ],
    lambda results: (
        _no_better_than_chance(results, {}, "Layers named after the rules were dealt out anew"),
    ),
    (Plot("levels", "observables", "classifier"),),
)

ENTRIES = (
    TRAJECTORY_AVERAGE,
    PERFORMANCE,
    INITIALISATION,
    LAYER_POSITION,
    PERMUTED_LABELS,
)
