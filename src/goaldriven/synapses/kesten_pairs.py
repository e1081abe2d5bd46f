"""Weights (synapse × day) → pairs of successive observations, and resampling of whole dendrites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError, unknown

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Counts = Floats | Ints
Resample = Literal["cluster", "synapse"]
RESAMPLES = ("cluster", "synapse")


@dataclass(frozen=True)
class Weights:
    """Checked weights: ``w`` (synapse, day), ``days`` (day,), ``clusters`` (synapse,) from 0 on."""

    w: Floats
    days: Floats
    clusters: Ints

    @property
    def steps(self) -> Ints:
        """First columns of the pairs of days that lie the most frequent interval apart.

        Dynamics per step mean nothing over pairs of several intervals; the others are left out.
        """
        intervals, which = np.unique(np.round(np.diff(self.days), 9), return_inverse=True)
        kept = np.argmax(np.bincount(which, minlength=len(intervals)))
        return np.flatnonzero(which == kept)


@dataclass(frozen=True)
class Pairs:
    """Successive weights of a synapse, one day's and the next's, each ``(pair,)``."""

    before: Floats
    after: Floats
    synapse: Ints
    cluster: Ints

    @property
    def change(self) -> Floats:
        return self.after - self.before

    def part(self, kept: NDArray[np.bool_]) -> Pairs:
        """The pairs at which ``kept`` (pair,) is true."""
        return Pairs(self.before[kept], self.after[kept], self.synapse[kept], self.cluster[kept])


def checked(w: ArrayLike, days: ArrayLike, clusters: ArrayLike | None) -> Weights:
    """The arrays of an analysis, or one error that says what is wrong with them.

    Raises
    ------
    DataError : ``w`` is not (synapse, day) of two or more days, has negative or infinite weights
        or no present one; ``days`` are not increasing or not one per column; ``clusters`` are not
        one per row.
    """
    weights = np.asarray(w, dtype=float)
    if weights.ndim != 2 or weights.shape[1] < 2:
        raise DataError(f"w must be (synapse, day) with two or more days, got {weights.shape}")
    if np.isinf(weights).any() or (weights < 0).any():
        raise DataError("w must be finite and not negative (0 = absent, NaN = not observed)")
    if not (weights > 0).any():
        raise DataError("w must have a present synapse, got none above 0")
    times = np.asarray(days, dtype=float)
    if times.shape != weights.shape[1:]:
        raise DataError(f"days must be one per column of w ({weights.shape[1]}), got {times.shape}")
    if not (np.diff(times) > 0).all():
        raise DataError(f"days must be increasing, got {times.tolist()}")
    if clusters is None:
        clusters = np.arange(len(weights))
    names = np.asarray(clusters)
    if names.shape != weights.shape[:1]:
        raise DataError(f"clusters must be one per row of w ({len(weights)}), got {names.shape}")
    return Weights(weights, times, np.unique(names, return_inverse=True)[1])


def transitions(weights: Weights, deaths: bool = False) -> Pairs:
    """Pairs of successive days on which the synapse is present, the second time at least observed.

    ``deaths`` keeps the pairs whose second weight is 0.
    """
    steps = weights.steps
    before, after = weights.w[:, steps], weights.w[:, steps + 1]
    with np.errstate(invalid="ignore"):
        kept = (before > 0) & ((after >= 0) if deaths else (after > 0))
    synapse = np.nonzero(kept)[0]
    if len(synapse) < 3:
        raise DataError(f"w must have at least 3 pairs of successive days, got {len(synapse)}")
    return Pairs(before[kept], after[kept], synapse, weights.clusters[synapse])


def resampled(
    weights: Weights, bootstraps: int, rng: np.random.Generator, resample: Resample = "cluster"
) -> Ints:
    """How often each synapse is drawn in each bootstrap: ``(bootstrap, synapse)`` counts.

    Whole clusters (dendrites), or single synapses, are drawn with replacement.

    Raises
    ------
    DataError : ``resample`` is unknown, or there are fewer than two things to draw.
    """
    if resample not in RESAMPLES:
        raise DataError(unknown("resample", resample, RESAMPLES))
    unit = weights.clusters if resample == "cluster" else np.arange(len(weights.w))
    n = int(unit.max()) + 1
    if n < 2:
        raise DataError(f"a bootstrap over each {resample} needs two or more, got {n}")
    return rng.multinomial(n, np.full(n, 1 / n), size=bootstraps)[:, unit]
