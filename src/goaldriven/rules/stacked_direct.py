"""Direct feedback alignment on a stack: errors of some of its rows are cut and fed back.

A tensor that enters a layer is one of all networks. The gradient there is replaced in the rows of
networks under this rule, by the rule's own product; other rows keep theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from goaldriven.errors import SpecError
from goaldriven.rules.base import CreditAssignment
from goaldriven.rules.direct_feedback import (
    NO_ERROR,
    DirectFeedbackAlignment,
    Stop,
    feed_back,
    note_call,
    refuse_other_outputs,
)
from goaldriven.rules.forward_passes import Call, ForwardPass, backward_pass


@dataclass
class DirectRows:
    """The networks of one segment, rows ``start`` to ``stop`` of the stack.

    Attributes
    ----------
    credits : each network's own, which draws that network's D.
    weights : layer → D of all of them (networks, n_out, *features); the networks' are views.
    """

    start: int
    stop: int
    credits: Sequence[CreditAssignment]
    weights: dict[str, Tensor] = field(default_factory=dict)

    def feed_back(self, error: Tensor, name: str, features: tuple[int, ...]) -> Tensor:
        """e D (networks, n, *features)."""
        weights = self.weights.get(name)
        if weights is None:
            weights = self.weights[name] = self._stack(error.shape[-1], name, features)
        fed: Tensor = torch.vmap(feed_back)(error[self.start : self.stop], weights)
        return fed

    def _stack(self, n_out: int, name: str, features: tuple[int, ...]) -> Tensor:
        layers = [
            credit.direct_layers[name]
            for credit in self.credits
            if isinstance(credit, DirectFeedbackAlignment)
        ]
        weights = torch.stack([layer.weights(n_out, features, False) for layer in layers])
        for layer, own in zip(layers, weights, strict=True):
            layer.keep(own)
        return weights


class DirectErrors:
    """One step of the rows under direct feedback alignment, as a `stacking.Listener`.

    Parameters
    ----------
    rows : of the networks under the rule.
    networks : of the whole step.
    """

    def __init__(self, rows: Sequence[DirectRows], networks: int) -> None:
        self._rows = rows
        self.all = sum(part.stop - part.start for part in rows) == networks
        self._pass = ForwardPass(grad=True)
        self._cut: dict[tuple[int, int], Tensor] = {}

    @property
    def carrier(self) -> Stop | None:
        """What need not be computed only to be replaced: errors stop where all rows are direct."""
        return Stop() if self.all else None

    def reads(self, name: str, x: Tensor, dim: int | None) -> None:
        """See to it that the gradient at ``x`` is replaced: the first layer that reads it has D."""
        known = (id(x), x._version)
        if not x.requires_grad or dim is None or known in self._cut:
            return
        self._cut[known] = x  # kept, so that no other tensor has its identity meanwhile

        def cut(gradient: Tensor) -> Tensor:
            return self._replace(gradient.movedim(dim, 0), name).movedim(0, dim)

        x.register_hook(cut)

    def gives(self, name: str, y: Tensor, dim: int) -> None:
        """Note the call; the error at the output of the last one is fed back."""
        if not y.requires_grad:
            return
        during, networks_first = self._pass, y.movedim(dim, 0)
        call = Call(name, networks_first.shape[1], again=False)
        during.last = call
        note_call(y, during, call)

        def receive(gradient: Tensor) -> None:
            if during.last is call:
                during.error = gradient.movedim(dim, 0).flatten(2)
                during.task = backward_pass()

        y.register_hook(receive)

    def end(self) -> None:
        """Let go of the step's tensors, which hold this object by their hooks."""
        self._cut.clear()

    def check(self, loss: Tensor) -> None:
        """Refuse a loss that depends on the model otherwise than through the layer called last.

        Raises
        ------
        SpecError : it does.
        """
        refuse_other_outputs(loss)

    def _replace(self, gradient: Tensor, name: str) -> Tensor:
        """The gradient (networks, n, *features) with that of direct rows replaced."""
        error = self._pass.error
        if error is None or not self._pass.returning:
            raise SpecError(NO_ERROR)
        if error.shape[1] != gradient.shape[1]:
            raise SpecError(
                "model must have as many rows of output as of input to every layer under direct "
                f"feedback alignment, got {error.shape[1]} at the output and {gradient.shape[1]} "
                f"at the input of layer {name!r}"
            )
        features = tuple(gradient.shape[2:])
        if not self.all:
            gradient = gradient.clone()
        fed = [(part, part.feed_back(error, name, features)) for part in self._rows]
        if self.all:
            return torch.cat([rows for _, rows in fed]).to(gradient.dtype)
        for part, rows in fed:
            gradient[part.start : part.stop] = rows
        return gradient
