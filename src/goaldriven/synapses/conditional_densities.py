"""Rules of synaptic dynamics as densities of tomorrow's weight given today's, w, w′ > 0.

Every rule is given as a density on (0, ∞): what it says of synapses that stay. Births and deaths
are left to a factor that all rules share, P(w′ > 0 | w), so they cannot tell rules apart; a normal
density is divided by its mass above 0 to the same end. Each fit takes pairs and returns a function
of pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from goaldriven.synapses.kesten_likelihood import maximum_likelihood, moments
from goaldriven.synapses.kesten_pairs import Floats, Ints, Pairs

LogDensity = Callable[[Floats, Floats], Floats]
"""(w, w′), each (pair,) → log density of w′ given w, (pair,)."""
Fit = Callable[[Pairs], LogDensity]

_STATES = (4, 6, 8, 12, 16, 20, 30)
_STRENGTHS = (1.0, 10.0)
_INNER_FOLDS = 3
_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


def _normal(x: Floats, mean: Floats, variance: Floats) -> Floats:
    return -_HALF_LOG_2PI - 0.5 * (np.log(variance) + (x - mean) ** 2 / variance)


def fit_kesten_density(pairs: Pairs, variant: str = "full") -> LogDensity:
    """w′ ~ N(w + μ_a w + μ_b, σ_a² w² + σ_b²), cut at 0; maximum likelihood without the cut."""
    theta = maximum_likelihood(pairs.before, pairs.change, variant=variant)[0][0]
    return functools.partial(_kesten, theta)


def _kesten(theta: Floats, before: Floats, after: Floats) -> Floats:
    change, variance = moments(theta, before)
    mean = before + change
    return _normal(after, mean, variance) - special.log_ndtr(mean / np.sqrt(variance))


def fit_random_walk(pairs: Pairs) -> LogDensity:
    """w′ ~ N(w, σ²), cut at 0."""
    theta = np.array([0.0, 0.0, 0.0, np.mean(pairs.change**2)])
    return functools.partial(_kesten, theta)


def fit_log_ou(pairs: Pairs) -> LogDensity:
    """log w′ = log w + θ (m − log w) + s ξ, an Ornstein-Uhlenbeck process of log weights."""
    x, y = np.log(pairs.before), np.log(pairs.after)
    slope = np.cov(x, y, bias=True)[0, 1] / np.var(x)
    intercept = y.mean() - slope * x.mean()
    variance = np.mean((y - slope * x - intercept) ** 2)
    return functools.partial(_log_normal, slope, intercept, variance)


def fit_log_random_walk(pairs: Pairs) -> LogDensity:
    """log w′ = log w + s ξ."""
    variance = np.mean((np.log(pairs.after) - np.log(pairs.before)) ** 2)
    return functools.partial(_log_normal, 1.0, 0.0, variance)


def fit_log_drift(pairs: Pairs) -> LogDensity:
    """log w′ = log w + m + s ξ."""
    change = np.log(pairs.after) - np.log(pairs.before)
    return functools.partial(_log_normal, 1.0, change.mean(), change.var())


def fit_no_memory(pairs: Pairs) -> LogDensity:
    """w′ log-normal, whatever w was: what a rule must beat."""
    y = np.log(pairs.after)
    return functools.partial(_log_normal, 0.0, y.mean(), y.var())


def _log_normal(
    slope: float, intercept: float, variance: float, before: Floats, after: Floats
) -> Floats:
    log = np.log(after)
    return _normal(log, slope * np.log(before) + intercept, np.asarray(variance)) - log


@dataclass(frozen=True)
class MarkovDensity:
    """A Markov chain on bins as a density: P(state j | state i) spread evenly over bin j.

    ``edges`` (state,) are the bins' lower ends, the first 0. The last bin has no upper end and
    decays exponentially by ``tail``, its mean excess in the training pairs, so that a larger weight
    than any seen is unlikely but not impossible.
    """

    edges: Floats
    log_transition: Floats
    tail: float

    def __call__(self, before: Floats, after: Floats) -> Floats:
        i, j = (np.searchsorted(self.edges, x, side="right") - 1 for x in (before, after))
        widths = np.append(np.diff(self.edges), np.inf)
        excess = after - self.edges[-1]
        last = j == len(self.edges) - 1
        with np.errstate(divide="ignore"):
            within = np.where(last, -np.log(self.tail) - excess / self.tail, -np.log(widths[j]))
        return self.log_transition[i, j] + within


def fit_markov_bins(pairs: Pairs, edges: Floats, strength: float) -> MarkovDensity:
    """Transition frequencies under a Dirichlet prior of ``strength`` pseudo-counts per row.

    The prior's mean is the distribution of w′ over bins, itself with half a count in each.
    """
    n = len(edges)
    i, j = (np.searchsorted(edges, x, side="right") - 1 for x in (pairs.before, pairs.after))
    counts = np.bincount(n * i + j, minlength=n * n).reshape(n, n).astype(float)
    prior = counts.sum(axis=0) + 0.5
    counts += strength * prior / prior.sum()
    above = pairs.after[j == n - 1] - edges[-1]
    tail = float(above.mean()) if len(above) > 1 and above.mean() > 0 else float(edges[-1]) or 1.0
    return MarkovDensity(edges, np.log(counts / counts.sum(axis=1, keepdims=True)), tail)


def equal_count_edges(weights: Floats, states: int) -> Floats:
    """Lower ends of bins with equally many of the weights, from 0 on."""
    inner = np.quantile(weights, np.arange(1, states) / states)
    return np.concatenate([[0.0], np.unique(inner[inner > 0])])


def published_edges(weights: Floats) -> Floats:
    """Lower ends of the published states: 40 bins of equal width, the last 21 of them one bin."""
    return np.concatenate([[0.0], np.linspace(weights.min(), weights.max(), 41)[1:20]])


def fit_markov_published(pairs: Pairs) -> LogDensity:
    """The chain on the published 20 states (weights > 0), one pseudo-count per row."""
    both = np.concatenate([pairs.before, pairs.after])
    return fit_markov_bins(pairs, published_edges(both), 1.0)


def fit_markov(pairs: Pairs) -> LogDensity:
    """The chain on bins of equal count: how many, and the prior's strength, by held-out clusters.

    Only the given pairs are used, in three folds by cluster (by turns of the clusters' numbers).
    """
    fold = np.unique(pairs.cluster, return_inverse=True)[1] % _INNER_FOLDS
    both = np.concatenate([pairs.before, pairs.after])
    choices = [(states, s) for states in _STATES for s in _STRENGTHS if states**2 < len(fold)]
    choices = choices or [(2, 1.0)]
    totals = [_held_out(pairs, fold, equal_count_edges(both, k), s) for k, s in choices]
    states, strength = choices[int(np.argmax(totals))]
    return fit_markov_bins(pairs, equal_count_edges(both, states), strength)


def _held_out(pairs: Pairs, fold: Ints, edges: Floats, strength: float) -> float:
    total = 0.0
    for k in np.unique(fold):
        test = fold == k
        if test.all():
            test = np.arange(len(fold)) % 2 == 0  # one cluster: every other pair
        fitted = fit_markov_bins(pairs.part(~test), edges, strength)
        total += float(fitted(pairs.before[test], pairs.after[test]).sum())
    return total


MODELS: dict[str, Fit] = {
    "kesten": fit_kesten_density,
    "kesten additive": functools.partial(fit_kesten_density, variant="additive"),
    "kesten multiplicative": functools.partial(fit_kesten_density, variant="multiplicative"),
    "log-OU": fit_log_ou,
    "markov": fit_markov,
    "markov published": fit_markov_published,
    "random walk": fit_random_walk,
    "log drift": fit_log_drift,
    "log random walk": fit_log_random_walk,
    "no memory": fit_no_memory,
}
"""Rules by name. ``kesten additive``, w′ = w + η, is a random walk with drift."""
