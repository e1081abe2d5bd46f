"""Networks that share task, architecture and batch size, trained as one program.

The networks stay what `goaldriven.training.build` makes of them: every one has its model, its
attached rule and its sources of randomness. Their tensors are made rows of stacked tensors, by
views, so that what the program learns is at all times in the networks themselves, to be recorded
and kept as ever.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.func import functional_call

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.rules.feedback import BUFFER
from goaldriven.rules.stacking import (
    Seen,
    SegmentCredit,
    held_buffers,
    stack_layers,
    weighted_layers,
)
from goaldriven.specs import NetworkSpec
from goaldriven.specs.stacking import segment_key, stack_key, why_single
from goaldriven.tasks import Task
from goaldriven.tasks.base import Batch
from goaldriven.training.network import Network

Build = Callable[[NetworkSpec], Network]


@dataclass(frozen=True)
class _Segment:
    """The networks of one rule: rows ``start`` to ``stop`` of the stack, and who acts for them."""

    start: int
    stop: int
    leader: Network
    credit: SegmentCredit

    @property
    def passes(self) -> int:
        return self.leader.credit.passes_per_epoch


class _Objective(nn.Module):
    """The task's loss as a module, whose tensors `functional_call` can replace."""

    def __init__(self, model: nn.Module, task: Task, kind: type[Batch]) -> None:
        super().__init__()
        self.model, self._task, self._kind = model, task, kind

    def forward(self, *batch: Tensor) -> Tensor:
        return self._task.loss(self.model, self._kind(*batch))


