"""Made-up trajectories in the format that training writes: random numbers, not networks."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from goaldriven.layers import layer_position
from goaldriven.specs import STATISTICS


def make_network(
    network_id: str = "0123456789ab",
    *,
    rule: str = "sgdm",
    n_layers: int = 4,
    epochs: tuple[int, ...] = (0, 5, 10),
    outcome: str = "trained",
    seed: int = 0,
    diagnostics: bool = False,
    **attributes: object,
) -> xr.Dataset:
    """``diagnostics``: with the variables that older files and some rules do not have."""
    rng = np.random.default_rng(seed)
    names = [f"layer{i}" for i in range(n_layers)]
    per_layer = ("epoch", "layer")
    flat, square = len(epochs), (len(epochs), n_layers)
    training_loss = rng.normal(size=flat)
    training_loss[0] = np.nan
    paired = (*per_layer, "pair")
    pairs = rng.normal(size=(2, *square, 100)).astype(np.float32)
    pairs[:, :, 0, 72:] = np.nan
    optional = {
        "update_angle": (per_layer, np.where(np.array(epochs)[:, None] > 0, 85.0, np.nan)
                         * np.ones(square)),
        "forward_weight": (paired, pairs[0]),
        "backward_weight": (paired, pairs[1]),
    }  # fmt: skip
    return xr.Dataset(
        {
            **(optional if diagnostics else {}),
            "observable": (
                (*per_layer, "statistic"),
                rng.normal(size=(*square, len(STATISTICS))) * 10.0 ** rng.integers(-9, 9),
            ),
            "loss": ("epoch", rng.normal(size=flat)),
            "metric": ("epoch", rng.random(flat)),
            "training_loss": ("epoch", training_loss),
            "weight_angle": (per_layer, rng.random(square)),
            "weight_norm_ratio": (per_layer, rng.random(square)),
            "gradient_angle": (per_layer, np.full(square, np.nan)),
        },
        coords={
            "epoch": np.array(epochs),
            "layer": names,
            "statistic": list(STATISTICS),
            "position": ("layer", [layer_position(i, n_layers) for i in range(n_layers)]),
            "measure": ("statistic", [s.measure for s in STATISTICS.values()]),
        },
        attrs={
            "spec": json.dumps({"rule": rule}),
            "network_id": network_id,
            "task": "digits",
            "architecture": "knet4",
            "rule": rule,
            "batch_size": 64,
            "model_seed": 0,
            "data_seed": 1,
            "metric_name": "accuracy",
            "chance": 0.1,
            "outcome": outcome,
            "seconds": 1.25,
            "recording_seconds": 0.5,
            "versions": json.dumps({"goaldriven": "0.1.0"}),
            **attributes,
        },
    )


def diverge(network: xr.Dataset, epoch: int) -> xr.Dataset:
    """The same network, diverged from ``epoch`` on."""
    lost = network.copy(deep=True)
    late = lost["epoch"] >= epoch
    for name in lost.data_vars:
        lost[name] = lost[name].where(~late)
    lost.attrs["outcome"] = "diverged"
    return lost
