"""The moments and percentiles of `moments` with torch, for activations on an accelerator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from goaldriven.observables.moments import Moments, Summary
from goaldriven.observables.selection import nearest_rank

PARTS = 8
"""Parts a batch is cut into, so that the float64 temporaries stay small beside the activations."""


def summarize(rows: Tensor, nonnegative: bool, share: Tensor | None = None) -> Summary:
    """As `moments.summarize`, where the rows lie: sorted, and about the mean in float64."""
    chunks = rows.split(-(-len(rows) // PARTS))
    parts = torch.cat([_part(chunk, nonnegative) for chunk in chunks], dim=2)
    joined = parts.cpu().numpy()  # (what, function, rows)
    shared = np.empty(0)
    if share is not None:
        shared = torch.cat([(chunk > 0).to(share) @ share for chunk in chunks]).cpu().numpy()
    return Summary(Moments(*joined[:4]), joined[4:], shared)


def _part(rows: Tensor, nonnegative: bool) -> Tensor:
    """Mean, Σ f(z)², variance, fourth moment, median, third quartile: [6, 3, rows]."""
    n = rows.shape[1]
    where = [nearest_rank(n, 50), nearest_rank(n, 75), 0, n - 1]
    raw = rows.sort(dim=1).values[:, where].double().T
    absolute = raw if nonnegative else rows.abs().sort(dim=1).values[:, where].double().T
    z = rows.double()
    return torch.stack(
        [
            _statistics(z, raw),
            _statistics(z if nonnegative else z.abs(), absolute),
            _statistics(z.square(), absolute.square()),
        ],
        dim=1,
    )


def _statistics(z: Tensor, order: Tensor) -> Tensor:
    """[6, rows] from values [rows, n] and their median, third quartile, least and largest."""
    median, third, low, high = torch.where(order[3].isnan(), torch.nan, order)  # NaN sorts last
    mean = torch.where(low == high, low, z.mean(dim=1))
    square_sum = z.square().sum(dim=1)
    squares = (z - mean[:, None]).square_()
    return torch.stack(
        [mean, square_sum, squares.mean(dim=1), squares.square_().mean(dim=1), median, third]
    )
