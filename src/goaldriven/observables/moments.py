"""Moments and percentiles of each row of a matrix, for z, |z| and z² at once, on the CPU.

Cacheful by cacheful, one copy of the data gives the power sums of all three functions and then, by
selection in place, the percentiles. Products are formed in the precision of the data and summed in
blocks; the blocks' sums, and all that follows, are float64. Where that would lose digits (a spread
that is small beside the mean, values too far apart for their eighth powers) the row is computed
again about its mean in float64.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from goaldriven.observables.selection import INTEGERS, as_keys, from_keys, selector, signed_keys

CHUNK = 1 << 16
"""Values worked on at a time: few enough for the cache, enough to make NumPy's calls worth it."""

BLOCK = 4096
"""Most products summed in the precision of the data. (Also too few for BLAS to start threads.)"""

FUNCTIONS = (np.positive, np.abs, np.square)

# Where each sum is kept: Σzᵏ for k = 1, 2, 3, 4, 6, 8, then Σ|z|, Σ|z|³, and Σ share.
Z1, Z2, Z3, Z4, Z6, Z8, A1, A3, SHARE = range(9)

POWERS = [[Z1, Z2, Z3, Z4], [A1, Z2, A3, Z4], [Z2, Z4, Z6, Z8]]
"""Which of them are Σ f(z)ᵏ for k = 1…4, by function."""

DEGREES = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]])
"""Degree in z of each power sum."""


class Moments(NamedTuple):
    """Each array is float64 [3, rows]; the first axis is the function: z, |z|, z²."""

    mean: np.ndarray
    square_sum: np.ndarray
    variance: np.ndarray
    fourth: np.ndarray


class Summary(NamedTuple):
    """What there is to know of each row.

    ``percentiles`` are median and third quartile for each function, float64 [2, 3, rows], NaN where
    a row holds NaN; ``shared`` is Σ_j share_j over the j where z_j > 0, float64 [rows], or None.
    """

    moments: Moments
    percentiles: np.ndarray
    shared: np.ndarray | None


@dataclass(frozen=True)
class Trust:
    """Where power sums formed in a precision are good to about 1e-6."""

    smallest: float  # bounds on Σ z⁸ between which no power has left the range
    largest: float
    spread: float  # least variance as a share of the mean square; less cancels too many digits
    mean: float  # least mean as a share of the root mean square, likewise


TRUST = {
    np.dtype(np.float32): Trust(1e-26, 1e36, 0.2, 3e-3),
    np.dtype(np.float64): Trust(1e-290, 1e300, 1e-2, 0.0),
}


