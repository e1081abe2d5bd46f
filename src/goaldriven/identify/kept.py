"""Outcomes of fits kept on disk, so that an interruption does not lose what is finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from goaldriven.identify.candidates import describe
from goaldriven.identify.classifiers import grid_of

if TYPE_CHECKING:
    from goaldriven.identify.jobs import Data, Job, Outcome, Plan

_TEST = "test"


def once(plan: Plan, job: Job, name: str, data: Data, fit: Callable[[], Outcome]) -> Outcome:
    """What came of a classifier on a job: as it was kept, or by ``fit``, and then kept.

    Fitted classifiers are not kept here: the splits whose classifiers are wanted are fitted again.

    Raises
    ------
    StudyError : it cannot be kept; names path and reason.
    """
    if plan.cache is None or job.number in plan.keep:
        return fit()
    from goaldriven.identify.experiments.cache import Fit, read_fit, write_fit
    from goaldriven.identify.jobs import Outcome

    key = _key(plan, job, name, data)
    known = read_fit(plan.cache, key)
    if known is None:
        made = fit()
        found = {"gini": made.gini, "permuted": made.permuted}
        kept = {what: values for what, values in found.items() if values is not None}
        scores = {_TEST: made.scores}
        write_fit(
            plan.cache, key, Fit(made.classes, scores, made.parameters, made.cv_accuracy, kept)
        )
        return made
    return Outcome(
        job=job,
        classifier=name,
        layout=data.matrices[plan.views_of(name)][0],
        parameters=known.parameters,
        cv_accuracy=known.cv_accuracy,
        classes=known.classes,
        scores=known.scores[_TEST],
        gini=known.found.get("gini"),
        permuted=known.found.get("permuted"),
        pipeline=None,
        calibration=None,
    )


def _key(plan: Plan, job: Job, name: str, data: Data) -> str:
    """Of everything that the outcome depends on."""
    from goaldriven.identify.experiments.cache import digest

    layout, x = data.matrices[plan.views_of(name)]
    train, test, groups = job.split.train, job.split.test, job.split.groups
    grouped = len(np.unique(groups)) < len(groups)
    widest = len(layout.statistics) == plan.most_statistics
    return digest(
        "identify",
        x[train],
        x[test],
        data.rules[train],
        data.rules[test],
        np.unique(groups[train], return_inverse=True)[1] if grouped else 0,
        [f"{type(c).__name__} {describe(c)}" for c in grid_of(name, plan.grid).candidates],
        [layout.views, list(layout.statistics), list(layout.epochs)],
        [job.seed(plan.seed), job.seed(plan.seed, name), plan.permutations if widest else 0],
    )
