"""Memory for a cacheful of rows, and sums of products over it."""

from __future__ import annotations

import math
import threading

import numpy as np

# Where each sum is kept: Σzᵏ for k = 1, 2, 3, 4, 6, 8, then Σ|z|, Σ|z|³, and Σ share.
Z1, Z2, Z3, Z4, Z6, Z8, A1, A3, SHARE = range(9)

BLOCK = 4096
"""Most products summed in the precision of the data. (Also too few for BLAS to start threads.)"""

LARGEST_KEPT = 1 << 24
"""Most bytes of scratch memory that a thread keeps."""

_kept = threading.local()


class Workspace:
    """Buffers for z, z² and one thing more, ``height`` rows long, and sums for all rows.

    ``rows`` is the batch rounded up to whole buffers. The buffers' rows beyond the batch hold
    whatever was there; it is computed with and thrown away, so that all chunks have one shape.
    """

    def __init__(
        self, batch: int, n: int, dtype: np.dtype, height: int, share: np.ndarray | None
    ) -> None:
        n_blocks = -(-n // BLOCK)
        width = -(-n // n_blocks)
        self.height, self.rows = height, -(-batch // height) * height
        whole = _scratch((3, height, n_blocks * width), dtype)
        whole[:, :, n:] = 0.0  # adds nothing to any sum
        self.buffers = whole[:, :, :n]
        one, shares = np.ones((width, 1), dtype=dtype), np.zeros(n_blocks * width, dtype=dtype)
        shares[:n] = 0.0 if share is None else share
        blocks = whole.reshape(3, height, n_blocks, width)
        (z, square, third), right = blocks[..., None, :], blocks[..., None]
        self._factors = [(z, one), (z, right[0]), (z, right[1]), (square, right[1]),
                         (square, right[2]), (third, right[2]), (third, one), (third, right[1]),
                         (third, shares.reshape(n_blocks, width, 1))]  # fmt: skip
        self._parts = np.zeros((len(self._factors), self.rows, n_blocks, 1, 1), dtype=dtype)

    def sum_products(self, here: slice, first: int, end: int) -> None:
        """Take the sums from ``first`` to before ``end``, for the rows ``here``.

        The third buffer holds z⁴ for the sums over z, |z| for those over |z|, 1 where z > 0 (else
        0) for the sum of shares.
        """
        factors = self._factors[first:end]
        for (left, right), out in zip(factors, self._parts[first:end, here], strict=True):
            np.matmul(left, right, out=out)

    def sums(self, batch: int, nonnegative: bool) -> np.ndarray:
        """All sums, float64 [9, batch]."""
        sums = self._parts[:, :batch].sum(axis=(2, 3, 4), dtype=np.float64)
        if nonnegative:
            sums[[A1, A3]] = sums[[Z1, Z3]]
        return sums


def _scratch(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory with whatever it holds. Kept by the thread: new pages cost more than small sums."""
    size = math.prod(shape) * dtype.itemsize
    memory: np.ndarray | None = getattr(_kept, "memory", None)
    if memory is None or memory.size < size:
        memory = np.empty(size, dtype=np.uint8)
        if size <= LARGEST_KEPT:
            _kept.memory = memory
    return memory[:size].view(dtype).reshape(shape)
