"""'Nearest' percentiles of the rows of a matrix, by selection in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SHORT_ROW = 512
"""Rows up to this length are sorted, longer ones partitioned."""

INTEGERS: dict[np.dtype, type[np.signedinteger]] = {
    np.dtype(np.float32): np.int32,
    np.dtype(np.float64): np.int64,
}
"""The integers as wide as each floating type."""

Selector = Callable[[np.ndarray, np.ndarray], None]


def nearest_rank(n: int, percent: float) -> int:
    """Rank, from 0, of the 'nearest' percentile among n values; half-way goes to the even rank.

    >>> nearest_rank(5, 50), nearest_rank(4, 50), nearest_rank(2, 50), nearest_rank(5, 75)
    (2, 2, 0, 3)
    """
    return round((n - 1) * percent / 100)


def as_keys(values: np.ndarray) -> np.ndarray:
    """The bits of nonnegative floats as integers, which have the same order.

    NumPy selects among integers twice as fast as among floats.
    """
    return values.view(INTEGERS[values.dtype])


def signed_keys(values: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    """Integers in the order of floats of either sign; ``values`` turns into them, in place.

    The bits of the ``magnitudes`` |z|, all flipped where z is negative.
    """
    keys = as_keys(values)
    np.right_shift(keys, 8 * keys.itemsize - 1, out=keys)  # all ones where negative
    np.bitwise_xor(keys, as_keys(magnitudes), out=keys)
    return keys


def from_keys(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The floats of `as_keys` or `signed_keys`."""
    magnitudes = np.where(keys < 0, ~keys, keys).view(dtype)
    return np.where(keys < 0, -magnitudes, magnitudes)


def selector(sample: np.ndarray, n: int) -> Selector:
    """How best to find median and third quartile in rows of n values like ``sample``.

    By partition; by sorting where rows are short or values recur (partition is slow with ties,
    sorting fast). The result is the same: the selector reorders its first argument, keys [rows, n],
    and puts the two into its second, [2, rows].
    """
    if n <= SHORT_ROW or np.unique(sample).size < 0.95 * sample.size:
        return _by_sorting
    return _by_partition


def _by_sorting(keys: np.ndarray, out: np.ndarray) -> None:
    n = keys.shape[1]
    keys.sort(axis=1)
    out[0], out[1] = keys[:, nearest_rank(n, 50)], keys[:, nearest_rank(n, 75)]


def _by_partition(keys: np.ndarray, out: np.ndarray) -> None:
    n = keys.shape[1]
    median, third = nearest_rank(n, 50), nearest_rank(n, 75)
    keys.partition(median, axis=1)
    out[0] = keys[:, median]
    keys[:, median:].partition(third - median, axis=1)
    out[1] = keys[:, third]


def sorted_percentiles(rows: np.ndarray) -> np.ndarray:
    """Median and third quartile of each row of floats, float64 [2, rows]; NaN where one is NaN."""
    n = rows.shape[1]
    ordered = np.sort(rows, axis=1)[:, [nearest_rank(n, 50), nearest_rank(n, 75), n - 1]].T
    median, third, last = ordered.astype(np.float64)
    return np.where(np.isnan(last), np.nan, [median, third])  # NaN is sorted last
