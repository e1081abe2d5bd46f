"""Networks as the units of evidence: averages over layers, intervals over networks.

Layers of one network share its seed, data and history; they are neither independent nor
exchangeable with the layers of another one. What is inferred here has networks as its units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration.checks import (
    Indices,
    Vector,
    at_least,
    finite_rows,
    network_labels,
    open_unit,
)


def average_over_layers(
    values: ArrayLike, networks: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Names of the networks, in the order in which they first occur, and the mean of their rows.

    ``values`` has shape (example, …); of scores (example, rule) the means are those that verdicts
    on networks are made of: the rule with the highest mean probability over the layers.

    Raises
    ------
    IdentificationError : other lengths, or values that are not finite.
    """
    rows = np.asarray(values, dtype=np.float64)
    labels = network_labels(networks, len(rows))
    finite_rows(rows, "values")
    names, member = _numbered(labels)
    sums = np.zeros((len(names), *rows.shape[1:]))
    np.add.at(sums, member, rows)
    counts = np.bincount(member).reshape(-1, *[1] * (rows.ndim - 1))
    return names, sums / counts


def first_of_each(values: ArrayLike, networks: ArrayLike, name: str = "rule") -> NDArray[Any]:
    """The value that all rows of a network share, in the order of `average_over_layers`.

    Raises
    ------
    IdentificationError : a network has two different values.
    """
    given = np.asarray(values)
    labels = network_labels(networks, len(given))
    names, member = _numbered(labels)
    _, first = np.unique(member, return_index=True)
    differs = np.flatnonzero(given != given[first][member])
    if len(differs):
        network = names[member[differs[0]]]
        raise IdentificationError(f"{name} must be one for all rows of a network, not of {network}")
    return given[first]


def _numbered(labels: NDArray[Any]) -> tuple[NDArray[Any], Indices]:
    """Distinct labels in the order in which they first occur, and the number of each row's."""
    unique, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return unique[order], rank[inverse.reshape(-1)]


def count_networks(networks: NDArray[Any]) -> int:
    """How many different networks there are."""
    return len(np.unique(networks))


def wilson(rate: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Vector, Vector]:
    """Wilson score interval of a rate among n independent networks.

    centre = (r + z²/2n) / (1 + z²/n), half-width = z √(r(1−r)/n + z²/4n²) / (1 + z²/n). Where a
    network is tested repeatedly its mean outcome counts once: the variance of a quantity in 0…1
    with mean r is r(1−r) at most, hence the interval is then conservative. NaN for n = 0.
    Source: Wilson, 1927, J. Am. Stat. Assoc. 22, 209.

    Raises
    ------
    IdentificationError : ``level`` outside 0…1.
    """
    r, n = np.asarray(rate, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z = norm.isf((1 - open_unit(level, "level")) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = z**2 / n
        half = z * np.sqrt(r * (1 - r) / n + share / (4 * n)) / (1 + share)
        centre = (r + share / 2) / (1 + share)
        # Rounding can leave the end at a rate of 0 or 1 just short of it.
        low = np.where(n > 0, np.clip(np.minimum(centre - half, r), 0, 1), np.nan)
        high = np.where(n > 0, np.clip(np.maximum(centre + half, r), 0, 1), np.nan)
    return low, high


def mean_of_rates(
    rates: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of independent rates, such as balanced accuracy = mean recall, with its interval.

    Square-and-add of the Wilson intervals (l_k, u_k) of the K rates r_k, each over n_k networks:
    low = r̄ − √Σ(r_k − l_k)² / K, high = r̄ + √Σ(u_k − r_k)² / K. Unlike a percentile bootstrap
    it does not collapse where all networks are told right, or all wrong. Over all outcomes of two
    rates with 6 to 24 networks each, a 95% interval covers in 91.5 to 98% of cases.
    Source: Newcombe, 1998, Stat. Med. 17, 873.

    Returns
    -------
    mean, low, high
    """
    r = np.asarray(rates, dtype=np.float64)
    low, high = wilson(r, n, level)
    mean = float(r.mean())
    below, above = (float(np.sqrt(np.sum((r - end) ** 2))) / len(r) for end in (low, high))
    return mean, max(0.0, mean - below), min(1.0, mean + above)


def bootstrap_by_network(
    statistic: Callable[[Indices], float],
    networks: NDArray[Any],
    strata: NDArray[Any],
    rng: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic when networks are drawn again, with all their rows.

    Networks are drawn with replacement within strata (the true rules, say), so that every resample
    has as many of each as there were. ``statistic`` gets the rows drawn, with repeats.
    Source: Davison & Hinkley, 1997, Bootstrap Methods, section 2.4.

    Raises
    ------
    IdentificationError : a network lies in two strata.
    """
    at_least(n_resamples, 1, "n_resamples")
    names, member = _numbered(networks)
    stratum = first_of_each(strata, networks, "stratum")
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    single = len(names) == len(member)
    first = np.concatenate(rows)
    parts = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    drawn = np.empty(n_resamples)
    for i in range(n_resamples):
        chosen = np.concatenate([rng.choice(part, len(part)) for part in parts])
        drawn[i] = statistic(first[chosen] if single else np.concatenate([rows[c] for c in chosen]))
    tail = (1 - open_unit(level, "level")) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
