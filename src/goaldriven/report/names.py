"""Names for people: of statistics, measures, classifiers and kinds of split."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

from goaldriven.specs import STATISTICS

_SUMMARIES = {"third_quartile": "Q3", "var": "variance"}
_FUNCTIONS = {"raw": "", "abs": "abs ", "sq": "sq "}
_CLASSIFIERS = {
    "random_forest": "random forest",
    "svm": "linear SVM",
    "conv1d": "Conv1D MLP",
    "kernel_svm": "kernel SVM",
    "logistic_regression": "logistic regression",
}
_SHORT = {
    "random forest": "RF",
    "linear SVM": "SVM",
    "Conv1D MLP": "Conv1D",
    "logistic regression": "logistic",
}


def statistic_label(name: str) -> str:
    """A statistic's name as figures print it.

    >>> statistic_label("weight_abs_median"), statistic_label("activity_change_raw")
    ('weight abs median', 'activity change raw')
    """
    if name == "all":
        return "all statistics"
    if name not in STATISTICS:
        return name.replace("_", " ")
    statistic = STATISTICS[name]
    measure = statistic.measure.replace("_", " ")
    if statistic.measure == "activity_change":
        return f"{measure} {statistic.function}"
    summary = _SUMMARIES.get(statistic.summary, statistic.summary)
    return f"{measure} {_FUNCTIONS[statistic.function]}{summary}"


def group_label(name: str) -> str:
    """A group of observables, ``activity_change`` → ``activity change``."""
    return "all observables" if name == "all" else name.replace("_", " ")


def classifier_label(name: str) -> str:
    """A classifier's name in words."""
    return _CLASSIFIERS.get(name, name.replace("_", " "))


def classifier_short(name: str) -> str:
    """A classifier's name where there is little room."""
    return _SHORT.get(classifier_label(name), classifier_label(name))


def split_label(kind: str) -> str:
    """What a kind of split keeps on one side.

    >>> split_label("layer"), split_label("task+model_seed"), split_label("held-out task")
    ('splits by layer', 'splits by task and model seed', 'held-out task')
    """
    if kind.startswith("held-out"):
        return kind.replace("_", " ")
    return f"splits by {listing(kind.replace('_', ' ').split('+'))}"


_LEVELS: dict[str, Callable[[str], str]] = {
    "observables": group_label,
    "classifier": classifier_label,
    "split_kind": split_label,
    "statistic": statistic_label,
    "measure": group_label,
    "rules": lambda name: "all rules" if name == "all" else name.replace("_", " "),
}


def level_label(column: str, level: object) -> str:
    """A level of an experiment's condition, as figures and tables print it.

    >>> level_label("classifier", "svm"), level_label("samples", 6.0), level_label("pair", "a_b")
    ('linear SVM', '6', 'a b')
    """
    if isinstance(level, numbers.Real) and not isinstance(level, bool):
        return "–" if math.isnan(level) else f"{float(level):g}"
    label = _LEVELS.get(column)
    return label(str(level)) if label else str(level).replace("_", " ")


_COLUMNS = {
    "split_kind": "kind of split",
    "seen": "what is seen",
    "trained": "trained on",
    "tested": "tested on",
    "pair": "pair of rules",
    "left_out": "rule left out",
    "named": "what is named",
    "families_by": "how families are called",
    "sets": "what sets are calibrated on",
    "stage": "probabilities",
}


def column_label(column: str) -> str:
    """A column of an experiment's table, in words.

    >>> column_label("split_kind"), column_label("held_out")
    ('kind of split', 'held out')
    """
    return _COLUMNS.get(column, column.replace("_", " "))


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "network"), plural(3, "network")
    ('1 network', '3 networks')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listing(names: list[str]) -> str:
    """
    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def as_percent(fraction: float) -> str:
    """
    >>> as_percent(0.9312), as_percent(1.0), as_percent(1 / 3)
    ('93.1%', '100%', '33.3%')
    """
    percent = 100 * fraction
    return f"{percent:.0f}%" if percent == round(percent) else f"{percent:.1f}%"


def number(value: float, digits: int = 3) -> str:
    """A number for a table cell; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
