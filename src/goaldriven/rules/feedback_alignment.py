"""Feedback alignment: errors travel through fixed random backward weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.attachable import draw_backward_weight, find_layers
from goaldriven.rules.base import CreditAssignment, angle_and_ratio
from goaldriven.rules.feedback import Switch, attach_layer, backward_weight_of, detach


class FeedbackAlignment(CreditAssignment):
    """Separate backward weights on every layer, drawn once and fixed.

    B is drawn layer by layer from ``generator``, by the initialiser of the layer's W. It is kept on
    its layer as a non-persistent buffer: it moves and is copied with the model, and the model's
    parameters, names, classes and ``state_dict`` are what they were.

    Source: Lillicrap et al. 2016.

    Raises
    ------
    SpecError : the model has weights that cannot have backward weights, or has some already.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo] | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__(model)
        self._switch = Switch()
        found = find_layers(model, layers)
        drawn = [draw_backward_weight(layer.module, generator) for layer in found]
        for layer, backward_weight in zip(found, drawn, strict=True):
            attach_layer(layer.module, backward_weight, layer.name, layer.rectified, self._switch)
        self._modules = {layer.name: layer.module for layer in found}

    @property
    def backward_weights(self) -> Mapping[str, Tensor]:
        return {name: backward_weight_of(module) for name, module in self._modules.items()}

    @contextmanager
    def true_gradients(self) -> Iterator[None]:
        before = self._switch.exact
        self._switch.exact = True
        try:
            yield
        finally:
            self._switch.exact = before

    def alignment_diagnostics(self) -> dict[str, tuple[float, float]]:
        return {
            name: angle_and_ratio(self._modules[name].weight, backward_weight)  # type: ignore[arg-type]
            for name, backward_weight in self.backward_weights.items()
        }

    def state_dict(self) -> dict[str, Any]:
        weights = {name: b.detach().clone() for name, b in self.backward_weights.items()}
        return {"backward_weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own, given = self.backward_weights, state.get("backward_weights", {})
        ours = {name: tuple(b.shape) for name, b in own.items()}
        theirs = {name: tuple(b.shape) for name, b in given.items()}
        if ours != theirs:
            raise SpecError(f"state must hold backward weights of shapes {ours}, got {theirs}")
        for name, backward_weight in own.items():
            backward_weight.copy_(given[name])

    def remove(self) -> None:
        detach(self.model)
        self._modules = {}
