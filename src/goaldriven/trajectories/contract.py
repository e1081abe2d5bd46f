"""What a trajectory dataset must hold; checked whenever one is written or read."""

from __future__ import annotations

import json
from typing import Literal, get_args

import numpy as np
import xarray as xr

from goaldriven.errors import DataError, unknown
from goaldriven.layers import Position
from goaldriven.specs import STATISTICS

VARIABLES: dict[str, tuple[str, ...]] = {
    "observable": ("epoch", "layer", "statistic"),
    "loss": ("epoch",),
    "metric": ("epoch",),
    "training_loss": ("epoch",),
    "weight_angle": ("epoch", "layer"),
    "weight_norm_ratio": ("epoch", "layer"),
    "gradient_angle": ("epoch", "layer"),
}

PAIRED = ("epoch", "layer", "pair")
OPTIONAL: dict[str, tuple[tuple[str, ...], type]] = {
    "update_angle": (("epoch", "layer"), np.float64),
    "forward_weight": (PAIRED, np.float32),
    "backward_weight": (PAIRED, np.float32),
}
"""Variables that older files and some rules do not have, with their dimensions and type."""

COORDINATES: dict[str, tuple[str, ...]] = {
    "epoch": ("epoch",),
    "layer": ("layer",),
    "statistic": ("statistic",),
    "position": ("layer",),
    "measure": ("statistic",),
}

ATTRIBUTES: dict[str, type] = {
    "spec": str,
    "network_id": str,
    "task": str,
    "architecture": str,
    "rule": str,
    "batch_size": int,
    "model_seed": int,
    "data_seed": int,
    "metric_name": str,
    "chance": float,
    "outcome": str,
    "seconds": float,
    "recording_seconds": float,
    "versions": str,
}

Outcome = Literal["trained", "diverged"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
POSITIONS: tuple[str, ...] = get_args(Position)


def validate(dataset: xr.Dataset, source: str = "trajectory") -> None:
    """Check that ``dataset`` is one network's trajectory.

    Float64 are ``observable(epoch, layer, statistic)``; ``loss``, ``metric`` and ``training_loss``
    (epoch); and (epoch, layer), angles in degrees,

    - ``weight_angle`` and ``weight_norm_ratio``: angle of forward weights W and backward weights B
      (which has W's shape), and ‖B‖/‖W‖; 0 and 1 under backprop, NaN where there is no such B;
    - ``gradient_angle``: of pseudogradient and true gradient of the validation objective;
    - ``update_angle`` (optional): of the change of W since the record before and the negative true
      gradient of the validation objective at that record; NaN at the first.

    Float32 and optional are ``forward_weight`` and ``backward_weight`` (epoch, layer, pair): the
    same few connections at every epoch, filled up with NaN.

    Besides there are integer epochs that ascend from 0; known statistics with their measure; every
    layer's position; the attributes that say which network this is. More variables and attributes
    are let through.

    Raises
    ------
    DataError : naming ``source``, the part, what it must be and what it is.
    """
    complaint = (
        _complain_parts(dataset)
        or _complain_epochs(dataset)
        or _complain_labels(dataset)
        or _complain_attributes(dataset)
    )
    if complaint:
        raise DataError(f"{source}: {complaint}")


def _complain_parts(dataset: xr.Dataset) -> str:
    for name, dims in {**COORDINATES, **VARIABLES}.items():
        where = dataset.coords if name in COORDINATES else dataset.data_vars
        kind = "coordinate" if name in COORDINATES else "variable"
        if name not in where:
            return f"{kind} '{name}' is required and was not given"
        if dataset[name].dims != dims:
            return f"{kind} '{name}' must have dimensions {dims}, got {dataset[name].dims}"
        if kind == "variable" and dataset[name].dtype != np.float64:
            return f"variable '{name}' must be float64, got {dataset[name].dtype}"
    for name, (dims, dtype) in OPTIONAL.items():
        if name in dataset and (dataset[name].dims, dataset[name].dtype) != (dims, dtype):
            found = f"{dataset[name].dims} and {dataset[name].dtype}"
            expected = f"{dims} and be {np.dtype(dtype)}"
            return f"variable '{name}' must have dimensions {expected}, got {found}"
    if ("forward_weight" in dataset) != ("backward_weight" in dataset):
        return "variables 'forward_weight' and 'backward_weight' must both be given, got one"
    for dim in ("epoch", "layer", "statistic"):
        if not dataset.sizes[dim]:
            return f"dimension '{dim}' must not be empty, got 0"
    return ""


def _complain_epochs(dataset: xr.Dataset) -> str:
    epochs = dataset["epoch"].values
    if not np.issubdtype(epochs.dtype, np.integer):
        return f"coordinate 'epoch' must be integer, got {epochs.dtype}"
    if epochs[0] != 0 or (np.diff(epochs) <= 0).any():
        return f"coordinate 'epoch' must ascend from 0, got {epochs.tolist()}"
    return ""


def _complain_labels(dataset: xr.Dataset) -> str:
    for dim in ("layer", "statistic"):
        names = dataset[dim].values.tolist()
        if len(set(names)) != len(names):
            return f"coordinate '{dim}' must not repeat a name, got {names}"
    for name, measure in zip(dataset["statistic"].values, dataset["measure"].values, strict=True):
        if name not in STATISTICS:
            return unknown("statistic", str(name), STATISTICS)
        if STATISTICS[name].measure != measure:
            return (
                f"measure of statistic '{name}' must be {STATISTICS[name].measure}, got '{measure}'"
            )
    for position in dataset["position"].values:
        if position not in POSITIONS:
            return unknown("position", str(position), POSITIONS)
    return ""


def _complain_attributes(dataset: xr.Dataset) -> str:
    attributes = dataset.attrs
    for name, kind in ATTRIBUTES.items():
        if name not in attributes:
            return f"attribute '{name}' is required and was not given"
        allowed = {float: (int, float, np.integer, np.floating), int: (int, np.integer)}
        if not isinstance(attributes[name], allowed.get(kind, (kind,))):
            return f"attribute '{name}' must be {kind.__name__}, got {attributes[name]!r}"
    for name in ("spec", "versions"):
        try:
            parsed = json.loads(attributes[name])
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            return f"attribute '{name}' must be a JSON object, got {attributes[name]!r}"
    if attributes["outcome"] not in OUTCOMES:
        return unknown("attribute 'outcome'", attributes["outcome"], OUTCOMES)
    return ""
