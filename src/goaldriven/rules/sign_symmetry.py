"""Sign symmetry: backward weights have the signs of the forward weights, not their magnitudes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven.layers import LayerInfo
from goaldriven.rules.feedback import Carrier
from goaldriven.rules.feedback_alignment import LayerwiseFeedback
from goaldriven.rules.state import check_state, check_tensors, copies, copy_into
from goaldriven.specs import credit as specs

MAGNITUDE = "backward_magnitude"
"""Name of the non-persistent buffer that holds |M| on its layer."""

# Draws of one layer have seeds this far apart, modulo 2⁶³. It is odd, so none comes twice.
_STRIDE = 0x1E3779B97F4A7C15


def fans(weight: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (outputs, inputs, *kernel), as `torch.nn.init` counts them.

    Of a grouped convolution, fan_in counts the inputs of one group and fan_out all outputs.

    >>> fans(torch.empty(6, 2, 3, 3))
    (18, 54)
    """
    kernel = math.prod(weight.shape[2:])
    return weight.shape[1] * kernel, weight.shape[0] * kernel


def uniform_scale(weight: Tensor, scale: str) -> float:
    """The one magnitude s: √(2/(fan_in + fan_out)) (``xavier``) or 1/√(3 fan_in) (``kaiming``).

    >>> uniform_scale(torch.empty(3, 5), "xavier")
    0.5
    """
    fan_in, fan_out = fans(weight)
    return math.sqrt(2 / (fan_in + fan_out)) if scale == "xavier" else 1 / math.sqrt(3 * fan_in)


def xavier_bound(weight: Tensor) -> float:
    """The bound a = √(6/(fan_in + fan_out)) of the Xavier-uniform distribution.

    >>> xavier_bound(torch.empty(2, 4))
    1.0
    """
    return math.sqrt(6 / sum(fans(weight)))


class UniformSigns(Carrier):
    """B = s·sign(W)."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def kernel(self, weight: Tensor, held: Tensor | None) -> Tensor | None:
        return weight.sign() * self.scale


class RandomSigns(Carrier):
    """B = |M| ∘ sign(W), with |M| kept in `MAGNITUDE`."""

    buffers = (MAGNITUDE,)

    def held(self, module: nn.Module) -> Tensor | None:
        return module._buffers[MAGNITUDE]

    def kernel(self, weight: Tensor, held: Tensor | None) -> Tensor | None:
        return weight.sign().mul(held)  # type: ignore[arg-type]


class RedrawnSigns(RandomSigns):
    """As `RandomSigns`, with |M| drawn anew as each forward pass in training mode begins.

    Each is a tensor of its own, so a pass whose gradient is still to come keeps the |M| it had.
    Forward passes that checkpointing runs again, during the backward pass, draw nothing.
    """

    def __init__(self, stream: Tensor, bound: float) -> None:
        self.stream, self.bound = stream, bound

    def renew(self, module: nn.Module) -> None:
        if module.training:
            drawn = redraw(module.get_buffer(MAGNITUDE), self.stream, self.bound)
            setattr(module, MAGNITUDE, drawn)


@torch.library.custom_op("goaldriven::redraw", mutates_args={"stream"})
def redraw(magnitude: Tensor, stream: Tensor, bound: float) -> Tensor:
    """The next |M| of a stream (seed, draws so far), uniform on [0, bound]; the stream goes on.

    During a backward pass a copy of the present one. An operation of its own, so that compiled code
    runs it as often as it is called, with the stream as it then is.
    """
    if torch._C._current_graph_task_id() != -1:
        return magnitude.clone()
    seed, draws = stream.tolist()
    generator = torch.Generator(magnitude.device).manual_seed((seed + draws * _STRIDE) % 2**63)
    stream[1] += 1
    return torch.empty_like(magnitude).uniform_(0.0, bound, generator=generator)


@redraw.register_fake
def _(magnitude: Tensor, stream: Tensor, bound: float) -> Tensor:
    return torch.empty_like(magnitude)


class UniformSignSymmetry(LayerwiseFeedback):
    """B = s·sign(W) at all times, with one magnitude s per layer; see `uniform_scale`.

    Where W is 0, so is B. Nothing is drawn. Source: Liao et al. 2016.

    Raises
    ------
    SpecError : the model has weights that cannot have backward weights, or has some already.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        generator: torch.Generator,
        spec: specs.UniformSignSymmetry,
    ) -> None:
        def make(module: nn.Module) -> tuple[Carrier, dict[str, Tensor]]:
            weight: Tensor = module.weight  # type: ignore[assignment]
            return UniformSigns(uniform_scale(weight, spec.scale)), {}

        super().__init__(model, layers, make)

    def state_dict(self) -> dict[str, Any]:
        return {"credit": "uniform_sign_symmetry"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, "uniform_sign_symmetry", ())


