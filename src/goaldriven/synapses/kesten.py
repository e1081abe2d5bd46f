"""Fit the Kesten process w′ = εw + η to weights (synapse × day), with intervals.

`fit_kesten` puts together the published binned regressions (`kesten_binned`), maximum likelihood
with sub-models and likelihood ratios (`kesten_likelihood`) and moments that allow for measurement
noise (`kesten_noise`); `stationary_moments`, `tail_exponent` and `simulate` are in `kesten_law`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from goaldriven.errors import DataError
from goaldriven.synapses.kesten_binned import bin_moments, binned_moments, lines
from goaldriven.synapses.kesten_law import simulate, stationary_moments, tail_exponent
from goaldriven.synapses.kesten_likelihood import (
    NAMES,
    LikelihoodRatio,
    likelihood_ratio,
    maximum_likelihood,
)
from goaldriven.synapses.kesten_noise import NOISES, fit_noisy, noise_from_repeats, triples
from goaldriven.synapses.kesten_pairs import (
    Counts,
    Floats,
    Resample,
    Weights,
    checked,
    resampled,
    transitions,
)

__all__ = [
    "KestenFit",
    "LikelihoodRatio",
    "binned_moments",
    "fit_kesten",
    "likelihood_ratio",
    "noise_from_repeats",
    "simulate",
    "stationary_moments",
    "tail_exponent",
]

TESTS = (
    "multiplicative",
    "additive",
    "no additive mean",
    "no additive variance",
    "no multiplicative variance",
)
_LEVEL = 0.95
_LEAST_TRIPLES = 10


@dataclass(frozen=True)
class KestenFit:
    """Estimates of the Kesten process by every estimator, with their bootstrap.

    Attributes
    ----------
    estimates : (estimator, parameter) → estimate, then its bootstrap values: ``(1 + bootstraps,)``.
    moments : `binned_moments` of the data.
    tests : likelihood ratios of sub-models.
    pairs, pairs_to_absent : how many pairs of days are present → present, and present → absent.
    resample : what was drawn in the bootstrap, ``"cluster"`` or ``"synapse"``.
    """

    estimates: dict[tuple[str, str], Floats]
    moments: pd.DataFrame
    tests: tuple[LikelihoodRatio, ...]
    pairs: int
    pairs_to_absent: int
    resample: Resample

    def estimate(self, estimator: str, parameter: str) -> float:
        """One estimate, from the data themselves."""
        return float(self.estimates[estimator, parameter][0])

    def table(self, level: float = _LEVEL) -> pd.DataFrame:
        """``parameter, estimator, estimate, low, high``: percentile intervals at ``level``.

        NaN where there was no bootstrap, or where an estimate does not exist.
        """
        rows = []
        for (estimator, parameter), values in self.estimates.items():
            low, high = _interval(values[1:], level)
            rows.append((parameter, estimator, values[0], low, high))
        columns = ["parameter", "estimator", "estimate", "low", "high"]
        return pd.DataFrame(rows, columns=columns)

    def test_table(self) -> pd.DataFrame:
        """``null, statistic, law, p_value, p_bootstrap``: sub-models against the full process."""
        return pd.DataFrame([vars(test) for test in self.tests])


def _interval(values: Floats, level: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if len(known) < 0.5 * len(values) or not len(known):
        return float("nan"), float("nan")
    # infinite values (no finite variance, no power-law tail) are ordered but not interpolated
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return float(low), float(high)


def fit_kesten(
    w: ArrayLike,
    days: ArrayLike,
    clusters: ArrayLike | None,
    *,
    bootstraps: int = 1000,
    rng: np.random.Generator,
    bins: int = 20,
    resample: Resample = "cluster",
    noise_variance: float | None = None,
    test_resamples: int = 0,
) -> KestenFit:
    """Fit w′ = εw + η, ε ~ N(1 + μ_a, σ_a²), η ~ N(μ_b, σ_b²), by every estimator.

    Estimators: ``binned`` and ``binned multiplicative`` (the published regressions, changes to 0
    included, with and without additive part; also their ``r2_mean`` and ``r2_variance``),
    ``likelihood`` with its sub-models ``likelihood additive`` and ``likelihood multiplicative``
    (present → present pairs), ``noise constant`` and ``noise proportional`` (moments that allow for
    measurement noise, with ``noise``: τ² or κ²) and, where ``noise_variance`` is given,
    ``noise known``. Parameters: ``mu_a``, ``mu_b``, ``var_a``, ``var_b`` and, of full processes,
    what follows from them: ``stationary_mean``, ``stationary_variance``, ``tail_exponent``.

    Parameters
    ----------
    w : (synapse, day), 0 = absent, NaN = not observed; pairs of days that lie the most frequent
        interval apart are used.
    days : (day,), increasing. clusters : (synapse,) dendrites, or None for no grouping.
    bootstraps : resamples of whole clusters (or, by ``resample``, synapses).
    noise_variance : τ² of the readings, from `noise_from_repeats`, say.
    test_resamples : simulations of each sub-model for the likelihood ratios' p; 0 for none.

    Raises
    ------
    DataError : `w`, `days` or `clusters` are not as described, or there is too little of them.
    """
    weights = checked(w, days, clusters)
    pairs, all_pairs = transitions(weights), transitions(weights, deaths=True)
    counts: Counts = np.ones((1, len(weights.w)), dtype=np.int64)
    if bootstraps < 0:
        raise DataError(f"bootstraps must not be negative, got {bootstraps}")
    if bootstraps:
        counts = np.concatenate([counts, resampled(weights, bootstraps, rng, resample)])
    table = bin_moments(all_pairs.before, all_pairs.change, counts[:, all_pairs.synapse], bins)
    estimates: dict[tuple[str, str], Floats] = {}
    for name, additive in (("binned", True), ("binned multiplicative", False)):
        found = lines(table, additive)
        quality = {"r2_mean": found.r2_mean, "r2_variance": found.r2_variance}
        _add(estimates, name, found.theta, quality, law=additive)
    often = counts[:, pairs.synapse]
    for name, variant in (
        ("likelihood", "full"),
        ("likelihood additive", "additive"),
        ("likelihood multiplicative", "multiplicative"),
    ):
        theta, value = maximum_likelihood(pairs.before, pairs.change, often, variant)
        _add(estimates, name, theta, {"log_likelihood": value}, law=variant == "full")
    _add_noisy(estimates, weights, counts, noise_variance)
    tests = tuple(
        likelihood_ratio(pairs.before, pairs.change, null, resamples=test_resamples, rng=rng)
        for null in TESTS
    )
    moments = binned_moments(weights.w, bins, days=weights.days)
    deaths = len(all_pairs.before) - len(pairs.before)
    return KestenFit(estimates, moments, tests, len(pairs.before), deaths, resample)


def _add(
    estimates: dict[tuple[str, str], Floats],
    name: str,
    theta: Floats,
    more: dict[str, Floats],
    law: bool = True,
) -> None:
    """Parameters, what else the estimator gives and, of the full process, its stationary law."""
    values = dict(zip(NAMES, theta.T, strict=True)) | more
    if law:
        mean, variance = stationary_moments(*theta.T)
        values |= {"stationary_mean": mean, "stationary_variance": variance}
        values["tail_exponent"] = tail_exponent(theta[:, 0], theta[:, 2])
    for parameter, value in values.items():
        estimates[name, parameter] = value


def _add_noisy(
    estimates: dict[tuple[str, str], Floats],
    weights: Weights,
    counts: Counts,
    noise_variance: float | None,
) -> None:
    """The estimators that allow for noise, where there are enough triples of days for them."""
    data = triples(weights)
    if len(data.first) < _LEAST_TRIPLES:
        return
    for noise in NOISES:
        found = fit_noisy(data, counts, noise=noise)
        _add(estimates, f"noise {noise}", found.theta, {"noise": found.noise})
    if noise_variance is not None:
        found = fit_noisy(data, counts, noise_variance=noise_variance)
        _add(estimates, "noise known", found.theta, {"noise": found.noise})
