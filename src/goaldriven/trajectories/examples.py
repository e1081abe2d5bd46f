"""Trajectories of many networks stacked to examples: one layer of one network each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from goaldriven.errors import DataError
from goaldriven.trajectories.finite import named, not_finite_examples

FACTORS = ("rule", "task", "architecture", "batch_size", "model_seed", "data_seed")


def to_examples(networks: Sequence[xr.Dataset]) -> xr.Dataset:
    """Stack trajectories to ``value(example, epoch, statistic)``.

    An example is one layer of one network; its coordinates say which: ``network``, ``layer``,
    ``position``, the six factors (``rule``, ``task``, ``architecture``, ``batch_size``,
    ``model_seed``, ``data_seed``) and the network's ``outcome``. Source: thesis section 6.3.9.

    Raises
    ------
    DataError : no networks, a network twice, or epochs or statistics that differ.
    """
    if not networks:
        raise DataError("networks must hold at least one trajectory, got none")
    _check_alike(networks)
    values = [n["observable"].transpose("layer", "epoch", "statistic").values for n in networks]
    per_network = {"network": "network_id", "outcome": "outcome", **{f: f for f in FACTORS}}
    layers = [n.sizes["layer"] for n in networks]
    coords = {
        name: ("example", np.repeat([n.attrs[attribute] for n in networks], layers))
        for name, attribute in per_network.items()
    }
    for name in ("layer", "position"):
        coords[name] = ("example", np.concatenate([n[name].values for n in networks]).astype(str))
    first = networks[0]
    return xr.Dataset(
        {"value": (("example", "epoch", "statistic"), np.concatenate(values))},
        coords={
            **coords,
            "epoch": first["epoch"].values,
            "statistic": first["statistic"].values,
            "measure": ("statistic", first["measure"].values),
        },
    )


def trained(examples: xr.Dataset) -> xr.Dataset:
    """The examples whose network did not diverge."""
    return examples.isel(example=np.flatnonzero(examples["outcome"].values == "trained"))


def admissible(examples: xr.Dataset) -> tuple[str, ...]:
    """The statistics that are finite at every epoch in every layer of every trained network.

    Diverged networks are not asked: they would veto every statistic. The 24 statistics of the
    published data set are `goaldriven.specs.PUBLISHED_STATISTICS`. Source: thesis section 6.3.3.

    Raises
    ------
    DataError : every network diverged, or there is no such statistic; names the networks that are
        not finite where most are.
    """
    values = trained(examples)["value"]
    if not values.sizes["example"]:
        raise DataError("examples must hold at least one network that did not diverge, got none")
    finite = np.isfinite(values.transpose("example", "epoch", "statistic").values).all(axis=(0, 1))
    if not finite.any():
        culprits = not_finite_examples(trained(examples))
        raise DataError(
            "examples must have a statistic that is finite for every network that trained, got none"
            + (
                f"; not finite where most networks are: network {named(culprits)}"
                if culprits
                else ""
            )
        )
    return tuple(str(name) for name in values["statistic"].values[finite])


def _check_alike(networks: Sequence[xr.Dataset]) -> None:
    first, seen = networks[0], set()
    for network in networks:
        network_id = network.attrs["network_id"]
        if network_id in seen:
            raise DataError(f"networks must not repeat a network, got {network_id} twice")
        seen.add(network_id)
        for dim in ("epoch", "statistic"):
            if not np.array_equal(network[dim].values, first[dim].values):
                raise DataError(
                    f"networks must share their '{dim}' coordinate, got "
                    f"{_short(first[dim].values)} in {first.attrs['network_id']} and "
                    f"{_short(network[dim].values)} in {network_id}"
                )


def _short(values: np.ndarray) -> str:
    listed = values.tolist()
    return (
        str(listed) if len(listed) <= 6 else f"{len(listed)} from {listed[0]!r} to {listed[-1]!r}"
    )
