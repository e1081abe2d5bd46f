"""What more may be asked of a fitted classifier than its scores of the test examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goaldriven.identify.candidates import probabilities
from goaldriven.identify.experiments.open_set_probes import cross_fitted, neighbour_distances
from goaldriven.identify.features import Layout
from goaldriven.identify.importance import GROUPINGS, gini_importances, permutation_importances
from goaldriven.identify.selection import Choice, inner_folds

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted classifier with what it was fitted and tested on.

    ``x``, ``rules`` and ``groups`` are those of all examples, (example, feature) and (example,);
    ``train`` and ``test`` the indices of those that were fitted on and are tested.
    """

    choice: Choice
    layout: Layout
    x: Matrix
    rules: NDArray[np.str_]
    groups: NDArray[np.generic] | None
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    seed: int


Probe = Callable[[Fitted], Mapping[str, Matrix]]

REPEATS = 3
"""Permutations of each group of features."""


def _gini(by: str, name: str) -> Probe:
    def probe(fitted: Fitted) -> dict[str, Matrix]:
        """Gini importances of groups of features, (tree, group)."""
        groups = GROUPINGS[by](fitted.layout)
        return {name: gini_importances(fitted.choice.pipeline, fitted.layout, groups)}

    return probe


def _permutation(by: str, name: str) -> Probe:
    def probe(fitted: Fitted) -> dict[str, Matrix]:
        """Accuracy lost when groups of features are exchanged between examples, (repeat, group)."""
        x, y = fitted.x[fitted.test], fitted.rules[fitted.test]
        lost = permutation_importances(
            fitted.choice.pipeline, x, y, fitted.layout, REPEATS,
            np.random.default_rng(fitted.seed), GROUPINGS[by](fitted.layout),
        )  # fmt: skip
        return {name: lost}

    return probe


def out_of_fold(fitted: Fitted) -> dict[str, Matrix]:
    """Scores of the training examples by classifiers that did not see them, (example, rule).

    The chosen settings, fitted anew in each fold of the training part. Rows are in the order of the
    split's training indices, columns in that of the classes; a rule that a fold's training part
    lacks has score 0 there.
    """
    train, classes = fitted.train, fitted.choice.pipeline.classes_
    groups = None if fitted.groups is None else fitted.groups[train]
    scores = np.zeros((len(train), len(classes)))
    for fitting, held_out in inner_folds(fitted.rules[train], groups, fitted.seed):
        once = fitted.choice.candidate.pipeline(fitted.layout, fitted.seed)
        once.fit(fitted.x[train[fitting]], fitted.rules[train[fitting]])
        columns = np.searchsorted(classes, once.classes_)
        scores[np.ix_(held_out, columns)] = probabilities(once, fitted.x[train[held_out]])
    return {"out_of_fold": scores}


PROBES: dict[str, Probe] = {
    "gini": _gini("statistic", "gini"),
    "gini_by_epoch": _gini("epoch", "gini_by_epoch"),
    "permutation": _permutation("statistic", "permutation"),
    "permutation_by_epoch": _permutation("epoch", "permutation_by_epoch"),
    "out_of_fold": out_of_fold,
    "cross_fitted": cross_fitted,
    "neighbour_distances": neighbour_distances,
}
"""By name; groups of features are those of `goaldriven.identify.importance.GROUPINGS`, in order."""
