"""Learning rules on a stack: networks of one architecture that run as one program.

A stack is one model whose tensors have a leading network axis. It is run by `torch.vmap` over that
axis, which leaves every module but the weighted layers as it is; those are attached to here, so
that a layer of all networks is one batched product or one grouped convolution, hung into the graph
by the same operations as that of a single network (`goaldriven.rules.feedback`). Backward weights
B have the network axis, too, and are given with the parameters: a layer's buffer `BUFFER`.

Nothing is summed over networks, so one that diverges leaves the others as they are.

The rules' mathematics is not written again. Networks of one rule make a *segment* of the stack,
with one *leader*: a model whose credit assignment and optimizer were attached to one network, and
whose tensors were then replaced by those of all the segment's networks. Whatever acts element by
element (optimizers, schedules, decay, the primitives of kernels, sign symmetry) is the leader's
own. Losses of activations are taken by `torch.vmap` over the segment, and perturbation rules run
as a whole inside of it (`goaldriven.rules.stacked_perturbation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from goaldriven.rules.base import CreditAssignment
from goaldriven.rules.direct_feedback import DirectFeedbackAlignment, Stop
from goaldriven.rules.feedback import (
    BUFFER,
    Attached,
    Carrier,
    OwnWeights,
    Switch,
    convolve,
    feedback_of,
    multiply,
)
from goaldriven.rules.layerwise_alignment import LayerwiseAlignment
from goaldriven.rules.linear_maps import Convolution, Dense
from goaldriven.rules.noise import Streams
from goaldriven.rules.over_networks import OverNetworks
from goaldriven.rules.perturbation_tape import OnTape
from goaldriven.rules.sign_symmetry import RedrawnSigns

Strides = dict[str, tuple[int, ...]]
"""Layer → how its noise lies in memory in a single network."""

Seen = dict[str, tuple[Tensor, Tensor]]
"""Layer → its input and output, network axis first."""


class StackedLayer(Attached):
    """The forward pass of one Linear, Conv1d or Conv2d inside `torch.vmap` over networks.

    It takes the place of the layer's own or attached one, under what a perturbation rule has put on
    the layer.
    """

    def __init__(self, module: nn.Module, name: str, watch: Watch) -> None:
        above = module.__dict__.get("forward")
        super().__init__(module)
        if isinstance(above, OnTape):
            self.before, above.before = above.before, self
            module.forward = above
        self.name, self.watch = name, watch
        self.linear_map = (
            Convolution.of(module) if isinstance(module, (nn.Conv1d, nn.Conv2d)) else Dense()
        )

    def __call__(self, input: Tensor) -> Tensor:
        module = self.module
        given = (module.weight, module.bias, module._buffers.get(BUFFER))
        output: Tensor = _Stacked.apply(input, *given, self)
        if self.watch.seen is not None:
            self.watch.seen[self.name] = (input, output)
        return output


class Listener(Protocol):
    """What is told of every call of a layer, with tensors of all networks in the graph."""

    def reads(self, name: str, x: Tensor, dim: int | None) -> None:
        """A layer is called on ``x``, whose network axis is ``dim``; None where all share it."""

    def gives(self, name: str, y: Tensor, dim: int) -> None:
        """It has given ``y``."""


class Watch:
    """What the layers of one stack heed.

    Attributes
    ----------
    seen : what they note while `noting`; None otherwise.
    listener : what they tell while `told`; None otherwise.
    carrier : of the errors.
    """

    def __init__(self) -> None:
        self.seen: Seen | None = None
        self.listener: Listener | None = None
        self.carrier: Carrier = _CARRIER

    @contextmanager
    def told(self, listener: Listener | None, carrier: Carrier | None = None) -> Iterator[None]:
        """Tell ``listener`` of every call inside, and send errors by ``carrier``."""
        self.listener, self.carrier = listener, carrier or _CARRIER
        try:
            yield
        finally:
            self.listener, self.carrier = None, _CARRIER

    @contextmanager
    def noting(self, wanted: bool) -> Iterator[Seen]:
        """Every layer's input and output inside, where ``wanted``."""
        seen: Seen = {}
        self.seen = seen if wanted else None
        try:
            yield seen
        finally:
            self.seen = None


