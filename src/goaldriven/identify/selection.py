"""Choosing a classifier's settings by cross-validation inside the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline

from goaldriven.errors import IdentificationError
from goaldriven.identify.candidates import Candidate, Forest, probabilities, without_axes
from goaldriven.identify.features import Layout
from goaldriven.identify.forests import TOLERANCE, Race, Setting, Training, race
from goaldriven.identify.scaling import TooFewAxes

Matrix = NDArray[np.float64]
Labels = NDArray[np.str_]
Indices = NDArray[np.intp]

N_FOLDS = 5


@dataclass(frozen=True)
class Part:
    """Rows to fit on and rows held out, behind the steps that were fitted on the former."""

    fitting: Matrix
    held_out: Matrix
    steps: tuple[tuple[str, Any], ...] = ()


class Folds:
    """A training part with its cross-validation folds, remembering what was transformed.

    Candidates differ mostly in their last step; scaling and principal axes, fitted on each fold's
    own rows, are computed once for all that share them.

    Parameters
    ----------
    x, y : features of all examples, and their rules.
    train, test : indices of the training part, and of what is held out from everything here.
    groups : for each example, the label of what must stay on one side of a fold; None for none.
    seed : of the folds and of the classifiers fitted on them.
    """

    WHOLE = -1

    def __init__(
        self,
        x: Matrix,
        y: Labels,
        train: Indices,
        test: Indices,
        groups: NDArray[np.generic] | None,
        seed: int,
    ) -> None:
        self.seed = seed
        self.grouped = groups is not None
        self._x, self._y = x, y
        self._inner = inner_folds(y[train], None if groups is None else groups[train], seed)
        self._indices = {i: (train[a], train[b]) for i, (a, b) in enumerate(self._inner)}
        self._n_folds = len(self._inner)
        self._indices[self.WHOLE] = (train, test)
        self._memory: dict[tuple[int, str], Part] = {}

    @property
    def n_train(self) -> int:
        return len(self._indices[self.WHOLE][0])

    def training(self) -> Training:
        """The training part as forests take it."""
        train, _ = self._indices[self.WHOLE]
        x = self._x[train].astype(np.float32)
        return Training(x, self._y[train], tuple(self._inner), self.seed)

    def score(self, pipeline: Pipeline) -> float:
        """Mean validation accuracy over the folds."""
        return float(np.mean([self._score(i, pipeline) for i in range(self._n_folds)]))

    def fit(self, pipeline: Pipeline) -> Pipeline:
        """The pipeline fitted on the whole training part."""
        return self._fit(self.WHOLE, pipeline)[0]

    def out_of_fold(
        self, candidate: Candidate, layout: Layout, classes: NDArray[np.str_]
    ) -> Matrix:
        """Scores of the training examples by classifiers that did not see them, (example, rule).

        The candidate, fitted anew in each fold. Rows are in the order of the training part,
        columns in that of ``classes``; a rule that a fold lacks has score 0 there.

        Raises
        ------
        TooFewAxes : a fold has fewer principal axes than the candidate asks for.
        """
        scores = np.zeros((self.n_train, len(classes)))
        for fold, (_, held_out) in enumerate(self._inner):
            fitted, part = self._fit(fold, candidate.pipeline(layout, self.seed))
            head = Pipeline([fitted.steps[-1]])
            columns = np.searchsorted(classes, head.classes_)
            scores[np.ix_(held_out, columns)] = probabilities(head, part.held_out)
        return scores

    def _score(self, fold: int, pipeline: Pipeline) -> float:
        fitted, part = self._fit(fold, pipeline)
        predicted = fitted.steps[-1][1].predict(part.held_out)
        return float(np.mean(predicted == self._y[self._indices[fold][1]]))

    def _fit(self, fold: int, pipeline: Pipeline) -> tuple[Pipeline, Part]:
        fitting, held_out = self._indices[fold]
        part = Part(self._x[fitting], self._x[held_out])
        done = ""
        for name, step in pipeline.steps[:-1]:
            done += f"{type(step).__name__}{sorted(step.get_params().items())}"
            if (fold, done) not in self._memory:
                step.fit(part.fitting, self._y[fitting])
                self._memory[fold, done] = Part(
                    step.transform(part.fitting),
                    step.transform(part.held_out),
                    (*part.steps, (name, step)),
                )
            part = self._memory[fold, done]
        name, head = pipeline.steps[-1]
        head.fit(part.fitting, self._y[fitting])
        return Pipeline([*part.steps, (name, head)]), part


def inner_folds(
    y: Labels, groups: NDArray[np.generic] | None, seed: int
) -> list[tuple[Indices, Indices]]:
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

    ``accuracy`` is its mean validation accuracy, or that of its out-of-bag votes (see `choose`);
    NaN where there was nothing to choose.
    """

    candidate: Candidate
    accuracy: float
    pipeline: Pipeline


def choose(
    candidates: Sequence[Candidate],
    folds: Folds,
    layout: Layout,
    *,
    tolerance: float | None = TOLERANCE,
) -> Choice:
    """The candidate with the highest mean validation accuracy, refitted on all of ``folds``.

    Candidates that ask for more principal components than there are leave the competition, as in
    the published code; ties go to the first.

    Forests race, see `goaldriven.identify.forests`: those that would not win by more than
    ``tolerance`` are not scored. If all candidates are forests without cheaper stand-ins, and no
    examples belong together, they are scored by out-of-bag votes instead of validation folds.
    Otherwise, and always with ``tolerance=None``, scores are those of the plain grid search.

    Parameters
    ----------
    candidates, folds, layout : what to choose among, on what, and the layout of its features.
    tolerance : an accuracy; None scores every candidate in every fold.

    Raises
    ------
    IdentificationError : no candidate can be fitted.
    """
    feasible = list(candidates)
    scores, forests = [np.nan] * len(feasible), None
    if len(feasible) > 1:
        forests = _race(feasible, folds, tolerance)
        raced = iter(forests.scores.tolist() if forests else ())
        # A forest that the race did not come to keeps NaN, and is sorted last.
        tried = [next(raced) if isinstance(c, Forest) else _try(c, folds, layout) for c in feasible]
        feasible = [c for c, score in zip(feasible, tried, strict=True) if score is not None]
        scores = [score for score in tried if score is not None]
    for best in np.argsort(-np.array(scores), kind="stable"):
        if forests is not None and forests.forest is not None:
            fitted = Pipeline([("classify", forests.forest)])
            return Choice(feasible[best], scores[best], fitted)
        try:
            fitted = folds.fit(feasible[best].pipeline(layout, folds.seed))
        except TooFewAxes:
            continue
        return Choice(feasible[best], scores[best], without_axes(fitted))
    raise IdentificationError(
        f"candidates must ask for at most the principal components that {folds.n_train} training "
        "examples have; none of them does"
    )


def _race(candidates: Sequence[Candidate], folds: Folds, tolerance: float | None) -> Race | None:
    """How the forests among the candidates did; None if there are none."""
    forests = [c for c in candidates if isinstance(c, Forest)]
    if not forests:
        return None
    complete = len(forests) == len(candidates) and all(f.trial() == f for f in forests)
    return race(
        [Setting(f.trial().n_estimators, f.max_features) for f in forests],
        folds.training(),
        out_of_bag=complete and not folds.grouped and tolerance is not None,
        tolerance=tolerance,
    )


def _try(candidate: Candidate, folds: Folds, layout: Layout) -> float | None:
    try:
        return folds.score(candidate.trial().pipeline(layout, folds.seed))
    except TooFewAxes:
        return None
