"""The cluster bootstrap, done once for all statistics.

A statistic that is a function of sums over synapses is resampled without touching the data again:
sum within clusters once, then weight the clusters by how often each is drawn.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError
from goaldriven.synapses.table import Floats

Unit = Literal["dendrite", "synapse"]


def cluster_index(clusters: ArrayLike) -> tuple[int, NDArray[np.int64]]:
    """Number of clusters, and for each synapse the index of its own."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    return len(names), index.ravel()


def units(clusters: ArrayLike, unit: Unit) -> NDArray:
    """What is drawn as a whole: the dendrites, or each synapse by itself."""
    labels = np.asarray(clusters)
    return labels if unit == "dendrite" else np.arange(len(labels))


def sums_within(values: ArrayLike, index: ArrayLike, n_clusters: int) -> Floats:
    """(cluster, …) sums of ``values`` (item, …) over the items of each cluster; NaN counts as 0."""
    items = np.nan_to_num(np.asarray(values, dtype=float), nan=0.0)
    sums = np.zeros((n_clusters, *items.shape[1:]))
    np.add.at(sums, np.asarray(index), items)
    return sums


def draws(n_clusters: int, n: int, rng: np.random.Generator) -> Floats:
    """(n, cluster) how often each cluster is drawn when as many are drawn with replacement.

    Raises
    ------
    DataError : there are none.
    """
    if n_clusters < 1:
        raise DataError("synapses must number at least 1 to be resampled, got none that qualify")
    chances = np.full(n_clusters, 1 / n_clusters)
    return rng.multinomial(n_clusters, chances, size=n).astype(float)


def resampled(drawn: Floats, sums: Floats) -> Floats:
    """(n, …) the sums in each resample."""
    return np.tensordot(drawn, sums, axes=1)


def interval(samples: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over the first axis; NaN where no resample has a value."""
    tails = [50 * (1 - level), 50 * (1 + level)]
    with np.errstate(invalid="ignore"):
        some = np.isfinite(samples).any(axis=0)
        filled = np.where(some, samples, 0.0)
        low, high = np.nanpercentile(filled, tails, axis=0)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)
