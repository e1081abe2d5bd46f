"""The steps of a stack's networks: how the rules of its segments are run.

Networks whose rules take one pass and one walk back share both, whatever their rules. Those whose
rules repeat passes with noise run by themselves, segment by segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from goaldriven.rules.feedback import BUFFER
from goaldriven.rules.stacked_direct import DirectErrors, DirectRows
from goaldriven.rules.stacked_perturbation import PerturbedCredit, TaughtCredit
from goaldriven.rules.stacking import Seen, SegmentCredit, Watch
from goaldriven.tasks import Task
from goaldriven.tasks.base import Batch
from goaldriven.training.network import Network

Tensors = dict[str, Tensor]
"""Name → parameter, buffer or backward weight of several networks, network axis first."""


@dataclass(frozen=True)
class Stimuli:
    """One batch of several networks.

    Attributes
    ----------
    kind : of a single network's batch.
    tensors : its fields, in order; with a leading network axis unless ``shared``.
    shared : whether all networks see the same.
    """

    kind: type[Batch]
    tensors: Sequence[Tensor]
    shared: bool

    def of(self, start: int, stop: int) -> Stimuli:
        """Those of some of the networks."""
        if self.shared:
            return self
        return replace(self, tensors=[tensor[start:stop] for tensor in self.tensors])


@dataclass(frozen=True)
class Segment:
    """The networks of one rule: rows ``start`` to ``stop`` of the stack, and who acts for them.

    Attributes
    ----------
    watch : of the layers of the leader's model, where that is run.
    direct : the rows as direct feedback alignment has them, where that is the rule.
    """

    start: int
    stop: int
    leader: Network
    credit: SegmentCredit | PerturbedCredit | TaughtCredit
    watch: Watch
    direct: DirectRows | None = None

    @property
    def passes(self) -> int:
        return self.leader.credit.passes_per_epoch

    def rows(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """What is this segment's."""
        return {name: tensor[self.start : self.stop] for name, tensor in tensors.items()}


