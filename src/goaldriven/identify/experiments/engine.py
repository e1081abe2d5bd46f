"""The engine: fits the cells of experiments, each at most once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from goaldriven.identify.candidates import describe, probabilities
from goaldriven.identify.classifiers import grid_of
from goaldriven.identify.experiments.cache import Fit, digest, read_fit, write_fit
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.probes import PROBES, Fitted
from goaldriven.identify.features import features, layout_of
from goaldriven.identify.selection import Folds, choose

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """How cells are fitted: with which grid, from which seed, and where fits are kept."""

    grid: str
    seed: int
    cache: Path | None


def fit_all(
    cells: Sequence[Cell], settings: Settings, jobs: int = 1, progress: Progress | None = None
) -> Iterator[Fit]:
    """The fits of the cells, in their order, from at most ``jobs`` processes of one thread each.

    A fit that lies in the cache is read; any other is stored there by the process that made it, so
    that an interruption loses those in flight alone.

    Raises
    ------
    IdentificationError : a cell cannot be fitted.
    StudyError : the cache cannot be written.
    """
    one_by_one = (fit(cell, settings) for cell in cells)
    results = one_by_one if jobs == 1 else _in_parallel(cells, settings, jobs)
    for done, (cell, result) in enumerate(zip(cells, results, strict=True), start=1):
        if progress is not None:
            progress(done, len(cells), cell.label)
        yield result


def _in_parallel(cells: Sequence[Cell], settings: Settings, jobs: int) -> Iterator[Fit]:
    with parallel_config("loky", n_jobs=min(jobs, max(len(cells), 1)), inner_max_num_threads=1):
        parallel = Parallel(return_as="generator", pre_dispatch="2*n_jobs")
        yield from parallel(delayed(fit)(cell, settings) for cell in cells)


def fit(cell: Cell, settings: Settings) -> Fit:
    """Choose, fit and test one classifier, or read what came of it before.

    The name under which a fit is kept is made of the features and rules trained on, the features
    tested, the groups that folds keep whole, the candidates, the probes and the seed; where there
    are probes, also of the rules tested and of which of these examples belong together.
    """
    grid = grid_of(cell.classifier, settings.grid)
    views = cell.views or ("published" if cell.train.sizes["epoch"] == 1 else grid.views)
    statistics = cell.train["statistic"].values.tolist()
    layout = layout_of(cell.train, statistics, views)
    x = features(cell.train, statistics, views)
    tested = {
        name: x if data is cell.train else features(data, statistics, views)
        for name, data in cell.tested.items()
    }
    rules, split, seed = cell.train["rule"].values.astype(str), cell.split, cell.seed(settings.seed)
    grouped = len(np.unique(split.groups)) < len(split.groups)
    groups = split.groups if grouped else None
    tested_together = grouped and bool(cell.probes)
    key = digest(
        x[split.train],
        rules[split.train],
        np.unique(split.groups[split.train], return_inverse=True)[1] if grouped else 0,
        {name: digest(data[split.test]) for name, data in tested.items()},
        rules[split.test] if cell.probes else 0,
        [f"{type(c).__name__} {describe(c)}" for c in grid.candidates],
        [layout.views, len(layout.epochs), seed, list(cell.probes)],
        # Probes may average over tested groups. Keys of fits without any are what they always were.
        *([np.unique(split.groups[split.test], return_inverse=True)[1]] if tested_together else []),
    )
    if settings.cache is not None and (known := read_fit(settings.cache, key)) is not None:
        return known
    with threadpool_limits(1), warnings.catch_warnings():
        # With the published grid's largest C the SVM does not converge, here as there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        folds = Folds(x, rules, split.train, split.test, groups, seed)
        choice = choose(grid.candidates, folds, layout)
        fitted = Fitted(choice, layout, x, rules, groups, split.train, split.test, seed)
        result = Fit(
            classes=choice.pipeline.classes_.astype(str),
            scores={n: probabilities(choice.pipeline, d[split.test]) for n, d in tested.items()},
            parameters=describe(choice.candidate),
            cv_accuracy=choice.accuracy,
            found={k: v for probe in cell.probes for k, v in PROBES[probe](fitted).items()},
        )
    if settings.cache is not None:
        write_fit(settings.cache, key, result)
    return result
