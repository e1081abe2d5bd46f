"""One record of a network: observables, loss, metric and alignment, over the validation set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goaldriven import observables
from goaldriven.modes import evaluating
from goaldriven.training.network import Network, kernel, layers_of

RECORD_BATCH = 512
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
    task, model, layers = network.task, network.model, layers_of(network)
    values = observables.record(model, layers, task.validation_batches(RECORD_BATCH))
    evaluation = task.evaluate(model, RECORD_BATCH)
    diagnostics = network.credit.alignment_diagnostics()
    pairs = np.array([diagnostics.get(layer.name, (0.0, 1.0)) for layer in layers])
    return Record(
        observables=values,
        loss=evaluation.loss,
        metric=evaluation.metric,
        training_loss=training_loss,
        weight_angle=pairs[:, 0],
        weight_norm_ratio=pairs[:, 1],
        gradient_angle=_gradient_angles(network),
    )


def _gradient_angles(network: Network) -> np.ndarray:
    """Angle between pseudogradient and true gradient of the validation objective, per layer.

    Both gradients come from one forward pass: its graph is walked once through the backward
    weights and once through the forward weights. For backprop they are the same by definition.
    """
    model, credit, layers = network.model, network.credit, layers_of(network)
    if not credit.backward_weights:
        return np.zeros(len(layers))
    weights = [kernel(model, layer) for layer in layers]
    pseudo = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    true = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    with evaluating(model), torch.enable_grad():
        for batch in network.task.validation_objective_batches(RECORD_BATCH):
            loss = network.task.loss(model, batch)
            _accumulate(pseudo, torch.autograd.grad(loss, weights, retain_graph=True), len(batch))
            with credit.true_gradients():
                _accumulate(true, torch.autograd.grad(loss, weights), len(batch))
    return np.array([angle_degrees(p, t) for p, t in zip(pseudo, true, strict=True)])


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