class _Body(nn.Module):
    """Anything done with a model as a module, whose tensors `functional_call` can replace."""

    def __init__(self, model: nn.Module, run: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self._run = model, run

    def forward(self, *given: Any) -> Any:
        return self._run(*given)


def over_networks(
    model: nn.Module, run: Callable[..., Any], tensors: Tensors, stimuli: Stimuli, *others: Any
) -> Any:
    """``run(batch, *others)`` for every network, whose tensors are the model's meanwhile.

    Parameters
    ----------
    tensors : of all networks.
    others : tensors, or containers of such, with a leading network axis.
    """
    n = len(stimuli.tensors)

    def with_batch(*given: Any) -> Any:
        return run(stimuli.kind(*given[:n]), *given[n:])

    body = _Body(model, with_batch)
    whole = {f"model.{name}": tensor for name, tensor in tensors.items()}

    def of_one(own: Tensors, *given: Any) -> Any:
        return functional_call(body, own, given)

    axes = (0, *([None if stimuli.shared else 0] * n), *([0] * len(others)))
    return torch.vmap(of_one, in_dims=axes)(whole, *stimuli.tensors, *others)


def leaves_of(tensors: Tensors, learning: set[str]) -> Tensors:
    """The parameters among ``tensors``, to be differentiated by."""
    return {n: t.detach().requires_grad_() for n, t in tensors.items() if n in learning}


def kernel_buffers(kernels: Tensors) -> Tensors:
    """Layer → B under the names by which a model has them."""
    return {f"{name}.{BUFFER}": kernel for name, kernel in kernels.items()}


def joint_step(
    model: nn.Module,
    watch: Watch,
    segments: Sequence[Segment],
    tensors: Tensors,
    kernels: Tensors,
    stimuli: Stimuli,
) -> Tensor:
    """One step of segments that share a pass; ``tensors`` and ``kernels`` are theirs.

    Returns
    -------
    The losses (networks,).
    """
    credits = [s.credit for s in segments if isinstance(s.credit, SegmentCredit)]
    plans = [credit.begin() for credit in credits]
    learning, watching = any(task for task, _ in plans), any(watches for _, watches in plans)
    for segment, credit in zip(segments, credits, strict=True):
        credit.fill(segment.rows(kernels))
    direct = [s.direct for s in segments if s.direct is not None]
    errors = DirectErrors(direct, segments[-1].stop) if direct and learning else None
    task, names = segments[0].leader.task, {n for n, _ in model.named_parameters()}
    leaves = leaves_of(tensors, names)

    def of_one(batch: Batch) -> tuple[Tensor, Seen]:
        with watch.noting(watching) as seen:
            return task.loss(model, batch), seen

    whole = {**tensors, **leaves, **kernel_buffers(kernels)}
    carrier = None if errors is None else errors.carrier
    with torch.set_grad_enabled(learning), watch.told(errors, carrier):
        losses, seen = over_networks(model, of_one, whole, stimuli)
    for segment, credit, (_, watches) in zip(segments, credits, plans, strict=True):
        if watches:
            credit.align({name: _rows(pair, segment) for name, pair in seen.items()})
    gradients = _gradients(losses, leaves, errors) if learning else {}
    for segment, credit, (learns, _) in zip(segments, credits, plans, strict=True):
        credit.end()
        _update(segment, segment.rows(gradients) if learns else {})
        credit.step()
    return losses.detach()


def _gradients(losses: Tensor, leaves: Tensors, errors: DirectErrors | None) -> Tensors:
    total = losses.sum()
    if errors is None:
        return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    try:
        errors.check(total)
        return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    finally:
        errors.end()


def perturbed_step(
    segment: Segment, credit: PerturbedCredit, tensors: Tensors, stimuli: Stimuli
) -> Tensor:
    """One step of a segment under weight or node perturbation; as `joint_step`."""
    objective, model = _objective(segment), segment.leader.model

    def of_one(batch: Batch) -> tuple[Tensor, Tensors]:
        return credit.estimate(partial(objective, model, batch))

    with torch.no_grad():
        losses, sums = over_networks(model, of_one, tensors, stimuli)
    segment.leader.optimizer.zero_grad(set_to_none=True)
    credit.leave(sums)
    segment.leader.optimizer.step()
    credit.leader.step()
    return losses


def taught_step(
    segment: Segment, credit: TaughtCredit, tensors: Tensors, kernels: Tensors, stimuli: Stimuli
) -> Tensor:
    """One step of a segment under learned feedback; as `joint_step`."""
    objective, model, leader = _objective(segment), segment.leader.model, credit.leader
    leaves = leaves_of(tensors, {n for n, _ in model.named_parameters()})
    held = kernel_buffers(kernels)
    counts = {n: t.clone() for n, t in tensors.items() if not t.is_floating_point()}

    def clean_pass(batch: Batch) -> Tensor:
        return objective(model, batch)

    def teach(batch: Batch, *others: Any) -> Tensors:
        return credit.teach(partial(objective, model, batch), *others)

    try:
        with torch.enable_grad(), credit.noting(segment.watch) as errors:
            clean = over_networks(model, clean_pass, {**tensors, **leaves, **held}, stimuli)
        credit.check(clean)
        losses = clean.flatten(1).mean(1) if clean.dim() > 1 else clean
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        with torch.no_grad():
            others = (clean.detach(), errors.found, counts)
            taught = over_networks(model, teach, {**tensors, **held}, stimuli, *others)
    finally:
        leader.tape.clear()
    leader.add_gradients(taught)
    _update(segment, dict(zip(leaves, gradients, strict=True)) if leader.task_rate else {})
    leader.step()
    return losses.detach()


def _objective(segment: Segment) -> Callable[[nn.Module, Batch], Tensor]:
    task: Task = segment.leader.task
    return task.losses if segment.leader.credit.per_stimulus else task.loss


def _update(segment: Segment, gradients: Tensors) -> None:
    """One step of a segment's optimizer; gradients of a loss times 0 are 0."""
    for name, parameter in segment.leader.model.named_parameters():
        gradient = gradients.get(name)
        parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient.contiguous()
    segment.leader.optimizer.step()


def _rows(pair: tuple[Tensor, Tensor], segment: Segment) -> tuple[Tensor, Tensor]:
    x, y = (tensor.detach()[segment.start : segment.stop] for tensor in pair)
    return x, y
