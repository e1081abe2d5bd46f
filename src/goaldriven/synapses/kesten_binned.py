"""The published fit of the Kesten process: straight lines through moments of binned weights.

E[Δw | w] = μ_a w + μ_b and Var[Δw | w] = σ_a² w² + σ_b²: weights are sorted into bins of equal
count, and the bins' mean Δw and var Δw regressed on their mean w and mean w² (least squares, bins
alike). Slopes are the multiplicative part, intercepts the additive one; the fit without an
additive part has no intercepts. Melander, Nayebi et al. 2021 (Cell Reports), methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError
from goaldriven.synapses.kesten_pairs import Counts, Floats, checked, transitions


@dataclass(frozen=True)
class Lines:
    """Two straight lines, one row per resample: ``theta`` (resample, 4) as μ_a, μ_b, σ_a², σ_b².

    ``r2_mean`` and ``r2_variance`` (resample,) are 1 − Σ(y − fit)² / Σ(y − ȳ)² over the bins, of
    the line of means and of variances; also without an additive part, where they can be negative.
    """

    theta: Floats
    r2_mean: Floats
    r2_variance: Floats


def binned_moments(
    w: ArrayLike, bins: int = 20, *, days: ArrayLike | None = None, deaths: bool = True
) -> pd.DataFrame:
    """Moments of present weights and their changes to the next day, in bins of equal count.

    ``w`` is (synapse, day), 0 absent, NaN not observed. Weights are sorted and cut every
    ⌈pairs / bins⌉, so that the last bin may have fewer, as published: 165 of 3,281 and 125 of 2,482
    pairs. ``deaths`` keeps changes to 0, as published. Columns ``w_mean``, ``w2_mean``,
    ``dw_mean``, ``dw_var`` (divided by n) and ``n``, one row per bin from the smallest weights on.

    Raises
    ------
    DataError : as `kesten.fit_kesten`; or there are fewer than 2 pairs per bin.
    """
    shape = np.shape(w)
    times = np.arange(shape[-1] if shape else 0) if days is None else days
    pairs = transitions(checked(w, times, None), deaths)
    table = bin_moments(pairs.before, pairs.change, np.ones((1, len(pairs.before))), bins)[0]
    return pd.DataFrame(table, columns=["w_mean", "w2_mean", "dw_mean", "dw_var", "n"]).astype(
        {"n": int}
    )


def bin_moments(before: Floats, change: Floats, counts: Counts, bins: int) -> Floats:
    """The moments of every resample: ``counts`` (resample, pair) → (resample, bin, 5).

    A pair drawn several times falls whole into the bin of its middle copy.
    """
    if bins < 3 or len(before) < 2 * bins:
        raise DataError(
            f"bins must be 3 or more, of 2 pairs or more; got {bins} for {len(before)} pairs"
        )
    order = np.argsort(before, kind="stable")
    w, d = before[order], change[order]
    often = np.asarray(counts, float)[:, order]
    size = np.ceil(often.sum(axis=1, keepdims=True) / bins)
    position = np.cumsum(often, axis=1) - (often + 1) / 2
    which = np.clip(np.floor(position / size), 0, bins - 1).astype(np.intp)
    which += bins * np.arange(len(often))[:, None]

    def summed(x: Floats) -> Floats:
        total = np.bincount(which.ravel(), (often * x).ravel(), minlength=bins * len(often))
        return np.asarray(total, float).reshape(len(often), bins)

    n = summed(np.ones_like(w))
    with np.errstate(invalid="ignore"):
        dw = summed(d) / n
        columns = (summed(w) / n, summed(w**2) / n, dw, summed(d**2) / n - dw**2, n)
    return np.stack(columns, axis=-1)


def lines(table: Floats, additive: bool = True) -> Lines:
    """The two straight lines through the bins of `bin_moments`, of every resample."""
    x, x2, y, y2, n = (table[..., i] for i in range(5))
    full = n > 0
    a, b, r2_mean = _line(x, y, full, additive)
    a2, b2, r2_variance = _line(x2, y2, full, additive)
    return Lines(np.stack([a, b, a2, b2], axis=-1), r2_mean, r2_variance)


def _line(
    x: Floats, y: Floats, full: NDArray[np.bool_], additive: bool
) -> tuple[Floats, Floats, Floats]:
    """Slope, intercept and R² of y on x over the last axis, where the bin is not empty."""
    n = full.sum(axis=-1, keepdims=True)
    x, y = np.where(full, x, 0.0), np.where(full, y, 0.0)
    x_mean, y_mean = (v.sum(axis=-1, keepdims=True) / n for v in (x, y))
    xc, yc = (x - x_mean) * full, (y - y_mean) * full
    if additive:
        slope = (xc * yc).sum(axis=-1) / (xc**2).sum(axis=-1)
        intercept = y_mean[..., 0] - slope * x_mean[..., 0]
    else:
        slope = (x * y).sum(axis=-1) / (x**2).sum(axis=-1)
        intercept = np.zeros_like(slope)
    residual = (y - slope[..., None] * x - intercept[..., None]) * full
    return slope, intercept, 1 - (residual**2).sum(axis=-1) / (yc**2).sum(axis=-1)
