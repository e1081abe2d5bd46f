"""How much each statistic matters to a fitted classifier."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from goaldriven.identify.features import Layout

Matrix = NDArray[np.float64]


def gini_importances(pipeline: Pipeline, layout: Layout) -> Matrix:
    """Gini importance of each group of features in each tree of a forest, (tree, group).

    A feature's importance is the decrease of Gini impurity at the nodes that split on it, weighted
    by the share of training examples that reach them; within a tree they sum to 1 (to 0 for a tree
    of a single node). The importance of a statistic is the sum over its trajectory, of the layer
    position the sum over its three indicators. Source: Nayebi, Srivastava et al. 2020, Figure 3.
    """
    trees = pipeline.named_steps["classify"].estimators_
    per_feature = np.array([tree.feature_importances_ for tree in trees])
    starts = np.flatnonzero(np.diff(layout.group_of_feature, prepend=-1))
    return np.add.reduceat(per_feature, starts, axis=1)


def permutation_importances(
    pipeline: Pipeline,
    x: Matrix,
    y: NDArray[np.str_],
    layout: Layout,
    repeats: int,
    rng: np.random.Generator,
) -> Matrix:
    """Accuracy lost when a group's features are exchanged between examples, (repeat, group).

    All features of a group (a statistic's whole trajectory, in all views) move together, by the
    same permutation of the test examples ``x``. Statistics that say the same stand in for one
    another, and then each alone shows little importance.
    """
    # Scaling is feature by feature: exchanging before or after it is the same, and after is quick.
    x = pipeline[:-1].transform(x) if len(pipeline) > 1 else x
    head = pipeline.steps[-1][1]
    accuracy = np.mean(head.predict(x) == y)
    lost = np.empty((repeats, len(layout.groups)))
    bounds = np.flatnonzero(np.diff(layout.group_of_feature, prepend=-1, append=-1))
    groups = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    per_call = max(1, _ROWS_PER_CALL // len(x))
    for repeat in range(repeats):
        for start in range(0, len(groups), per_call):
            some = groups[start : start + per_call]
            copies = np.repeat(x[None], len(some), axis=0)
            for copy, columns in zip(copies, some, strict=True):
                copy[:, columns] = x[rng.permutation(len(x)), columns]
            predicted = head.predict(copies.reshape(-1, x.shape[1])).reshape(len(some), -1)
            lost[repeat, start : start + per_call] = accuracy - (predicted == y).mean(axis=1)
    return lost


# Copies of the test part are classified many at a time: forests take long over few rows.
_ROWS_PER_CALL = 1000
