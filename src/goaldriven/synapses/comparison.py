"""Which rule do synapses follow? Rules compared by the log density of held-out synapses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from goaldriven.errors import DataError, unknown
from goaldriven.synapses.conditional_densities import MODELS
from goaldriven.synapses.kesten_pairs import (
    RESAMPLES,
    Floats,
    Ints,
    Pairs,
    Resample,
    checked,
    transitions,
)

__all__ = ["MODELS", "compare_models", "held_out_log_densities"]


def compare_models(
    w: ArrayLike,
    days: ArrayLike,
    clusters: ArrayLike | None,
    *,
    folds: int = 5,
    rng: np.random.Generator,
    models: Sequence[str] = tuple(MODELS),
    by: Resample = "cluster",
    bootstraps: int = 1000,
) -> pd.DataFrame:
    """Mean log density of held-out w′ given w, per rule, and differences from the best rule.

    Pairs of successive days on which a synapse is present are scored by rules fitted to other
    dendrites (``by="cluster"``) or other synapses (``by="synapse"``). Births and deaths are a
    factor common to all rules and left out; see `conditional_densities`. Uncertainty is a
    bootstrap over what was held out together.

    Returns
    -------
    ``model, metric, value, sem, low, high``, best rule first. Metrics: ``log_density`` (nats per
    pair) and ``difference`` (from the best rule, 0 for itself); 95% intervals. A difference whose
    interval lies below 0 is a rule that did worse.

    Raises
    ------
    DataError : as `kesten.fit_kesten`; an unknown rule; folds fewer than 2 or more than clusters.
    """
    for name in models:
        if name not in MODELS:
            raise DataError(unknown("model", name, MODELS))
    if by not in RESAMPLES:
        raise DataError(unknown("by", by, RESAMPLES))
    pairs = transitions(checked(w, days, clusters))
    unit = pairs.cluster if by == "cluster" else pairs.synapse
    scores = held_out_log_densities(pairs, unit, folds, rng, models)
    ranks = np.argsort(-scores.mean(axis=1), kind="stable")
    rows = []
    for metric, values in (("log_density", scores), ("difference", scores - scores[ranks[0]])):
        means, draws = _bootstrapped(values, unit, bootstraps, rng)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        for r in ranks:
            rows.append((models[r], metric, means[r], draws[:, r].std(), low[r], high[r]))
    return pd.DataFrame(rows, columns=["model", "metric", "value", "sem", "low", "high"])


def held_out_log_densities(
    pairs: Pairs, unit: Ints, folds: int, rng: np.random.Generator, models: Sequence[str]
) -> Floats:
    """Log density of every pair under rules fitted without its fold: ``(model, pair)``.

    Raises
    ------
    DataError : folds are fewer than 2 or more than units.
    """
    fold = assign_folds(unit, folds, rng)
    scores = np.empty((len(models), len(fold)))
    for k in range(folds):
        test = fold == k
        for m, name in enumerate(models):
            density = MODELS[name](pairs.part(~test))
            scores[m, test] = density(pairs.before[test], pairs.after[test])
    return scores


def assign_folds(unit: Ints, folds: int, rng: np.random.Generator) -> Ints:
    """A fold per pair, whole units together, folds of about as many pairs each."""
    names, index, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    if not 2 <= folds <= len(names):
        raise DataError(
            f"folds must be from 2 to the number of clusters, {len(names)}; got {folds}"
        )
    order = rng.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load, fold = np.zeros(folds), np.empty(len(names), dtype=np.int64)
    for name in order:
        fold[name] = np.argmin(load)
        load[fold[name]] += sizes[name]
    return fold[index]


def _bootstrapped(
    values: Floats, unit: Ints, bootstraps: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Means over pairs (model,) and their resamples by whole units (bootstrap, model)."""
    index = np.unique(unit, return_inverse=True)[1]
    sizes = np.bincount(index).astype(float)
    totals = np.stack([np.bincount(index, row) for row in values], axis=1)
    n = len(sizes)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=max(bootstraps, 1))
    return values.mean(axis=1), (counts @ totals) / (counts @ sizes)[:, None]
