"""Study folders of which it is known what every measurement has of each network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.trajectories import write
from goaldriven.trajectories.measured import measurement_coordinates, write_measured
from trajectories.made_up import make_network

Effects = Mapping[str, Mapping[str, float]]
"""Measure → rule → what is added to all its statistics."""


def write_study(
    path: Path, n_networks: int, clean: Effects, seen: Mapping[MeasurementSpec, Effects]
) -> None:
    """Networks of noise of s.d. 1 and these effects, as recorded and as measured."""
    rules = sorted({rule for of_measure in clean.values() for rule in of_measure})
    for i in range(n_networks):
        plain = make_network(
            f"{i:012x}", rule=rules[i % len(rules)], n_layers=2, epochs=(0, 1, 2), seed=i,
            model_seed=i // len(rules),
        )  # fmt: skip
        network = plain.assign(observable=(plain["observable"].dims, _values(plain, clean, [0, i])))
        name = f"{plain.attrs['network_id']}.nc"
        write(network, path / "networks" / name)
        values = [_values(plain, effects, [k, i]) for k, effects in enumerate(seen.values(), 1)]
        coords = {n: plain[n] for n in ("epoch", "layer", "statistic", "position", "measure")}
        dataset = xr.Dataset(
            {"observable": (("measurement", *plain["observable"].dims), np.array(values))},
            coords={**measurement_coordinates(list(seen)), **coords},
            attrs={"network_id": plain.attrs["network_id"]},
        )
        write_measured(dataset, path / "measurements" / name)


def _values(network: xr.Dataset, effects: Effects, seed: Sequence[int]) -> np.ndarray:
    rule, measures = network.attrs["rule"], network["measure"].values
    added = np.array([effects.get(str(m), {}).get(rule, 0.0) for m in measures])
    noise = np.random.default_rng(list(seed)).normal(size=network["observable"].shape)
    return noise + added
