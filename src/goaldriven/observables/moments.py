"""Moments and percentiles of each row of a matrix, for z, |z| and z² at once, on the CPU.

Cacheful by cacheful, one copy of the data gives the power sums of all three functions and then, by
selection in place, the percentiles. Products are formed in the precision of the data and summed in
blocks; the blocks' sums, and all that follows, are float64. Rows for which that loses digits (a
spread that is small beside the mean, powers out of range) are found and computed again from the
data as they are, about the mean and in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from goaldriven.observables.selection import (
    INTEGERS,
    as_keys,
    from_keys,
    selector,
    signed_keys,
    sorted_percentiles,
)
from goaldriven.observables.workspace import A1, A3, SHARE, Z1, Z2, Z3, Z4, Z6, Z8, Workspace

CHUNK = 1 << 16
"""Values worked on at a time: few enough for the cache, enough to make NumPy's calls worth it."""

FUNCTIONS = (np.positive, np.abs, np.square)

POWERS = [[Z1, Z2, Z3, Z4], [A1, Z2, A3, Z4], [Z2, Z4, Z6, Z8]]
"""The sums that are Σ f(z)ᵏ for k = 1…4, by function."""

DEGREES = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]])
"""Their degrees in z."""


class Moments(NamedTuple):
    """Each array is float64 [3, rows]; the first axis is the function: z, |z|, z²."""

    mean: np.ndarray
    square_sum: np.ndarray
    variance: np.ndarray
    fourth: np.ndarray


class Summary(NamedTuple):
    """What there is to know of each row.

    ``percentiles`` are median and third quartile for each function, float64 [2, 3, rows], NaN where
    a row holds NaN; ``shared`` is Σ_j share_j over the j where z_j > 0, float64 [rows], or empty.
    """

    moments: Moments
    percentiles: np.ndarray
    shared: np.ndarray


@dataclass(frozen=True)
class Trust:
    """Where power sums formed in a precision are good to about 1e-6."""

    smallest: float  # bounds on Σ z⁸ between which no power has left the range
    largest: float
    spread: float  # least variance as a share of the mean square; less cancels too many digits
    mean: float  # least mean in units of √(mean square / n), likewise


TRUST = {
    np.dtype(np.float32): Trust(1e-26, 1e36, 0.2, 0.06),
    np.dtype(np.float64): Trust(1e-290, 1e300, 1e-2, 0.0),
}


