"""Networks that share task, architecture and batch size, trained as one program.

The networks stay what `goaldriven.training.build` makes of them: every one has its model, its
attached rule and its sources of randomness. Their tensors are made rows of stacked tensors, by
views, so that what the program learns is at all times in the networks themselves, to be recorded
and kept as ever.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven import rules
from goaldriven.architectures.dropout import Dropout
from goaldriven.architectures.knet import SamePool
from goaldriven.errors import SpecError
from goaldriven.rules.learned_feedback import LearnedFeedback
from goaldriven.rules.noise import Streams
from goaldriven.rules.optimizers import draw_updates_from, update_noise_of
from goaldriven.rules.perturbation import Perturbation
from goaldriven.rules.stacked_direct import DirectRows
from goaldriven.rules.stacked_perturbation import PerturbedCredit, TaughtCredit, noise_strides
from goaldriven.rules.stacking import (
    SegmentCredit,
    StackedPool,
    Watch,
    held_buffers,
    stack_layers,
    weighted_layers,
)
from goaldriven.specs import NetworkSpec
from goaldriven.specs.stacking import segment_key, stack_key
from goaldriven.training.network import Network
from goaldriven.training.stack_states import go_on_from, state_of
from goaldriven.training.stack_steps import (
    Segment,
    Stimuli,
    joint_step,
    perturbed_step,
    taught_step,
)

Build = Callable[[NetworkSpec], Network]


class Stack:
    """Several networks and the program that trains them together.

    Every network draws its stimuli from its own generator (those of one data seed draw once), its
    noise from its own, and has its rule's own schedule, momenta and metaparameters. A network that
    diverges goes on as NaN and leaves the others alone.

    Parameters
    ----------
    networks : what to train; they share all but rule and seeds (`specs.stacking.stack_key`), and
        have come as far as one another.
    build : makes one network, as `goaldriven.training.build` does: the leader of each rule.

    Attributes
    ----------
    networks : as given.

    Raises
    ------
    SpecError : the networks do not go together.
    """

    def __init__(self, networks: Sequence[Network], build: Build) -> None:
        check_together([network.spec for network in networks])
        self.networks = list(networks)
        order = sorted(range(len(networks)), key=lambda i: self._rank(networks[i]))
        self._order = order
        rows = [networks[i] for i in order]
        model = copy.deepcopy(rows[0].model)
        rules.detach(model)
        self._model = model
        self._watch = _stack_modules(model)
        self._tensors = _stack_tensors(rows, model)
        self._segments = self._make_segments(rows, build)
        self._kernels = self._stack_kernels(rows)
        self._rows = rows
        self._n_passes = max(segment.passes for segment in self._segments)
        for segment in self._segments:
            go_on_from(rows[segment.start : segment.stop], segment.leader)

    @staticmethod
    def _rank(network: Network) -> tuple[int, bool, str, int, int]:
        """Rows in order of passes per epoch, most first, so that those still active come first.

        Then those whose rules run by themselves.
        """
        spec = network.spec
        return (
            -network.credit.passes_per_epoch,
            isinstance(network.credit, (Perturbation, LearnedFeedback)),
            segment_key(spec),
            spec.data_seed,
            spec.model_seed,
        )

    def _make_segments(self, rows: Sequence[Network], build: Build) -> list[Segment]:
        segments, start = [], 0
        for _, group in groupby(rows, key=lambda network: segment_key(network.spec)):
            members = list(group)
            stop = start + len(members)
            segments.append(self._segment(start, stop, members, build(members[0].spec)))
            start = stop
        return segments

    def _segment(
        self, start: int, stop: int, members: Sequence[Network], leader: Network
    ) -> Segment:
        model, singles = leader.model, [member.credit for member in members]
        model.train()
        strides = noise_strides(leader.credit, partial(_one_pass, leader), model)
        for name, tensor in self._tensors.items():
            _put(model, name, tensor[start:stop])
        for name, buffer, kind in held_buffers(model):
            if kind == "part":
                stacked = [m.model.get_submodule(name).get_buffer(buffer) for m in members]
                model.get_submodule(name)._buffers[buffer] = torch.stack(stacked)
        _share_update_noise(leader, members)
        watch, direct = self._watch, None
        credit: SegmentCredit | PerturbedCredit | TaughtCredit
        if isinstance(leader.credit, Perturbation):
            watch = _stack_modules(model)
            credit = PerturbedCredit(leader.credit, singles, strides)
        elif isinstance(leader.credit, LearnedFeedback):
            watch = _stack_modules(model)
            credit = TaughtCredit(leader.credit, singles, strides)
        else:
            credit = SegmentCredit(leader.credit, singles, [m.model for m in members])
            direct = DirectRows(start, stop, singles) if credit.direct else None
        return Segment(start, stop, leader, credit, watch, direct)

    def _stack_kernels(self, rows: Sequence[Network]) -> dict[str, Tensor]:
        """Layer → what errors travel through, (network, *W); empty where that is W for all.

        Rows of networks whose layers have a B of their own are that B.
        """
        if not any(_rerouted(segment) for segment in self._segments):
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

    def state_of(self, network: Network) -> dict[str, Any]:
        """All of one of the networks that training changes, as `resume.network_state` has it."""
        row = next(i for i, one in enumerate(self._rows) if one is network)
        segment = next(s for s in self._segments if s.start <= row < s.stop)
        return state_of(network, segment.leader, row - segment.start)

    def train_epoch(self, epoch: int) -> list[float]:
        """One epoch of steps; the mean training loss of each network, in the order given."""
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
            for stimuli in self._batches(k):
                for segment in active:
                    segment.leader.credit.set_progress(
                        epoch * segment.passes + step / steps_per_pass
                    )
                totals[:k].add_(self._step(active, stimuli))
                step += 1
            steps[:k] = [step] * k
        means = [float(t) / n for t, n in zip(totals.tolist(), steps, strict=True)]
        by_network = dict(zip(self._order, means, strict=True))
        return [by_network[i] for i in range(len(means))]

    def _batches(self, k: int) -> Iterator[Stimuli]:
        """One pass of the first ``k`` networks.

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
                yield Stimuli(type(drawn[0]), [parts[0] for parts in tensors], shared=True)
                continue
            own = [torch.stack(parts) for parts in tensors]
            if len(drawing) < k:
                if index is None:
                    index = torch.tensor(which, device=own[0].device)
                own = [drawn_once[index] for drawn_once in own]
            yield Stimuli(type(drawn[0]), own, shared=False)
        for network in self._rows[:k]:
            if network is not (first := drawing[_stream(network)]):
                network.data_generator.set_state(first.data_generator.get_state())

    def _step(self, active: Sequence[Segment], stimuli: Stimuli) -> Tensor:
        """One step of the active networks, which are the stack's first; their losses (k,)."""
        joint = [s for s in active if isinstance(s.credit, SegmentCredit)]
        losses = []
        if joint:
            k = joint[-1].stop
            tensors = {name: tensor[:k] for name, tensor in self._tensors.items()}
            kernels = {name: kernel[:k] for name, kernel in self._kernels.items()}
            given = (tensors, kernels, stimuli.of(0, k))
            losses.append(joint_step(self._model, self._watch, joint, *given))
        for segment in active[len(joint) :]:
            own, seen = segment.rows(self._tensors), stimuli.of(segment.start, segment.stop)
            if isinstance(segment.credit, PerturbedCredit):
                losses.append(perturbed_step(segment, segment.credit, own, seen))
            elif isinstance(segment.credit, TaughtCredit):
                kernels = segment.rows(self._kernels)
                losses.append(taught_step(segment, segment.credit, own, kernels, seen))
        return losses[0] if len(losses) == 1 else torch.cat(losses)


