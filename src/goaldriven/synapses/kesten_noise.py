"""The Kesten process seen through measurement noise: y = w + e, errors in variables.

Noise in y(t) lowers Δy where y is large and raises it where y is small: regression to the mean,
which a fit that ignores it takes for μ_a < 0 with an additive μ_b > 0. Noise is independent from
day to day, the process is not, so earlier readings are instruments for the true weight:

    u(t) = y(t+1) − φ y(t) − μ_b,  φ = 1 + μ_a
    E[u(t) z] = 0                                         z = 1, y(t−1)     → φ, μ_b
    E[u(t) u(t+1)] = −φ E[e(t+1)²]                                        → the noise
    E[(u(t)² − σ_a² w(t)² − σ_b² − e(t+1)² − φ² e(t)²) z] = 0               → σ_a², σ_b²

with E[w² | z] = E[y² | z] − E[e² | z]. Neither stationarity nor normality is assumed. Noise is
either ``"constant"``, E[e²] = τ², or ``"proportional"``, E[e²] = κ² E[w²]. What is assumed: noise
of successive days is independent; synapses follow one rule. A lasting set point of each synapse
looks to this estimator as noise around it does to the others: φ nearer to 1.

Source: instrumental variables as in Griliches & Hausman 1986 (J. Econometrics 31).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from goaldriven.errors import DataError, unknown
from goaldriven.synapses.kesten_pairs import Counts, Floats, Ints, Weights

Noise = Literal["constant", "proportional"]
NOISES: tuple[Noise, ...] = ("constant", "proportional")


@dataclass(frozen=True)
class NoisyFit:
    """``theta`` (resample, 4): μ_a, μ_b, σ_a², σ_b² of the true weights; ``noise`` (resample,).

    ``noise`` is τ² for constant noise and κ² for proportional noise, not below 0.
    """

    theta: Floats
    noise: Floats


@dataclass(frozen=True)
class Triples:
    """Three successive readings of a synapse, all present: each (triple,)."""

    first: Floats
    second: Floats
    third: Floats
    synapse: Ints


def noise_from_repeats(first: ArrayLike, second: ArrayLike) -> float:
    """Noise variance τ² from two readings of the same weights: Var(first − second) / 2.

    A difference in scale or offset that all readings share (another session's gain) goes into the
    mean difference, not into the noise. Readings that are not both finite and > 0 are left out.

    Raises
    ------
    DataError : the shapes differ, or fewer than 3 readings are left.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape:
        raise DataError(f"repeats must be of one shape, got {a.shape} and {b.shape}")
    with np.errstate(invalid="ignore"):
        both = (a > 0) & (b > 0) & np.isfinite(a + b)
    if both.sum() < 3:
        raise DataError(f"repeats must have 3 or more present readings, got {both.sum()}")
    return float(np.var((a - b)[both], ddof=1) / 2)


def triples(weights: Weights) -> Triples:
    """Three successive days at the most frequent interval on which a synapse is present."""
    steps = weights.steps
    steps = steps[np.isin(steps + 1, steps)]
    y = [weights.w[:, steps + k] for k in range(3)]
    with np.errstate(invalid="ignore"):
        kept = (y[0] > 0) & (y[1] > 0) & (y[2] > 0)
    return Triples(y[0][kept], y[1][kept], y[2][kept], np.nonzero(kept)[0])


def fit_noisy(
    data: Triples,
    counts: Counts,
    *,
    noise: Noise = "constant",
    noise_variance: float | None = None,
) -> NoisyFit:
    """Method of moments for each resample: ``counts`` (resample, synapse).

    ``noise_variance`` (τ², from repeated measures, say) takes the place of its estimate from the
    readings; φ then comes from Cov(y(t+1), y(t)) / (Var y(t) − τ²), which is more precise.

    Raises
    ------
    DataError : the noise is unknown, its variance is negative, there are fewer than 10 triples, or
        a variance is given for proportional noise.
    """
    if noise not in NOISES:
        raise DataError(unknown("noise", noise, NOISES))
    if noise_variance is not None and (noise_variance < 0 or noise == "proportional"):
        raise DataError(
            f"noise_variance must be 0 or more, of constant noise; got {noise_variance} ({noise})"
        )
    if len(data.first) < 10:
        raise DataError(f"noise needs 10 or more triples of days, got {len(data.first)}")
    often = np.asarray(counts, float)[:, data.synapse]
    often = often / often.sum(axis=1, keepdims=True)
    y0, y1, y2 = data.first, data.second, data.third
    if noise_variance is None:
        phi, b = _instrumented(often, y0, y1, y2)
        # u(t) u(t+1) needs no other days than the triple's own.
        product = (often * (y1 - phi * y0 - b) * (y2 - phi * y1 - b)).sum(axis=1)
        second_moment = np.maximum(-product / phi[:, 0], 0.0)
    else:
        second_moment = np.full(len(often), noise_variance)
        phi, b = _corrected(often, y1, y2, second_moment)
    u2 = (y2 - phi * y1 - b) ** 2
    if noise == "constant":
        level = second_moment[:, None]
        slope, intercept = _instrumented(often, y0, y1**2 - level, u2 - level * (1 + phi**2))
        theta = np.concatenate([phi - 1, b, slope, intercept], axis=1)
        return NoisyFit(theta, second_moment)
    share = second_moment / (often * y1**2).sum(axis=1)  # κ² / (1 + κ²)
    share = np.minimum(share, 0.99)[:, None]
    true1, true2 = (1 - share) * y1**2, (1 - share) * y2**2
    kappa2 = share / (1 - share)
    slope, intercept = _instrumented(often, y0, true1, u2 - kappa2 * (true2 + phi**2 * true1))
    return NoisyFit(np.concatenate([phi - 1, b, slope, intercept], axis=1), kappa2[:, 0])


def _instrumented(often: Floats, z: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept with E[(y − slope x − intercept) (1, z)] = 0, each (resample, 1)."""
    x_mean = (often * x).sum(axis=1, keepdims=True)
    y_mean = (often * y).sum(axis=1, keepdims=True)
    zc = z - (often * z).sum(axis=1, keepdims=True)
    slope = (often * zc * y).sum(axis=1, keepdims=True) / (often * zc * x).sum(
        axis=1, keepdims=True
    )
    return slope, y_mean - slope * x_mean


def _corrected(often: Floats, x: Floats, y: Floats, level: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept of y on the true x, whose readings have noise of variance ``level``."""
    x_mean = (often * x).sum(axis=1, keepdims=True)
    y_mean = (often * y).sum(axis=1, keepdims=True)
    variance = (often * (x - x_mean) ** 2).sum(axis=1, keepdims=True) - level[:, None]
    if (variance <= 0).any():
        raise DataError("noise_variance must be less than the variance of the weights")
    slope = (often * (x - x_mean) * y).sum(axis=1, keepdims=True) / variance
    return slope, y_mean - slope * x_mean
