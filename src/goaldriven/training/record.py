"""One record of a network: observables, loss, metric and alignment, over the validation set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goaldriven import observables
from goaldriven.modes import evaluating
from goaldriven.specs.credit import Backprop
from goaldriven.training.network import Network, kernel, layers_of

RECORD_BATCH = 512
"""Stimuli per validation batch; the results do not depend on it beyond rounding."""


PAIRS = 100
"""At most so many forward weights of a layer are kept beside their backward weights."""


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
    update_angle: np.ndarray  # (layer,), degrees
    forward_weight: np.ndarray | None  # (layer, pair), float32; None without backward weights
    backward_weight: np.ndarray | None


@dataclass(frozen=True)
class _Standing:
    """Kernels, and the true gradient of the validation objective there, per layer."""

    kernels: list[Tensor]
    gradients: list[Tensor]


class Recorder:
    """Records one network through its training; nothing of the network is changed.

    Each record is compared with the one before: ``update_angle`` is the angle between the change
    of a layer's forward weights since then, W(e) − W(e'), and the negative true gradient of the
    validation objective at e', the steepest descent there; NaN at the first record and where the
    weights have not moved.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._before: _Standing | None = None

    def state(self) -> dict[str, list[Tensor]] | None:
        """What the next record is compared with; None before the first."""
        before = self._before
        if before is None:
            return None
        return {"kernels": before.kernels, "gradients": before.gradients}

    def load_state(self, state: dict[str, list[Tensor]] | None) -> None:
        """Go on from the `state` of a recorder of the same network."""
        if state is None:
            self._before = None
            return
        device = next(self._network.model.parameters()).device
        self._before = _Standing(
            *([tensor.to(device) for tensor in state[name]] for name in ("kernels", "gradients"))
        )

    def measure(self, training_loss: float) -> Record:
        """A record of the network as it stands."""
        network = self._network
        task, model, layers = network.task, network.model, layers_of(network)
        values = observables.record(model, layers, task.validation_batches(RECORD_BATCH))
        evaluation = task.evaluate(model, RECORD_BATCH)
        angle_and_ratio = _alignment(network)
        kernels = [kernel(model, layer).detach().clone() for layer in layers]
        pseudo, true = _gradients(network)
        before, self._before = self._before, _Standing(kernels, true)
        forward, backward = weight_pairs(network) or (None, None)
        return Record(
            observables=values,
            loss=evaluation.loss,
            metric=evaluation.metric,
            training_loss=training_loss,
            weight_angle=angle_and_ratio[:, 0],
            weight_norm_ratio=angle_and_ratio[:, 1],
            gradient_angle=_gradient_angles(network, pseudo, true),
            update_angle=_update_angles(before, kernels),
            forward_weight=forward,
            backward_weight=backward,
        )


def measure(network: Network, training_loss: float) -> Record:
    """A single record of a network, with none before it."""
    return Recorder(network).measure(training_loss)


def weight_pairs(network: Network) -> tuple[np.ndarray, np.ndarray] | None:
    """A fixed sample of forward weights with the backward weights of the same connections.

    The entries ⌊i n/k⌋, i = 0 … k−1, of the n of a flattened kernel, with k = min(n, 100): evenly
    spaced, and the same at every call. Shapes (layer, 100), float32; NaN behind the k-th and where
    a layer has no B of W's shape. None where no layer has one.
    """
    layers, backward_weights = layers_of(network), network.credit.backward_weights
    forward = np.full((len(layers), PAIRS), np.nan, dtype=np.float32)
    backward = forward.copy()
    found = False
    for row, layer in enumerate(layers):
        w, b = kernel(network.model, layer), backward_weights.get(layer.name)
        if b is None or b.shape != w.shape:
            continue
        found = True
        k = min(w.numel(), PAIRS)
        entries = torch.arange(k, device=w.device) * w.numel() // k
        forward[row, :k] = w.detach().reshape(-1)[entries].float().cpu()
        backward[row, :k] = b.detach().reshape(-1)[entries].float().cpu()
    return (forward, backward) if found else None


def _alignment(network: Network) -> np.ndarray:
    """Angle of W and B and ratio of their norms, (layer, 2); NaN where there is no such B."""
    diagnostics = network.credit.alignment_diagnostics()
    otherwise = (0.0, 1.0) if _is_backprop(network) else (np.nan, np.nan)
    return np.array([diagnostics.get(layer.name, otherwise) for layer in layers_of(network)])


def _is_backprop(network: Network) -> bool:
    return isinstance(network.spec.rule.credit, Backprop)


def _gradients(network: Network) -> tuple[list[Tensor] | None, list[Tensor]]:
    """Pseudogradient and true gradient of the validation objective, per layer, in float64.

    Both gradients come from one forward pass: its graph is walked once through the backward
    weights and once through the forward weights. Rules that do not reroute errors have no
    pseudogradient to be had from a backward pass (None).
    """
    model, credit = network.model, network.credit
    weights = [kernel(model, layer) for layer in layers_of(network)]
    true = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    pseudo = [torch.zeros_like(t) for t in true] if credit.reroutes_errors else None
    with evaluating(model), torch.enable_grad():
        for batch in network.task.validation_objective_batches(RECORD_BATCH):
            share = len(batch) / network.task.n_validation
            loss = network.task.loss(model, batch)
            if pseudo is not None:
                _accumulate(pseudo, torch.autograd.grad(loss, weights, retain_graph=True), share)
            with credit.true_gradients():
                _accumulate(true, torch.autograd.grad(loss, weights), share)
    return pseudo, true


def _gradient_angles(
    network: Network, pseudo: list[Tensor] | None, true: list[Tensor]
) -> np.ndarray:
    """Angle between pseudogradient and true gradient; for backprop 0 by definition."""
    if pseudo is None:
        return np.full(len(true), 0.0 if _is_backprop(network) else np.nan)
    return np.array([angle_degrees(p, t) for p, t in zip(pseudo, true, strict=True)])


def _update_angles(before: _Standing | None, kernels: list[Tensor]) -> np.ndarray:
    if before is None:
        return np.full(len(kernels), np.nan)
    moves = [
        now.double() - then.double() for now, then in zip(kernels, before.kernels, strict=True)
    ]
    return np.array([angle_degrees(m, -g) for m, g in zip(moves, before.gradients, strict=True)])


def _accumulate(sums: list[Tensor], gradients: tuple[Tensor, ...], weight: float) -> None:
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
