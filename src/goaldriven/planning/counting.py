"""What a training step and a record of a network cost, by running them on tensors without data.

The rule's own code runs a step at its batch size on tensors of which there are shapes and nothing
else (`goaldriven.planning.shapes`), while every operation is looked at. What a rule adds (alignment
products, more forward passes) is thereby counted as it is, not by a formula per rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from goaldriven import architectures, rules
from goaldriven.heads import Contrastive, Head, Reconstruction
from goaldriven.planning.facts import TaskFacts
from goaldriven.planning.shapes import Operations, without_data
from goaldriven.specs import ArchitectureSpec, RuleSpec
from goaldriven.tasks.ntxent import nt_xent

_FEW = 4
"""Stimuli of which the costs of a single one are made."""


@dataclass(frozen=True)
class Work:
    """What something takes: FLOPs (a multiply-add is two), operations started, bytes kept.

    Matrix products and convolutions are counted, and nothing elementwise. ``kept`` are the
    activations that a backward pass holds on to.
    """

    flops: float = 0.0
    operations: float = 0.0
    kept: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flops + other.flops,
            self.operations + other.operations,
            max(self.kept, other.kept),
        )

    def times(self, factor: float) -> Work:
        """So often; what is kept is let go each time."""
        return Work(factor * self.flops, factor * self.operations, self.kept)


@dataclass(frozen=True)
class StepCost:
    """One network's costs.

    Attributes
    ----------
    step : mean over the steps of an epoch, at the network's batch size.
    aligning : a step of the epochs that align alone, at first.
    passes_per_epoch : passes over the stimuli that make an epoch.
    forward, gradient : one stimulus through the network without and with a backward pass.
    reroutes : whether the record's gradients are walked twice.
    parameters, backward_weights, buffers : their numbers.
    optimizer_values : numbers that the optimizers keep.
    layers : observed layers.
    """

    step: Work
    aligning: Work
    passes_per_epoch: int
    forward: Work
    gradient: Work
    reroutes: bool
    parameters: int
    backward_weights: int
    buffers: int
    optimizer_values: int
    layers: int


def count_network(
    architecture: ArchitectureSpec, rule: RuleSpec, facts: TaskFacts, batch_size: int
) -> StepCost:
    """The costs of a network at a batch size.

    Raises
    ------
    SpecError : the rule cannot be attached to the architecture.
    """
    return _count(architecture, rule, facts.input_shape, facts.head, facts.views, batch_size)


@lru_cache(maxsize=512)
def _count(
    architecture: ArchitectureSpec,
    spec: RuleSpec,
    shape: tuple[int, int, int],
    head: Head,
    views: int,
    batch_size: int,
) -> StepCost:
    model, forward, gradient = _untrained(architecture, shape, head, views)
    with without_data() as operations:
        model.train()
        rule = rules.LearningRule(spec)
        trainer = _Step(model, rule, shape, head, views, batch_size, operations)
        try:
            aligning, regular = trainer.costs()
            credit = trainer.credit
            return StepCost(
                step=regular,
                aligning=aligning,
                passes_per_epoch=credit.passes_per_epoch,
                forward=forward,
                gradient=gradient,
                reroutes=credit.reroutes_errors,
                parameters=sum(p.numel() for p in model.parameters()),
                backward_weights=sum(b.numel() for b in credit.backward_weights.values()),
                buffers=trainer.buffers,
                optimizer_values=trainer.optimizer_values(spec),
                layers=len(model.layers),  # type: ignore[arg-type]
            )
        finally:
            trainer.credit.remove()


@lru_cache(maxsize=32)
def _untrained(
    spec: ArchitectureSpec, shape: tuple[int, int, int], head: Head, views: int
) -> tuple[nn.Module, Work, Work]:
    """A model without data, and one stimulus through it without and with a backward pass."""
    with without_data() as operations:
        model = architectures.build(spec, shape, head, torch.Generator())
        stimuli = torch.zeros(_FEW * views, *shape)
        forward = _forward(model, stimuli, operations)
        gradient = _gradient(model, stimuli, head, operations)
    return (
        model,
        Work(forward.flops / (_FEW * views), forward.operations),
        Work(gradient.flops / _FEW, gradient.operations, gradient.kept / _FEW),
    )


class _Step:
    """Steps of one rule on one model."""

    def __init__(
        self,
        model: nn.Module,
        rule: rules.LearningRule,
        shape: tuple[int, int, int],
        head: Head,
        views: int,
        batch_size: int,
        operations: Operations,
    ) -> None:
        self._model, self._operations = model, operations
        self.buffers = sum(b.numel() for b in model.buffers())
        self._stimuli = torch.zeros(batch_size * views, *shape)
        self._labels = torch.zeros(batch_size, dtype=torch.long)
        self._head = head
        self.credit = rule.attach(
            model,
            generator=torch.Generator().manual_seed(1),
            noise_generator=torch.Generator().manual_seed(2),
            batch_size=batch_size,
        )
        self._optimizer = rule.optimizer(model, batch_size=batch_size)
        self._delay = getattr(rule.spec.credit, "delay_epochs", 0)

    def costs(self) -> tuple[Work, Work]:
        """A step of the epochs that align alone, if there are any, and the mean step after them.

        The mean is over a period: two steps where aligning and learning alternate, of which one is
        then what a step that aligns alone is.
        """
        period, alone = [], []
        for _ in range(self.credit.passes_per_epoch):
            period.append(self._one(float(self._delay + 1)))
            if self.credit.task_rate == 0:
                alone.append(period[-1])
        if self._delay and not alone:
            alone.append(self._one(0.0))
        mean = sum(period, Work()).times(1 / len(period))
        return alone[0] if self._delay else Work(), mean

    def _one(self, passes: float) -> Work:
        self.credit.set_progress(passes)
        self._optimizer.zero_grad(set_to_none=True)
        loss = objective(self.credit, self._model, self._head, self._stimuli, self._labels)
        with _counted(self._operations, self._model) as work:
            self.credit.backward(loss)
            self._optimizer.step()
            self.credit.step()
        return work()

    def optimizer_values(self, spec: RuleSpec) -> int:
        """Momenta (Adam has two) of forward weights, and of backward weights that learn."""
        learning = getattr(spec.credit, "optimizer", None)
        if learning is None and spec.credit.name == "kolen_pollack":
            learning = spec.optimizer
        values = _momenta(spec.optimizer) * sum(p.numel() for p in self._model.parameters())
        if learning is not None:
            b = sum(weight.numel() for weight in self.credit.backward_weights.values())
            values += (1 + _momenta(learning)) * b  # and their gradients
        return values


def _momenta(optimizer: Any) -> int:
    return 2 if optimizer.name == "adam" else int(optimizer.momentum > 0)


@contextmanager
def _counted(operations: Operations, model: nn.Module) -> Iterator[Callable[[], Work]]:
    """What is done inside; asked for afterwards."""
    flops, count, kept = operations.flops, operations.count, _Kept(model)
    with kept.watching():
        yield lambda: Work(operations.flops - flops, operations.count - count, kept.bytes)


class _Kept:
    """Bytes that graphs hold on to for their backward passes, parameters left out."""

    def __init__(self, model: nn.Module) -> None:
        self._seen: set[int] = {p.untyped_storage()._cdata for p in model.parameters()}
        self._alive: list[Tensor] = []  # so that no storage's identity is used twice
        self.bytes = 0

    def watching(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(tensor.detach())
            self.bytes += storage.nbytes()
        return tensor


def objective(
    credit: rules.CreditAssignment, model: nn.Module, head: Head, stimuli: Tensor, labels: Tensor
) -> Callable[[], Tensor]:
    """A task's objective by its head, as a closure for `CreditAssignment.backward`."""
    return partial(_losses if credit.per_stimulus else _loss, model, head, stimuli, labels)


