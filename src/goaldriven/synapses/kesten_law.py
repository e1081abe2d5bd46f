"""The Kesten process w′ = εw + η: stationary moments, tail exponent, simulation.

ε ~ N(1 + μ_a, σ_a²) and η ~ N(μ_b, σ_b²), independent from step to step and of each other; so
E[Δw | w] = μ_a w + μ_b and Var[Δw | w] = σ_a² w² + σ_b².
Kesten 1973 (Acta Math. 131); for synapses: Melander, Nayebi et al. 2021 (Cell Reports), methods.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError, unknown

Floats = NDArray[np.float64]
Boundary = Literal["none", "reflecting", "absorbing"]
BOUNDARIES = ("none", "reflecting", "absorbing")
_WIDTH = 9.0  # standard deviations on either side of an integrand's peak
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_STEPS = 30


def stationary_moments(
    mu_a: ArrayLike, mu_b: ArrayLike, var_a: ArrayLike, var_b: ArrayLike
) -> tuple[Floats, Floats]:
    """Mean and variance of the stationary law, of unbounded w, in closed form.

    With φ = 1 + μ_a: m = μ_b / (1 − φ) and E[w²] = (2φμ_b m + μ_b² + σ_b²) / (1 − φ² − σ_a²).
    The mean is NaN unless |φ| < 1; the variance is inf unless φ² + σ_a² < 1, and NaN where an
    estimate of a variance is negative. Arrays broadcast.
    """
    phi, b = 1 + np.asarray(mu_a, float), np.asarray(mu_b, float)
    a2, b2 = np.asarray(var_a, float), np.asarray(var_b, float)
    left = 1 - phi**2 - a2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(np.abs(phi) < 1, b / (1 - phi), np.nan)
        variance = (2 * phi * b * mean + b**2 + b2) / left - mean**2
    wrong = np.isnan(mean) | (a2 < 0) | (b2 < 0)
    return mean, np.where(wrong, np.nan, np.where(left > 0, variance, np.inf))


def log_moment(power: ArrayLike, mu_a: ArrayLike, var_a: ArrayLike) -> Floats:
    """log E|ε|^μ of a normal ε, by quadrature around the integrand's peak on either side of 0."""
    s = np.sqrt(np.asarray(var_a, float))
    mu, phi = np.asarray(power, float), 1 + np.asarray(mu_a, float)
    mu, phi, s = (x[..., None] for x in np.broadcast_arrays(mu, phi, s))
    return np.logaddexp(_half_moment(mu, phi, s), _half_moment(mu, -phi, s))


def _half_moment(mu: Floats, phi: Floats, s: Floats) -> Floats:
    """log of ∫ (φ + sz)^μ N(z; 0, 1) dz over φ + sz > 0."""
    peak = (-phi + np.sqrt(phi**2 + 4 * s**2 * np.maximum(mu, 0))) / (2 * s)
    low = np.maximum(peak - _WIDTH, -phi / s)
    length = np.maximum(peak, low) + _WIDTH - low
    t = (1 + _NODES) / 2
    z = low + length * t**2  # t², for the integrand's cusp at ε = 0
    with np.errstate(divide="ignore"):
        log = mu * np.log(np.maximum(phi + s * z, 1e-300)) - z**2 / 2
    log += np.log(length * t * _WEIGHTS) - np.log(2 * np.pi) / 2
    top = log.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(log - top).sum(axis=-1)) + top[..., 0])


def tail_exponent(mu_a: ArrayLike, var_a: ArrayLike) -> Floats:
    """Exponent μ > 0 of the stationary law's power-law tail, P(w > x) ~ x^(−μ): E|ε|^μ = 1.

    log E|ε|^μ is convex in μ and 0 at 0, so there is one positive root where it falls at 0, that
    is where E log|ε| < 0; NaN where it does not (no stationary law) or where an estimate of σ_a²
    is negative, inf where σ_a = 0. Above 10,000 the tail is called light: inf. Arrays broadcast.

    Source: Kesten 1973; Goldie 1991.
    """
    a, v = np.broadcast_arrays(np.asarray(mu_a, float), np.asarray(var_a, float))
    out = np.full(a.shape, np.inf)
    random = v > 0
    out[~random & (np.abs(1 + a) >= 1) | (v < 0)] = np.nan
    if random.any():
        out[random] = _roots(a[random], v[random])
    return out


def _roots(a: Floats, v: Floats) -> Floats:
    low, high = np.full(a.shape, 1e-3), np.full(a.shape, 2e-3)
    falls = log_moment(low, a, v) < 0
    while (rising := falls & (log_moment(high, a, v) < 0) & (high < 1e4)).any():
        low = np.where(rising, high, low)
        high = np.where(rising, 2 * high, high)
    light = falls & (log_moment(high, a, v) < 0)
    root = high  # Newton's steps from above on a convex function never pass the root
    for _ in range(_STEPS):
        here = log_moment(root, a, v)
        slope = (log_moment(root * (1 + 1e-6), a, v) - here) / (1e-6 * root)
        step = np.where(falls & ~light, here / np.where(slope > 0, slope, np.inf), 0.0)
        root = np.maximum(root - step, low)
        if (np.abs(step) <= 1e-10 * root).all():
            break
    return np.where(falls, np.where(light, np.inf, root), np.nan)


def simulate(
    mu_a: float,
    mu_b: float,
    var_a: float,
    var_b: float,
    *,
    start: ArrayLike,
    steps: int,
    rng: np.random.Generator,
    boundary: Boundary = "reflecting",
    noise_variance: float = 0.0,
) -> Floats:
    """Weights of synapses through ``steps`` steps of w′ = εw + η: ``(synapse, steps + 1)``.

    ``boundary`` says what becomes of a weight below 0: ``"reflecting"`` takes |w′|, ``"absorbing"``
    sets it to 0 (absent) for good, as a lost synapse, ``"none"`` lets it be. Each present weight is
    then read with additive normal noise of ``noise_variance``, cut at a tiny positive number unless
    there is no boundary.

    Raises
    ------
    DataError : a variance is negative, or the boundary is unknown.
    """
    if boundary not in BOUNDARIES:
        raise DataError(unknown("boundary", boundary, BOUNDARIES))
    if min(var_a, var_b, noise_variance) < 0:
        raise DataError(f"variances must not be negative, got {(var_a, var_b, noise_variance)}")
    w = np.empty((np.size(start), steps + 1))
    w[:, 0] = np.ravel(np.asarray(start, float))
    for t in range(steps):
        draws = rng.standard_normal((2, len(w)))
        after = (1 + mu_a + np.sqrt(var_a) * draws[0]) * w[:, t] + mu_b + np.sqrt(var_b) * draws[1]
        if boundary == "reflecting":
            after = np.abs(after)
        elif boundary == "absorbing":
            after = np.where(w[:, t] > 0, np.maximum(after, 0.0), 0.0)
        w[:, t + 1] = after
    if noise_variance == 0:
        return w
    read = w + np.sqrt(noise_variance) * rng.standard_normal(w.shape)
    return read if boundary == "none" else np.where(w > 0, np.maximum(read, 1e-6), 0.0)
