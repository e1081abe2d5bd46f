"""The identification experiment: which learning rule made this?"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.candidates import describe, probabilities
from goaldriven.identify.classifiers import (
    CLASSIFIERS,
    DEFAULT_CLASSIFIERS,
    GRIDS,
    grid_of,
)
from goaldriven.identify.features import Layout, features, layout_of
from goaldriven.identify.importance import gini_importances, permutation_importances
from goaldriven.identify.results import Fitted, Identification
from goaldriven.identify.selection import Folds, choose
from goaldriven.identify.splits import SPLITTERS, Split
from goaldriven.identify.tables import Outcome, tabulate
from goaldriven.specs import PUBLISHED_STATISTICS, STATISTICS
from goaldriven.trajectories import admissible, trained

OBSERVABLES: dict[str, tuple[str, ...]] = {
    "all": ("weight", "activation", "activity_change"),
    "weight": ("weight",),
    "activation": ("activation",),
    "activity_change": ("activity_change",),
}

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Plan:
    """A checked request: what `identify` was asked for, with names resolved."""

    grid: str
    classifiers: tuple[str, ...]
    statistics: dict[str, tuple[str, ...]]  # of each group of observables
    splits: dict[str, tuple[Split, ...]]  # of each kind
    views: str | None
    permutations: int
    seed: int


@dataclass(frozen=True)
class Job:
    """One split and one group of observables, for every classifier."""

    observables: str
    split: Split
    number: int

    @property
    def label(self) -> str:
        return f"{self.observables}, split {self.number + 1} by {self.split.kind}"

    def seed(self, seed: int, *names: str) -> int:
        """A seed of its own for each job, whatever other jobs there are."""
        keys = [zlib.crc32(n.encode()) for n in (self.observables, self.split.kind, *names)]
        return int(np.random.SeedSequence([seed, self.number, *keys]).generate_state(1)[0] >> 1)


def identify(
    examples: xr.Dataset,
    *,
    grid: str = "quick",
    classifiers: Sequence[str] = DEFAULT_CLASSIFIERS,
    observables: Sequence[str] = tuple(OBSERVABLES),
    splits: Sequence[str] = tuple(SPLITTERS),
    n_splits: int = 10,
    statistics: str | Sequence[str] = "admissible",
    views: str | None = None,
    permutations: int = 3,
    keep: Sequence[int] = (0,),
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Identification:
    """Train classifiers to tell the learning rule of a layer from its trajectories, and test them.

    For each kind of split, each split and each group of observables, every classifier's settings
    are chosen by five-fold stratified cross-validation inside the training part (grouped by network
    where the split is), refitted on the whole training part and tested once. Scaling and PCA are
    fitted inside each training part. Diverged networks are left out and named in the settings.

    Parameters
    ----------
    examples : see `goaldriven.trajectories.load_examples`.
    grid : ``"quick"`` (seconds) or ``"paper"`` (the published grids; hours).
    classifiers : keys of `CLASSIFIERS`.
    observables : of ``"all"``, ``"weight"``, ``"activation"``, ``"activity_change"``.
    splits : ``"network"`` (all layers of a network on one side) and ``"layer"`` (as published).
    n_splits : 75/25 splits of each kind.
    statistics : ``"admissible"`` (finite for every trained network), ``"published"`` (the 24), or
        names.
    views : what is made of a trajectory, ``"published"`` (its values) or ``"dynamics"`` (also its
        changes); None for the grid's own. See `features`.
    permutations : repeats of the permutation importances; 0 for none.
    keep : numbers of the splits (of each kind) whose fitted classifiers are kept.
    seed : of splits, folds and classifiers.
    jobs : processes, each on one thread. The results do not depend on it.
    progress : called with (done, total, what was done).

    Raises
    ------
    IdentificationError : an unknown name, or too few rules or networks.
    DataError : every network diverged.

    Source: Nayebi, Srivastava et al. 2020; thesis section 6.3.9. Splits by network, quick grids,
    logistic regression, dynamics and ranks are ours.
    """
    _check_numbers(n_splits=(n_splits, 1), permutations=(permutations, 0), seed=(seed, 0),
                   jobs=(jobs, 1))  # fmt: skip
    _check_names("classifiers", classifiers, CLASSIFIERS)
    _check_names("observables", observables, OBSERVABLES)
    _check_names("splits", splits, SPLITTERS)
    if grid not in GRIDS:
        raise IdentificationError(unknown("grid", grid, GRIDS))
    used = trained(examples)
    plan = Plan(
        grid=grid,
        classifiers=tuple(classifiers),
        statistics=_statistics_of(examples, statistics, observables),
        splits=_make_splits(used, splits, n_splits, seed),
        views=views,
        permutations=permutations,
        seed=seed,
    )
    outcomes = list(_run(plan, used, keep, jobs, progress))
    return tabulate(outcomes, examples, used, plan.splits, _settings(plan, keep))


def _check_numbers(**given: tuple[int, int]) -> None:
    for name, (value, least) in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise IdentificationError(f"{name} must be an integer of at least {least}, got {value!r}")


def _check_names(field: str, given: Sequence[str], known: Sequence[str] | dict[str, object]) -> None:
    if isinstance(given, str) or not given:
        raise IdentificationError(f"{field} must be a list with at least one name, got {given!r}")
    for name in given:
        if name not in known:
            raise IdentificationError(unknown(f"{field}: each", name, known))


def _statistics_of(
    examples: xr.Dataset, statistics: str | Sequence[str], observables: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The statistics of each group of observables."""
    if statistics == "admissible":
        chosen = admissible(examples)
    elif statistics == "published":
        chosen = PUBLISHED_STATISTICS
    elif isinstance(statistics, str):
        allowed = ("admissible", "published")
        raise IdentificationError(unknown("statistics (or a list of names)", statistics, allowed))
    else:
        chosen = tuple(statistics)
        _check_names("statistics", chosen, STATISTICS)
    groups = {
        name: tuple(s for s in chosen if STATISTICS[s].measure in OBSERVABLES[name])
        for name in observables
    }
    for name, members in groups.items():
        if not members:
            raise IdentificationError(
                f"observables: {name} must have at least one statistic among those used "
                f"({len(chosen)} {statistics if isinstance(statistics, str) else 'given'}), got none"
            )
    return groups


