"""Which modules lie between a layer's weights and the output that is its activity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.autograd.forward_ad as fwd
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from goaldriven.errors import DataError
from goaldriven.layers import LayerInfo

_AFFINE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AvgPool1d, nn.AvgPool2d,
           nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Flatten)  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """The modules applied one after another to a layer's weighted sum z to give its output y."""

    modules: tuple[nn.Module, ...] = ()

    @property
    def rectified(self) -> bool:
        """Whether the output is that of a ReLU, hence nonnegative."""
        return bool(self.modules) and type(self.modules[-1]) is nn.ReLU

    @property
    def affine_until_relu(self) -> bool:
        """Whether y is an affine map of z, in eval mode, or a ReLU of one."""
        return all(map(_is_affine, self.modules[:-1] if self.rectified else self.modules))

    def __call__(self, z: Tensor) -> Tensor:
        """y from z, without the modules' hooks; z is not changed."""
        if any(getattr(module, "inplace", False) for module in self.modules):
            z = z.clone()
        for module in self.modules:
            z = module.forward(z)
        return z

    def tangent(self, z: Tensor, direction: Tensor) -> Tensor:
        """Derivative of y along ``direction`` at z, by forward-mode differentiation.

        ``direction`` broadcasts to z: [batch, *output shape] both.
        """
        with fwd.dual_level():
            dual = fwd.make_dual(z, direction.to(z).expand_as(z).contiguous())
            tangent = fwd.unpack_dual(self(dual)).tangent
        return torch.zeros_like(self(z)) if tangent is None else tangent

    def affine_tangent(self, direction: Tensor) -> Tensor:
        """Derivative along ``direction`` of the affine modules before the ReLU, for any z."""
        affine = Chain(self.modules[:-1]) if self.rectified else self
        if not affine.modules:
            return direction
        tensors = (t for m in affine.modules for t in (*m.parameters(), *m.buffers()))
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), direction.dtype)
        at = torch.zeros_like(direction, dtype=dtype)
        return affine.tangent(at[None], direction[None])[0].to(direction.dtype)


def _is_affine(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return module.running_mean is not None
    return type(module) in _AFFINE


def trace_chains(
    model: nn.Module, layers: Sequence[LayerInfo], stimulus: Tensor
) -> dict[str, Chain]:
    """The chain of each layer, by layer name, read off one forward pass of ``stimulus`` [1, …].

    Raises
    ------
    DataError : a layer is not reached by the pass, or its output is not a function of the layer
        alone (an addition or a bare function lies between them).
    """
    if all(layer.output == layer.name for layer in layers):
        return {layer.name: Chain() for layer in layers}
    calls: list[tuple[nn.Module, Any, Any]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls.append((module, inputs[0] if inputs else None, output))

    observed = {path for layer in layers for path in (layer.name, layer.output)}
    hooked = [m for n, m in model.named_modules() if n in observed or not any(m.children())]
    with hooks([module.register_forward_hook(note) for module in hooked]), torch.no_grad():
        model(stimulus)
    return {layer.name: _chain(layer, model, calls) for layer in layers}


def _chain(
    layer: LayerInfo, model: nn.Module, calls: Sequence[tuple[nn.Module, Any, Any]]
) -> Chain:
    """Walk back from the layer's output to its weights by identity of the tensors handed on."""
    weighted, last = model.get_submodule(layer.name), model.get_submodule(layer.output)
    if weighted is last:
        return Chain()
    begin = next((i for i, call in enumerate(calls) if call[0] is weighted), None)
    if begin is None:
        raise DataError(
            f"layer {layer.name!r} must be reached by the forward pass, got no call of it"
        )
    end = next((i for i in range(begin, len(calls)) if calls[i][0] is last), None)
    modules: list[nn.Module] = []
    wanted = None if end is None else calls[end][2]
    for module, given, output in reversed(calls[begin : (end or begin) + 1]):
        if output is wanted:
            if module is weighted:
                return Chain(tuple(modules))
            modules.insert(0, module)
            wanted = given
    raise DataError(
        f"the output of layer {layer.name!r} must be reached from it through modules applied one "
        f"after another, got {layer.output!r}, which depends on something else besides"
    )


@contextmanager
def hooks(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    """Remove the hooks at the end, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
