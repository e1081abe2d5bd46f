"""Which layers of a model get backward weights, and how those are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList

from goaldriven.errors import SpecError, unknown
from goaldriven.layers import LayerInfo
from goaldriven.rules.feedback import BUFFER

_KINDS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)
# Scales and shifts, however many axes they have, are no weights between units.
_WEIGHTLESS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU)


class Attachable(NamedTuple):
    """One layer that gets backward weights."""

    name: str
    module: nn.Module
    rectified: bool


def find_layers(model: nn.Module, layers: Sequence[LayerInfo] | None) -> list[Attachable]:
    """The layers to attach to, in the order in which their backward weights are drawn.

    With ``layers`` these and no others; the rest of the model keeps exact backprop. Without, every
    Linear, Conv1d and Conv2d; what ``model.layers`` (a sequence of `LayerInfo`) says of them is
    used, and where it is silent all but the last are taken to be rectified.

    Raises
    ------
    SpecError : a name that is no layer; a module with weights of another kind; a layer whose
        forward pass is not PyTorch's own, is not initialised yet, or is attached already.
    """
    paths = dict(model.named_modules(remove_duplicate=False))
    if layers is not None:
        for info in layers:
            if info.name not in paths:
                raise SpecError(unknown("layers: every name", info.name, _names(model)))
        found = [Attachable(info.name, paths[info.name], info.rectified) for info in layers]
    else:
        _refuse_other_weights(model)
        found = _all_layers(model)
    if not found:
        raise SpecError("model must have a Linear, Conv1d or Conv2d layer, got none")
    for layer in found:
        _check(layer)
    return found


def draw_backward_weight(module: nn.Module, generator: torch.Generator) -> Tensor:
    """B by the initialiser of W, independently drawn, in W's shape, layout, precision and place.

    The initialiser is ``module.initializer(tensor, generator)``, which fills a tensor, where the
    module has one; otherwise a normal of mean 0 and of W's present standard deviation (around 0).
    """
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device=generator.device)
    initializer: Any = getattr(module, "initializer", None)
    if initializer is not None:
        initializer(drawn, generator)
    else:
        drawn.normal_(generator=generator)
        drawn *= weight.square().mean().sqrt().to(drawn)
    return torch.empty_like(weight).copy_(drawn)


def kernels(model: nn.Module) -> list[nn.Parameter]:
    """The weights of Linear and convolutional layers: what an L2 penalty acts on."""
    modules = (m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd)))
    own = (module._parameters.get("weight") for module in modules)
    return list({id(weight): weight for weight in own if weight is not None}.values())


def _names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _KINDS)]


def _all_layers(model: nn.Module) -> list[Attachable]:
    modules = [(name, m) for name, m in model.named_modules() if isinstance(m, _KINDS)]
    given = getattr(model, "layers", None)
    known: dict[int, bool] = {}
    if isinstance(given, (tuple, list)) and all(isinstance(info, LayerInfo) for info in given):
        known = {id(model.get_submodule(info.name)): info.rectified for info in given}
    last = len(modules) - 1
    return [
        Attachable(name, module, known.get(id(module), i < last))
        for i, (name, module) in enumerate(modules)
    ]


def _refuse_other_weights(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, (*_KINDS, *_WEIGHTLESS, ParametrizationList)):
            continue
        for weight in module._parameters.values():
            if weight is not None and (
                isinstance(weight, UninitializedParameter) or weight.dim() > 1
            ):
                raise SpecError(_wrong_kind(name, module))


def _wrong_kind(name: str, module: nn.Module) -> str:
    return (
        "layers with weights must be Linear, Conv1d or Conv2d to have backward weights (or be left "
        f"out by 'layers'), got {name!r} ({type(module).__name__})"
    )


def _check(layer: Attachable) -> None:
    name, module, _ = layer
    kind = next((k for k in _KINDS if isinstance(module, k)), None)
    if kind is None:
        raise SpecError(_wrong_kind(name, module))
    forward = type(module).forward is kind.forward and "forward" not in module.__dict__
    own_conv = getattr(type(module), "_conv_forward", None) is getattr(kind, "_conv_forward", None)
    if not (forward and own_conv):
        raise SpecError(
            f"layer {name!r} must compute PyTorch's own {kind.__name__} forward pass, got "
            f"{type(module).__name__} with another"
        )
    if isinstance(module._parameters.get("weight"), UninitializedParameter):
        raise SpecError(
            f"layer {name!r} must be initialised before a rule is attached (run one batch through "
            f"the model), got {type(module).__name__}"
        )
    if BUFFER in module._buffers:
        raise SpecError(
            f"model must have no backward weights yet, got a layer {name!r} that has; remove() the "
            "earlier credit assignment first"
        )
