"""Made-up examples with planted structure: what a rule does, what a network has of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from goaldriven.layers import layer_position
from goaldriven.specs import STATISTICS

FEW = (
    "weight_raw_mean",
    "weight_abs_median",
    "activation_raw_norm",
    "activation_abs_mean",
    "activity_change_raw",
    "activity_change_sq",
)


def make_examples(
    n_networks: int = 32,
    *,
    rules: Sequence[str] = ("adam", "fa", "ia", "sgdm"),
    n_layers: int = 3,
    n_epochs: int = 5,
    statistics: Sequence[str] = FEW,
    planted: Sequence[str] | None = None,
    rule_effect: float = 0.0,
    fingerprint: float = 0.0,
    seed: int = 0,
) -> xr.Dataset:
    """Gaussian noise of s.d. 1, plus ``rule_effect`` times a pattern of each rule in the
    ``planted`` statistics (all by default), plus ``fingerprint`` times a pattern of each network.
    """
    rng = np.random.default_rng(seed)
    n = n_networks * n_layers
    value = rng.normal(size=(n, n_epochs, len(statistics)))
    network = np.repeat(np.arange(n_networks), n_layers)
    rule = network % len(rules)
    patterns = rng.normal(size=(len(rules), n_epochs, len(statistics)))
    patterns *= np.isin(statistics, statistics if planted is None else planted)
    own = rng.normal(size=(n_networks, n_epochs, len(statistics)))
    value += rule_effect * patterns[rule] + fingerprint * own[network]
    layers = np.tile(np.arange(n_layers), n_networks)
    return xr.Dataset(
        {"value": (("example", "epoch", "statistic"), value)},
        coords={
            "epoch": 5 * np.arange(n_epochs),
            "statistic": list(statistics),
            "measure": ("statistic", [STATISTICS[s].measure for s in statistics]),
            "network": ("example", [f"net{i:03d}" for i in network]),
            "layer": ("example", [f"layer{i}" for i in layers]),
            "position": ("example", [layer_position(i, n_layers) for i in layers]),
            "rule": ("example", np.array(rules)[rule]),
            "task": ("example", ["digits"] * n),
            "architecture": ("example", np.where(network // len(rules) % 2, "knet4", "knet5")),
            "batch_size": ("example", [64] * n),
            "model_seed": ("example", network // len(rules) // 2),
            "data_seed": ("example", [0] * n),
            "outcome": ("example", ["trained"] * n),
        },
    )


def with_rules(examples: xr.Dataset, rules: Sequence[str]) -> xr.Dataset:
    """The same examples under other names of rules."""
    return examples.assign_coords(rule=("example", np.asarray(rules)))
