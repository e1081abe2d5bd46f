"""Bins of probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.calibration.checks import Indices, Vector, at_least


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins (e_b, e_b+1], the first closed on both sides.

    Attributes
    ----------
    edges : (bin + 1,), ascending.
    of_row : (row,), the bin of each value.
    """

    edges: Vector
    of_row: Indices


def _equal_width(values: Vector, n_bins: int) -> Vector:
    return np.linspace(0, 1, n_bins + 1)


def _equal_count(values: Vector, n_bins: int) -> Vector:
    # Forests give many rows the same value; those stay in one bin, and there are fewer bins then.
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.concatenate([[values.min()], cuts[cuts < values.max()], [values.max()]])


BINNINGS: dict[str, Callable[[Vector, int], Vector]] = {
    "width": _equal_width,
    "count": _equal_count,
}


def binned(values: Vector, n_bins: int, binning: str) -> Bins:
    """Put values in 0…1 into bins of equal ``width`` over 0…1, or of equal ``count`` of rows.

    Raises
    ------
    IdentificationError : no bins, or an unknown binning.
    """
    at_least(n_bins, 1, "n_bins")
    if binning not in BINNINGS:
        raise IdentificationError(unknown("binning", binning, BINNINGS))
    edges = BINNINGS[binning](values, n_bins)
    return Bins(edges, np.searchsorted(edges[1:-1], values, side="left"))
