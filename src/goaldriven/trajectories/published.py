"""The published data set's format: rows of (epoch, statistic), one per layer of a network."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.layers import layer_position
from goaldriven.specs import RULES, STATISTICS
from goaldriven.trajectories.atomic import write_bytes
from goaldriven.trajectories.contract import POSITIONS, validate
from goaldriven.trajectories.examples import FACTORS, to_examples
from goaldriven.trajectories.safe_pickle import load_arrays

ARRAYS = ("obs_keys", "meta", "X", "Y")
RECORD_EVERY = 5
UNSEEDED = -1
"""Stands for the published seed ``None`` (no seed was set), since seeds are integers here."""
UNKNOWN_BATCH_SIZE = 0

# Our field → the names that a published file may use for it.
FIELDS: dict[str, tuple[str, ...]] = {
    "rule": ("learning_rule", "rule"),
    "task": ("task", "dataset"),
    "architecture": ("architecture", "model", "model_name", "arch"),
    "batch_size": ("batch_size", "train_batch_size"),
    "model_seed": ("model_seed",),
    "data_seed": ("dataset_seed", "data_seed"),
    "layer": ("layer", "layer_name"),
    "network": ("network", "network_id"),
}
OPTIONAL_FIELDS = ("batch_size", "model_seed", "data_seed", "layer", "network")

# Published names → ours; names that are not here are kept.
NAMES: dict[str, dict[str, str]] = {
    "rule": {"information": "ia", "feedback": "fa"},
    "task": {"simclr": "imagenet_simclr", "audionet": "word_speaker_noise"},
    "architecture": {
        "alexnetlrn": "alexnet_lrn",
        "resnet18v2": "resnet18_v2",
        "resnet34v2": "resnet34_v2",
        "knet": "knet4",
        "knetlrn": "knet4_lrn",
        "knetc4": "knet5",
        "knetc4lrn": "knet5_lrn",
    },
}
_STATISTICS = {s.published_name: name for name, s in STATISTICS.items()}


@dataclass(frozen=True, eq=False)
class Published:
    """What a file in the published format holds.

    Attributes
    ----------
    networks : trajectories, see `read_published`.
    epochs : of the records.
    epochs_stored : whether the file itself says at which epochs they were made, as ours do.
    """

    networks: list[xr.Dataset]
    epochs: tuple[int, ...]
    epochs_stored: bool


def read_published(
    path: str | Path,
    *,
    record_every: int | None = None,
    fields: Mapping[str, str] | None = None,
) -> list[xr.Dataset]:
    """The networks of a file in the published format, as trajectories.

    The file is a pickled dictionary of arrays: ``obs_keys`` (statistic), the published names of the
    statistics; ``meta`` (example), a structured array; ``X`` (example, epoch, statistic); ``Y``
    (example), the rule; and where it is given ``X_cat`` (example, epoch, 3), the layer's position
    in one-hot form, early, middle, deep. A file of ours has ``epochs`` (epoch) as well. Rows that
    agree in all fields of ``meta`` but the layer's are the layers of one network. Rules, tasks and
    architectures get our names (``information`` → ``ia``, ``knetc4`` → ``knet5``, …), a seed
    ``None`` becomes −1. What the format does not hold (loss, metric, alignment, time taken) is NaN,
    and every network counts as trained; values that are not finite stay as they are.

    Parameters
    ----------
    record_every : epochs between two records, the first of which is epoch 0; None for the file's
        ``epochs``, or 5, the published interval, where it has none.
    fields : our field → its name in ``meta``, where it is none of `FIELDS`.

    Raises
    ------
    DataError : the file cannot be read, asks for code, or an array or field is missing or of the
        wrong shape, or the records were made at other epochs; names it.
    """
    return open_published(path, record_every=record_every, fields=fields).networks


def open_published(
    path: str | Path,
    *,
    record_every: int | None = None,
    fields: Mapping[str, str] | None = None,
) -> Published:
    """`read_published`, and whether the epochs are those of the file or assumed."""
    data = _arrays(path)
    statistics = _statistics(path, data["obs_keys"])
    columns = _columns(path, data["meta"], fields or {})
    columns["rule"] = _named("rule", np.asarray(data["Y"]).astype(str))
    stored = _stored_epochs(path, data.get("epochs"), data["X"].shape[1], record_every)
    epochs = stored
    if epochs is None:
        epochs = np.arange(data["X"].shape[1]) * (record_every or RECORD_EVERY)
    positions = _positions(path, data.get("X_cat"), len(data["X"]))
    networks = []
    for rows in _networks(columns):
        values = np.asarray(data["X"][rows], dtype=np.float64)[:, :, list(statistics.values())]
        facts = {n: c[rows[0]] for n, c in columns.items() if n != "layer"}
        layers = columns["layer"][rows].tolist() if "layer" in columns else _numbered(len(rows))
        places = positions[rows] if positions is not None else None
        network = _trajectory(values, facts, layers, places, epochs, tuple(statistics))
        validate(network, f"{path}, network {facts}")
        networks.append(network)
    return Published(networks, tuple(epochs.tolist()), stored is not None)


def _stored_epochs(
    path: str | Path, given: Any, n: int, record_every: int | None
) -> NDArray[np.int64] | None:
    """The epochs that the file holds; None where it holds none."""
    if given is None:
        return None
    epochs = np.asarray(given)
    if epochs.shape != (n,) or epochs.dtype.kind not in "iu":
        raise DataError(
            f"{path}: epochs must be {n} integers, got {epochs.dtype} of shape {epochs.shape}"
        )
    if record_every is not None and not np.array_equal(epochs, np.arange(n) * record_every):
        raise DataError(
            f"record_every must be left out, or agree with the epochs that {path} holds, "
            f"{', '.join(map(str, epochs[:3]))}, …; got {record_every}"
        )
    return epochs.astype(np.int64)


def is_imported(network: xr.Dataset) -> bool:
    """Whether a trajectory comes from a file in the published format."""
    return bool(json.loads(network.attrs["spec"]).get("imported", False))


def write_published(networks: Sequence[xr.Dataset], path: str | Path) -> int:
    """Write trajectories in the published format; see `read_published`. Returns the rows written.

    Names become those published where there are such; ``meta`` has the fields ``task``,
    ``architecture``, ``learning_rule``, ``batch_size``, ``model_seed``, ``dataset_seed``, ``layer``
    and ``network``. An array ``epochs``, which the published file does not have, says when the
    records were made. The pickle is of protocol 2, which Python 2.7 and 3 read.

    Raises
    ------
    DataError : networks that cannot be stacked; see `to_examples`.
    StudyError : the file cannot be written.
    """
    examples = to_examples(networks)
    published = {
        field: {ours: theirs for theirs, ours in names.items()} for field, names in NAMES.items()
    }
    columns = {}
    for ours in (*FACTORS, "layer", "network"):
        values = examples[ours].values
        if ours.endswith("_seed"):
            values = np.where(values == UNSEEDED, "None", values.astype(str))
        elif ours in published:
            values = np.array([published[ours].get(v, v) for v in values.tolist()])
        columns[FIELDS[ours][0]] = values
    meta = np.empty(len(examples["example"]), [(n, c.dtype) for n, c in columns.items()])
    for name, column in columns.items():
        meta[name] = column
    value = examples["value"].transpose("example", "epoch", "statistic").values
    one_hot = examples["position"].values[:, None] == np.array(POSITIONS)
    content = {
        "obs_keys": np.array(
            [STATISTICS[str(n)].published_name for n in examples["statistic"].values]
        ),
        "meta": meta,
        "X": value,
        "Y": columns["learning_rule"],
        "epochs": examples["epoch"].values.astype(np.int64),
        "X_cat": np.repeat(one_hot[:, None].astype(np.float64), value.shape[1], axis=1),
    }
    write_bytes(path, pickle.dumps(content, protocol=2))
    return len(value)


def _arrays(path: str | Path) -> dict[str, Any]:
    data = load_arrays(path)
    if not isinstance(data, dict):
        raise DataError(f"{path} must hold a dictionary of arrays, got a {type(data).__name__}")
    missing = [n for n in ARRAYS if not isinstance(data.get(n), np.ndarray)]
    if missing:
        raise DataError(
            f"{path} must hold the arrays {', '.join(ARRAYS)}, got {', '.join(map(str, data))}; "
            f"{', '.join(missing)} is missing"
        )
    shape = data["X"].shape
    n = len(data["obs_keys"])
    if len(shape) != 3 or shape[2] != n or 0 in shape or data["X"].dtype.kind not in "fiu":
        raise DataError(
            f"{path}: X must be numbers (example, epoch, {n} statistics), "
            f"got {data['X'].dtype} of shape {shape}"
        )
    for name in ("meta", "Y"):
        if data[name].shape != shape[:1]:
            raise DataError(f"{path}: {name} must have the shape {shape[:1]} of X's examples, "
                            f"got {data[name].shape}")  # fmt: skip
    return data


def _statistics(path: str | Path, keys: NDArray[Any]) -> dict[str, int]:
    """Our names of the statistics, in our order, with their places in the file."""
    places = {str(key): i for i, key in enumerate(keys)}
    foreign = sorted(places.keys() - _STATISTICS.keys())
    if foreign:
        raise DataError(
            f"{path}: obs_keys must be published names such as 'weightabs_mean', got {foreign[0]!r}"
        )
    return {ours: places[theirs] for theirs, ours in _STATISTICS.items() if theirs in places}


def _columns(
    path: str | Path, meta: NDArray[Any], fields: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    names = meta.dtype.names
    if names is None:
        raise DataError(f"{path}: meta must be a structured array, got {meta.dtype}")
    columns = {}
    for ours, theirs in FIELDS.items():
        allowed = (fields[ours],) if ours in fields else theirs
        found = next((n for n in allowed if n in names), None)
        if found is None and (ours in fields or ours not in (*OPTIONAL_FIELDS, "rule")):
            raise DataError(
                f"{path}: meta must have a field for the {ours} ({' or '.join(allowed)}), "
                f"got {', '.join(names)}"
            )
        if found is not None:
            columns[ours] = _column(path, ours, meta[found])
    return columns


def _column(path: str | Path, field: str, values: NDArray[Any]) -> NDArray[Any]:
    texts = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()])
    if field not in ("batch_size", "model_seed", "data_seed"):
        return _named(field, texts)
    try:
        return np.array([UNSEEDED if t == "None" else int(float(t)) for t in texts])
    except ValueError:
        raise DataError(
            f"{path}: meta's {field} must be integers or None, got {texts[0]!r}"
        ) from None


def _named(field: str, values: NDArray[np.str_]) -> NDArray[np.str_]:
    names = NAMES.get(field, {})
    return np.array([names.get(v, v) for v in values.tolist()])


def _positions(path: str | Path, one_hot: Any, n: int) -> NDArray[np.str_] | None:
    if one_hot is None:
        return None
    places = np.asarray(one_hot)
    places = places[:, 0] if places.ndim == 3 else places
    if places.shape != (n, 3) or not np.array_equal(np.sort(places, axis=1), [[0, 0, 1]] * n):
        raise DataError(
            f"{path}: X_cat must be one-hot (example, epoch, 3), got shape {np.shape(one_hot)}"
        )
    return np.array(POSITIONS)[places.argmax(axis=1)]


def _networks(columns: Mapping[str, NDArray[Any]]) -> list[NDArray[np.int64]]:
    """The rows of each network, in the order of their first rows."""
    keys = [c for n, c in columns.items() if n != "layer"]
    codes = np.stack([np.unique(c, return_inverse=True)[1] for c in keys], axis=1)
    _, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return [np.flatnonzero(group.ravel() == g) for g in order]


def _numbered(n: int) -> list[str]:
    return [f"layer{i}" for i in range(n)]


def _trajectory(
    values: NDArray[np.float64],
    facts: Mapping[str, Any],
    layers: Sequence[str],
    positions: NDArray[np.str_] | None,
    epochs: NDArray[np.int64],
    statistics: Sequence[str],
) -> xr.Dataset:
    n = len(layers)
    places = [layer_position(i, n) for i in range(n)] if positions is None else positions.tolist()
    factors = {
        f: facts.get(f, UNSEEDED if f.endswith("_seed") else UNKNOWN_BATCH_SIZE) for f in FACTORS
    }
    factors = {f: v.item() if isinstance(v, np.generic) else v for f, v in factors.items()}
    rule: dict[str, Any] = {"name": factors["rule"]}
    if factors["rule"] in RULES:
        rule["credit"] = {"name": RULES[factors["rule"]].credit.name}
    spec = {
        "imported": True,
        **factors,
        "task": {"name": factors["task"]},
        "architecture": {"name": factors["architecture"]},
        "rule": rule,
    }
    text = json.dumps(spec, sort_keys=True)
    own = str(facts["network"]) if "network" in facts else None
    nothing = np.full((len(epochs), n), np.nan)
    return xr.Dataset(
        {
            "observable": (("epoch", "layer", "statistic"), values.transpose(1, 0, 2)),
            **dict.fromkeys(("loss", "metric", "training_loss"), ("epoch", nothing[:, 0])),
            **dict.fromkeys(
                ("weight_angle", "weight_norm_ratio", "gradient_angle"),
                (("epoch", "layer"), nothing),
            ),
        },
        coords={
            "epoch": epochs,
            "layer": list(layers),
            "statistic": list(statistics),
            "position": ("layer", places),
            "measure": ("statistic", [STATISTICS[s].measure for s in statistics]),
        },
        attrs={
            "spec": text,
            "network_id": own or hashlib.sha256(text.encode()).hexdigest()[:12],
            **factors,
            "metric_name": "unknown",
            "chance": float("nan"),
            "outcome": "trained",
            "seconds": float("nan"),
            "recording_seconds": float("nan"),
            "versions": json.dumps({"source": "published format"}),
        },
    )