def summarize(rows: np.ndarray, nonnegative: bool, share: np.ndarray | None = None) -> Summary:
    """Moments and percentiles of each row of ``rows`` [rows, n], float32 or float64, not changed.

    ``nonnegative`` promises that |z| = z; ``share`` [n] asks for `Summary.shared`.
    """
    batch, n = rows.shape
    sample = rows[:: 1 + batch // 16, :: n // 256 | 1]
    scale, select = _scale(sample), selector(sample[0], n)
    work = _Workspace(batch, n, rows.dtype, share)
    z, square, third = work.buffers
    for start in range(0, batch, work.height):
        chunk, here = rows[start : start + work.height], slice(start, start + work.height)
        np.multiply(chunk, scale, out=z[: len(chunk)])
        if share is not None:
            np.copyto(third, np.greater(z, 0, out=work.positive))
            work.sum_products(here, SHARE, SHARE + 1)
        np.multiply(z, z, out=square)
        np.multiply(square, square, out=third)
        work.sum_products(here, Z1, A1)
        if nonnegative:
            select(as_keys(z), work.keys[:, 0, here])
        else:
            np.abs(z, out=third)
            work.sum_products(here, A1, SHARE)
            select(signed_keys(z, third), work.keys[:, 0, here])
            select(as_keys(third), work.keys[:, 1, here])
    sums, picked = work.results(batch, nonnegative)
    percentiles = _percentiles(picked, scale)
    percentiles[..., np.isnan(sums[Z2])] = np.nan
    moments = _moments(rows, sums[POWERS], scale)
    return Summary(moments, percentiles, None if share is None else sums[SHARE])


class _Workspace:
    """Buffers for z, z² and one thing more, a few rows long, and what is found out about all rows.

    Of the last few rows, those beyond the batch hold whatever was there; it is computed with and
    thrown away, so that all chunks have one shape.
    """

    def __init__(self, batch: int, n: int, dtype: np.dtype, share: np.ndarray | None) -> None:
        n_blocks = -(-n // BLOCK)
        width = -(-n // n_blocks)
        self.height = max(1, min(CHUNK // n, batch))
        rows = -(-batch // self.height) * self.height
        whole = _scratch((3, self.height, n_blocks * width), dtype)
        whole[:, :, n:] = 0.0  # adds nothing to any sum
        self.buffers = whole[:, :, :n]
        self.positive = np.empty((self.height, n), dtype=bool)
        self.keys = np.empty((2, 2, rows), dtype=INTEGERS[dtype])  # (percentile, z or |z|, rows)
        self.parts = np.zeros((9, rows, n_blocks, 1, 1), dtype=dtype)
        one, shares = np.ones((width, 1), dtype=dtype), np.zeros(n_blocks * width, dtype=dtype)
        shares[:n] = 0.0 if share is None else share
        blocks = whole.reshape(3, self.height, n_blocks, width)
        (z, square, third), right = blocks[..., None, :], blocks[..., None]
        self.factors = [(z, one), (z, right[0]), (z, right[1]), (square, right[1]),
                        (square, right[2]), (third, right[2]), (third, one), (third, right[1]),
                        (third, shares.reshape(n_blocks, width, 1))]  # fmt: skip

    def sum_products(self, here: slice, first: int, end: int) -> None:
        """The sums from ``first`` to before ``end``, over blocks of the rows in the buffers."""
        factors = self.factors[first:end]
        for (left, right), out in zip(factors, self.parts[first:end, here], strict=True):
            np.matmul(left, right, out=out)

    def results(self, batch: int, nonnegative: bool) -> tuple[np.ndarray, np.ndarray]:
        """All sums, float64 [9, rows], and the percentiles of scaled z and |z| [2, 2, rows]."""
        sums = self.parts[:, :batch].sum(axis=(2, 3, 4), dtype=np.float64)
        if nonnegative:
            sums[[A1, A3]] = sums[[Z1, Z3]]
            self.keys[:, 1] = self.keys[:, 0]
        return sums, from_keys(self.keys[:, :, :batch], self.parts.dtype)


_kept = threading.local()


def _scratch(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory with whatever it holds. A thread keeps its last: new pages cost more than small sums."""
    size = math.prod(shape) * dtype.itemsize
    if getattr(_kept, "bytes", np.empty(0)).size < size:
        _kept.bytes = np.empty(size, dtype=np.uint8)
    return _kept.bytes[:size].view(dtype).reshape(shape)


def _scale(sample: np.ndarray) -> float:
    """The power of two that brings the values near 1; multiplying by it loses nothing."""
    peak = float(np.abs(sample).max())
    if not 0.0 < peak < np.inf:
        return 1.0
    return 2.0 ** -max(-100, min(100, math.frexp(peak)[1]))


def _percentiles(picked: np.ndarray, scale: float) -> np.ndarray:
    """[2, 3, rows] in the scale of the data, from those [2, 2, rows] of scaled z and |z|.

    A 'nearest' percentile is one of the values, so that of z² is the square of that of |z|.
    """
    raw, absolute = (picked.astype(np.float64) / scale).swapaxes(0, 1)
    return np.stack([raw, absolute, absolute**2], axis=1)


def _moments(rows: np.ndarray, sums: np.ndarray, scale: float) -> Moments:
    """Moments from the power sums of the scaled rows; about the mean where those do not do.

    μ = S₁/n, σ² = S₂/n − μ², m₄ = S₄/n − 4μS₃/n + 6μ²S₂/n − 3μ⁴.
    """
    n, trust = rows.shape[1], TRUST[rows.dtype]
    empty = sums[0, 1] == 0.0
    in_range = (sums[2, 3] > trust.smallest) & (sums[2, 3] < trust.largest)
    e1, e2, e3, e4 = (sums * np.power(scale, -DEGREES)[..., None] / n).swapaxes(0, 1)
    square = e1 * e1
    moments = Moments(
        mean=e1,
        square_sum=n * e2,
        variance=e2 - square,
        fourth=e4 - 4 * e1 * e3 + square * (6 * e2 - 3 * square),
    )
    # NaN among the values leaves nothing to mend.
    trusted = in_range & (moments.variance > trust.spread * e2) | empty | np.isnan(e2)
    for index, function in enumerate(FUNCTIONS):
        for few in _few(~trusted[index], n):
            values = _about_mean(function(rows[few].astype(np.float64)))
            for target, value in zip(moments, values, strict=True):
                target[index, few] = value
    for few in _few(trusted[0] & (np.abs(e1[0]) < trust.mean * np.sqrt(e2[0])), n):
        moments.mean[0, few] = rows[few].mean(axis=1, dtype=np.float64)
    return moments


def _few(chosen: np.ndarray, n: int) -> list[np.ndarray]:
    """The chosen rows of n values, a cacheful at a time."""
    if not chosen.any():
        return []
    (which,) = chosen.nonzero()
    return np.array_split(which, -(-which.size * n // CHUNK))


def _about_mean(z: np.ndarray) -> tuple[np.ndarray, ...]:
    """The moments of each row of float64 ``z``, which is overwritten."""
    constant = z.min(axis=1) == z.max(axis=1)
    square_sum = np.einsum("ij,ij->i", z, z)
    mean = np.where(constant, z[:, 0], z.mean(axis=1))
    z -= mean[:, None]
    np.square(z, out=z)
    return mean, square_sum, z.mean(axis=1), np.einsum("ij,ij->i", z, z) / z.shape[1]
