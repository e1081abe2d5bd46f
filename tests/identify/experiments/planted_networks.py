"""Made-up networks with a planted truth: what their rule does to their observables and metric."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from goaldriven.layers import layer_position
from goaldriven.specs import STATISTICS

Array = NDArray[np.float64]

RULES = ("adam", "fa", "ia", "sgdm")

FEW = (
    "weight_raw_median",
    "weight_abs_mean",
    "activation_raw_norm",
    "activation_abs_mean",
    "activity_change_raw",
    "activity_change_sq",
)


@dataclass(frozen=True)
class Network:
    """Which network this is: what a planted signal may depend on.

    ``index`` counts the rules; ``number`` the networks of one rule; ``epochs`` and ``statistics``
    are those of its trajectories, and ``layers`` how many it has.
    """

    rule: str
    index: int
    number: int
    task: str
    architecture: str
    batch_size: int
    model_seed: int
    data_seed: int
    epochs: tuple[int, ...]
    layers: int
    statistics: tuple[str, ...]


Signal = Callable[[Network], Array | float]
"""What is added to a network's observables: anything that fits (epoch, layer, statistic)."""

Metric = Callable[[Network, np.random.Generator], Array]
"""A network's metric at each of its epochs."""


def planted(
    n_per_rule: int = 8,
    rules: Sequence[str] = RULES,
    *,
    signal: Signal | None = None,
    metric: Metric | None = None,
    noise: float = 1.0,
    tasks: Sequence[str] = ("digits",),
    architectures: Sequence[str] = ("knet4", "knet5"),
    batch_sizes: Sequence[int] = (64,),
    n_layers: int = 3,
    n_epochs: int = 6,
    statistics: Sequence[str] = FEW,
    seed: int = 0,
) -> list[xr.Dataset]:
    """Trajectories of networks: Gaussian noise of s.d. ``noise``, plus the signal.

    The networks of each rule run through tasks, architectures and batch sizes, and then through
    model seeds with two data seeds each. The metric rises alike under all rules, unless one is
    given; the loss is 1 − metric.
    """
    rng = np.random.default_rng(seed)
    settings = list(itertools.product(tasks, architectures, batch_sizes))
    epochs = tuple(5 * i for i in range(n_epochs))
    made = []
    for number, (index, rule) in itertools.product(range(n_per_rule), enumerate(rules)):
        task, architecture, batch_size = settings[number % len(settings)]
        round_ = number // len(settings)
        network = Network(
            rule, index, number, task, architecture, batch_size, round_ // 2, round_ % 2, epochs,
            n_layers, tuple(statistics),
        )  # fmt: skip
        observable = noise * rng.normal(size=(n_epochs, n_layers, len(statistics)))
        if signal is not None:
            observable = observable + signal(network)
        made.append(_trajectory(network, observable, (metric or rising)(network, rng)))
    return made


def rising(network: Network, rng: np.random.Generator, top: float = 0.9) -> Array:
    """From 0.1 to ``top``, which varies between networks with s.d. 0.01."""
    t = np.linspace(0, 1, len(network.epochs))
    return 0.1 + (top + 0.01 * rng.normal() - 0.1) * (1 - (1 - t) ** 2)


def pattern(
    size: float = 2.0,
    *,
    statistics: Collection[str] | None = None,
    epochs: Collection[int] | None = None,
    by: Callable[[Network], str] = lambda network: network.rule,
) -> Signal:
    """A Gaussian pattern of s.d. ``size`` over epochs and statistics, another for each rule (or
    what ``by`` says), equal in all layers; 0 but in these statistics and at these epochs (None for
    all)."""

    def signal(network: Network) -> Array:
        rng = np.random.default_rng(list(by(network).encode()))
        drawn = rng.normal(size=(len(network.epochs), 1, len(network.statistics)))
        if statistics is not None:
            drawn *= np.isin(network.statistics, list(statistics))
        if epochs is not None:
            drawn *= np.isin(network.epochs, list(epochs))[:, None, None]
        return size * drawn

    return signal


def _trajectory(network: Network, observable: Array, metric: Array) -> xr.Dataset:
    per_epoch, per_layer = ("epoch",), ("epoch", "layer")
    square = np.zeros((len(network.epochs), network.layers))
    positions = [layer_position(i, network.layers) for i in range(network.layers)]
    return xr.Dataset(
        {
            "observable": ((*per_layer, "statistic"), observable),
            "loss": (per_epoch, 1 - metric),
            "metric": (per_epoch, metric),
            "training_loss": (per_epoch, 1 - metric),
            "weight_angle": (per_layer, square),
            "weight_norm_ratio": (per_layer, square + 1),
            "gradient_angle": (per_layer, square),
        },
        coords={
            "epoch": np.array(network.epochs),
            "layer": [f"layer{i}" for i in range(network.layers)],
            "statistic": list(network.statistics),
            "position": ("layer", positions),
            "measure": ("statistic", [STATISTICS[s].measure for s in network.statistics]),
        },
        attrs={
            "spec": json.dumps({"rule": network.rule}),
            "network_id": f"{network.rule}-{network.number:03d}",
            "task": network.task,
            "architecture": network.architecture,
            "rule": network.rule,
            "batch_size": network.batch_size,
            "model_seed": network.model_seed,
            "data_seed": network.data_seed,
            "metric_name": "accuracy",
            "chance": 0.1,
            "outcome": "trained",
            "seconds": 1.0,
            "recording_seconds": 0.0,
            "versions": "{}",
        },
    )
