"""The layers' arithmetic in NumPy, float64, written from their definitions."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def conv(x, kernel, bias=None, stride=1):
    """Cross-correlation of (n, c_in, h, w) with (c_out, c_in, k, k), zero-padded by k // 2."""
    pad = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, kernel.shape[-2:], axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], kernel, optimize=True)
    return y if bias is None else y + bias[:, None, None]


def same_pool(x, reduce):
    """3×3 windows, stride 2, TensorFlow's SAME padding, by its published formula."""

    def ranges(n):
        out = math.ceil(n / 2)
        before = max((out - 1) * 2 + 3 - n, 0) // 2
        starts = [2 * i - before for i in range(out)]
        return [slice(max(s, 0), min(s + 3, n)) for s in starts]

    rows, columns = ranges(x.shape[2]), ranges(x.shape[3])
    y = np.empty((*x.shape[:2], len(rows), len(columns)))
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            y[:, :, i, j] = reduce(x[:, :, r, c], axis=(2, 3))
    return y


def max_pool(x):
    """3×3 windows, stride 2, one row and column of −∞ all around."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    return sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(4, 5))


def lrn(x, radius=3, bias=1.0, alpha=5e-5, beta=0.75):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - radius) : c + radius + 1]
        y[:, c] = x[:, c] / (bias + alpha * (near**2).sum(axis=1)) ** beta
    return y


def relu(x):
    return np.maximum(x, 0)


def batch_norm(x, mean, variance, scale, shift, epsilon=1e-5):
    shape = (-1, *[1] * (x.ndim - 2))
    unit = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + epsilon)
    return unit * scale.reshape(shape) + shift.reshape(shape)