def summarize(rows: np.ndarray, nonnegative: bool, share: np.ndarray | None = None) -> Summary:
    """Moments and percentiles of each row of ``rows`` [rows, n], float32 or float64, not changed.

    ``nonnegative`` promises that |z| = z; ``share`` [n] asks for `Summary.shared`. A row's result
    does not depend, beyond rounding, on the rows it comes with.
    """
    batch, n = rows.shape
    sample = rows[:: 1 + batch // 16, :: n // 256 | 1]
    scale, select = _scale(sample), selector(sample[0], n)
    n_chunks = -(-batch // max(1, CHUNK // n))
    work = Workspace(batch, n, rows.dtype, -(-batch // n_chunks), share)
    keys = np.empty((2, 2, work.rows), dtype=INTEGERS[rows.dtype])  # (percentile, z or |z|, rows)
    z, square, third = work.buffers
    for start in range(0, batch, work.height):
        chunk, here = rows[start : start + work.height], slice(start, start + work.height)
        np.multiply(chunk, scale, out=z[: len(chunk)])
        if share is not None:
            third[: len(chunk)] = chunk > 0
            work.sum_products(here, SHARE, SHARE + 1)
        np.multiply(z, z, out=square)
        np.multiply(square, square, out=third)
        work.sum_products(here, Z1, A1)
        if nonnegative:
            select(as_keys(z), keys[:, 0, here])
        else:
            np.abs(z, out=third)
            work.sum_products(here, A1, SHARE)
            select(signed_keys(z, third), keys[:, 0, here])
            select(as_keys(third), keys[:, 1, here])
    if nonnegative:
        keys[:, 1] = keys[:, 0]
    sums = work.sums(batch, nonnegative)
    moments, percentiles = _exact(rows, sums, from_keys(keys[..., :batch], rows.dtype), scale)
    return Summary(moments, percentiles, sums[SHARE] if share is not None else np.empty(0))


def _scale(sample: np.ndarray) -> float:
    """The power of two that brings the values near 1; multiplying by it loses nothing."""
    peak = float(np.abs(sample).max())
    if not 0.0 < peak < np.inf:
        return 1.0
    return 2.0 ** -max(-100, min(100, math.frexp(peak)[1]))


def _exact(
    rows: np.ndarray, sums: np.ndarray, picked: np.ndarray, scale: float
) -> tuple[Moments, np.ndarray]:
    """Moments and percentiles from those of the scaled rows, mended where they are not good.

    ``sums`` are float64 [9, rows]; ``picked`` the percentiles of z and |z| [2, 2, rows]. That of z²
    is the square of that of |z|, since a 'nearest' percentile is one of the values.
    """
    n, trust = rows.shape[1], TRUST[rows.dtype]
    nan, zero = np.isnan(sums[Z2]), sums[A1] == 0.0
    in_range = (sums[Z8] > trust.smallest) & (sums[Z8] < trust.largest) | zero | nan
    raw, absolute = (picked.astype(np.float64) / scale).swapaxes(0, 1)
    moments = _from_power_sums(sums[POWERS] * np.power(scale, -DEGREES)[..., None], n)
    mean_square = moments.square_sum / n
    good = in_range & (moments.variance > trust.spread * mean_square) | zero | nan
    small = np.abs(moments.mean[0]) < trust.mean * np.sqrt(mean_square[0] / n)
    small &= good[0]
    for few in _few(~(in_range & good.all(axis=0)) | small, n):
        values = rows[few]
        lost = ~in_range[few]
        if lost.any():
            raw[:, few[lost]] = sorted_percentiles(values[lost])
            absolute[:, few[lost]] = sorted_percentiles(np.abs(values[lost]))
        for index, function in enumerate(FUNCTIONS):
            bad = ~good[index, few]
            if bad.any():
                mended = _about_mean(function(values[bad].astype(np.float64)))
                for target, value in zip(moments, mended, strict=True):
                    target[index, few[bad]] = value
        if small[few].any():
            moments.mean[0, few[small[few]]] = values[small[few]].mean(axis=1, dtype=np.float64)
    percentiles = np.stack([raw, absolute, absolute**2], axis=1)
    percentiles[..., nan] = np.nan
    return moments, percentiles


def _from_power_sums(sums: np.ndarray, n: int) -> Moments:
    """μ = S₁/n, σ² = S₂/n − μ², m₄ = S₄/n − 4μS₃/n + 6μ²S₂/n − 3μ⁴; ``sums`` is [3, 4, rows]."""
    e1, e2, e3, e4 = (sums / n).swapaxes(0, 1)
    square = e1 * e1
    fourth = e4 - 4 * e1 * e3 + square * (6 * e2 - 3 * square)
    return Moments(e1.copy(), sums[:, 1].copy(), e2 - square, fourth)


def _about_mean(z: np.ndarray) -> tuple[np.ndarray, ...]:
    """The moments of each row of float64 ``z``, which is overwritten."""
    constant = z.min(axis=1) == z.max(axis=1)
    square_sum = np.einsum("ij,ij->i", z, z)
    mean = np.where(constant, z[:, 0], z.mean(axis=1))
    z -= mean[:, None]
    np.square(z, out=z)
    return mean, square_sum, z.mean(axis=1), np.einsum("ij,ij->i", z, z) / z.shape[1]


def _few(chosen: np.ndarray, n: int) -> list[np.ndarray]:
    """The chosen rows of n values, a cacheful at a time."""
    (which,) = chosen.nonzero()
    size = max(1, CHUNK // n)
    return [which[start : start + size] for start in range(0, which.size, size)]