def stack_layers(model: nn.Module) -> Watch:
    """Make the weighted layers of a model those of a stack; it then runs inside `torch.vmap` only.

    A layer whose buffer `BUFFER` is given sends errors through it, any other through its W.
    """
    watch = Watch()
    for name in weighted_layers(model):
        module = model.get_submodule(name)
        if BUFFER not in module._buffers:
            module.register_buffer(BUFFER, None, persistent=False)
        StackedLayer(module, name, watch)
    return watch


def weighted_layers(model: nn.Module) -> list[str]:
    """The names of the layers that a rule can attach to, in order."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


class _GivenKernel(Carrier):
    """B where it is given, else W: backprop."""

    def kernel(self, weight: Tensor, held: Tensor | None) -> Tensor | None:
        return weight if held is None else held


_CARRIER, _SWITCH = _GivenKernel(), Switch()


class _Stacked(OverNetworks):
    """A layer of all networks at once."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kernel: Tensor | None,
        layer: StackedLayer,
    ) -> tuple[Tensor, int]:
        tensors = (weight, bias, kernel)
        first = [
            None if t is None or d is None else t.movedim(d, 0)
            for t, d in zip(tensors, in_dims[1:4], strict=True)
        ]
        watch, linear_map = layer.watch, layer.linear_map
        if watch.listener is not None:
            watch.listener.reads(layer.name, x, in_dims[0])
        if isinstance(linear_map, Convolution):
            y, dim = _convolutions(x, in_dims[0], first, linear_map, watch.carrier), 1
        else:
            y, dim = _products(x, in_dims[0], first, watch.carrier), 0
        if watch.listener is not None:
            watch.listener.gives(layer.name, y, dim)
        return y, dim


def _products(
    x: Tensor, dim: int | None, tensors: Sequence[Tensor | None], carrier: Carrier
) -> Tensor:
    """(k, n, …, inputs) → (k, n, …, outputs) by one batched product."""
    weight, bias, kernel = tensors
    assert weight is not None  # narrows the type
    x = x.movedim(dim, 0) if dim is not None else x.expand(weight.shape[0], *x.shape)
    y = multiply(x.flatten(1, -2), weight, bias, kernel, _SWITCH, carrier)
    return y.unflatten(1, x.shape[1:-1])


def _convolutions(
    x: Tensor,
    dim: int | None,
    tensors: Sequence[Tensor | None],
    conv: Convolution,
    carrier: Carrier,
) -> Tensor:
    """(k, n, channels, *space) → (n, k, outputs, *space): one convolution of k times the groups.

    Stimuli that all networks share are convolved with all kernels at once.
    """
    k = next(t.shape[0] for t in tensors if t is not None)
    if dim is None and conv.groups > 1:
        x, dim = x.expand(k, *x.shape), 0
    if dim is None:
        joined = conv
    else:
        x = x.movedim(dim, 1).flatten(1, 2)
        joined = replace(conv, groups=conv.groups * k)
    if x.device.type == "cpu" and x.dim() == 4:  # grouped convolutions there are faster so
        x = x.contiguous(memory_format=torch.channels_last)
    weight, bias, kernel = (None if t is None else t.flatten(0, 1) for t in tensors)
    assert weight is not None  # narrows the type
    y = convolve(joined.padded(x), weight, bias, kernel, _SWITCH, carrier, joined)
    return y.unflatten(1, (k, -1))


class StackedPool(Attached):
    """The forward pass of a module that acts on every channel by itself, inside `torch.vmap`.

    Networks are more channels to it, as they are to convolutions: nothing is copied in between.
    """

    def __call__(self, input: Tensor) -> Tensor:
        output: Tensor = _Pooled.apply(input, self)
        return output