class Stack:
    """Several networks and the program that trains them together.

    Every network draws its stimuli from its own generator (those of one data seed draw once), its
    noise from its own, and has its rule's own schedule, momenta and metaparameters. A network that
    diverges goes on as NaN and leaves the others alone.

    Parameters
    ----------
    specs : what to train; they share all but rule and seeds (`specs.stacking.stack_key`).
    build : makes one network, as `goaldriven.training.build` does. Twice for the first of each
        rule, whose second is the rule's leader.

    Attributes
    ----------
    networks : in the order of ``specs``.

    Raises
    ------
    SpecError : the networks do not go together, or a rule cannot be stacked.
    """

    def __init__(self, specs: Sequence[NetworkSpec], build: Build) -> None:
        _check(specs)
        self.networks = [build(spec) for spec in specs]
        order = sorted(range(len(specs)), key=lambda i: self._rank(self.networks[i]))
        self._order = order
        rows = [self.networks[i] for i in order]
        model = copy.deepcopy(rows[0].model)
        rules.detach(model)
        model.channels_last = False  # type: ignore[assignment] # stacked tensors have no such layout
        self._model = model
        self._watch = stack_layers(model)
        self._tensors = _stack_tensors(rows, model)
        self._learning = {name for name, _ in model.named_parameters()}
        self._segments = self._make_segments(rows, build)
        self._kernels = self._stack_kernels(rows)
        self._rows = rows
        self._n_passes = max(segment.passes for segment in self._segments)
        self._objective: _Objective | None = None

    @staticmethod
    def _rank(network: Network) -> tuple[int, str, int, int]:
        """Rows in order of passes per epoch, most first, so that those still active come first."""
        spec = network.spec
        return (
            -network.credit.passes_per_epoch,
            segment_key(spec),
            spec.data_seed,
            spec.model_seed,
        )

    def _make_segments(self, rows: Sequence[Network], build: Build) -> list[_Segment]:
        segments, start = [], 0
        for _, group in groupby(rows, key=lambda network: segment_key(network.spec)):
            members = list(group)
            stop = start + len(members)
            leader = build(members[0].spec)
            leader.model.train()
            for name, parameter in leader.model.named_parameters():
                parameter.data = self._tensors[name][start:stop]
            for name, buffer, kind in held_buffers(leader.model):
                if kind == "part":
                    stacked = [m.model.get_submodule(name).get_buffer(buffer) for m in members]
                    leader.model.get_submodule(name)._buffers[buffer] = torch.stack(stacked)
            credit = SegmentCredit(
                leader.credit, [m.credit for m in members], [m.model for m in members]
            )
            segments.append(_Segment(start, stop, leader, credit))
            start = stop
        return segments

    def _stack_kernels(self, rows: Sequence[Network]) -> dict[str, Tensor]:
        """Layer → what errors travel through, (network, *W); empty where that is W for all.

        Rows of networks whose layers have a B of their own are that B.
        """
        if not any(segment.credit.rerouted for segment in self._segments):
            return {}
        layers = {f"{name}.weight": name for name in weighted_layers(self._model)}
        kernels = {layers[n]: t.clone() for n, t in self._tensors.items() if n in layers}
        for row, network in enumerate(rows):
            for name, buffer, kind in held_buffers(network.model):
                if kind == "own":
                    module = network.model.get_submodule(name)
                    kernels[name][row].copy_(module.get_buffer(buffer))
                    module._buffers[buffer] = kernels[name][row]
        for segment in self._segments:
            for name, buffer, kind in held_buffers(segment.leader.model):
                if kind == "own":
                    module = segment.leader.model.get_submodule(name)
                    module._buffers[buffer] = kernels[name][segment.start : segment.stop]
        return kernels

    def train_epoch(self, epoch: int) -> list[float]:
        """One epoch of steps; the mean training loss of each network, in the order of ``specs``."""
        task, spec = self._rows[0].task, self._rows[0].spec
        steps_per_pass = task.n_train // spec.batch_size
        totals = torch.zeros(len(self._rows), device=next(self._model.parameters()).device)
        steps = [0] * len(self._rows)
        self._model.train()
        for network in self._rows:
            network.model.train()
        for one_pass in range(self._n_passes):
            active = [s for s in self._segments if s.passes > one_pass]
            k = active[-1].stop
            step = one_pass * steps_per_pass
            for batch in self._batches(k):
                for segment in active:
                    segment.leader.credit.set_progress(
                        epoch * segment.passes + step / steps_per_pass
                    )
                totals[:k] += self._step(active, batch)
                step += 1
            steps[:k] = [step] * k
        means = [float(t) / n for t, n in zip(totals.tolist(), steps, strict=True)]
        by_network = dict(zip(self._order, means, strict=True))
        return [by_network[i] for i in range(len(means))]

    def _batches(self, k: int) -> Iterator[tuple[type[Batch], list[Tensor], bool]]:
        """One pass of the first ``k`` networks: the batch's kind, its tensors, whether shared.

        Networks of one data seed see the same stimuli, which are drawn once; the others' generators
        are set to where they would then be. (Not so with two passes per epoch beside one.)
        """
        batch_size = self._rows[0].spec.batch_size
        drawing: dict[tuple[int, int], Network] = {}
        for network in self._rows[:k]:
            drawing.setdefault(_stream(network), network)
        which = [list(drawing).index(_stream(network)) for network in self._rows[:k]]
        streams = [n.task.train_batches(batch_size, n.data_generator) for n in drawing.values()]
        index: Tensor | None = None
        for drawn in zip(*streams, strict=True):
            tensors = [[getattr(b, f.name) for b in drawn] for f in fields(drawn[0])]
            if len(drawing) == 1:
                yield type(drawn[0]), [parts[0] for parts in tensors], True
                continue
            if index is None:
                index = torch.tensor(which, device=tensors[0][0].device)
            yield type(drawn[0]), [torch.stack(parts)[index] for parts in tensors], False
        for network in self._rows[:k]:
            if network is not (first := drawing[_stream(network)]):
                network.data_generator.set_state(first.data_generator.get_state())

    def _step(
        self, active: Sequence[_Segment], batch: tuple[type[Batch], list[Tensor], bool]
    ) -> Tensor:
        """One step of the active networks, which are the stack's first; their losses (k,)."""
        k = active[-1].stop
        plans = [segment.credit.begin() for segment in active]
        learning = any(task for task, _ in plans)
        watching = any(watch for _, watch in plans)
        for segment in active:
            segment.credit.fill(
                {n: b[segment.start : segment.stop] for n, b in self._kernels.items()}
            )
        losses, seen, leaves = self._forward(k, batch, learning, watching)
        for segment, (_, watch) in zip(active, plans, strict=True):
            if watch:
                own = {n: _rows(pair, segment) for n, pair in seen.items()}
                segment.credit.align(own)
        gradients: Sequence[Tensor] = ()
        if learning:
            gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        by_name = dict(zip(leaves, gradients, strict=False))
        for segment, (task, _) in zip(active, plans, strict=True):
            self._update(segment, by_name if task else {})
        return losses.detach()

    def _update(self, segment: _Segment, gradients: dict[str, Tensor]) -> None:
        """One step of a segment's optimizers; gradients of a loss times 0 are 0."""
        for name, parameter in segment.leader.model.named_parameters():
            gradient = gradients.get(name)
            parameter.grad = (
                torch.zeros_like(parameter)
                if gradient is None
                else gradient[segment.start : segment.stop].contiguous()
            )
        segment.leader.optimizer.step()
        segment.credit.step()

    def _forward(
        self,
        k: int,
        batch: tuple[type[Batch], list[Tensor], bool],
        learning: bool,
        watching: bool,
    ) -> tuple[Tensor, Seen, dict[str, Tensor]]:
        """The losses (k,), the layers' inputs and outputs where watched, and the parameters."""
        kind, tensors, shared = batch
        if self._objective is None:
            self._objective = _Objective(self._model, self._rows[0].task, kind)
        objective, watch = self._objective, self._watch
        given = {name: tensor[:k] for name, tensor in self._tensors.items()}
        leaves = {n: t.detach().requires_grad_() for n, t in given.items() if n in self._learning}
        kernels = {f"{name}.{BUFFER}": b[:k] for name, b in self._kernels.items()}
        whole = {f"model.{n}": t for n, t in {**given, **leaves, **kernels}.items()}

        def of_one(own: dict[str, Tensor], *one: Tensor) -> tuple[Tensor, Seen]:
            with watch.noting(watching) as seen:
                return functional_call(objective, own, one), seen

        axes = (0, *([None if shared else 0] * len(tensors)))
        with torch.set_grad_enabled(learning):
            losses, seen = torch.vmap(of_one, in_dims=axes)(whole, *tensors)
        return losses, seen, leaves


