"""Choosing a classifier's settings by cross-validation inside the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline

from goaldriven.errors import IdentificationError
from goaldriven.identify.candidates import Candidate, without_axes
from goaldriven.identify.features import Layout
from goaldriven.identify.scaling import TooFewAxes

Matrix = NDArray[np.float64]
Labels = NDArray[np.str_]

N_FOLDS = 5


@dataclass
class _Part:
    """Training and validation rows on their way through a pipeline's steps."""

    train: Matrix
    validation: Matrix


@dataclass
class Folds:
    """Cross-validation folds of one training part, remembering what was already transformed.

    Candidates differ mostly in their last step; scaling and principal axes, fitted on each fold's
    own training rows, are computed once for all that share them.

    Attributes
    ----------
    x, y : features and rules of the training part.
    groups : labels of what must stay on one side of a fold, or None.
    seed : of the folds and of the classifiers fitted on them.
    """

    x: Matrix
    y: Labels
    groups: NDArray[np.generic] | None
    seed: int
    indices: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = field(init=False)
    _memory: dict[tuple[int, str], _Part] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.indices = inner_folds(self.y, self.groups, self.seed)

    def score(self, pipeline: Pipeline) -> float:
        """Mean validation accuracy over the folds."""
        return float(np.mean([self._score(i, pipeline) for i in range(len(self.indices))]))

    def _score(self, fold: int, pipeline: Pipeline) -> float:
        train, validation = self.indices[fold]
        part = self._transformed(fold, pipeline)
        head = pipeline.steps[-1][1].fit(part.train, self.y[train])
        return float(np.mean(head.predict(part.validation) == self.y[validation]))

    def _transformed(self, fold: int, pipeline: Pipeline) -> _Part:
        train, validation = self.indices[fold]
        part = _Part(self.x[train], self.x[validation])
        done = ""
        for _, step in pipeline.steps[:-1]:
            done += f"{type(step).__name__}{sorted(step.get_params().items())}"
            if (fold, done) not in self._memory:
                step.fit(part.train, self.y[train])
                both = _Part(step.transform(part.train), step.transform(part.validation))
                self._memory[fold, done] = both
            part = self._memory[fold, done]
        return part


def inner_folds(
    y: Labels, groups: NDArray[np.generic] | None, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Five stratified folds; with groups, none is on both sides of a fold.

    Fewer folds where a rule has fewer than five examples (or groups), but at least two.

    Raises
    ------
    IdentificationError : a rule has a single example or group to train on.
    """
    if groups is None:
        _, counts = np.unique(y, return_counts=True)
    else:
        counts = np.array([len(np.unique(groups[y == rule])) for rule in np.unique(y)])
    n_folds = int(min(N_FOLDS, counts.min()))
    if n_folds < 2:
        raise IdentificationError(
            f"every rule must have at least 2 {'examples' if groups is None else 'groups'} to "
            f"train on, got {counts.min()}"
        )
    if groups is None:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        return list(folds.split(np.zeros(len(y)), y))
    grouped = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    return list(grouped.split(np.zeros(len(y)), y, groups))


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, fitted on the whole training part.

    ``accuracy`` is its mean validation accuracy; NaN where there was nothing to choose.
    """

    candidate: Candidate
    accuracy: float
    pipeline: Pipeline


def choose(candidates: Sequence[Candidate], folds: Folds, layout: Layout) -> Choice:
    """The candidate with the highest mean validation accuracy, refitted on all of ``folds``.

    Candidates that ask for more principal components than there are leave the competition, as in
    the published code; ties go to the first.

    Raises
    ------
    IdentificationError : no candidate can be fitted.
    """
    feasible = list(candidates)
    scores = [np.nan] * len(feasible)
    if len(feasible) > 1:
        scored = [(c, _try(c, folds, layout)) for c in feasible]
        feasible = [c for c, score in scored if score is not None]
        scores = [score for _, score in scored if score is not None]
    for best in np.argsort(-np.array(scores), kind="stable"):
        pipeline = feasible[best].pipeline(layout, folds.seed)
        try:
            pipeline.fit(folds.x, folds.y)
        except TooFewAxes:
            continue
        return Choice(feasible[best], scores[best], without_axes(pipeline))
    raise IdentificationError(
        f"candidates must ask for at most the principal components that {len(folds.y)} training "
        "examples have; none of them does"
    )


def _try(candidate: Candidate, folds: Folds, layout: Layout) -> float | None:
    try:
        return folds.score(candidate.trial().pipeline(layout, folds.seed))
    except TooFewAxes:
        return None