class _Pooled(OverNetworks):
    """A pool of all networks at once."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, pool: StackedPool
    ) -> tuple[Tensor, int | None]:
        if in_dims[0] is None:
            return pool.plain(x), None
        y: Tensor = pool.plain(x.movedim(in_dims[0], 1).flatten(1, 2))
        return y.unflatten(1, (info.batch_size, -1)), 1


class SegmentCredit:
    """The credit assignment of a segment's networks, all of one rule without perturbations.

    Parameters
    ----------
    leader : attached to the model with the segment's stacked tensors.
    singles : each network's own, whose generators draw that network's noise.
    models : each network's own model.
    """

    def __init__(
        self,
        leader: CreditAssignment,
        singles: Sequence[CreditAssignment],
        models: Sequence[nn.Module],
    ) -> None:
        self.leader, self.singles, self._models = leader, singles, models
        if isinstance(leader, LayerwiseAlignment):
            leader.draw_from(*(streams_of(singles, what) for what in ("noise", "update_noise")))
        modules = leader.model.named_modules()
        self._feedback = {n: f for n, m in modules if (f := feedback_of(m)) is not None}

    def begin(self) -> tuple[bool, bool]:
        """Whether the coming step learns the task, and whether it needs the layers' activities."""
        if isinstance(self.leader, LayerwiseAlignment):
            task, _, watching = self.leader.begin()
            return bool(task), watching
        return True, False

    @property
    def rerouted(self) -> bool:
        """Whether errors travel through other weights than W from layer to layer."""
        return bool(self._feedback) and not self.direct

    @property
    def direct(self) -> bool:
        """Whether the output's error is fed back to every layer."""
        return isinstance(self.leader, DirectFeedbackAlignment)

    def align(self, seen: Seen) -> None:
        """Add the gradients of the losses of activations, layer by layer, to those of B.

        Every network draws its noise in the order in which its layers were called.
        """
        assert isinstance(self.leader, LayerwiseAlignment)  # only these watch
        for name, (x, y) in seen.items():
            if name in self._feedback:
                self.leader.align(self._feedback[name], x, y)

    def fill(self, kernels: dict[str, Tensor]) -> None:
        """Write the backward weights of the coming step: layer → rows of this segment.

        Those that a layer owns lie there already; the others are made of W.
        """
        made: dict[str, Tensor] = {}
        for name in kernels:
            feedback = self._feedback.get(name)
            module = self.leader.model.get_submodule(name)
            weight: Tensor = module.weight.detach()  # type: ignore[operator]
            if feedback is None or isinstance(feedback.carrier, Stop):
                made[name] = weight
            elif not isinstance(feedback.carrier, OwnWeights):
                redrawn = isinstance(feedback.carrier, RedrawnSigns)
                held = self._redraw(name) if redrawn else feedback.carrier.held(module)
                made[name] = feedback.carrier.kernel(weight, held)  # type: ignore[assignment]
        if made:
            torch._foreach_copy_([kernels[name] for name in made], list(made.values()))

    def _redraw(self, name: str) -> Tensor:
        """Every network draws from its own stream, as its forward pass would."""
        drawn = []
        for model in self._models:
            module = model.get_submodule(name)
            carrier = feedback_of(module).carrier  # type: ignore[union-attr]
            carrier.renew(module)
            drawn.append(carrier.held(module))
        return torch.stack(drawn)  # type: ignore[arg-type]

    def end(self) -> None:
        """End what `begin` began, before the forward weights are stepped."""
        if isinstance(self.leader, LayerwiseAlignment):
            self.leader.end()

    def step(self) -> None:
        """Update the backward weights, where they learn."""
        self.leader.step()


def streams_of(
    singles: Sequence[CreditAssignment], what: str, strides: Strides | None = None
) -> Streams:
    """The generators that networks' credit assignments have by the name of ``what``."""
    return Streams([getattr(credit, what) for credit in singles], strides)


def held_buffers(model: nn.Module) -> Iterator[tuple[str, str, str]]:
    """(layer, buffer, what it is) of what attached layers keep: ``own`` is B itself.

    Magnitudes that are drawn anew at every pass are each network's own and left out, as are direct
    feedback weights, which are not drawn yet.
    """
    for name, module in model.named_modules():
        feedback = feedback_of(module)
        if feedback is not None and not isinstance(feedback.carrier, (RedrawnSigns, Stop)):
            for buffer in feedback.carrier.buffers:
                yield name, buffer, "own" if buffer == BUFFER else "part"
