"""How much each statistic, or each epoch, matters to a fitted classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from goaldriven.identify.features import N_POSITIONS, POSITION_GROUP, Layout
from goaldriven.identify.scaling import PrincipalAxes

Matrix = NDArray[np.float64]
Groups = Mapping[str, NDArray[np.intp]]
"""Columns of a feature matrix by the name of what they belong to."""


def by_statistic(layout: Layout) -> Groups:
    """The columns of the layer's position and of each statistic: its trajectory, in all views."""
    members = layout.group_of_feature
    return {name: np.flatnonzero(members == i) for i, name in enumerate(layout.groups)}


def by_epoch(layout: Layout) -> Groups:
    """The columns of the layer's position and of each epoch: all statistics, in all views.

    In views other than ``"published"`` columns of one epoch also tell of others.
    """
    columns = np.arange(N_POSITIONS, layout.n_features).reshape(-1, len(layout.epochs))
    epochs = {str(epoch): columns[:, i] for i, epoch in enumerate(layout.epochs)}
    return {POSITION_GROUP: np.arange(N_POSITIONS), **epochs}


GROUPINGS: dict[str, Callable[[Layout], Groups]] = {"statistic": by_statistic, "epoch": by_epoch}
"""What importances can be given for."""


def gini_importances(pipeline: Pipeline, layout: Layout, groups: Groups | None = None) -> Matrix:
    """Gini importance of each group of features in each tree of a forest, (tree, group).

    A feature's importance is the decrease of Gini impurity at the nodes that split on it, weighted
    by the share of training examples that reach them; within a tree they sum to 1 (to 0 for a tree
    of a single node). The importance of a statistic is the sum over its trajectory, of the layer
    position the sum over its three indicators. Other ``groups`` than these may be given: the
    importance of a group is the sum over its columns. Source: Nayebi, Srivastava et al. 2020,
    Figure 3.
    """
    trees = pipeline.named_steps["classify"].estimators_
    per_feature = np.array([tree.feature_importances_ for tree in trees])
    chosen = list((by_statistic(layout) if groups is None else groups).values())
    starts = np.cumsum([0, *(len(columns) for columns in chosen[:-1])])
    return np.add.reduceat(per_feature[:, np.concatenate(chosen)], starts, axis=1)


@dataclass(frozen=True)
class _Rows:
    """Scaled examples, and what is seen of them behind the principal axes where there are any."""

    scaled: Matrix
    axes: PrincipalAxes | None

    @cached_property
    def seen(self) -> Matrix:
        return self.scaled if self.axes is None else self.axes.transform(self.scaled)

    def exchanged(self, columns: NDArray[np.intp], order: NDArray[np.intp]) -> Matrix:
        """What is seen when each example has these columns from another, ``order`` says which."""
        rows = self.seen.copy()
        kept = columns if self.axes is None else columns[columns < N_POSITIONS]
        rows[:, kept] = self.scaled[np.ix_(order, kept)]
        if self.axes is not None:  # axes are linear: only the change has to be turned
            turned = np.setdiff1d(columns, kept)
            change = self.scaled[np.ix_(order, turned)] - self.scaled[:, turned]
            rows[:, N_POSITIONS:] += change @ self.axes.axes_[:, turned - N_POSITIONS].T
        return rows


def permutation_importances(
    pipeline: Pipeline,
    x: Matrix,
    y: NDArray[np.str_],
    layout: Layout,
    repeats: int,
    rng: np.random.Generator,
    groups: Groups | None = None,
) -> Matrix:
    """Accuracy lost when a group's features are exchanged between examples, (repeat, group).

    All features of a group (by default a statistic's whole trajectory, in all views) move together,
    by the same permutation of the test examples ``x``. Groups that say the same stand in for one
    another, and then each alone shows little importance.
    """
    # Scaling is feature by feature: exchanging before or after it is the same, and after is quick.
    steps = dict(pipeline.steps)
    if scaler := steps.pop("scale", None):
        x = scaler.transform(x)
    rows = _Rows(x, steps.pop("axes", None))
    classify = Pipeline(list(steps.items()))
    accuracy = np.mean(classify.predict(rows.seen) == y)
    chosen = list((by_statistic(layout) if groups is None else groups).values())
    lost = np.empty((repeats, len(chosen)))
    per_call = max(1, _NUMBERS_PER_CALL // x.size)
    for repeat in range(repeats):
        for start in range(0, len(chosen), per_call):
            some = chosen[start : start + per_call]
            copies = [rows.exchanged(columns, rng.permutation(len(x))) for columns in some]
            predicted = classify.predict(np.concatenate(copies)).reshape(len(some), -1)
            lost[repeat, start : start + per_call] = accuracy - (predicted == y).mean(axis=1)
    return lost


# Copies of the test part are classified many at a time (some 40 MB): forests take long over few.
_NUMBERS_PER_CALL = 5_000_000
