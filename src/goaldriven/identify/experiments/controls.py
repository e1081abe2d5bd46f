"""Controls: what little is enough, and what must not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from goaldriven.identify.calibration.networks import wilson
from goaldriven.identify.experiments.above_chance import above_chance, chance_limit
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.comparisons import Levels, decided, redrawn, shared_training
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
    conditions: dict[str, Levels] = {}
    text = []
    for classifier in CLASSIFIERS:
        levels = [
            {"observables": "all", "classifier": classifier, "seen": seen}
            for seen in ("trajectory", "its average")
        ]
        whole, mean = (accuracy(summary, "layer_accuracy", **one) for one in levels)
        conditions |= {f"{classifier} whole": levels[0], f"{classifier} mean": levels[1]}
        text.append(f"{classifier.replace('_', ' ')} {told(whole)} → {told(mean)}")
    drawn = redrawn(results, conditions)
    lost = drawn.difference("svm whole", "svm mean")
    more = drawn.estimate(
        lambda a: a["svm whole"] - a["svm mean"] - a["random_forest whole"]
        + a["random_forest mean"]
    )  # fmt: skip
    return (
        Finding(
            "Layers named right from the whole trajectory and from its average over time, all "
            f"observables, splits by network: {'; '.join(text)}. The svm lost {lost.told}, more "
            f"than the forest by {more.told}.",
            "Averaging over time lowered the SVM's accuracy most, the forest's less (Figure 2b).",
            decided(lost, more),
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
    curves = given.performance()
    last = curves.sizes["epoch"]
    metric = of_statistics(curves, ["metric"])
    seen = {
        "loss and metric": curves,
        "metric curve": metric,
        "loss curve": of_statistics(curves, ["loss"]),
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
    pair, status = _told_apart(results, "ia", "sgdm")
    return (
        Finding(
            "Networks named right from performance alone (random forest): "
            + ", ".join(f"{seen} {told(row)}" for seen, row in rows.items())
            + f"; from all observables {told(observed)}; chance {best['chance']:.2f}.{pair}",
            "Task performance was a confounded indicator: SGDM and IA were easily separated though "
            "they performed alike (Figure S2a).",
            status,
        ),
    )


MOST_EXCHANGED = 0.05


def _told_apart(results: Results, a: str, b: str) -> tuple[str, Status]:
    """A sentence, and whether observables tell two rules apart and performance does not.

    They do where at most one in twenty networks of the two is taken for one of the other, and do
    not where more are (Wilson's 95% interval, of n/f² networks). Not testable where performance
    tells the rules too, see `_alike`.
    """
    levels = {"seen": OBSERVED, "classifier": "random_forest"}
    verdicts = results.verdicts[
        (results.verdicts["classifier"] == "random_forest") & results.verdicts["rule"].isin((a, b))
    ]
    chosen = verdicts[verdicts["seen"] == OBSERVED]
    if set(chosen["rule"]) != {a, b}:
        return "", "not testable here"
    called = verdicts[verdicts["verdict"].isin((a, b))]
    right, alike = _alike(replace(results, verdicts=called))
    text = f" Of the networks of {a} and {b} called either, right: {right}."
    if alike == "not reproduced":
        return text, "not testable here"
    exchanged = chosen["verdict"].isin((a, b)) & (chosen["verdict"] != chosen["rule"])
    share = exchanged.groupby(chosen["network"]).mean()
    low, high = wilson(share.mean(), len(share) / shared_training(results, levels) ** 2)
    if low > MOST_EXCHANGED:
        return text, "not reproduced"
    return text, alike if high <= MOST_EXCHANGED else "undecided"


def _alike(results: Results) -> tuple[str, Status]:
    """Whether networks that are called one of two rules perform alike, by what performance tells.

    Beyond chance, ½, any of its views alone must tell less than half of what observables tell:
    ½ (A − ½) − (P − ½) > 0, with A and P the shares named right of the networks called either.
    """
    seen = [str(name) for name in dict.fromkeys(results.verdicts["seen"])]
    if OBSERVED not in seen:
        return "none from observables", "undecided"
    drawn = redrawn(
        results,
        {name: {"seen": name, "classifier": "random_forest"} for name in seen},
        "network_accuracy",
    )
    views = [name for name in seen if name != OBSERVED]
    right = ", ".join(f"{name} {drawn.observed[name]:.3f}" for name in seen)
    return right, decided(
        *(
            drawn.estimate(lambda x, view=view: (x[OBSERVED] + 0.5) / 2 - x[view])  # type: ignore[misc]
            for view in views
        )
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
    """A control: no condition may exceed chance by more than scatter among so many allows.

    Of the standard error and the limit see `above_chance`.
    """
    summary = results.summary()
    rows = summary[summary["metric"] == metric]
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    limit, above = chance_limit(len(rows)), above_chance(rows)
    top = int(np.argmax(rows["mean"]))
    highest = rows.iloc[top]
    verdict = (
        f"none of {len(rows)} is above chance by {limit:.1f} standard errors"
        if above.empty
        else f"LEAK: {len(above)} of {len(rows)} are above chance by {limit:.1f} standard errors"
    )
    return Finding(
        f"{what}: highest {told(highest)}, chance {highest['chance']:.3f}; {verdict}.",
        "",
        "not in the paper",
    )


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
            "With twins of equal initial weights on both sides (expected below chance: a network's "
            "twins in the training part have other rules more often than its own)",
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


def _permuted(given: Material) -> Sequence[Cell]:
    """Every split has a permutation of its own, the same for all observables and classifiers."""
    cells = []
    for name in OBSERVABLES:
        for number in range(given.n_splits):
            seed = given.seed * given.n_splits + number
            examples = permuted_labels(given.observables(name), seed)
            split = given.splits("network", examples)[number]
            cells += [
                Cell({"observables": name}, classifier, examples, split, number)
                for classifier in CLASSIFIERS
            ]
    return cells


PERMUTED_LABELS = Experiment(
    "permuted_labels",
    "Permuted labels",
    "Do the classifiers find rules where there are none?",
    "ours",
    _permuted,
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
