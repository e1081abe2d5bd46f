"""Examples → feature vectors: the layer's position, then one trajectory after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from goaldriven.errors import IdentificationError, unknown
from goaldriven.trajectories.contract import POSITIONS

N_POSITIONS = len(POSITIONS)
POSITION_GROUP = "layer_position"

# What is made of each trajectory v(0…T−1), with the scale m = mean over t of |v(t)|:
#   value   v(t)
#   change  (v(t) − v(0)) / m     since the initial network
#   path    Σ_{s≤t} |v(s) − v(s−1)| / Σ_s |v(s) − v(s−1)|   the share of its way that it has gone
VIEWS: dict[str, tuple[str, ...]] = {
    "published": ("value",),
    "dynamics": ("value", "change", "path"),
}

# Forests compute in float32; beyond it a finite statistic would become infinite.
LARGEST = 3e38


@dataclass(frozen=True)
class Layout:
    """What each column of a feature matrix holds.

    Columns: three for the layer's position (one-hot early, middle, deep), then statistic by
    statistic, within it view by view, within that epoch by epoch.

    Attributes
    ----------
    statistics : their names, in order.
    epochs : of the records.
    views : a key of `VIEWS`.
    """

    statistics: tuple[str, ...]
    epochs: tuple[int, ...]
    views: str = "published"

    def __post_init__(self) -> None:
        if self.views not in VIEWS:
            raise IdentificationError(unknown("views", self.views, VIEWS))
        if not self.statistics:
            raise IdentificationError("statistics must name at least one statistic, got none")

    @property
    def n_channels(self) -> int:
        """Trajectories per example: statistics × views."""
        return len(self.statistics) * len(VIEWS[self.views])

    @property
    def n_features(self) -> int:
        return N_POSITIONS + self.n_channels * len(self.epochs)

    @property
    def groups(self) -> tuple[str, ...]:
        """What importances are given for: the layer's position, then each statistic."""
        return (POSITION_GROUP, *self.statistics)

    @cached_property
    def group_of_feature(self) -> NDArray[np.intp]:
        """For each column, the index in `groups` of what it belongs to."""
        per_statistic = len(VIEWS[self.views]) * len(self.epochs)
        sizes = [N_POSITIONS, *[per_statistic] * len(self.statistics)]
        return np.repeat(np.arange(len(sizes)), sizes)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each column: ``position_early``, ``weight_abs_mean@5``,
        ``weight_abs_mean.change@5``."""
        suffixes = ["" if view == "value" else f".{view}" for view in VIEWS[self.views]]
        return (
            *(f"position_{position}" for position in POSITIONS),
            *(
                f"{statistic}{suffix}@{epoch}"
                for statistic in self.statistics
                for suffix in suffixes
                for epoch in self.epochs
            ),
        )


def layout_of(examples: xr.Dataset, statistics: Sequence[str], views: str = "published") -> Layout:
    """The layout of ``features(examples, statistics, views)``.

    Raises
    ------
    IdentificationError : a statistic is not in the examples, or the views are unknown.
    """
    known = examples["statistic"].values.tolist()
    for name in statistics:
        if name not in known:
            raise IdentificationError(unknown("statistics: each", name, known))
    epochs = tuple(int(e) for e in examples["epoch"].values)
    return Layout(tuple(statistics), epochs, views)


def features(
    examples: xr.Dataset, statistics: Sequence[str], views: str = "published"
) -> NDArray[np.float64]:
    """The feature matrix of examples, (example, 3 + statistics × views × epochs).

    The layer's position comes first, one-hot (early, middle, deep); then the trajectories
    statistic by statistic. ``"published"`` holds the values only; ``"dynamics"`` adds, of each
    trajectory v with m = mean over t of abs v(t), the change since the initial network
    (v(t) − v(0))/m, and the share of its whole way up and down that it has gone by t: the sum of
    abs(v(s) − v(s−1)) over s ≤ t, divided by that over all s; 0 for a constant. A feature is
    computed from its own example alone. Magnitudes are capped at 3e38, the range of float32.

    Raises
    ------
    IdentificationError : a statistic is missing or not finite, or the views are unknown.

    Source: thesis section 6.3.9 and lr-identify ``utils.py`` for the published ones.
    """
    layout = layout_of(examples, statistics, views)
    chosen = examples["value"].sel(statistic=list(statistics))
    values = chosen.transpose("example", "statistic", "epoch").values
    _check_finite(values, examples, statistics)
    values = np.clip(values, -LARGEST, LARGEST)
    trajectories = np.stack([_view(values, v) for v in VIEWS[layout.views]], axis=2)
    position = examples["position"].values[:, None] == np.array(POSITIONS)
    return np.concatenate([position.astype(float), trajectories.reshape(len(values), -1)], axis=1)


def _view(values: NDArray[np.float64], view: str) -> NDArray[np.float64]:
    """One view of trajectories (example, statistic, epoch)."""
    if view == "value":
        return values
    if view == "change":
        scale = np.abs(values).mean(axis=-1, keepdims=True)
        relative = values / np.where(scale > 0, scale, 1.0)
        return relative - relative[..., :1]
    gone = np.abs(np.diff(values, axis=-1, prepend=values[..., :1])).cumsum(axis=-1)
    return gone / np.where(gone[..., -1:] > 0, gone[..., -1:], 1.0)


def _check_finite(
    values: NDArray[np.float64], examples: xr.Dataset, statistics: Sequence[str]
) -> None:
    bad = ~np.isfinite(values).all(axis=-1)
    if bad.any():
        example, statistic = np.argwhere(bad)[0]
        raise IdentificationError(
            f"statistics must be finite for every network, got {bad.any(axis=0).sum()} that are "
            f"not: {statistics[statistic]} in layer {examples['layer'].values[example]} of network "
            f"{examples['network'].values[example]} is one; 'admissible' leaves them out"
        )
