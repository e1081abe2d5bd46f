"""ROCKET: what many random dilated convolutions over the trajectories find."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from goaldriven.identify.features import N_POSITIONS

Matrix = NDArray[np.float64]

LENGTHS = (7, 9, 11)
# Kernels convolved at once: enough to spare overhead, few enough to stay in the caches.
_AT_ONCE = 64


class RandomKernels(TransformerMixin, BaseEstimator):
    """Of each random kernel's response: the share that is positive, and the maximum.

    A kernel of L taps w with dilation d, padding p and bias b, over the channels c that it sees,
    responds to trajectories x_c(0…T−1), which are zero outside, at the times o = 0…T−1+2p−(L−1)d
    with

        r(o) = b + Σ_c Σ_j w_cj · x_c(o + j·d − p).

    L is 7, 9 or 11 with equal probability; w is drawn from N(0, 1), and the mean over the taps of
    each channel is taken off; b from U(−1, 1); d = ⌊2^u⌋ with u from U(0, log2((T−1)/(L−1))); p is
    0 or ⌊(L−1)d/2⌋ with equal probability; and ⌊2^v⌋ channels, with v from
    U(0, log2(min(C, L) + 1)), are drawn without replacement. Lengths beyond T are left out; where
    all are, L = T, and the mean stays if that is 1.

    The output has the layer's position in front, then all shares, then all maxima:
    (example, 3 + 2 × kernels). Nothing is learned but the number of channels; trajectories are not
    normalised one by one, since their levels tell the rules too.

    Parameters
    ----------
    n_times : records per trajectory.
    n_kernels : 10,000 as published.
    seed : of the kernels.

    Source: Dempster, Petitjean & Webb 2020, section 3; the channels as in its authors' extension
    to multivariate series.
    """

    def __init__(self, n_times: int, n_kernels: int = 10_000, seed: int = 0) -> None:
        self.n_times = n_times
        self.n_kernels = n_kernels
        self.seed = seed

    def fit(self, x: Matrix, y: object = None) -> RandomKernels:
        n_channels = (x.shape[1] - N_POSITIONS) // self.n_times
        rng = np.random.default_rng(self.seed)
        lengths = [n for n in LENGTHS if n <= self.n_times] or [self.n_times]
        self.length_ = rng.choice(lengths, self.n_kernels)
        self.bias_ = rng.uniform(-1, 1, self.n_kernels)
        self.dilation_ = np.array([self._dilation(rng, length) for length in self.length_])
        padded = rng.integers(2, size=self.n_kernels)
        self.padding_ = padded * ((self.length_ - 1) * self.dilation_ // 2)
        channels, weights = [], []
        for length in self.length_:
            most = np.log2(min(n_channels, length) + 1)
            n = min(int(2 ** rng.uniform(0, most)), n_channels)
            drawn = rng.normal(size=(n, length))
            if length > 1:  # a single tap would be nothing without its mean
                drawn -= drawn.mean(axis=1, keepdims=True)
            channels.append(rng.choice(n_channels, n, replace=False))
            weights.append(drawn.ravel())
        self.n_seen_ = np.array([len(seen) for seen in channels])
        self.channel_ = np.concatenate(channels)  # of all kernels, one after the other
        self.weight_ = np.concatenate(weights)  # (kernel, channel, tap), likewise
        return self

    def transform(self, x: Matrix) -> Matrix:
        check_is_fitted(self)
        x = np.asarray(x, dtype=float)
        series = np.ascontiguousarray(x[:, N_POSITIONS:].T)  # (channel × time, example)
        shares, maxima = [], []
        for kernels in np.split(
            np.arange(self.n_kernels), range(_AT_ONCE, self.n_kernels, _AT_ONCE)
        ):
            operator, sizes = self._operator(kernels, len(series))
            starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
            response = operator @ series + np.repeat(self.bias_[kernels], sizes)[:, None]
            maxima.append(np.maximum.reduceat(response, starts))
            positive = np.add.reduceat((response > 0).astype(float), starts)
            shares.append(positive / sizes[:, None])
        return np.vstack([x[:, :N_POSITIONS].T, *shares, *maxima]).T

    def _dilation(self, rng: np.random.Generator, length: int) -> int:
        drawn = rng.uniform()  # always, so that other draws do not depend on the length
        room = (self.n_times - 1) / max(length - 1, 1)
        return int(2 ** (drawn * np.log2(max(room, 1))))

    def _operator(
        self, kernels: NDArray[np.intp], n_inputs: int
    ) -> tuple[sparse.csr_array, NDArray[np.intp]]:
        """The kernels' convolutions as one matrix, and how many response times each has."""
        ends = np.cumsum(self.n_seen_)
        weight_ends = np.cumsum(self.n_seen_ * self.length_)
        entries, rows, columns = [], [], []
        sizes: list[int] = []
        for k in kernels:
            length, n = self.length_[k], self.n_seen_[k]
            reach = (length - 1) * self.dilation_[k]
            size = self.n_times + 2 * self.padding_[k] - reach
            # Axes: channel, tap, response time.
            time = (np.arange(length) * self.dilation_[k] - self.padding_[k])[:, None]
            time = (time + np.arange(size))[None] + np.zeros((n, 1, 1), dtype=int)
            weight = self.weight_[weight_ends[k] - n * length : weight_ends[k]]
            inside = (time >= 0) & (time < self.n_times)
            row = np.broadcast_to(np.arange(size), time.shape) + sum(sizes)
            column = self.channel_[ends[k] - n : ends[k], None, None] * self.n_times + time
            value = np.broadcast_to(weight.reshape(n, length, 1), time.shape)
            entries.append(value[inside])
            rows.append(row[inside])
            columns.append(column[inside])
            sizes.append(int(size))
        where = (np.concatenate(rows), np.concatenate(columns))
        shape = (sum(sizes), n_inputs)
        return sparse.csr_array((np.concatenate(entries), where), shape=shape), np.array(sizes)
