"""One record of a network: observables, loss, metric and alignment, over the validation set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goaldriven import observables
from goaldriven.training.network import Network

RECORD_BATCH = 256
"""Stimuli per validation batch; the results do not depend on it beyond rounding."""


@dataclass(frozen=True)
class Record:
    """What is known of a network at one epoch. Arrays have one row per observed layer."""

    observables: np.ndarray  # (layer, statistic)
    loss: float
    metric: float
    training_loss: float
    weight_angle: np.ndarray  # (layer,), degrees
    weight_norm_ratio: np.ndarray  # (layer,)
    gradient_angle: np.ndarray  # (layer,), degrees


def measure(network: Network, training_loss: float) -> Record:
    """Record a network as it stands; nothing of it is changed."""
    task, model = network.task, network.model
    layers = model.layers
    values = observables.record(model, layers, task.validation_batches(RECORD_BATCH))
    loss, gradient_angle = _loss_and_gradient_angle(network)
    diagnostics = network.credit.alignment_diagnostics()
    pairs = np.array([diagnostics.get(layer.name, (0.0, 1.0)) for layer in layers])
    return Record(
        observables=values,
        loss=loss,
        metric=task.metric(model, RECORD_BATCH),
        training_loss=training_loss,
        weight_angle=pairs[:, 0],
        weight_norm_ratio=pairs[:, 1],
        gradient_angle=gradient_angle,
    )


def _loss_and_gradient_angle(network: Network) -> tuple[float, np.ndarray]:
    """Mean validation loss, and the angle between pseudogradient and true gradient, per layer.

    Both gradients come from one forward pass: the graph is walked once through the backward
    weights and once through the forward weights. For backprop they are the same by definition.
    """
    task, model, credit = network.task, network.model, network.credit
    weights = [model.get_submodule(layer.name).weight for layer in model.layers]
    aligned = bool(credit.backward_weights)
    pseudo = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    true = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    total, count = 0.0, 0
    with evaluating(model), torch.set_grad_enabled(aligned):
        for batch in task.validation_objective_batches(RECORD_BATCH):
            loss, n = task.loss(model, batch), len(batch[0])
            total, count = total + n * float(loss), count + n
            if aligned:
                _accumulate(pseudo, torch.autograd.grad(loss, weights, retain_graph=True), n)
                with credit.true_gradients():
                    _accumulate(true, torch.autograd.grad(loss, weights), n)
    angles = [angle_degrees(p, t) if aligned else 0.0 for p, t in zip(pseudo, true, strict=True)]
    return total / count, np.array(angles)


def _accumulate(sums: list[Tensor], gradients: tuple[Tensor, ...], weight: int) -> None:
    for total, gradient in zip(sums, gradients, strict=True):
        total.add_(gradient, alpha=weight)


def angle_degrees(a: Tensor, b: Tensor) -> float:
    """Angle between two tensors seen as vectors, arccos(⟨a,b⟩ / ‖a‖‖b‖), in degrees.

    NaN where either is zero or not finite.

    >>> angle_degrees(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))  # doctest: +ELLIPSIS
    45.0...
    """
    a, b = a.flatten().double(), b.flatten().double()
    cosine = torch.dot(a, b) / (a.norm() * b.norm())
    return float(torch.rad2deg(torch.acos(cosine.clamp(-1.0, 1.0))))


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside, every module's own mode again outside."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
