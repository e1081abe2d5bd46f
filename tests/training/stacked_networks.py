"""Networks in float64, stacked and one by one, and how close they must be."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from goaldriven.rules.optimizers import update_noise_of
from goaldriven.specs import NetworkSpec
from goaldriven.training import build
from goaldriven.training.loop import train_epoch
from goaldriven.training.stack import Stack

# Sums over stimuli, space or features may be taken in another order: a few roundings a step. Adam
# divides gradients that cancel by their own size, which amplifies these where batch norm makes
# them cancel. Parameters below SMALL are sums of nothing but roundings there.
CLOSE, AMPLIFIED, SMALL = 1e-12, 1e-9, 1e-6


def spec(**changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 48, "validation_limit": 16},
        "architecture": {"name": "knet4", "width": 0.1},
        "rule": "sgdm",
        "batch_size": 16,
        "epochs": 2,
        "record_every": 1,
    }
    return NetworkSpec(**small | changes)


def networks(architecture: str, task: str, rules) -> list[NetworkSpec]:
    """Two seeds of each rule, of weights and of data."""
    width = {} if architecture == "mlp" else {"width": 0.1}
    return [
        spec(
            task={"name": task, "train_limit": 48, "validation_limit": 16},
            architecture={"name": architecture, **width},
            rule=rule,
            model_seed=seed,
            data_seed=1 - seed,
        )
        for seed in (0, 1)
        for rule in rules
    ]


class DoubleTask:
    """A task whose stimuli are float64."""

    def __init__(self, task):
        self._task = task

    def __getattr__(self, name):
        return getattr(self._task, name)

    def train_batches(self, *given):
        return map(_double, self._task.train_batches(*given))

    def validation_batches(self, *given):
        return (stimuli.double() for stimuli in self._task.validation_batches(*given))

    def validation_objective_batches(self, *given):
        return map(_double, self._task.validation_objective_batches(*given))

    def evaluate(self, model, batch_size):
        batches = list(self.validation_objective_batches(batch_size))
        with torch.no_grad():
            losses = [len(b) * float(self._task.loss(model.eval(), b)) for b in batches]
        model.train()
        return dataclasses.replace(
            self._task.evaluate(_Single(model), batch_size),
            loss=sum(losses) / sum(map(len, batches)),
        )


class _Single(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.double())


def _double(batch):
    return dataclasses.replace(batch, stimuli=batch.stimuli.double())


def build_double(one: NetworkSpec, *place):
    network = build(one, *place)
    network.model.double()
    return dataclasses.replace(network, task=DoubleTask(network.task))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp_min(SMALL))


def assert_stack_is_the_same_networks(specs, tolerance, epochs=2):
    """Weights, statistics, B, D and the states of all generators after some epochs."""
    stack = Stack(list(map(build_double, specs)), build_double)
    stacked_losses = [stack.train_epoch(epoch) for epoch in range(epochs)]
    for i, one in enumerate(specs):
        alone, stacked = build_double(one), stack.networks[i]
        losses = [train_epoch(alone, epoch) for epoch in range(epochs)]
        np.testing.assert_allclose([s[i] for s in stacked_losses], losses, rtol=1e-6)
        ours, theirs = tensors_of(stacked), tensors_of(alone)
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert relative(ours[name], theirs[name]) <= tolerance, (one.label, name)
        for mine, other in zip(generators_of(stacked), generators_of(alone), strict=True):
            assert torch.equal(mine.get_state(), other.get_state()), one.label


def tensors_of(network):
    credit = network.credit
    backward = {f"B {n}": b for n, b in credit.backward_weights.items()}
    direct = {f"D {n}": d for n, d in getattr(credit, "feedback_weights", {}).items()}
    return {**network.model.state_dict(), **backward, **direct}


def generators_of(network):
    """Of stimuli, noise, and noisy updates of W and B."""
    credit = network.credit
    found = [getattr(credit, name, None) for name in ("noise", "update_noise")]
    found.append(update_noise_of(network.optimizer))
    return [network.data_generator, *(g for g in found if g is not None)]
