"""The states of a Markov chain of synaptic sizes: absent, and bins of size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError
from goaldriven.synapses.table import Floats

States = NDArray[np.int64]

UNOBSERVED = -1
ABSENT = 0

Kind = Literal["equal_width", "quantile"]


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of size above 0; bin k (from 1) is state k, and state 0 is absence.

    Attributes
    ----------
    edges : (bins + 1,) increasing; sizes outside belong to the outermost bins.
    low, high : (bins,) the smallest and largest size found in each bin (its edges where it is
        empty): between them simulated sizes are drawn.
    mean_excess : mean of size − lower edge in the last bin, which has no upper end.
    """

    edges: Floats
    low: Floats
    high: Floats
    mean_excess: float

    @property
    def n_states(self) -> int:
        return len(self.edges)

    def to_states(self, w: ArrayLike) -> States:
        """States of sizes, in the same shape: −1 not observed, 0 absent, else the bin."""
        sizes = np.asarray(w, dtype=float)
        inner = self.edges[1:-1]
        states = 1 + np.searchsorted(inner, np.nan_to_num(sizes), side="right")
        return np.where(np.isnan(sizes), UNOBSERVED, np.where(sizes == 0, ABSENT, states))

    def to_sizes(self, states: ArrayLike, rng: np.random.Generator) -> Floats:
        """Sizes of states: uniform between the smallest and largest found in the bin.

        Source: thesis §6.2.4.
        """
        which = np.asarray(states)
        low = np.concatenate([[0.0], self.low])
        high = np.concatenate([[0.0], self.high])
        k = np.maximum(which, 0)
        sizes = low[k] + (high - low)[k] * rng.random(which.shape)
        return np.where(which == UNOBSERVED, np.nan, sizes)

    def log_density(self, w: ArrayLike) -> Floats:
        """log p(w | state of w): uniform in a bin (the first begins at 0), exponential in the last.

        A proper density over all sizes above 0, so that likelihoods of different bins can be
        compared; 0 for w = 0, which is a state by itself.
        """
        sizes = np.asarray(w, dtype=float)
        states = self.to_states(sizes)
        lower = self.edges[:-1].copy()
        lower[0] = 0.0
        width = self.edges[1:] - lower
        k = np.clip(states - 1, 0, None)
        inside = -np.log(width[k])
        tail = -np.log(self.mean_excess) - (sizes - lower[-1]) / self.mean_excess
        last = states == self.n_states - 1
        return np.where(states == ABSENT, 0.0, np.where(last, tail, inside))

    def table(self) -> pd.DataFrame:
        """One row per state: ``state``, ``from_size``, ``to_size``."""
        return pd.DataFrame(
            {
                "state": np.arange(self.n_states),
                "from_size": np.concatenate([[0.0], self.edges[:-1]]),
                "to_size": np.concatenate([[0.0], self.edges[1:]]),
            }
        )


def equal_width_bins(w: ArrayLike, n_bins: int = 40, pooled: int = 21) -> Bins:
    """Equal bins from the smallest to the largest size above 0; the last ``pooled`` are one.

    The default leaves 20 bins, hence 21 states with absence.

    Raises
    ------
    DataError : fewer than two bins are left, or fewer than two different sizes above 0.

    Source: thesis §6.2.4.
    """
    kept = n_bins - pooled + 1
    if pooled < 1 or kept < 2:
        raise DataError(f"pooled must be between 1 and n_bins − 1 = {n_bins - 1}, got {pooled}")
    sizes = _present(w)
    edges = np.linspace(sizes.min(), sizes.max(), n_bins + 1)
    return _bins(sizes, np.append(edges[:kept], edges[-1]))


def quantile_bins(w: ArrayLike, n_bins: int) -> Bins:
    """Bins with equally many of the sizes above 0.

    Raises
    ------
    DataError : fewer than two bins, or too few different sizes for so many.
    """
    if n_bins < 2:
        raise DataError(f"n_bins must be at least 2, got {n_bins}")
    sizes = _present(w)
    edges = np.quantile(sizes, np.linspace(0, 1, n_bins + 1))
    if (np.diff(edges) <= 0).any():
        raise DataError(
            f"n_bins must be small enough for bins of different sizes, got {n_bins} for "
            f"{len(np.unique(sizes))} different sizes"
        )
    return _bins(sizes, edges)


def make_bins(w: ArrayLike, kind: Kind, n_bins: int) -> Bins:
    """``n_bins`` bins: of equal width (as published: half as many again and one, pooled), or
    with equal counts."""
    if kind == "quantile":
        return quantile_bins(w, n_bins)
    return equal_width_bins(w, 2 * n_bins, n_bins + 1)


def _present(w: ArrayLike) -> Floats:
    sizes = np.asarray(w, dtype=float)
    sizes = sizes[sizes > 0]
    if len(np.unique(sizes)) < 2:
        raise DataError(f"size must hold at least two different values above 0, got {len(sizes)}")
    return sizes


def _bins(sizes: Floats, edges: Floats) -> Bins:
    k = np.searchsorted(edges[1:-1], sizes, side="right")
    low, high = edges[:-1].copy(), edges[1:].copy()
    for state in np.unique(k):
        low[state], high[state] = sizes[k == state].min(), sizes[k == state].max()
    last = sizes[k == len(edges) - 2]
    excess = float(last.mean() - edges[-2]) if len(last) else float(edges[-1] - edges[-2])
    return Bins(edges, low, high, max(excess, 1e-12))
