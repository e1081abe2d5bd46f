"""The 21 statistics of a tensor: 3 functions (z, |z|, z²) × 7 summaries, as float64 numbers.

For N values z, after the function has been applied to each:

    norm            ‖z‖₂ = (Σ z²)^½                 (so sq_norm = ‖z²‖₂)
    mean            μ = (1/N) Σ z
    median          the value of rank round((N − 1)·½) in ascending order
    third_quartile  the value of rank round((N − 1)·¾)
    var             σ² = (1/N) Σ (z − μ)²           (population)
    skew            3 (μ − median) / σ              (Pearson's second coefficient)
    kurtosis        (1/N) Σ (z − μ)⁴ / σ⁴           (not excess: 3 for a Gaussian)

Ranks half-way between two integers go to the even one, as in ``numpy.percentile`` by the method
'nearest'. TensorFlow's ``percentile``, which the published data were made with, counts ranks from
the largest value and rounds that count to even, so that at such ties (the median of an even number
of values, say) it takes the neighbouring sample.

Degenerate cases: where all values are equal, σ² is exactly 0 and skew and kurtosis are NaN (0/0).
Any NaN among the values makes every statistic NaN; infinite values make norm and mean infinite
(mean NaN if both signs occur), var, skew and kurtosis NaN, and leave the percentiles. Nothing is
raised.

Source: lr-identify ``tensorflow/Metrics/functions.py``; Nayebi et al. 2020, "Identifying learning
rules from neural network observables".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from goaldriven.errors import DataError
from goaldriven.observables import device, moments
from goaldriven.observables.layout import unit_row, unit_rows
from goaldriven.observables.moments import Moments
from goaldriven.specs.statistics import FUNCTIONS, SUMMARIES


def weight_statistics(weight: Tensor) -> np.ndarray:
    """The 21 statistics of all entries of a weight tensor, float64 [21].

    Ordered as `goaldriven.specs.STATISTICS`: raw, abs, sq; within each norm, mean, median, third
    quartile, var, skew, kurtosis. The norm is the Frobenius norm. Source: lr-identify
    ``functions.py``, but for the norm (see `published_weight_norms`).
    """
    if not weight.numel():
        raise DataError(f"'weight' must have entries, got shape {tuple(weight.shape)}")
    return activation_statistics(weight.detach().reshape(1, -1).cpu())[0]


def published_weight_norms(weight: Tensor) -> np.ndarray:
    """The weight norm as the published code computes it: float64 [3] for raw, abs and sq.

    The mean over slices of the kernel's first axis of each slice's 2-norm, where the first axis is
    that of TensorFlow's layout: the first spatial axis of a convolution kernel, the inputs of a
    dense one. It is not the Frobenius norm. ``weight`` is in PyTorch's layout: [out, in] or
    [out, in, *kernel]. Source: lr-identify ``functions.py``.
    """
    if weight.ndim < 2:
        raise DataError(
            f"'weight' must have at least 2 dimensions, got shape {tuple(weight.shape)}"
        )
    axis = 2 if weight.ndim > 2 else 1
    slices = weight.detach().double().movedim(axis, 0).flatten(1)
    raw, squared = slices.norm(dim=1).mean().item(), slices.square().norm(dim=1).mean().item()
    return np.array([raw, raw, squared])


def activation_statistics(y: Tensor, nonnegative: bool = False) -> np.ndarray:
    """The 21 statistics of each stimulus' activations over all units, float64 [batch, 21].

    Ordered as `weight_statistics`.

    Parameters
    ----------
    y : activations [batch, *units] of any floating type; not changed.
    nonnegative : promise that no value is below zero (as after a ReLU), where raw and abs coincide.

    Raises
    ------
    DataError : ``y`` has no batch axis or no units.
    """
    return read_activity(y, nonnegative)[0]


def read_activity(
    y: Tensor, nonnegative: bool = False, share: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`activation_statistics`, and with ``share`` [*units] also Σ_j share_j [y_j > 0] per stimulus.

    One pass over the activations yields both; the second is float64 [batch], from products in the
    precision of y, and empty without ``share``.
    """
    y = y.detach()
    if y.ndim < 1 or 0 in y.shape[1:]:
        raise DataError(f"'y' must be [batch, units, …] with units, got shape {tuple(y.shape)}")
    if y.dtype not in (torch.float32, torch.float64):
        y = y.float()
    rows = unit_rows(y if y.ndim > 1 else y[:, None])  # no statistic depends on the units' order
    if len(rows) == 0:
        return np.empty((0, len(FUNCTIONS) * len(SUMMARIES))), np.empty(0)
    if share is not None:
        share = unit_row(share, like=y)
    with np.errstate(all="ignore"):
        if rows.device.type == "cpu":
            weights = None if share is None else share.numpy()
            summary = moments.summarize(rows.numpy(), nonnegative, weights)
        else:
            summary = device.summarize(rows, nonnegative, share)
        return _assemble(summary.moments, summary.percentiles), summary.shared


def standard_deviation(z: Tensor) -> float:
    """The population standard deviation of all entries, in float64; 0 where they are equal."""
    values = z.detach().double().flatten()
    values = values - values[0]  # equal ones are then exactly 0
    values -= values.mean()
    return float((values @ values / len(values)).sqrt())


def _assemble(moments: Moments, percentiles: np.ndarray) -> np.ndarray:
    """Statistics [rows, 21], in the order of `STATISTICS`, from arrays [3, rows]."""
    mean, square_sum, variance, fourth = moments
    median, third_quartile = percentiles
    skew = 3 * (mean - median) / np.sqrt(variance)
    kurtosis = fourth / variance**2
    norm = np.sqrt(square_sum)
    columns = np.array([norm, mean, median, third_quartile, variance, skew, kurtosis])
    return columns.transpose(2, 1, 0).reshape(mean.shape[1], -1)
