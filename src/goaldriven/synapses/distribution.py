"""How synaptic sizes are distributed: is it log-normal?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from goaldriven.errors import DataError
from goaldriven.synapses.table import Floats

CANDIDATES: dict[str, Callable[[Floats], tuple[float, ...]]] = {
    "lognorm": lambda x: (float(np.log(x).std()), 0.0, float(np.exp(np.log(x).mean()))),
    "gamma": lambda x: stats.gamma.fit(x, floc=0),
    "weibull_min": lambda x: stats.weibull_min.fit(x, floc=0),
    "norm": lambda x: (float(x.mean()), float(x.std())),
    "expon": lambda x: (0.0, float(x.mean())),
}
"""Distributions, by their SciPy names, with their maximum-likelihood fits (location 0)."""


class LogNormal(NamedTuple):
    """Mean and standard deviation of log w."""

    mu: float
    sigma: float

    def density(self, w: Floats) -> Floats:
        """exp(−(log w − μ)² / 2σ²) / (w σ √2π)."""
        return stats.lognorm.pdf(w, self.sigma, scale=np.exp(self.mu))


def fit_lognormal(w: Floats) -> LogNormal:
    """Maximum likelihood: mean and (biased) standard deviation of log w over what is present.

    Raises
    ------
    DataError : fewer than two different sizes above 0.
    """
    logs = np.log(_present(w))
    return LogNormal(float(logs.mean()), float(logs.std()))


def compare_distributions(w: Floats) -> pd.DataFrame:
    """Sizes above 0 under several distributions, each fitted by maximum likelihood.

    Returns
    -------
    One row per distribution, the likeliest first: ``distribution``, ``parameters`` (how many),
    ``log_likelihood`` (per synapse and session), ``delta_aic`` (to the best), ``ks`` (largest
    distance of the distribution functions). Sizes of a synapse on several days are not independent,
    so the differences rank the distributions but are not tests; `lognormality_test` is one.

    Raises
    ------
    DataError : fewer than two different sizes above 0.
    """
    x = _present(w)
    rows = []
    for name, fit in CANDIDATES.items():
        parameters = fit(x)
        frozen = getattr(stats, name)(*parameters)
        free = 1 if name == "expon" else 2
        rows.append(
            {
                "distribution": name,
                "parameters": free,
                "log_likelihood": float(frozen.logpdf(x).mean()),
                "aic": 2 * free - 2 * float(frozen.logpdf(x).sum()),
                "ks": float(stats.ks_1samp(x, frozen.cdf).statistic),
            }
        )
    table = pd.DataFrame(rows).sort_values("aic", kind="stable", ignore_index=True)
    table.insert(4, "delta_aic", table["aic"] - table["aic"].min())
    return table.drop(columns="aic")


_TESTED = ("mu", "sigma", "skewness", "skewness_w", "excess_kurtosis", "anderson_darling", "p")


def lognormality_test(
    w: Floats, days: Floats, *, simulations: int = 999, rng: np.random.Generator
) -> pd.DataFrame:
    """Is log w normal, session by session? Anderson–Darling with estimated mean and variance.

        A² = −n − 1/n Σ_i (2i − 1) [log Φ(z_(i)) + log(1 − Φ(z_(n+1−i)))] ,  z = (log w − m)/s

    The p-value is the share of ``simulations`` normal samples of the same size with a larger A²
    (which does not depend on mean and variance). Within a session every synapse counts once.

    Returns
    -------
    One row per session: ``day``, ``n``, ``mu``, ``sigma``, ``skewness`` (of log w; of w itself:
    ``skewness_w``), ``excess_kurtosis``, ``anderson_darling``, ``p``.
    Sessions with fewer than 8 synapses have NaN statistics.
    """
    rows = []
    for t, day in enumerate(days):
        x = w[w[:, t] > 0, t]
        row: dict[str, float] = {"day": float(day), "n": len(x), **dict.fromkeys(_TESTED, np.nan)}
        logs = np.log(x)
        if len(x) >= 8 and logs.std() > 0:
            a2 = float(_anderson_darling(logs[None])[0])
            null = _anderson_darling(rng.standard_normal((simulations, len(x))))
            row |= {
                "mu": float(logs.mean()),
                "sigma": float(logs.std(ddof=1)),
                "skewness": float(stats.skew(logs)),
                "skewness_w": float(stats.skew(x)),
                "excess_kurtosis": float(stats.kurtosis(logs)),
                "anderson_darling": a2,
                "p": float((1 + (null >= a2).sum()) / (1 + simulations)),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _anderson_darling(samples: Floats) -> Floats:
    """A² of each row against the normal distribution with the row's mean and variance."""
    z = np.sort(samples, axis=1)
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, ddof=1, keepdims=True)
    n = z.shape[1]
    weight = (2 * np.arange(1, n + 1) - 1) / n
    return -n - ((stats.norm.logcdf(z) + stats.norm.logsf(z[:, ::-1])) * weight).sum(axis=1)


def _present(w: Floats) -> Floats:
    x = np.asarray(w, dtype=float)
    x = x[x > 0]
    if len(np.unique(x)) < 2:
        raise DataError(f"size must hold at least two different values above 0, got {len(x)}")
    return x
