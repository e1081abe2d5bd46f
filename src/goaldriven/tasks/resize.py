"""TensorFlow 1's image resizing: no half-pixel offset, no anti-aliasing.

The published networks saw images resized so; other libraries' bilinear resizing differs by up to
half a pixel of shift and, for smaller images, by smoothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_CUBIC_A = -0.75  # Keys' parameter in TensorFlow's bicubic kernel
_CUBIC_STEPS = 1024  # TensorFlow tabulates the kernel at so many fractions of a pixel


def resize_bilinear(image: Pixels, height: int, width: int) -> Floats:
    """(h, w, channels) → (``height``, ``width``, channels), in the units of the image.

    Output row i is at y = i·h/height of the input (column likewise) and

        (1 − f)·image[⌊y⌋] + f·image[min(⌊y⌋ + 1, h − 1)] ,   f = y − ⌊y⌋ .

    Source: ``tf.image.resize_bilinear(align_corners=False)`` of TensorFlow 1.
    """
    return _separable(image, _bilinear(image.shape[0], height), _bilinear(image.shape[1], width))


def resize_bicubic(image: Pixels, height: int, width: int) -> Floats:
    """As `resize_bilinear`, from four rows and columns with Keys' cubic weights, a = −0.75.

    Values may overshoot the image's range. Source: ``tf.image.resize_bicubic`` of TensorFlow 1.
    """
    return _separable(image, _bicubic(image.shape[0], height), _bicubic(image.shape[1], width))


Taps = tuple[NDArray[np.intp], Floats]
"""Input positions and their weights, (taps, outputs) each."""


@lru_cache(maxsize=4096)
def _bilinear(n_in: int, n_out: int) -> Taps:
    start, fraction = _places(n_in, n_out)
    weights = np.stack([1 - fraction, fraction])
    return _clipped(np.stack([start, start + 1]), n_in), weights.astype(np.float32)


@lru_cache(maxsize=4096)
def _bicubic(n_in: int, n_out: int) -> Taps:
    start, fraction = _places(n_in, n_out)
    x = np.rint(fraction * _CUBIC_STEPS) / _CUBIC_STEPS
    weights = np.stack([_keys(1 + x), _keys(x), _keys(1 - x), _keys(2 - x)])
    indices = np.stack([start + offset for offset in (-1, 0, 1, 2)])
    return _clipped(indices, n_in), weights.astype(np.float32)


def _places(n_in: int, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    # In single precision, as TensorFlow: which input pixel is the first may hang on it.
    place = np.arange(n_out, dtype=np.float32) * (np.float32(n_in) / np.float32(n_out))
    start = np.floor(place).astype(np.intp)
    return start, (place - start).astype(np.float64)


def _clipped(indices: NDArray[np.intp], n_in: int) -> NDArray[np.intp]:
    return np.clip(indices, 0, n_in - 1)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel at |x| < 2."""
    a = _CUBIC_A
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)


def _separable(image: Pixels, rows: Taps, columns: Taps) -> Floats:
    """Sum over the taps of rows, then of columns; channels stay side by side throughout."""
    height, width, channels = image.shape
    flat = np.ascontiguousarray(image).reshape(height, width * channels)
    lines = _sum(
        np.multiply(flat.take(index, axis=0), weight[:, None], dtype=np.float32)
        for index, weight in zip(*rows, strict=True)
    )
    pixels = lines.reshape(len(lines), width, channels)
    resized = _sum(
        pixels.take(index, axis=1).reshape(len(lines), -1) * np.repeat(weight, channels)
        for index, weight in zip(*columns, strict=True)
    )
    return resized.reshape(len(lines), -1, channels)


def _sum(terms: Iterator[Floats]) -> Floats:
    total = next(terms)
    for term in terms:
        total += term
    return total