class _RandomSignSymmetry(LayerwiseFeedback):
    credit_name: str

    @property
    def _magnitudes(self) -> dict[str, Tensor]:
        return {name: module.get_buffer(MAGNITUDE) for name, module in self._modules.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"credit": self.credit_name, "magnitudes": copies(self._magnitudes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.credit_name, {"magnitudes"})
        copy_into(self._magnitudes, state["magnitudes"], "magnitudes")


class FixedRandomSignSymmetry(_RandomSignSymmetry):
    """B = |M| ∘ sign(W) at all times, with M Xavier-uniform and drawn once.

    |M| is uniform on [0, √(6/(fan_in + fan_out))], drawn layer by layer from ``generator``.
    Source: Liao et al. 2016.

    Raises
    ------
    SpecError : the model has weights that cannot have backward weights, or has some already.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        generator: torch.Generator,
        spec: specs.FixedRandomSignSymmetry,
    ) -> None:
        self.credit_name = spec.name

        def make(module: nn.Module) -> tuple[Carrier, dict[str, Tensor]]:
            weight: Tensor = module.weight.detach()  # type: ignore[operator]
            drawn = torch.empty(weight.shape, dtype=weight.dtype, device=generator.device)
            drawn.uniform_(0.0, xavier_bound(weight), generator=generator)
            return RandomSigns(), {MAGNITUDE: torch.empty_like(weight).copy_(drawn)}

        super().__init__(model, layers, make)


class BatchwiseRandomSignSymmetry(_RandomSignSymmetry):
    """B = |M| ∘ sign(W), with M Xavier-uniform and drawn anew at every forward pass.

    |M| is uniform on [0, √(6/(fan_in + fan_out))]. Every layer draws from a stream of its own,
    seeded by ``generator``, on the device of its weights. A layer draws at each call in training
    mode; in eval mode B has the magnitudes last drawn, so that evaluating changes nothing.
    `backward_weights` are those last used. Source: Liao et al. 2016.

    Raises
    ------
    SpecError : the model has weights that cannot have backward weights, or has some already.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        generator: torch.Generator,
        spec: specs.BatchwiseRandomSignSymmetry,
    ) -> None:
        self.credit_name = spec.name
        self._streams: list[Tensor] = []

        def make(module: nn.Module) -> tuple[Carrier, dict[str, Tensor]]:
            weight: Tensor = module.weight.detach()  # type: ignore[operator]
            seed = torch.randint(2**62, (), generator=generator, device=generator.device)
            stream = torch.tensor([int(seed), 0])
            self._streams.append(stream)
            bound = xavier_bound(weight)
            return RedrawnSigns(stream, bound), {MAGNITUDE: redraw(weight, stream, bound)}

        super().__init__(model, layers, make)

    @property
    def _named_streams(self) -> dict[str, Tensor]:
        return dict(zip(self._modules, self._streams, strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "streams": copies(self._named_streams)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.credit_name, {"magnitudes", "streams"})
        check_tensors(self._named_streams, state["streams"], "streams")
        super().load_state_dict(state)
        copy_into(self._named_streams, state["streams"], "streams")
