"""Made-up studies in the format of a study folder: random trajectories, not trained networks."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from goaldriven.identify import Identification
from goaldriven.layers import layer_position
from goaldriven.specs import STATISTICS, NetworkSpec, Study
from goaldriven.trajectories import write

LAYERS = {"knet4": 4, "knet5_lrn": 5, "resnet10": 12}
LEVEL = {"sgdm": 0.98, "adam": 0.975, "ia": 0.94, "fa": 0.91}
BACKPROP = ("sgdm", "adam")


def make_network(spec: NetworkSpec, *, diverges_at: int | None = None) -> xr.Dataset:
    """A random trajectory with the variables, coordinates and attributes that training writes."""
    rng = np.random.default_rng(int(spec.network_id, 16))
    epochs = np.array(spec.record_epochs)
    n_layers = LAYERS.get(spec.architecture.name, 4)
    names = [f"layer{i}" for i in range(n_layers)]
    progress = 1 - np.exp(-epochs / (0.15 * spec.epochs))
    rule_shift = 0.3 * sorted(LEVEL).index(spec.rule.name) if spec.rule.name in LEVEL else 0.9
    shape = (len(epochs), n_layers, len(STATISTICS))
    drift = rng.normal(rule_shift, 0.4, shape[1:]) * progress[:, None, None]
    observable = np.exp(rng.normal(0, 1, (1, *shape[1:])) + drift)
    final = LEVEL.get(spec.rule.name, 0.9) + rng.normal(0, 0.005)
    metric = 0.1 + (final - 0.1) * progress
    loss = 2.3 - 2.2 * progress
    backprop = spec.rule.name in BACKPROP
    angle = (
        np.zeros(shape[:2])
        if backprop
        else 90 - 40 * progress[:, None] + rng.normal(0, 2, shape[:2])
    )
    per_layer = ("epoch", "layer")
    forward = rng.normal(0, 1 + progress[:, None, None], (*shape[:2], 100)).astype("float32")
    backward = (forward * np.cos(np.radians(angle))[..., None]
                + rng.normal(0, 0.5, forward.shape)).astype("float32")  # fmt: skip
    backward[:, 0, 72:] = forward[:, 0, 72:] = np.nan  # a first layer of 72 weights
    paired = (*per_layer, "pair")
    pairs = {"forward_weight": (paired, forward), "backward_weight": (paired, backward)}
    update = np.where(epochs[:, None] > 0, 80 + rng.normal(0, 3, shape[:2]), np.nan)
    data = xr.Dataset(
        {
            **({} if backprop else pairs), "update_angle": (per_layer, update),
            "observable": ((*per_layer, "statistic"), observable),
            "loss": ("epoch", loss), "metric": ("epoch", metric),
            "training_loss": ("epoch", np.where(epochs == 0, np.nan, 0.9 * loss)),
            "weight_angle": (per_layer, angle),
            "weight_norm_ratio": (per_layer, np.ones(shape[:2]) if backprop else 1 + angle / 90),
            "gradient_angle": (per_layer, 0.8 * angle),
        },
        coords={
            "epoch": epochs, "layer": names, "statistic": list(STATISTICS),
            "position": ("layer", [layer_position(i, n_layers) for i in range(n_layers)]),
            "measure": ("statistic", [s.measure for s in STATISTICS.values()]),
        },
        attrs={
            "spec": spec.canonical_json(), "network_id": spec.network_id,
            "task": spec.task.name, "architecture": spec.architecture.name,
            "rule": spec.rule.name, "batch_size": spec.batch_size,
            "model_seed": spec.model_seed, "data_seed": spec.data_seed,
            "metric_name": "accuracy", "chance": 0.1,
            "outcome": "trained" if diverges_at is None else "diverged",
            "seconds": 4.0 + rng.random(), "recording_seconds": 0.5,
            "versions": json.dumps({"goaldriven": "0.1.0", "torch": "2.9", "python": "3.11"}),
        },
    )  # fmt: skip
    if diverges_at is not None:
        late = data["epoch"] >= diverges_at
        for name in data.data_vars:
            data[name] = data[name].where(~late)
    return data


def make_study(**changes: object) -> Study:
    fields: dict[str, object] = {
        "name": "made-up", "description": "A made-up study.", "tasks": ["digits"],
        "architectures": ["knet4", "knet5_lrn", "resnet10"], "rules": ["sgdm", "adam", "fa", "ia"],
        "batch_sizes": [64, 128], "model_seeds": [0, 1], "epochs": 60, "record_every": 3,
    }  # fmt: skip
    return Study(**(fields | changes))


def write_study(
    folder: Path, study: Study, *, diverged: int = 0, failed: int = 0, left: int = 0
) -> list[xr.Dataset]:
    """Write a study folder; the last networks diverged, failed or are left. Returns the written."""
    for part in ("networks", "failed", "running"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(study.model_dump_json())
    specs = list(study.networks())
    finished = specs[: len(specs) - left - failed]
    for spec in specs[len(finished) : len(specs) - left]:
        content = {"label": spec.label, "spec": {}, "traceback": "Boom: <out of memory> & more"}
        (folder / "failed" / f"{spec.network_id}.json").write_text(json.dumps(content))
    written = []
    for i, spec in enumerate(finished):
        late = i >= len(finished) - diverged
        network = make_network(spec, diverges_at=12 if late else None)
        write(network, folder / "networks" / f"{spec.network_id}.nc")
        written.append(network)
    return written


CLASSIFIERS = {"random_forest": 0.93, "svm": 0.86, "conv1d": 0.9, "logistic_regression": 0.87}
GROUPS = {"all": 0.0, "weight": 0.02, "activation": 0.05, "activity_change": 0.1}
RULES = ("sgdm", "adam", "fa", "ia")


def make_accuracies(level: float = 0.0, splits: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up accuracies of layers and of verdicts on whole networks, ``level`` higher."""
    rng = np.random.default_rng(0)
    rows = [
        {"classifier": classifier, "observables": group, "split_kind": kind, "split": split,
         "accuracy": best + level - loss + 0.03 * (kind == "layer") + rng.normal(0, 0.01),
         "chance": 0.25, "n_train": 234, "n_test": 78, "cv_accuracy": 0.8, "parameters": "{}"}
        for (group, loss), (classifier, best), kind, split in itertools.product(
            GROUPS.items(), CLASSIFIERS.items(), ("network", "layer"), range(splits)
        )
    ]  # fmt: skip
    layers = pd.DataFrame(rows)
    networks = layers[layers["split_kind"] == "network"].drop(columns=["cv_accuracy", "parameters"])
    return layers, networks.assign(accuracy=(networks["accuracy"] + 0.04).clip(upper=1))


