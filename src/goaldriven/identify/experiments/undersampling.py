"""How much of the trajectory is needed, and how far apart its samples should lie."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.comparisons import Estimate, decided, redrawn
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, accuracy, told
from goaldriven.identify.experiments.views import records, sampled

CLASSIFIERS = ("random_forest", "svm")

SPACING = {"dense": 1, "intermediate": 3, "sparse": 5}
"""Records between samples; of the published 21 records, 5, 15 and 25 epochs."""

N_COUNTS = 9


def counts(n_records: int, spacing: int) -> tuple[int, ...]:
    """How many samples are taken, this far apart: nine counts from 2 to all, those that fit.

    The integer parts of nine evenly spaced numbers from 2 to the number of records. Source: thesis
    section 6.3.9.

    >>> [counts(21, spacing) for spacing in (1, 3, 5)]
    [(2, 4, 6, 9, 11, 13, 16, 18, 21), (2, 4, 6), (2, 4)]
    """
    all_of_them = dict.fromkeys(int(n) for n in np.linspace(2, n_records, N_COUNTS))
    return tuple(n for n in all_of_them if (n - 1) * spacing < n_records)


def _undersampling(given: Material) -> Sequence[Cell]:
    n_records = given.examples.sizes["epoch"]
    if n_records < 6:
        raise IdentificationError(
            f"experiment 'undersampling' must have at least 6 records to sample, got {n_records}"
        )
    return [
        cell
        for name in OBSERVABLES
        for spacing, step in SPACING.items()
        for n in counts(n_records, step)
        for cell in given.cells(
            sampled(given.observables(name), step, n, given.seed), CLASSIFIERS,
            observables=name, spacing=spacing, samples=n,
        )
    ]  # fmt: skip


def _undersampling_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()

    def row(spacing: str, samples: int):  # type: ignore[no-untyped-def]
        return accuracy(
            summary, "layer_accuracy", observables="all", classifier="random_forest",
            spacing=spacing, samples=samples,
        )  # fmt: skip

    shared = set.intersection(
        *(set(summary[summary["spacing"] == spacing]["samples"]) for spacing in SPACING)
    )
    gained = sparse_against_dense(results, sorted(shared))
    levels = [
        f"{n:g} samples: " + ", ".join(f"{s} {told(row(s, n))}" for s in SPACING)
        for n in sorted(shared)
    ]
    return (
        Finding(
            "Layers named right (random forest, all observables) from "
            + "; ".join(levels)
            + f". Sparse less dense, over these counts: {gained.told}.",
            "At equal counts, samples further apart were better (Figure 4a).",
            decided(gained),
        ),
    )


def sparse_against_dense(results: Results, counts_of_both: Sequence[float]) -> Estimate:
    """How many more layers sparse samples name right than as many dense ones, by the forest.

    The mean over the counts that all spacings share.
    """
    drawn = redrawn(
        results,
        {
            f"{spacing} {n}": {
                "observables": "all", "classifier": "random_forest", "spacing": spacing,
                "samples": n,
            }
            for spacing in ("sparse", "dense")
            for n in counts_of_both
        },
    )  # fmt: skip
    return drawn.estimate(
        lambda a: np.mean([a[f"sparse {n}"] - a[f"dense {n}"] for n in counts_of_both], axis=0)
    )


UNDERSAMPLING = Experiment(
    "undersampling",
    "Trajectory undersampling",
    "How many samples of the trajectory are needed, and how far apart?",
    "Figures 4a, S5",
    _undersampling,
    _undersampling_found,
    (Plot("lines", "samples", "spacing", "observables", "samples of the trajectory"),),
)

THIRDS = ("early", "middle", "late")


def _thirds(given: Material) -> Sequence[Cell]:
    n = given.examples.sizes["epoch"] // 3
    if n < 2:
        raise IdentificationError(
            f"experiment 'thirds' must have at least 6 records, got {given.examples.sizes['epoch']}"
        )
    cells = []
    for name in OBSERVABLES:
        examples = given.observables(name)
        parts = {third: records(examples, i * n, (i + 1) * n) for i, third in enumerate(THIRDS)}
        cells += [
            Cell(
                {"observables": name, "trained": third}, classifier, part, split, number,
                tests=parts,
            )
            for third, part in parts.items()
            for classifier in CLASSIFIERS
            for number, split in enumerate(given.splits("network", examples))
        ]  # fmt: skip
    return cells


def _thirds_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    chosen = summary[
        (summary["observables"] == "all") & (summary["classifier"] == "random_forest")
        & (summary["metric"] == "layer_accuracy")
    ]  # fmt: skip
    same = chosen[chosen["trained"] == chosen["tested"]]
    other = chosen[chosen["trained"] != chosen["tested"]]
    best = other.sort_values("mean").iloc[-1]
    chance = chosen["chance"].mean()
    lost, corresponding = _over_thirds(results)
    return (
        Finding(
            "Trained on a third of the trajectory and tested on the same third: "
            f"{same['mean'].mean():.3f} of the layers; on another third "
            f"{other['mean'].mean():.3f}, best {told(best)} from {best['trained']} to "
            f"{best['tested']}; chance {chance:.2f} (random forest, all observables). Lost on "
            f"another third: {lost.told}; between middle and late less between others: "
            f"{corresponding.told}.",
            "Testing on another third lowered the accuracy, with some correspondence of the middle "
            "and the late one (Figure 4b).",
            decided(lost, corresponding),
        ),
    )


def _over_thirds(results: Results) -> tuple[Estimate, Estimate]:
    """What is lost on another third, and how much less of it between the middle and the late."""
    pairs = list(itertools.product(THIRDS, repeat=2))
    conditions = {
        f"{a} {b}": {
            "observables": "all", "classifier": "random_forest", "trained": a, "tested": b
        }
        for a, b in pairs
    }  # fmt: skip
    drawn = redrawn(results, conditions)
    near = ["middle late", "late middle"]
    same = [f"{a} {b}" for a, b in pairs if a == b]
    other = [f"{a} {b}" for a, b in pairs if a != b]
    far = [name for name in other if name not in near]

    def less(first: list[str], second: list[str]) -> Estimate:
        return drawn.estimate(
            lambda a: (
                np.mean([a[n] for n in first], axis=0) - np.mean([a[n] for n in second], axis=0)
            )
        )

    return less(same, other), less(near, far)


CONSECUTIVE_THIRDS = Experiment(
    "thirds",
    "Consecutive thirds",
    "Does what is learned from one part of the trajectory hold for another?",
    "Figures 4b, S6 and S7",
    _thirds,
    _thirds_found,
    (Plot("grid", "trained", "tested", "observables"),),
)

ENTRIES = (UNDERSAMPLING, CONSECUTIVE_THIRDS)
