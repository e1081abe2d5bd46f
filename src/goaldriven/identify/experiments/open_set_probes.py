"""What calibration and "none of these" ask of a fitted classifier besides its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from goaldriven.identify.calibration import feature_distances
from goaldriven.identify.candidates import probabilities
from goaldriven.identify.selection import N_FOLDS, inner_folds

if TYPE_CHECKING:
    from goaldriven.identify.experiments.probes import Fitted

Matrix = NDArray[np.float64]


def cross_fitted(fitted: Fitted) -> dict[str, Matrix]:
    """The chosen settings fitted anew without each fold of the training part, and what they say.

    Returns ``out_of_fold``, scores of the training examples by the classifier that did not see
    them, (example, rule); ``fold``, that of each training example; ``fold_tests``, every fold's
    scores of the test examples, (fold, example, rule). Rows are in the order of the split's
    indices, columns in that of the classes; a rule that a fold lacks has score 0 there.
    """
    train, test, classes = fitted.train, fitted.test, fitted.choice.pipeline.classes_
    groups = None if fitted.groups is None else fitted.groups[train]
    folds = inner_folds(fitted.rules[train], groups, fitted.seed)
    scores, fold = np.zeros((len(train), len(classes))), np.zeros(len(train))
    tests = np.zeros((len(folds), len(test), len(classes)))
    for number, (fitting, held_out) in enumerate(folds):
        once = fitted.choice.candidate.pipeline(fitted.layout, fitted.seed)
        once.fit(fitted.x[train[fitting]], fitted.rules[train[fitting]])
        columns = np.searchsorted(classes, once.classes_)
        scores[np.ix_(held_out, columns)] = probabilities(once, fitted.x[train[held_out]])
        tests[number][:, columns] = probabilities(once, fitted.x[test])
        fold[held_out] = number
    return {"out_of_fold": scores, "fold": fold, "fold_tests": tests}


def neighbour_distances(fitted: Fitted) -> dict[str, Matrix]:
    """How far networks lie from the training networks, in the features the classifier is given.

    ``distance_train`` and ``distance_test``, (network,) in order of first rows: the mean over its
    layers of the distance to the fifth-nearest layer of the training networks, of which a training
    network's own fold is none; see `goaldriven.identify.calibration.feature_distances`.
    """
    train, test = fitted.train, fitted.test
    groups = np.arange(len(fitted.x)) if fitted.groups is None else fitted.groups
    fewest = min(
        len(np.unique(groups[train][fitted.rules[train] == rule]))
        for rule in np.unique(fitted.rules[train])
    )
    found = feature_distances(
        fitted.x[train], fitted.rules[train], groups[train], fitted.x[test], groups[test],
        n_folds=min(N_FOLDS, fewest), seed=fitted.seed,
    )  # fmt: skip
    return {"distance_train": found.train, "distance_test": found.test}
