"""What a measurement draws: units, stimuli, noise; each a function of what it is drawn for.

No number depends on what else is drawn, nor on how the stimuli are cut into batches. The noise of
the first m units is the beginning of that of more units, so that measurements share it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

STIMULI, UNITS = 64, 16
"""Noise comes in blocks of so many stimuli, and in them of so many units, a stimulus at a time."""

KEPT_ENTRIES = 4096
"""Most entries of a permutation that are worth remembering."""


def permutation(seed: int, n: int, keep: int) -> np.ndarray:
    """The first ``keep`` entries of the permutation of n things that belongs to a seed, int64.

    NumPy's legacy generator, which the published code uses and whose numbers will not change.
    """
    if keep > KEPT_ENTRIES:
        return np.random.RandomState(seed).permutation(n)[:keep]
    return _kept_permutation(seed, n, keep).copy()


@lru_cache(maxsize=1024)
def _kept_permutation(seed: int, n: int, keep: int) -> np.ndarray:
    """Remembered from one record to the next; a copy, so that the rest is not."""
    return np.random.RandomState(seed).permutation(n)[:keep].copy()


@lru_cache(maxsize=1024)
def own_seed(seed: int, network_id: str) -> int:
    """A seed that belongs to one network, below 2³² − 2."""
    return int.from_bytes(_digest("units", seed, network_id)[:8], "big") % (2**32 - 2)


def vector(purpose: tuple[object, ...], n: int) -> np.ndarray:
    """n standard normals for a purpose: float32 [n]."""
    return _generator(*purpose).standard_normal(n, dtype=np.float32)


def normals(purpose: tuple[object, ...], start: int, stop: int, n: int) -> np.ndarray:
    """Standard normals for n units at the stimuli ``start`` to before ``stop``: float32 [·, n]."""
    first, last = start // STIMULI, -(-stop // STIMULI)
    groups = -(-n // UNITS)
    drawn = np.empty(((last - first) * STIMULI, groups * UNITS), dtype=np.float32)
    for block in range(first, last):
        numbers = _generator(*purpose, block).standard_normal(
            (groups, STIMULI, UNITS), dtype=np.float32
        )
        here = (block - first) * STIMULI
        target = drawn[here : here + STIMULI].reshape(STIMULI, groups, UNITS)
        target[...] = numbers.transpose(1, 0, 2)
    return drawn[start - first * STIMULI : stop - first * STIMULI, :n]


def _generator(*purpose: object) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(int.from_bytes(_digest(*purpose)[:16], "big")))


def _digest(*purpose: object) -> bytes:
    return hashlib.sha256(
        "/".join(("goaldriven/measurement", *map(str, purpose))).encode()
    ).digest()


@lru_cache(maxsize=64)
def chosen_stimuli(seed: int, n: int, count: int) -> np.ndarray:
    """Which of n stimuli are shown, in ascending order: int64 [min(count, n)]."""
    return np.sort(permutation(seed + 2, n, count))