def make_confusions() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [
        {"classifier": classifier, "observables": group, "split_kind": kind, "split": split,
         "true": true, "predicted": predicted,
         "count": int(rng.integers(60, 70) if true == predicted else rng.integers(0, 6))}
        for classifier, group, kind, split, true, predicted in itertools.product(
            CLASSIFIERS, ("all", "weight"), ("network", "layer"), range(3), RULES, RULES
        )
    ]  # fmt: skip
    return pd.DataFrame(rows)


def make_importances() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    names = ["layer_position", *STATISTICS]
    measures = ["layer_position", *(s.measure for s in STATISTICS.values())]
    frames = []
    for classifier, kind in (("random_forest", "gini"), ("random_forest", "permutation"),
                             ("svm", "permutation")):  # fmt: skip
        mean = rng.exponential(1, len(names))
        mean /= mean.sum()
        frames.append(
            pd.DataFrame(
                {"classifier": classifier, "observables": "all", "split_kind": "network",
                 "kind": kind, "statistic": names, "measure": measures, "mean": mean,
                 "sem": 0.1 * mean, "n": 2000}
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def make_open_verdicts() -> pd.DataFrame:
    """Of ten networks of fa: eight named, one called ia, one "none of these"."""
    rows = [("fa", 1, "fa")] * 7 + [("fa", 1, "fa, ia"), ("ia", 0, "ia"), ("none of these", 0, "")]
    return pd.DataFrame(
        [
            {"classifier": "random_forest", "observables": "all", "split_kind": "network",
             "split": 0, "network": f"n{i}", "rule": "fa", "verdict": verdict, "correct": correct,
             "probability": 0.8, "p_value": 0.5 if held else 0.05, "conformal_set": held,
             "alpha": 0.1}
            for i, (verdict, correct, held) in enumerate(rows)
        ]
    )  # fmt: skip


def make_identification(networks: list[xr.Dataset], level: float = 0.0) -> Identification:
    """Made-up results in the form in which identification gives them."""
    layers, verdicts = make_accuracies(level)
    used = [n for n in networks if n.attrs["outcome"] == "trained"]
    measures = {g: GROUPS if g == "all" else (g,) for g in GROUPS}
    settings = {
        "grid": "quick", "seed": 0, "rules": sorted(RULES), "classifiers": list(CLASSIFIERS),
        "views": dict.fromkeys(CLASSIFIERS, "dynamics"),
        "statistics": {
            g: [name for name, s in STATISTICS.items() if s.measure in measures[g]] for g in GROUPS
        },
        "networks": {n.attrs["network_id"]: n.attrs["rule"] for n in used},
        "examples": {
            "network": [n.attrs["network_id"] for n in used for _ in n["layer"]],
            "layer": [str(layer) for n in used for layer in n["layer"].values],
        },
        "versions": {"scikit-learn": "1.7.0", "numpy": "2.1.0"},
    }  # fmt: skip
    empty = pd.DataFrame(columns=["classifier", "observables", "split_kind", "split", "network",
                                  "rule", "verdict", "correct", "probability"])  # fmt: skip
    return Identification(
        accuracy=layers, network_accuracy=verdicts, verdicts=empty,
        open_verdicts=make_open_verdicts(), confusion=make_confusions(),
        importances=make_importances(), splits=(), settings=settings,
    )  # fmt: skip
