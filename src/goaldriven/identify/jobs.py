"""One split, one group of observables: choose, fit and test every classifier. In processes."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from goaldriven.identify.candidates import describe, probabilities
from goaldriven.identify.classifiers import classifier, grid_of
from goaldriven.identify.features import Layout, features, layout_of
from goaldriven.identify.importance import gini_importances, permutation_importances
from goaldriven.identify.kept import once
from goaldriven.identify.open_verdicts import ALPHA, Calibration, calibration_of
from goaldriven.identify.scaling import TooFewAxes
from goaldriven.identify.selection import Choice, Folds, choose
from goaldriven.identify.splits import Split

Matrix = NDArray[np.float64]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Plan:
    """A checked request: what `identify` was asked for, with names resolved."""

    grid: str
    classifiers: tuple[str, ...]
    statistics: Mapping[str, tuple[str, ...]]  # of each group of observables
    splits: Mapping[str, tuple[Split, ...]]  # of each kind
    views: str | None
    permutations: int
    keep: tuple[int, ...]
    seed: int
    alpha: float = ALPHA
    cache: Path | None = None

    def views_of(self, name: str) -> str:
        """The views that a classifier is given."""
        return self.views or grid_of(name, self.grid).views

    @property
    def most_statistics(self) -> int:
        """Of any group of observables: permutation importances are for the widest only."""
        return max(len(members) for members in self.statistics.values())


@dataclass(frozen=True)
class Job:
    """One split and one group of observables."""

    observables: str
    split: Split
    number: int

    @property
    def label(self) -> str:
        return f"{self.observables.replace('_', ' ')}, split {self.number + 1} by {self.split.kind}"

    def seed(self, seed: int, *names: str) -> int:
        """A seed of its own, whatever other jobs there are."""
        keys = [zlib.crc32(n.encode()) for n in (self.observables, self.split.kind, *names)]
        return int(np.random.SeedSequence([seed, self.number, *keys]).generate_state(1)[0] >> 1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """How one classifier did on one job.

    ``scores`` are those of the test examples, (example, rule), rules in the order of
    ``pipeline.classes_``; ``gini`` is (tree, group) and ``permuted`` (repeat, group), where there
    are any; ``pipeline`` is the fitted classifier.
    """

    job: Job
    classifier: str
    layout: Layout
    parameters: str
    cv_accuracy: float
    classes: NDArray[np.str_]
    scores: Matrix
    gini: Matrix | None
    permuted: Matrix | None
    pipeline: Pipeline | None
    calibration: Calibration | None

    @property
    def predicted(self) -> NDArray[np.str_]:
        return self.classes[self.scores.argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class Data:
    """One group of observables: features by the views they are seen in, and the rules."""

    matrices: Mapping[str, tuple[Layout, Matrix]]
    rules: NDArray[np.str_]
    networks: NDArray[np.str_]


def run(
    plan: Plan, examples: xr.Dataset, jobs: int, progress: Progress | None
) -> Iterator[Outcome]:
    """All outcomes in a fixed order, from at most ``jobs`` processes of one thread each."""
    work = [
        Job(name, split, number)
        for name in plan.statistics
        for splits in plan.splits.values()
        for number, split in enumerate(splits)
    ]
    data = {name: _data(plan, examples, members) for name, members in plan.statistics.items()}
    calls = [(plan, job, data[job.observables]) for job in work]
    results = (_run_job(*call) for call in calls) if jobs == 1 else _in_parallel(calls, jobs)
    for done, (job, outcomes) in enumerate(zip(work, results, strict=True), start=1):
        if progress is not None:
            progress(done, len(work), job.label)
        yield from outcomes


def _in_parallel(calls: list[tuple[Plan, Job, Data]], jobs: int) -> Iterator[list[Outcome]]:
    with parallel_config("loky", n_jobs=min(jobs, len(calls)), inner_max_num_threads=1):
        parallel = Parallel(return_as="generator", pre_dispatch="2*n_jobs")
        yield from parallel(delayed(_run_job)(*call) for call in calls)


def _data(plan: Plan, examples: xr.Dataset, statistics: tuple[str, ...]) -> Data:
    needed = sorted({plan.views_of(name) for name in plan.classifiers})
    matrices = {
        v: (layout_of(examples, statistics, v), features(examples, statistics, v)) for v in needed
    }
    return Data(matrices, examples["rule"].values, examples["network"].values)


def _run_job(plan: Plan, job: Job, data: Data) -> list[Outcome]:
    seed = job.seed(plan.seed)
    train, test, groups = job.split.train, job.split.test, job.split.groups
    # Groups of one example each are no constraint: the plain folds are meant then.
    grouped = len(np.unique(groups)) < len(groups)
    folds = {
        views: Folds(x, data.rules, train, test, groups if grouped else None, seed)
        for views, (_, x) in data.matrices.items()
    }
    with threadpool_limits(1), warnings.catch_warnings():
        # With the published grid's largest C the SVM does not converge, here as there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [
            once(
                plan, job, name, data,
                partial(_run_classifier, plan, job, name, data, folds[plan.views_of(name)]),
            )
            for name in plan.classifiers
        ]  # fmt: skip


def _run_classifier(plan: Plan, job: Job, name: str, data: Data, folds: Folds) -> Outcome:
    layout, x = data.matrices[plan.views_of(name)]
    choice = choose(grid_of(name, plan.grid).candidates, folds, layout)
    tested, rules = x[job.split.test], data.rules[job.split.test]
    permuted = None
    if plan.permutations and len(layout.statistics) == plan.most_statistics:
        rng = np.random.default_rng(job.seed(plan.seed, name))
        permuted = permutation_importances(
            choice.pipeline, tested, rules, layout, plan.permutations, rng
        )
    is_forest = classifier(name).forest
    kept = job.number in plan.keep
    return Outcome(
        job=job,
        classifier=name,
        layout=layout,
        parameters=describe(choice.candidate),
        cv_accuracy=choice.accuracy,
        classes=choice.pipeline.classes_.astype(str),
        scores=probabilities(choice.pipeline, tested),
        gini=gini_importances(choice.pipeline, layout) if is_forest else None,
        permuted=permuted,
        pipeline=choice.pipeline if kept else None,
        calibration=_calibration(job, data, folds, choice, layout) if kept else None,
    )


def _calibration(
    job: Job, data: Data, folds: Folds, choice: Choice, layout: Layout
) -> Calibration | None:
    """How the training networks are judged by classifiers that did not see them."""
    if job.split.kind == "layer":  # other layers of the same networks were seen
        return None
    try:
        scores = folds.out_of_fold(choice.candidate, layout, choice.pipeline.classes_.astype(str))
    except TooFewAxes:
        return None
    train = job.split.train
    return calibration_of(scores, data.networks[train], data.rules[train])
