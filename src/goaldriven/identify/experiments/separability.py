"""Can the rules be told apart, and which from which?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from goaldriven.identify.classifiers import DEFAULT_CLASSIFIERS
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.comparisons import (
    Estimate,
    decided,
    over_splits,
    redrawn,
)
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.outcomes import confusion_of
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, accuracy, told
from goaldriven.identify.experiments.views import only_rules
from goaldriven.identify.splits import TEST_SHARE

KINDS = ("network", "layer")


def _separability(given: Material) -> Sequence[Cell]:
    return [
        cell
        for name in OBSERVABLES
        for kind in KINDS
        for cell in given.cells(
            given.observables(name), DEFAULT_CLASSIFIERS, kind, observables=name
        )
    ]


def _separability_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    by_layer = {
        name: accuracy(
            summary, "layer_accuracy", observables="all", classifier=name, split_kind="layer"
        )
        for name in ("random_forest", "svm", "conv1d")
    }
    forest = accuracy(
        summary, "layer_accuracy", observables="all", classifier="random_forest",
        split_kind="network",
    )  # fmt: skip
    drawn = redrawn(
        results,
        {
            name: {"observables": "all", "classifier": name, "split_kind": "layer"}
            for name in by_layer
        },
    )
    ahead = [drawn.difference("random_forest", "conv1d"), drawn.difference("conv1d", "svm")]
    above = [
        drawn.estimate(lambda a, name=name, row=row: a[name] - row["chance"])  # type: ignore[misc]
        for name, row in by_layer.items()
    ]
    return (
        Finding(
            "Layers named right, all observables, splits by layer: "
            + ", ".join(f"{n.replace('_', ' ')} {told(r)}" for n, r in by_layer.items())
            + f"; random forest with splits by network {told(forest)}; chance "
            f"{forest['chance']:.2f}. By layer, forest less conv1d {ahead[0].told}, conv1d less "
            f"svm {ahead[1].told}.",
            "The forest was the most accurate; Conv1D was slightly better than the linear SVM in "
            "most cases; all were above chance (Figure 2a).",
            decided(*ahead, *above),
        ),
        _confusion_found(results),
    )


def _confusion_found(results: Results) -> Finding:
    """Are the two optimizers of backprop confused more than the two kinds of feedback?"""
    paper = "Adam and SGDM were confused more often than FA and IA (Figure S1)."
    counts = results.table[
        results.table["metric"].str.startswith("layers ")
        & (results.table["observables"] == "all")
        & (results.table["classifier"] == "random_forest")
        & (results.table["split_kind"] == "network")
    ]
    count = counts.pivot(index="split", columns="metric", values="value")
    try:
        backprop, feedback = (_exchanged(count, *pair) for pair in (("adam", "sgdm"), ("fa", "ia")))
    except KeyError:
        return Finding("The study lacks one of adam, sgdm, fa and ia.", paper, "not testable here")
    more = _more_confused(backprop, feedback)
    shares = [pair["other"].sum() / pair["either"].sum() for pair in (backprop, feedback)]
    return Finding(
        f"Of the layers of adam and sgdm named as either, {shares[0]:.1%} were called the other; "
        f"of those of fa and ia, {shares[1]:.1%} (random forest, all observables, by network); "
        f"difference {more.told}.",
        paper,
        decided(more),
    )


def _exchanged(count: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """In each split, how many layers of two rules are called ``either``, and the ``other``."""
    called = {(x, y): count[f"layers {x} called {y}"] for x in (a, b) for y in (a, b)}
    return pd.DataFrame(
        {"either": sum(called.values()), "other": called[a, b] + called[b, a]}, dtype=float
    )


def _more_confused(first: pd.DataFrame, second: pd.DataFrame) -> Estimate:
    """The difference of two shares of confused layers, with its error over splits.

    That error is no smaller than that of as many independent layers as were tested (few splits may
    agree by chance, as where each has one confusion), by shares drawn towards ½ by a count of
    either kind (Agresti & Caffo, 2000, Am. Stat. 54, 280).
    """
    shares = [pair["other"] / pair["either"] for pair in (first, second)]
    # A quarter is tested: q is a third.
    found = over_splits((shares[0] - shares[1]).dropna(), TEST_SHARE / (1 - TEST_SHARE))
    counted = 0.0
    for pair in (first, second):
        layers = pair["either"].mean() * max(1, min(len(pair), 1 / TEST_SHARE))
        share = (pair["other"].sum() / pair["either"].sum() * layers + 1) / (layers + 2)
        counted += share * (1 - share) / (layers + 2)
    return Estimate(found.value, max(found.error, float(np.sqrt(counted))), found.dof)


SEPARABILITY = Experiment(
    "separability",
    "Separability",
    "Can learning rules be told from the trajectories of layers, and by which observables?",
    "Figure 2a",
    _separability,
    _separability_found,
    (Plot("levels", "observables", "classifier", "split_kind"),),
    measure=confusion_of,
)


def _pairs(given: Material) -> Sequence[Cell]:
    return [
        cell
        for a, b in itertools.combinations(given.rules, 2)
        for name in OBSERVABLES
        for cell in given.cells(
            only_rules(given.observables(name), (a, b)),
            ("random_forest", "svm"),
            observables=name,
            pair=f"{a} or {b}",
        )
    ]


def _pairs_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    forest = summary[
        (summary["classifier"] == "random_forest") & (summary["metric"] == "layer_accuracy")
        & (summary["observables"] == "all")
    ].sort_values("mean")  # fmt: skip
    worst, best = forest.iloc[0], forest.iloc[-1]
    paper = "The pair of Adam and SGDM was the hardest (Figure S1)."
    harder = _harder(results, set(forest["pair"]))
    closest = min(harder, key=lambda pair: harder[pair].value, default="")
    beside = f" {closest} less {HARDEST}: {harder[closest].told}." if harder else ""
    return (
        Finding(
            f"Hardest pair: {worst['pair']}, {told(worst)} of the layers named right; easiest: "
            f"{best['pair']}, {told(best)} (random forest, all observables, splits by network; "
            f"chance {worst['chance']:.2f})." + beside,
            paper,
            decided(*harder.values()) if harder else "not testable here",
        ),
    )


HARDEST = "adam or sgdm"
OTHERS = ("adam or fa", "adam or ia", "fa or ia", "fa or sgdm", "ia or sgdm")


def _harder(results: Results, pairs: set[str]) -> dict[str, Estimate]:
    """How much more of each other pair of the paper's is named right; empty if one is missing."""
    if not {HARDEST, *OTHERS} <= pairs:
        return {}
    drawn = redrawn(
        results,
        {
            pair: {"observables": "all", "classifier": "random_forest", "pair": pair}
            for pair in (HARDEST, *OTHERS)
        },
    )
    return {pair: drawn.difference(pair, HARDEST) for pair in OTHERS}


RULE_PAIRS = Experiment(
    "rule_pairs",
    "Pairs of rules",
    "Which rules are hard to tell from which?",
    "Figure S1",
    _pairs,
    _pairs_found,
    (Plot("grid", "pair", "observables"),),
)

ENTRIES = (SEPARABILITY, RULE_PAIRS)
