"""Layers that take noise at their outputs or inputs, and what was noted of each call of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

import torch
from torch import Tensor, nn

from goaldriven.errors import SpecError
from goaldriven.rules.attachable import Attachable
from goaldriven.rules.feedback import Attached
from goaldriven.rules.linear_maps import Convolution, Dense, LinearMap
from goaldriven.rules.noise import Noise, Streams
from goaldriven.rules.ranks import Group, own_part, place


class Pass(Enum):
    """What attached layers do in the present pass."""

    IDLE = auto()  # nothing
    NOTE = auto()  # note every call
    NOISY = auto()  # add noise to every call noted


@dataclass(eq=False)
class Call:
    """One call of one layer in a step.

    Attributes
    ----------
    x : the layer's input in the pass without noise, where it is needed.
    version : of ``x``, which tells whether it was changed in place since.
    draws : whether the call gets noise.
    noise : the present draw.
    estimate : Σ ΔL·ξ over draws, of the shape of the noise.
    error : the error that reached the layer's output on the way back.
    """

    name: str
    module: nn.Module
    linear_map: LinearMap
    x: Tensor | None
    version: int
    draws: bool = True
    noise: Tensor | None = None
    estimate: Tensor | None = None
    error: Tensor | None = None

    def unchanged_input(self) -> Tensor:
        """``x``.

        Raises
        ------
        SpecError : it was changed in place after the layer was called.
        """
        if self.x is None or self.x._version != self.version:
            raise SpecError(
                f"the input of layer {self.name!r} must stay as the layer saw it, got one changed "
                "in place afterwards"
            )
        return self.x

    def keep_error(self, error: Tensor) -> None:
        self.error = error.detach()


@dataclass(eq=False)
class Tape:
    """The calls of all attached layers in one step, in their order."""

    sigma: float
    group: Group = None
    present: Pass = Pass.IDLE
    calls: list[Call] = field(default_factory=list)
    sign: float = 1.0
    position: int = 0

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note the calls of the pass made inside."""
        self.present = Pass.NOTE
        try:
            yield
        finally:
            self.present = Pass.IDLE

    @contextmanager
    def noisy(self, sign: float) -> Iterator[None]:
        """Add sign·σ·noise at every call of the pass made inside.

        Raises
        ------
        SpecError : the layers are called in another order than the one noted.
        """
        self.present, self.sign, self.position = Pass.NOISY, sign, 0
        try:
            yield
            if self.position != len(self.calls):
                raise SpecError(_order("fewer calls", self.calls[self.position].name))
        finally:
            self.present = Pass.IDLE

    def forget_noise(self) -> None:
        """The next noisy pass draws anew."""
        for call in self.calls:
            call.noise = None

    def clear(self) -> None:
        self.calls = []

    def next_call(self, name: str) -> Call:
        """The noted call that the present call of layer ``name`` repeats."""
        if self.position >= len(self.calls):
            raise SpecError(_order("one more call", name))
        call = self.calls[self.position]
        if call.name != name:
            raise SpecError(_order("a call", name))
        self.position += 1
        return call


def _order(what: str, name: str) -> str:
    return (
        "closure must call the layers in the same order at every pass, got "
        f"{what} of layer {name!r}"
    )


class OnTape(Attached):
    """Base of what perturbation rules put in the place of a layer's forward pass.

    Compiled models run it outside the graph while it has something to do.
    """

    def __init__(self, layer: Attachable, tape: Tape, generator: Noise) -> None:
        super().__init__(layer.module)
        self.name = layer.name
        self.tape = tape
        self.generator = generator
        self.linear_map: LinearMap = (
            Convolution.of(layer.module)
            if isinstance(layer.module, (nn.Conv1d, nn.Conv2d))
            else Dense()
        )

    def __call__(self, input: Tensor) -> Tensor:
        return self.plain(input) if self.tape.present is Pass.IDLE else self._on_tape(input)

    @torch.compiler.disable
    def _on_tape(self, x: Tensor) -> Tensor:
        if self.tape.present is Pass.NOTE:
            return self.noted(x)
        return self.noisy(x, self.tape.next_call(self.name))

    def noted(self, x: Tensor) -> Tensor:
        """The output of a call that is noted."""
        raise NotImplementedError

    def noisy(self, x: Tensor, call: Call) -> Tensor:
        """The output with noise of a call noted before."""
        raise NotImplementedError

    def note(self, x: Tensor | None, draws: bool = True) -> Call:
        version = 0 if x is None else x._version
        call = Call(self.name, self.module, self.linear_map, x, version, draws)
        self.tape.calls.append(call)
        return call

    def add_noise(self, tensor: Tensor, call: Call) -> Tensor:
        """The tensor with the call's noise, drawn if there is none yet."""
        if call.noise is None:
            call.noise = standard_normal_like(tensor, self.generator, self.tape.group, self.name)
        return torch.add(tensor, call.noise, alpha=self.tape.sign * self.tape.sigma)


def standard_normal_like(
    tensor: Tensor, generator: Noise, group: Group = None, layer: str | None = None
) -> Tensor:
    """Normal draws of deviation 1, of the shape, layout, precision and place of ``tensor``.

    With a ``group``, those of this rank's stimuli, of draws for the joined batch.

    Parameters
    ----------
    layer : whose input or output ``tensor`` is, where it is one.
    """
    if isinstance(generator, Streams):
        return generator.normal_like(tensor, layer)
    like = torch.empty_like(tensor, device=generator.device, requires_grad=False)
    _, size = place(group)
    # Drawn in a row: in any other layout than the default one, such draws take six times as long.
    drawn = torch.empty(size * like.numel(), dtype=like.dtype, device=like.device)
    drawn.normal_(generator=generator)
    return own_part(drawn, group).as_strided(like.shape, like.stride()).to(tensor.device)
