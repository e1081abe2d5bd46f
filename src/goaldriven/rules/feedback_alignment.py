"""Feedback alignment: errors travel through fixed random backward weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven.layers import LayerInfo
from goaldriven.rules.attachable import draw_backward_weight, find_layers
from goaldriven.rules.base import Closure, CreditAssignment, angle_and_ratio
from goaldriven.rules.feedback import (
    BUFFER,
    Carrier,
    LayerFeedback,
    OwnWeights,
    Switch,
    backward_weight_of,
    detach,
)
from goaldriven.rules.state import check_state, copies, copy_into, refuse_removed

Making = Callable[[nn.Module], tuple[Carrier, dict[str, Tensor]]]


class AttachedLayers(CreditAssignment):
    """Base of credit assignments that give layers a backward pass of their own.

    Raises
    ------
    SpecError : the model has weights of a kind that cannot be attached to, or is attached already.
    """

    def __init__(self, model: nn.Module, layers: Sequence[LayerInfo | str] | None) -> None:
        super().__init__(model)
        self._switch = Switch()
        self._removed = False
        self._found = find_layers(model, layers)
        self._modules = {layer.name: layer.module for layer in self._found}

    def backward(self, closure: Closure) -> Tensor:
        refuse_removed(self._removed)
        return super().backward(closure)

    def step(self) -> None:
        refuse_removed(self._removed)

    @contextmanager
    def true_gradients(self) -> Iterator[None]:
        before = self._switch.exact
        self._switch.exact = True
        try:
            yield
        finally:
            self._switch.exact = before

    def remove(self) -> None:
        if not self._removed:  # else the model may be another credit assignment's by now
            detach(self.model)
        self._modules, self._removed = {}, True


class LayerwiseFeedback(AttachedLayers):
    """Every layer has backward weights, whatever they are made of.

    Tensors that B is made of are kept on their layers as non-persistent buffers: they move and are
    copied with the model, and its parameters, names, classes and ``state_dict`` are what they were.

    Parameters
    ----------
    make : what carries a layer's error and the buffers that it keeps there; called for one layer
        after the other.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[LayerInfo | str] | None, make: Making
    ) -> None:
        super().__init__(model, layers)
        made = [make(layer.module) for layer in self._found]
        for (name, module, rectified), (carrier, buffers) in zip(self._found, made, strict=True):
            LayerFeedback(module, carrier, name, rectified, self._switch)
            for buffer, tensor in buffers.items():
                module.register_buffer(buffer, tensor, persistent=False)

    @property
    def backward_weights(self) -> Mapping[str, Tensor]:
        return {name: backward_weight_of(module) for name, module in self._modules.items()}

    def alignment_diagnostics(self) -> dict[str, tuple[float, float]]:
        return {
            name: angle_and_ratio(self._modules[name].weight, backward_weight)  # type: ignore[arg-type]
            for name, backward_weight in self.backward_weights.items()
        }


class FeedbackAlignment(LayerwiseFeedback):
    """Separate backward weights on every layer, drawn once and fixed.

    B is drawn layer by layer from ``generator``, by the initialiser of the layer's W.

    Source: Lillicrap et al. 2016.

    Raises
    ------
    SpecError : the model has weights that cannot have backward weights, or has some already.
    """

    credit_name = "feedback_alignment"
    """Of the credit assignment, in states."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        generator: torch.Generator,
    ) -> None:
        def make(module: nn.Module) -> tuple[Carrier, dict[str, Tensor]]:
            return OwnWeights(), {BUFFER: draw_backward_weight(module, generator)}

        super().__init__(model, layers, make)

    def state_dict(self) -> dict[str, Any]:
        weights = copies(self.backward_weights)
        return {"credit": self.credit_name, "backward_weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.credit_name, {"backward_weights"})
        copy_into(self.backward_weights, state["backward_weights"], "backward weights")