def _stream(network: Network) -> tuple[int, int]:
    """Equal for networks that see the same stimuli at every pass."""
    return network.spec.data_seed, network.credit.passes_per_epoch


def _rows(pair: tuple[Tensor, Tensor], segment: _Segment) -> tuple[Tensor, Tensor]:
    x, y = (tensor.detach()[segment.start : segment.stop] for tensor in pair)
    return x, y


def _check(specs: Sequence[NetworkSpec]) -> None:
    if not specs:
        raise SpecError("networks of a stack must be at least one, got none")
    for spec in specs:
        if stack_key(spec) != stack_key(specs[0]):
            raise SpecError(
                "networks of a stack must share task, architecture, batch size, epochs and "
                f"record_every, got {specs[0].label} and {spec.label}"
            )
        reason = why_single(spec.rule)
        if reason is not None:
            raise SpecError(f"networks of a stack must have rules that stack, got {reason}")


def _stack_tensors(rows: Sequence[Network], model: nn.Module) -> dict[str, Tensor]:
    """Name → parameter or persistent buffer of all networks, (network, …); the networks' are views.

    Other buffers are constants of the architecture, or belong to rules.
    """
    tensors: dict[str, Tensor] = {}
    for name in model.state_dict():
        path, _, last = name.rpartition(".")
        modules = [network.model.get_submodule(path) for network in rows]
        own = [getattr(module, last) for module in modules]
        tensors[name] = torch.stack([tensor.detach() for tensor in own])
        for module, tensor, view in zip(modules, own, tensors[name], strict=True):
            if isinstance(tensor, nn.Parameter):
                tensor.data = view
            else:
                module._buffers[last] = view
    return tensors
