"""Perturbation rules on a stack.

Whatever a rule does with the passes of one network (noise, differences of losses, correlations,
their sums over samples) is done inside `torch.vmap` over the networks of its segment, by the rule's
own code. Drawing has a rule for `vmap` of its own (`goaldriven.rules.noise`).

Noise lies in memory as what it is added to, and a single network may have other layouts than a
stack. So a forward pass of a single network tells them beforehand: `noise_strides`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven.rules.base import Closure, CreditAssignment
from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.rules.node_perturbation import NodePerturbation, refuse_coupled_losses
from goaldriven.rules.perturbation import Perturbation, leave_gradients
from goaldriven.rules.perturbation_passes import RepeatedPasses
from goaldriven.rules.stacking import Strides, Watch, streams_of, weighted_layers


class PerturbedCredit:
    """Weight or node perturbation of the networks of a segment.

    Parameters
    ----------
    leader : attached to the segment's model.
    singles : each network's own, whose generators draw that network's noise.
    strides : of the noise in a single network.
    """

    def __init__(
        self, leader: Perturbation, singles: Sequence[CreditAssignment], strides: Strides
    ) -> None:
        self.leader = leader
        leader.draw_from(streams_of(singles, "noise", strides))
        named = leader.model.named_parameters()
        leader.learning = frozenset(name for name, p in named if p.requires_grad)

    def estimate(self, closure: Closure) -> tuple[Tensor, dict[str, Tensor]]:
        """One network's loss, and parameter → its estimates summed; inside `torch.vmap`."""
        loss, sums = self.leader.estimate(closure)
        names = {id(parameter): name for name, parameter in self.leader.model.named_parameters()}
        return loss, {names[id(parameter)]: total for parameter, total in sums}

    def leave(self, sums: Mapping[str, Tensor]) -> None:
        """Leave the gradients of all networks in ``.grad`` of the segment's parameters."""
        parameters = dict(self.leader.model.named_parameters())
        pairs = [(parameters[name], total) for name, total in sums.items()]
        leave_gradients(pairs, self.leader.spec.samples, None)


class TaughtCredit:
    """Learned feedback of the networks of a segment.

    Parameters
    ----------
    leader, singles, strides : as of `PerturbedCredit`; the model has the segment's B besides.
    """

    def __init__(
        self, leader: LearnedFeedback, singles: Sequence[CreditAssignment], strides: Strides
    ) -> None:
        self.leader = leader
        leader.draw_from(streams_of(singles, "noise", strides), streams_of(singles, "update_noise"))

    @contextmanager
    def noting(self, watch: Watch) -> Iterator[_Errors]:
        """The pass without noise, inside; the errors at outputs come with the walk back."""
        errors = _Errors()
        with watch.told(errors), self.leader.tape.noting():
            yield errors
        for call, draws in zip(self.leader.tape.calls, errors.draws, strict=True):
            call.draws = draws

    def teach(
        self,
        closure: Closure,
        clean: Tensor,
        errors: Mapping[int, Tensor],
        counts: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Layer → the gradient of one network's B; inside `torch.vmap`.

        Parameters
        ----------
        closure : runs the model and returns the loss or losses.
        clean : those of the pass without noise.
        errors : those at the outputs of that pass, by the call's position in it.
        counts : buffers of whole numbers before it.
        """
        for position, call in enumerate(self.leader.tape.calls):
            call.error = errors.get(position)
        passes = RepeatedPasses(self.leader.model, closure)
        passes.taken(counts)
        return self.leader.feedback_gradients(passes.again, clean)

    def check(self, losses: Tensor) -> None:
        """Refuse losses (networks, n) of stimuli that depend on each other."""
        refuse_coupled_losses(losses[0], self.leader.model)


class _Errors:
    """The errors at the outputs of all calls of layers, as a `stacking.Listener`.

    Attributes
    ----------
    draws : of each call, whether its input depends on what learns.
    found : position of a call → the error there (networks, *output), once it has come.
    """

    def __init__(self) -> None:
        self.draws: list[bool] = []
        self.found: dict[int, Tensor] = {}

    def reads(self, name: str, x: Tensor, dim: int | None) -> None:
        self.draws.append(x.requires_grad)

    def gives(self, name: str, y: Tensor, dim: int) -> None:
        position = len(self.draws) - 1

        def keep(gradient: Tensor) -> None:
            self.found[position] = gradient.detach().movedim(dim, 0)

        if self.draws[position] and y.requires_grad:
            y.register_hook(keep)


def noise_strides(
    credit: CreditAssignment, run: Callable[[], Any], model: nn.Module
) -> dict[str, tuple[int, ...]]:
    """How noise on a layer's output, or input, lies in memory in a single network.

    Parameters
    ----------
    run : a forward pass of ``model``; buffers may change.
    """
    if not isinstance(credit, (NodePerturbation, LearnedFeedback)):
        return {}
    found: dict[str, tuple[int, ...]] = {}
    outputs = isinstance(credit, NodePerturbation)

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = torch.empty_like(output if outputs else inputs[0]).stride()

        return hook

    hooks = [
        model.get_submodule(name).register_forward_hook(note(name))
        for name in weighted_layers(model)
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return found
