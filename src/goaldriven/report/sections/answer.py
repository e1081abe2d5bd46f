"""Which rule made this? Two sentences, with the numbers of this study and no others."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy.stats import norm

from goaldriven.report.identified import Results
from goaldriven.report.names import as_percent, classifier_label, group_label, plural
from goaldriven.report.study import StudyData

Row = Mapping[Hashable, Any]

UNSEEN = {
    "network": "if no layer of the tested networks was seen in its training",
    "layer": "in splits over layers, where it has seen other layers of the same networks",
}


def answer(data: StudyData, results: Results | None) -> str:
    """How accurately the rule is named, against chance; or how to find out."""
    if results is None:
        return how_to_identify(data)
    best = results.best()
    count = plural(len(results.statistics), "statistic")
    which = f"all {count}"
    if results.observables != "all":
        which = f"{count} ({group_label(results.observables)})"
    n_classifiers = results.accuracy["classifier"].nunique()
    name = classifier_label(best["classifier"])
    tool = name if n_classifiers == 1 else f"the best of {n_classifiers} classifiers ({name})"
    condition = UNSEEN.get(results.split_kind, f"in splits by {results.split_kind}")
    tested = _networks_tested(results, best)
    verdict = "" if above_chance(best, n_classifiers, tested) else " This is no better than chance."
    first = (
        f"From the trajectories of {which} of one layer, {tool} names the learning rule "
        f"that trained the layer with {measured(best)} accuracy {condition}; chance among "
        f"{plural(len(results.rules), 'rule')} is {as_percent(best['chance'])}.{verdict}"
    )
    return f"{first} {_second_sentence(results, best)}".strip()


def above_chance(row: Row, n_classifiers: int, n_networks: float) -> bool:
    """Whether the best of some classifiers' mean accuracies lies above chance.

    By as many standard errors as one of them exceeds once in forty times if none knows anything
    (Bonferroni). With a single split the standard error is that of guesses, one for each network.
    """
    chance = float(row["chance"])
    error = float(row["sem"])
    if np.isnan(error):
        error = np.sqrt(chance * (1 - chance) / n_networks)
    return bool(row["mean"] - norm.isf(0.025 / n_classifiers) * error > chance)


def _networks_tested(results: Results, best: Row) -> float:
    """Networks in a test part; layers where splits do not keep networks whole."""
    rows = _rows(results.accuracy, str(best["split_kind"]), "network")
    return float(rows[0]["tested"] if rows else best["tested"])


def _second_sentence(results: Results, best: Row) -> str:
    """The published kind of split, by the same classifier, and the verdict on whole networks."""
    table = results.accuracy
    same = table[
        (table["classifier"] == best["classifier"]) & (table["observables"] == results.observables)
    ]
    parts = []
    if results.split_kind == "network":
        for row in _rows(same, "layer", "layer"):
            parts.append(
                "With the published splits over layers, which let it see other layers of the same "
                f"networks, it reaches {measured(row)}, {_compared(row['mean'] - best['mean'])}"
            )
    for row in _rows(same, results.split_kind, "network"):
        parts.append(
            f"{'its' if parts else 'Its'} verdicts on whole networks that it never saw are right "
            f"in {measured(row)} of cases"
        )
    return "; ".join(parts) + "." if parts else ""


def _rows(table: pd.DataFrame, split_kind: str, unit: str) -> list[Row]:
    chosen = table[(table["split_kind"] == split_kind) & (table["unit"] == unit)]
    return list(chosen.to_dict("records"))


def _compared(difference: float) -> str:
    """
    >>> _compared(0.028), _compared(-0.01), _compared(0.0001)
    ('2.8 points more', '1.0 points less', 'the same')
    """
    points = abs(100 * difference)
    if points < 0.05:
        return "the same"
    return f"{points:.1f} points {'more' if difference > 0 else 'less'}"


def measured(row: Row) -> str:
    """Mean and s.e.m. over splits, the latter where there is one.

    >>> measured({"mean": 0.931, "sem": 0.004}), measured({"mean": 1.0, "sem": 0.0})
    ('93.1 ± 0.4%', '100%')
    """
    if np.isnan(row["sem"]) or row["sem"] == 0:
        return as_percent(row["mean"])
    return f"{100 * row['mean']:.1f} ± {100 * row['sem']:.1f}%"


def how_to_identify(data: StudyData) -> str:
    """What is missing for an answer."""
    if len(data.rules) < 2:
        return (
            f"The {data.kind} has a single learning rule, so there is nothing to identify: a "
            f"{data.kind} of two or more rules answers which of them trained a network."
        )
    return Markup(
        "The learning rules have not been identified yet: <code>goaldriven identify {}</code> "
        "trains and tests the classifiers, and <code>goaldriven report {}</code> then writes this "
        "page with their answer."
    ).format(str(data.folder), str(data.folder))