def _loss(model: nn.Module, head: Head, stimuli: Tensor, labels: Tensor) -> Tensor:
    outputs = model(stimuli)
    if isinstance(head, Contrastive):
        return nt_xent(outputs, 0.1)
    if isinstance(head, Reconstruction):
        return functional.mse_loss(outputs, torch.zeros_like(outputs))
    return functional.cross_entropy(outputs, labels)


def _losses(model: nn.Module, head: Head, stimuli: Tensor, labels: Tensor) -> Tensor:
    if isinstance(head, Contrastive):
        return _loss(model, head, stimuli, labels)
    outputs = model(stimuli)
    if isinstance(head, Reconstruction):
        return (outputs**2).flatten(1).mean(1)
    return functional.cross_entropy(outputs, labels, reduction="none")


def _forward(model: nn.Module, stimuli: Tensor, operations: Operations) -> Work:
    model.eval()
    with torch.no_grad(), _counted(operations, model) as work:
        model(stimuli)
    return work()


def _gradient(model: nn.Module, stimuli: Tensor, head: Head, operations: Operations) -> Work:
    """Forward and backward in eval mode, as at a record."""
    model.eval()
    labels = torch.zeros(len(stimuli), dtype=torch.long)
    with _counted(operations, model) as work:
        loss = _loss(model, head, stimuli, labels)
        torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return work()
