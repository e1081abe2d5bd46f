"""Can the rules be told apart, and which from which?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from goaldriven.identify.classifiers import DEFAULT_CLASSIFIERS
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.outcomes import confusion_of
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, accuracy, told
from goaldriven.identify.experiments.views import only_rules

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
    means = [by_layer[name]["mean"] for name in ("random_forest", "conv1d", "svm")]
    ahead = means == sorted(means, reverse=True)
    above = all(row["low"] > row["chance"] for row in by_layer.values())
    return (
        Finding(
            "Layers named right, all observables, splits by layer: "
            + ", ".join(f"{n.replace('_', ' ')} {told(r)}" for n, r in by_layer.items())
            + f"; random forest with splits by network {told(forest)}; chance "
            f"{forest['chance']:.2f}.",
            "The forest was the most accurate; Conv1D was slightly better than the linear SVM in "
            "most cases; all were above chance (Figure 2a).",
            "reproduced" if ahead and above else "not reproduced",
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
    count = counts.groupby("metric")["value"].sum()

    def confused(a: str, b: str) -> float:
        names = [(x, y) for x in (a, b) for y in (a, b)]
        both = {xy: count[f"layers {xy[0]} called {xy[1]}"] for xy in names}
        return float((both[a, b] + both[b, a]) / sum(both.values()))

    try:
        backprop, feedback = confused("adam", "sgdm"), confused("fa", "ia")
    except KeyError:
        return Finding("The study lacks one of adam, sgdm, fa and ia.", paper, "not testable here")
    return Finding(
        f"Of the layers of adam and sgdm named as either, {backprop:.1%} were called the other; of "
        f"those of fa and ia, {feedback:.1%} (random forest, all observables, by network).",
        paper,
        "reproduced" if backprop > feedback else "not reproduced",
    )


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
    pairs = set(forest["pair"])
    four = {"adam or fa", "adam or ia", "adam or sgdm", "fa or ia", "fa or sgdm", "ia or sgdm"}
    return (
        Finding(
            f"Hardest pair: {worst['pair']}, {told(worst)} of the layers named right; easiest: "
            f"{best['pair']}, {told(best)} (random forest, all observables, splits by network; "
            f"chance {worst['chance']:.2f}).",
            paper,
            "not testable here" if not four <= pairs
            else "reproduced" if forest[forest["pair"].isin(four)].iloc[0]["pair"] == "adam or sgdm"
            else "not reproduced",
        ),
    )  # fmt: skip


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
