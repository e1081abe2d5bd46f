"""Examples seen otherwise: part of the trajectory, part of the statistics, other answers.

Every function takes examples (see `goaldriven.trajectories.to_examples`) and returns new ones along
the same axis, or fewer; nothing is changed in place.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import xarray as xr

from goaldriven.errors import IdentificationError


def of_measures(examples: xr.Dataset, measures: Collection[str]) -> xr.Dataset:
    """Only the statistics of these measures (weight, activation, activity_change).

    Raises
    ------
    IdentificationError : none is left.
    """
    chosen = np.flatnonzero(np.isin(examples["measure"].values, list(measures)))
    if not len(chosen):
        raise IdentificationError(
            f"examples must have a statistic of {' or '.join(measures)}, got those of "
            f"{', '.join(sorted(set(examples['measure'].values.tolist())))}"
        )
    return examples.isel(statistic=chosen)


def of_statistics(examples: xr.Dataset, statistics: Sequence[str]) -> xr.Dataset:
    """Only these statistics, in this order."""
    return examples.sel(statistic=list(statistics))


def over_time(examples: xr.Dataset) -> xr.Dataset:
    """The mean of each trajectory in the place of the trajectory. Source: thesis section 6.3.4."""
    mean = examples["value"].mean("epoch").expand_dims(epoch=examples["epoch"].values[-1:])
    return examples.isel(epoch=slice(-1, None)).assign(
        value=mean.transpose(*examples["value"].dims)
    )


def records(examples: xr.Dataset, start: int, stop: int) -> xr.Dataset:
    """The records ``start`` … ``stop`` − 1 of each trajectory, as if time began there.

    Raises
    ------
    IdentificationError : there are not so many.
    """
    if not 0 <= start < stop <= examples.sizes["epoch"]:
        raise IdentificationError(
            f"records must lie in 0…{examples.sizes['epoch']}, got {start}…{stop}"
        )
    part = examples.isel(epoch=slice(start, stop))
    return part.assign_coords(epoch=part["epoch"].values - part["epoch"].values[0])


def sampled(examples: xr.Dataset, step: int, n: int, seed: int = 0) -> xr.Dataset:
    """``n`` records, ``step`` records apart, from a start that each example draws for itself.

    The start is uniform among those from which n records fit, by a seed made of ``seed``, the
    network and the layer: an example's is the same whatever others there are. The epochs are then
    counted from the start. Source: thesis section 6.3.9 (uniformity inferred).

    Raises
    ------
    IdentificationError : the trajectories are too short.
    """
    starts = examples.sizes["epoch"] - (n - 1) * step
    if n < 1 or step < 1 or starts < 1:
        raise IdentificationError(
            f"samples must fit into {examples.sizes['epoch']} records, got {n}, {step} apart"
        )
    names = zip(examples["network"].values, examples["layer"].values, strict=True)
    first = np.array(
        [
            np.random.default_rng([seed, zlib.crc32(f"{network}/{layer}".encode())]).integers(
                starts
            )
            for network, layer in names
        ]
    )
    chosen = first[:, None] + step * np.arange(n)
    values = examples["value"].transpose("example", "epoch", "statistic").values
    epochs = examples["epoch"].values[: (n - 1) * step + 1 : step]
    return examples.isel(epoch=slice(0, n)).assign_coords(epoch=epochs - epochs[0]).assign(
        value=(("example", "epoch", "statistic"), values[np.arange(len(values))[:, None], chosen])
    )  # fmt: skip


def positions_alone(examples: xr.Dataset) -> xr.Dataset:
    """Nothing but each layer's place in the hierarchy: one statistic, 0 everywhere."""
    one = examples.isel(epoch=[0], statistic=[0]).assign_coords(statistic=["none"])
    return one.assign(value=xr.zeros_like(one["value"]))


def relabelled(examples: xr.Dataset, names: Mapping[str, str]) -> xr.Dataset:
    """Rules under other names, several under one for instance; rules not named are left out."""
    kept = examples.isel(example=np.flatnonzero(np.isin(examples["rule"].values, list(names))))
    return kept.assign_coords(
        rule=("example", np.array([names[str(rule)] for rule in kept["rule"].values], dtype=str))
    )


def only_rules(examples: xr.Dataset, rules: Collection[str]) -> xr.Dataset:
    """The examples of these rules."""
    return examples.isel(example=np.flatnonzero(np.isin(examples["rule"].values, list(rules))))


def only_networks(examples: xr.Dataset, networks: Collection[str]) -> xr.Dataset:
    """The examples of these networks."""
    return examples.isel(
        example=np.flatnonzero(np.isin(examples["network"].values, list(networks)))
    )


def permuted_labels(examples: xr.Dataset, seed: int) -> xr.Dataset:
    """The rules dealt out anew among the networks, each network's layers keeping one between them.

    Nothing but the tie between trajectory and rule is cut: as many networks have each rule as had
    it before. (Dealt only among networks that start from the same weights, a network's rule would
    be one that its twins in the training part do not have, and accuracy fall below chance.)
    """
    names = examples["network"].values
    first, of_example = np.unique(names, return_index=True, return_inverse=True)[1:]
    dealt = np.random.default_rng(seed).permutation(examples["rule"].values[first])
    return examples.assign_coords(rule=("example", dealt[of_example].astype(str)))