def _make_splits(
    used: xr.Dataset, kinds: Sequence[str], n_splits: int, seed: int
) -> dict[str, tuple[Split, ...]]:
    rules = np.unique(used["rule"].values)
    if len(rules) < 2:
        raise IdentificationError(
            f"examples must come from at least 2 learning rules, got {', '.join(rules) or 'none'}"
        )
    return {kind: SPLITTERS[kind](used, n_splits, seed) for kind in kinds}


def _run(
    plan: Plan, used: xr.Dataset, keep: Sequence[int], jobs: int, progress: Progress | None
) -> Iterator[Outcome]:
    """All outcomes, in a fixed order; at most ``jobs`` processes, one thread each."""
    work = [
        Job(name, split, number)
        for name in plan.statistics
        for splits in plan.splits.values()
        for number, split in enumerate(splits)
    ]
    matrices = _matrices(plan, used)
    arguments = [
        (plan, job, matrices[job.observables], used["rule"].values, job.number in keep)
        for job in work
    ]
    results: Iterator[list[Outcome]]
    if jobs == 1:
        results = (_run_job(*one) for one in arguments)
    else:
        results = _in_parallel(arguments, min(jobs, len(work)))
    for done, (job, outcomes) in enumerate(zip(work, results, strict=True), start=1):
        if progress is not None:
            progress(done, len(work), job.label)
        yield from outcomes


def _in_parallel(arguments: list[tuple[object, ...]], jobs: int) -> Iterator[list[Outcome]]:
    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        parallel = Parallel(return_as="generator", pre_dispatch=2 * jobs)
        yield from parallel(delayed(_run_job)(*one) for one in arguments)


_Matrices = dict[str, tuple[Layout, NDArray[np.float64]]]


def _matrices(plan: Plan, used: xr.Dataset) -> dict[str, _Matrices]:
    """For each group of observables and each views that a classifier needs, the features."""
    needed = {plan.views or grid_of(c, plan.grid).views for c in plan.classifiers}
    return {
        name: {v: (layout_of(used, members, v), features(used, members, v)) for v in needed}
        for name, members in plan.statistics.items()
    }


def _run_job(
    plan: Plan, job: Job, matrices: _Matrices, rules: NDArray[np.str_], keep: bool
) -> list[Outcome]:
    """Choose, fit and test every classifier on one split."""
    seed = job.seed(plan.seed)
    train = job.split.train
    groups = None if job.split.kind == "layer" else job.split.groups[train]
    folds = {v: Folds(x[train], rules[train], groups, seed) for v, (_, x) in matrices.items()}
    outcomes = []
    with threadpool_limits(1), warnings.catch_warnings():
        # The largest C of the published grid never converge; they lose where that matters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name in plan.classifiers:
            grid = grid_of(name, plan.grid)
            views = plan.views or grid.views
            layout, x = matrices[views]
            choice = choose(grid.candidates, folds[views], layout)
            outcomes.append(
                _test(plan, job, name, layout, x, rules, choice.pipeline, choice.accuracy,
                      describe(choice.candidate), keep)
            )  # fmt: skip
    return outcomes
