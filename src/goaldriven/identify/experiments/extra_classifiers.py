"""Do other architectures of the classifier name rules better than the forest?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from goaldriven.identify.classifiers import CLASSIFIERS
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.results import Results, bootstrapped
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, accuracy, told

FOREST = "random_forest"
METRICS = {"layer_accuracy": "layers", "network_accuracy": "networks"}


def _cells(given: Material) -> Sequence[Cell]:
    return given.cells(given.observables("all"), tuple(CLASSIFIERS), observables="all")


def differences(results: Results, reference: str = FOREST) -> pd.DataFrame:
    """How much more accurate than ``reference`` each classifier is, on the same splits.

    Columns: ``classifier``, ``metric`` (``layer_accuracy`` or ``network_accuracy``), ``mean`` and
    ``sem`` of the difference over splits (NaN for one), ``low`` and ``high`` (95% of bootstraps of
    networks within rules, each network by its mean difference over the splits that test it; see
    `Results.summary`), and ``splits``.
    """
    values = results.table.pivot_table(
        index="split", columns=["metric", "classifier"], values="value", sort=False
    )
    keys = ["rule", "network", "layers", "split"]
    verdicts = {name: of.set_index(keys) for name, of in results.verdicts.groupby("classifier")}
    counts = ["layers_correct", "correct"]
    rows = []
    for metric in METRICS:
        for name in results.table["classifier"].unique():
            if name == reference:
                continue
            paired = values[metric, name] - values[metric, reference]
            each = verdicts[name][counts] - verdicts[reference][counts]
            low, high = bootstrapped(each.reset_index(), metric)
            rows.append(
                {"classifier": name, "metric": metric, "mean": paired.mean(), "sem": paired.sem(),
                 "low": low, "high": high, "splits": len(paired)}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _found(results: Results) -> Sequence[Finding]:
    table = differences(results)
    extra = table[[CLASSIFIERS[name].extra for name in table["classifier"]]]
    return tuple(_compared(results, extra[extra["metric"] == metric], metric) for metric in METRICS)


def _compared(results: Results, extra: pd.DataFrame, metric: str) -> Finding:
    summary = results.summary()
    ordered = extra.sort_values("mean", ascending=False, kind="stable")
    best = ordered.iloc[0]
    theirs = accuracy(summary, metric, classifier=best["classifier"])
    forest = accuracy(summary, metric, classifier=FOREST)
    others = summary[(summary["metric"] == metric) & (summary["classifier"] != best["classifier"])]
    listed = "; ".join(
        f"{_words(row['classifier'])} {_signed(row)}" for _, row in ordered.iterrows()
    )
    leader = others.loc[others["mean"].idxmax()]
    return Finding(
        f"{METRICS[metric].capitalize()} named right, all observables, splits by network: best "
        f"extra classifier {_words(best['classifier'])} {told(theirs)}, random forest "
        f"{told(forest)}, which it {_verdict(best)}. Differences to the forest on the same splits: "
        f"{listed}. Best of the others, {_words(leader['classifier'])}: {told(leader)}; chance "
        f"{forest['chance']:.2f}. The best of several is named by these very tests, and so "
        "flattered by them.",
        "The paper's three classifiers were a forest, a linear SVM and Conv1D.",
        "not in the paper",
    )


def _verdict(row: pd.Series) -> str:
    """Both uncertainties count: of which networks there are, and of how splits and fits fell."""
    twice = 0.0 if np.isnan(row["sem"]) else 2 * row["sem"]
    if min(row["low"], row["mean"] - twice) > 0:
        return "beats"
    return "falls short of" if max(row["high"], row["mean"] + twice) < 0 else "cannot be told from"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _signed(row: pd.Series) -> str:
    """A difference with its uncertainties: over splits, and over networks.

    >>> _signed(pd.Series({"mean": 0.02, "sem": 0.01, "low": -0.01, "high": 0.05}))
    '+0.020 ± 0.010 (-0.010 to +0.050)'
    """
    sem = "" if np.isnan(row["sem"]) else f" ± {row['sem']:.3f}"
    return f"{row['mean']:+.3f}{sem} ({row['low']:+.3f} to {row['high']:+.3f})"


EXTRA_CLASSIFIERS = Experiment(
    "classifiers",
    "Architectures of the classifier",
    "Do boosted trees, random convolutions or a transformer name rules better than the forest?",
    "ours",
    _cells,
    _found,
    (Plot("levels", "classifier", "observables"),),
)

ENTRIES = (EXTRA_CLASSIFIERS,)
