"""How much each statistic matters to a fitted classifier."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from goaldriven.identify.features import N_POSITIONS, Layout
from goaldriven.identify.scaling import PrincipalAxes

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


@dataclass(frozen=True)
class _Rows:
    """Scaled examples, and what is seen of them behind the principal axes where there are any."""

    scaled: Matrix
    axes: PrincipalAxes | None

    @cached_property
    def seen(self) -> Matrix:
        return self.scaled if self.axes is None else self.axes.transform(self.scaled)

    def exchanged(self, columns: slice, order: NDArray[np.intp]) -> Matrix:
        """What is seen when each example has these columns from another, ``order`` says which."""
        rows = self.seen.copy()
        change = self.scaled[order, columns] - self.scaled[:, columns]
        if self.axes is None or columns.stop <= N_POSITIONS:
            rows[:, columns] = self.scaled[order, columns]
        else:  # axes are linear: only the change has to be turned
            turned = self.axes.axes_[:, columns.start - N_POSITIONS : columns.stop - N_POSITIONS]
            rows[:, N_POSITIONS:] += change @ turned.T
        return rows


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
    steps = dict(pipeline.steps)
    if scaler := steps.pop("scale", None):
        x = scaler.transform(x)
    rows = _Rows(x, steps.pop("axes", None))
    classify = Pipeline(list(steps.items()))
    accuracy = np.mean(classify.predict(rows.seen) == y)
    lost = np.empty((repeats, len(layout.groups)))
    bounds = np.flatnonzero(np.diff(layout.group_of_feature, prepend=-1, append=-1))
    groups = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    per_call = max(1, _NUMBERS_PER_CALL // x.size)
    for repeat in range(repeats):
        for start in range(0, len(groups), per_call):
            some = groups[start : start + per_call]
            copies = [rows.exchanged(columns, rng.permutation(len(x))) for columns in some]
            predicted = classify.predict(np.concatenate(copies)).reshape(len(some), -1)
            lost[repeat, start : start + per_call] = accuracy - (predicted == y).mean(axis=1)
    return lost


# Copies of the test part are classified many at a time (some 40 MB): forests take long over few.
_NUMBERS_PER_CALL = 5_000_000
