"""Records → one trajectory dataset."""

from __future__ import annotations

import json
import platform

import numpy as np
import torch
import xarray as xr

import goaldriven
from goaldriven.specs import STATISTICS
from goaldriven.training.network import Network, layers_of
from goaldriven.training.record import PAIRS, Record


def assemble(
    network: Network,
    records: dict[int, Record],
    *,
    outcome: str,
    seconds: float,
    recording_seconds: float,
) -> xr.Dataset:
    """The trajectory of one network; epochs that were not reached are NaN."""
    spec, layers = network.spec, layers_of(network)
    epochs = spec.record_epochs
    names = [layer.name for layer in layers]

    def series(field: str, *shape: int, dtype: type = np.float64) -> np.ndarray:
        missing = np.full(shape, np.nan)
        return np.array(
            [getattr(records[e], field) if e in records else missing for e in epochs], dtype=dtype
        )

    n_layers, n_statistics = len(names), len(STATISTICS)
    per_layer = ("weight_angle", "weight_norm_ratio", "gradient_angle", "update_angle")
    has_pairs = any(record.forward_weight is not None for record in records.values())
    pairs = ("forward_weight", "backward_weight") if has_pairs else ()
    return xr.Dataset(
        {
            "observable": (
                ("epoch", "layer", "statistic"),
                series("observables", n_layers, n_statistics),
            ),
            **{name: ("epoch", series(name)) for name in ("loss", "metric", "training_loss")},
            **{name: (("epoch", "layer"), series(name, n_layers)) for name in per_layer},
            **{
                name: (("epoch", "layer", "pair"), series(name, n_layers, PAIRS, dtype=np.float32))
                for name in pairs
            },
        },
        coords={
            "epoch": list(epochs),
            "layer": names,
            "statistic": list(STATISTICS),
            "position": ("layer", [layer.position for layer in layers]),
            "measure": ("statistic", [s.measure for s in STATISTICS.values()]),
        },
        attrs=attributes(network) | {
            "outcome": outcome,
            "seconds": seconds,
            "recording_seconds": recording_seconds,
        },
    )  # fmt: skip


def attributes(network: Network) -> dict[str, str | int | float]:
    """What identifies a network, and the versions it was made with."""
    spec = network.spec
    versions = {
        "goaldriven": goaldriven.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return {
        "spec": spec.canonical_json(),
        "network_id": spec.network_id,
        "task": spec.task.name,
        "architecture": spec.architecture.name,
        "rule": spec.rule.name,
        "batch_size": spec.batch_size,
        "model_seed": spec.model_seed,
        "data_seed": spec.data_seed,
        "metric_name": network.task.metric_name,
        "chance": network.task.chance,
        "runtime": _runtime(network),
        "versions": json.dumps(versions, sort_keys=True),
    }


def _runtime(network: Network) -> str:
    """How it was computed, as JSON: the runtime options, the kind of device, and the ranks."""
    device = next(network.model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found = {**network.runtime.model_dump(), "device": name, "ranks": network.ranks.size}
    return json.dumps(found, sort_keys=True)