def _rerouted(segment: Segment) -> bool:
    """Whether errors travel through other weights than W from layer to layer."""
    if isinstance(segment.credit, SegmentCredit):
        return segment.credit.rerouted
    return isinstance(segment.credit, TaughtCredit)


def _stream(network: Network) -> tuple[int, int]:
    """Equal for networks that see the same stimuli at every pass."""
    return network.spec.data_seed, network.credit.passes_per_epoch


_POOLS = (SamePool, nn.MaxPool2d, nn.AvgPool2d)


def _stack_modules(model: nn.Module) -> Watch:
    """Have a model run inside `torch.vmap` over networks only; see `stack_layers`."""
    model.channels_last = False  # type: ignore[assignment] # stacked tensors have no such layout
    for module in model.modules():
        if isinstance(module, Dropout):
            module.stacked = True
        if isinstance(module, _POOLS):
            StackedPool(module)
    return stack_layers(model)


def _one_pass(network: Network) -> Tensor:
    """The loss of one batch, of no importance."""
    batches = network.task.train_batches(network.spec.batch_size, network.data_generator)
    return network.task.loss(network.model, next(iter(batches)))


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Make ``tensor`` a model's parameter or buffer of that name."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    parameter = module._parameters.get(last)
    if parameter is None:
        module._buffers[last] = tensor
    else:
        parameter.data = tensor


def _share_update_noise(leader: Network, members: Sequence[Network]) -> None:
    """Have noisy updates of the segment drawn from each network's own generator."""
    generators = [update_noise_of(member.optimizer) for member in members]
    own = [g for g in generators if isinstance(g, torch.Generator)]
    if own:
        draw_updates_from(leader.optimizer, Streams(own))


def check_together(specs: Sequence[NetworkSpec]) -> None:
    """Refuse networks that cannot make a stack.

    Raises
    ------
    SpecError : there are none, or two that differ in more than rule and seeds.
    """
    if not specs:
        raise SpecError("networks of a stack must be at least one, got none")
    for spec in specs:
        if stack_key(spec) != stack_key(specs[0]):
            raise SpecError(
                "networks of a stack must share task, architecture, batch size, epochs and "
                f"record_every, got {specs[0].label} and {spec.label}"
            )


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
