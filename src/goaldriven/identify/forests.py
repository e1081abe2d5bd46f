"""Choosing among random forests without growing every tree of every candidate.

Three facts make it quick.

*Nested forests.* Trees draw their seeds one after the other, so the first 20 trees of a forest of
1000 are the forest of 20 with the same seed, bit for bit: all numbers of trees cost one forest.

*Racing.* Forests that differ only in ``max_features`` make an arm; arms run in order of the
features they try at a node, the cheapest first. An arm is looked at after numbers of trees given by
`looks`. With a_f the accuracy on fold f after n trees, h_f the mean of those of its first and its
second half, and m the arm's largest forest, what the arm may still reach is

    p_f = a_f + 2 (1 − n/m) (a_f − h_f),    or a_f where the mean of a_f − h_f is not positive.

The expected accuracy of n randomised trees is a(∞) − c/n + o(1/n), hence a(n) − a(n/2) = c/n and
a(m) − a(n) = (1 − n/m) c/n. With few votes accuracy rises on for longer than that: hence the
factor 2, and hence no arm is judged before the examples have 12 votes on average. With b_f the
accuracies of the best candidate so far and d_f = p_f − b_f, the arm grows on only while

    mean(d) + t · sd(d) / √k > tolerance,

t being Student's 95 % quantile for k − 1 degrees of freedom, k the number of folds: else nothing
that is left of the arm would win by more than the tolerance.

*Out-of-bag votes.* Where examples are independent, a tree votes on the examples that are not in
its bag, and the trees that were scored are the chosen forest: nothing is refitted. Given that one
of N examples is out of a tree's bag, the bag consists of N draws from the N − 1 others, so such a
vote has the law of a vote on a new example. Fewer trees vote on each, a share (1 − 1/N)ᴺ ≈ 0.37,
which understates small forests more than large ones. Where several examples come from one network
this does not hold: the others are in the bag, and out-of-bag accuracy is too high. Then, and where
candidates are compared by cheaper stand-ins, each fold has forests of its own.

Sources: Breiman 2001 (forests, out-of-bag votes); Cannings & Samworth 2017, J. R. Statist. Soc. B
79, 959 (the law in 1/n); Maron & Moore 1994 (racing).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.ensemble import RandomForestClassifier

Indices = NDArray[np.intp]

TOLERANCE = 0.005
CONFIDENCE = 0.95
SLACK = 2.0
FEWEST_VOTES = 12
FIRST_LOOK = 20

_TRIED: dict[str | None, Callable[[float], float]] = {
    "sqrt": math.sqrt,
    "log2": math.log2,
    None: float,
}


@dataclass(frozen=True)
class Setting:
    """A random forest to be scored.

    Attributes
    ----------
    n_estimators : trees.
    max_features : features tried at each node: ``"sqrt"``, ``"log2"`` or None (all).
    """

    n_estimators: int
    max_features: str | None


@dataclass(frozen=True, eq=False)
class Training:
    """Examples to choose on.

    Attributes
    ----------
    x, y : their features (example, feature) in float32, as forests compute, and their rules.
    folds : for each fold the rows to fit on and the rows held out; the latter partition all.
    seed : of the forests.
    """

    x: NDArray[np.float32]
    y: NDArray[np.str_]
    folds: Sequence[tuple[Indices, Indices]]
    seed: int


@dataclass(frozen=True, eq=False)
class Look:
    """An arm after a number of trees.

    Attributes
    ----------
    n_trees : in each of its forests.
    n_votes : on an example, on average.
    accuracy : on each fold.
    halves : on each fold, the mean over the first and the second half of the trees.
    forest : the forest grown on all examples; None where each fold has its own.
    """

    n_trees: int
    n_votes: float
    accuracy: NDArray[np.float64]
    halves: NDArray[np.float64]
    forest: RandomForestClassifier | None = None

    def reach(self, largest: int) -> NDArray[np.float64]:
        """The accuracy on each fold that ``largest`` trees may reach."""
        rise = self.accuracy - self.halves
        if rise.mean() <= 0:
            return self.accuracy
        return self.accuracy + SLACK * (1 - self.n_trees / largest) * rise


@dataclass(frozen=True, eq=False)
class Race:
    """How a race went.

    Attributes
    ----------
    scores : mean accuracy over the folds of each setting; NaN where the race stopped before it.
    trees : trees grown in each arm, by ``max_features``; in each fold, or in all if out of bag.
    forest : the best setting's forest, fitted on all examples; None where folds had their own.
    """

    scores: NDArray[np.float64]
    trees: dict[str | None, int]
    forest: RandomForestClassifier | None

    @property
    def best(self) -> int:
        """The index of the setting with the highest score; ties go to the first."""
        return int(np.nanargmax(self.scores))


def race(
    settings: Sequence[Setting],
    training: Training,
    *,
    out_of_bag: bool = False,
    tolerance: float | None = TOLERANCE,
) -> Race:
    """Score settings until none that is left would win by more than the tolerance.

    Parameters
    ----------
    settings : at least one.
    training : the examples.
    out_of_bag : score by out-of-bag votes, for examples that are independent; else in folds.
    tolerance : an accuracy, see the module; None scores every setting.
    """
    scores = np.full(len(settings), np.nan)
    trees: dict[str | None, int] = {}
    best: tuple[int, Look] | None = None
    grow = _out_of_bag if out_of_bag else _in_folds
    for max_features in _arms(settings, training.x.shape[1]):
        entrants = [i for i, s in enumerate(settings) if s.max_features == max_features]
        sizes = sorted({settings[i].n_estimators for i in entrants})
        for look in grow(max_features, looks(sizes), training):
            trees[max_features] = look.n_trees
            score = float(np.mean(look.accuracy))
            here = [i for i in entrants if settings[i].n_estimators == look.n_trees]
            scores[here] = score
            if here and (best is None or (-score, here[0]) < (-scores[best[0]], best[0])):
                best = here[0], look
            if best and tolerance is not None and _hopeless(look, sizes[-1], best[1], tolerance):
                break
    forest = None if best is None else _first_trees(best[1])
    return Race(scores, trees, forest)


def looks(sizes: Sequence[int]) -> list[int]:
    """The numbers of trees after which an arm is looked at.

    They are its settings' (``sizes``, ascending), and between a and the next, b, also 2a, 4a, … up
    to 0.8 b; before the first, 20, 40, … likewise.
    """
    found = []
    start = FIRST_LOOK
    for size in sizes:
        while start <= 0.8 * size:
            found.append(start)
            start *= 2
        found.append(size)
        start = 2 * size
    return found


def _arms(settings: Sequence[Setting], n_features: int) -> list[str | None]:
    arms = dict.fromkeys(s.max_features for s in settings)
    return sorted(arms, key=lambda share: max(1, int(_TRIED[share](n_features))))


def _hopeless(look: Look, largest: int, best: Look, tolerance: float) -> bool:
    if look.n_votes < FEWEST_VOTES:
        return False
    ahead = look.reach(largest) - best.accuracy
    k = len(ahead)
    margin = student.ppf(CONFIDENCE, k - 1) * ahead.std(ddof=1) / math.sqrt(k)
    return bool(ahead.mean() + margin <= tolerance)


def _new_forest(max_features: str | None, seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(max_features=max_features, random_state=seed, warm_start=True)


def _grow(
    forest: RandomForestClassifier, n_trees: int, x: NDArray[np.float32], y: NDArray[np.str_]
) -> RandomForestClassifier:
    """Grow a forest on, and return a view of it that holds the new trees only."""
    before = len(getattr(forest, "estimators_", []))
    forest.set_params(n_estimators=n_trees).fit(x, y)
    fresh = copy.copy(forest)
    fresh.estimators_ = forest.estimators_[before:]
    return fresh


class _Tally:
    """Class probabilities of rows, summed over trees in the order in which those were grown.

    The sums after each look and after half of it are remembered.
    """

    def __init__(self, n_rows: int, n_classes: int, at: Sequence[int]) -> None:
        self._at = {n for look in at for n in (look, look // 2)}
        self._sum = np.zeros((n_rows, n_classes))
        self._n = 0
        self._after = {0: self._sum.copy()}

    def add(self, votes: NDArray[np.float64], rows: Indices | slice = slice(None)) -> None:
        self._sum[rows] += votes
        self._n += 1
        if self._n in self._at:
            self._after[self._n] = self._sum.copy()

    def parts(self) -> list[NDArray[np.float64]]:
        """Mean votes of all trees so far, of the first half, of the second half."""
        half = self._after[self._n // 2]
        # Divided as scikit-learn does it: rounding may make ties, which go to the first rule.
        return [self._sum / self._n, half, self._sum - half]


def _in_folds(max_features: str | None, at: Sequence[int], training: Training) -> Iterator[Look]:
    """Looks at an arm with a forest in each fold, voting on the rows held out."""
    n_classes = len(np.unique(training.y))
    forests = [_new_forest(max_features, training.seed) for _ in training.folds]
    tallies = [_Tally(len(held), n_classes, at) for _, held in training.folds]
    for n_trees in at:
        right = []
        for forest, tally, (fit, held) in zip(forests, tallies, training.folds, strict=True):
            rows = training.x[held]
            for tree in _grow(forest, n_trees, training.x[fit], training.y[fit]).estimators_:
                tally.add(_votes(forest, tree, rows, n_classes))
            # Voted and no longer needed; scikit-learn only counts the trees that it adds to.
            forest.estimators_ = [None] * n_trees
            classes = forest.classes_
            right.append([np.mean(classes[p.argmax(1)] == training.y[held]) for p in tally.parts()])
        whole, first, second = np.array(right).T
        yield Look(n_trees, n_trees, whole, (first + second) / 2)


def _out_of_bag(max_features: str | None, at: Sequence[int], training: Training) -> Iterator[Look]:
    """Looks at an arm with one forest, its trees voting on what is not in their bags."""
    x, y = training.x, training.y
    forest = _new_forest(max_features, training.seed)
    tally = _Tally(len(y), len(np.unique(y)), at)
    for n_trees in at:
        fresh = _grow(forest, n_trees, x, y)
        for tree, bag in zip(fresh.estimators_, fresh.estimators_samples_, strict=True):
            outside = np.ones(len(y), dtype=bool)
            outside[bag] = False
            rows = np.flatnonzero(outside)
            tally.add(tree.predict_proba(x[rows], check_input=False), rows)
        whole, first, second = (_fold_accuracy(p, forest, training) for p in tally.parts())
        n_votes = float(tally.parts()[0].sum() * n_trees / len(y))
        yield Look(n_trees, n_votes, whole, (first + second) / 2, forest)


def _votes(
    forest: RandomForestClassifier, tree: object, rows: NDArray[np.float32], n_classes: int
) -> NDArray[np.float64]:
    votes: NDArray[np.float64] = tree.predict_proba(rows, check_input=False)  # type: ignore[attr-defined]
    missing = n_classes - len(forest.classes_)  # a rule may be absent from a fold's fitting rows
    return np.pad(votes, ((0, 0), (0, missing))) if missing else votes


def _fold_accuracy(
    votes: NDArray[np.float64], forest: RandomForestClassifier, training: Training
) -> NDArray[np.float64]:
    """Accuracy on each fold's held-out rows, among those that a tree voted on."""
    voted = votes.sum(axis=1) > 0
    right = forest.classes_[votes.argmax(axis=1)] == training.y
    right &= voted
    return np.array([right[held].sum() / max(1, voted[held].sum()) for _, held in training.folds])


def _first_trees(look: Look) -> RandomForestClassifier | None:
    """The forest as it was at the look: what fitting it anew would give."""
    if look.forest is None:
        return None
    forest = copy.copy(look.forest)
    forest.estimators_ = forest.estimators_[: look.n_trees]
    return forest.set_params(n_estimators=look.n_trees, warm_start=False)
