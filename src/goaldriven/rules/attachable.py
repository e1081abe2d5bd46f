"""Which layers of a model get backward weights, and how those are drawn."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from goaldriven.errors import SpecError, unknown
from goaldriven.layers import LayerInfo
from goaldriven.rules.feedback import is_attached

_KINDS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)
# Scales and shifts, however many axes they have, are no weights between units.
_WEIGHTLESS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU)


class Attachable(NamedTuple):
    """One layer that gets backward weights."""

    name: str
    module: nn.Module
    rectified: bool


def find_layers(
    model: nn.Module, layers: Sequence[LayerInfo | str] | None, *, parametrized: bool = False
) -> list[Attachable]:
    """The layers to attach to, in the order in which their backward weights are drawn.

    With ``layers`` these and no others; the rest of the model keeps exact backprop. Without, every
    Linear, Conv1d and Conv2d; what ``model.layers`` (a sequence of `LayerInfo`) says of them is
    used. Where nothing is said all but the last are taken to be rectified.

    Parameters
    ----------
    parametrized : whether layers may have weights or biases that `torch.nn.utils.parametrize`
        computes at every use. A layer with a backward pass of its own must not: it would use others
        than the forward pass did.

    Raises
    ------
    SpecError : ``layers`` is no list of names; a name that is no layer, or given twice; a module
        with weights of another kind; a layer whose forward pass is not PyTorch's own, or that is
        not initialised yet or parametrized; weights that two layers share, or that are frozen; the
        model is attached already.
    """
    refuse_attached(model)
    if layers is None:
        _refuse_other_weights(model)
        found = _all_layers(model)
    else:
        found = _named_layers(model, layers)
    if not found:
        raise SpecError("model must have a Linear, Conv1d or Conv2d layer, got none")
    for layer in found:
        _check(layer, parametrized)
    _refuse_shared_weights(model, found)
    return found


def supported_layers(model: nn.Module) -> list[str]:
    """The names of the layers that can have backward weights.

    Left out are layers whose weights are parametrized and, with all that is in them, PyTorch's own
    modules with weights of another kind, which need not call their Linear layers as such.
    """
    opaque = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if _has_other_weights(module) and type(module).__module__.startswith("torch.nn.")
    )
    return [
        layer.name
        for layer in _all_layers(model)
        if not (layer.name.startswith(opaque) or is_parametrized(layer.module))
    ]


def refuse_attached(model: nn.Module) -> None:
    """Refuse a model to which a rule is attached.

    Raises
    ------
    SpecError : a rule is attached, to whatever layer.
    """
    attached = [name for name, module in model.named_modules() if is_attached(module)]
    if attached:
        name = next(filter(None, attached), None)
        which = f"a layer {name!r}" if name else "one"
        raise SpecError(
            f"model must have no learning rule attached yet, got {which} that has; remove() "
            "the earlier credit assignment first"
        )


def draw_backward_weight(module: nn.Module, generator: torch.Generator) -> Tensor:
    """B by the initialiser of W, independently drawn, in W's shape, layout, precision and place.

    The initialiser is ``module.initializer(tensor, generator)``, which fills a tensor, where the
    module has one; otherwise a normal of mean 0 and of W's present standard deviation (around 0).
    Where these would give B = 0, through which no error comes, as of a W that starts at 0, the
    standard deviation is 1/√fan_in, fan_in being the number of inputs of one output unit.
    """
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device=generator.device)
    initializer: Any = getattr(module, "initializer", None)
    if initializer is not None:
        initializer(drawn, generator)
    if initializer is None or not drawn.any():
        drawn.normal_(generator=generator)
        deviation = weight.square().mean().sqrt().to(drawn)
        drawn *= deviation if deviation else max(math.prod(weight.shape[1:]), 1) ** -0.5
    return torch.empty_like(weight).copy_(drawn)


def kernels(model: nn.Module) -> list[nn.Parameter]:
    """The weights of Linear and convolutional layers: what an L2 penalty acts on."""
    return _own(model, "weight")


def biases(model: nn.Module) -> list[nn.Parameter]:
    """The biases of the layers whose weights are `kernels`."""
    return _own(model, "bias")


def _own(model: nn.Module, name: str) -> list[nn.Parameter]:
    modules = (m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd)))
    own = (module._parameters.get(name) for module in modules)
    return list({id(tensor): tensor for tensor in own if tensor is not None}.values())


def _names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _KINDS)]


def _named_layers(model: nn.Module, layers: Sequence[LayerInfo | str]) -> list[Attachable]:
    given: object = layers
    if isinstance(given, str) or not isinstance(given, Collection):
        raise SpecError(f"layers must be a list of names of layers, got {given!r}")
    paths = dict(model.named_modules(remove_duplicate=False))
    seen: dict[int, str] = {}
    known = _rectified(model)
    found = []
    for i, layer in enumerate(layers):
        if not isinstance(layer, (str, LayerInfo)):
            raise SpecError(f"layers must be a list of names of layers, got {layer!r} among them")
        name = layer if isinstance(layer, str) else layer.name
        if name not in paths:
            raise SpecError(unknown("layers: every name", name, _names(model)))
        module = paths[name]
        if id(module) in seen:
            raise SpecError(f"layers must name a layer once, got {seen[id(module)]!r} and {name!r}")
        seen[id(module)] = name
        if isinstance(layer, str):
            rectified = known.get(id(module), i < len(layers) - 1)
        else:
            rectified = layer.rectified
        found.append(Attachable(name, module, rectified))
    return found


def _all_layers(model: nn.Module) -> list[Attachable]:
    modules = [(name, m) for name, m in model.named_modules() if isinstance(m, _KINDS)]
    known, last = _rectified(model), len(modules) - 1
    return [
        Attachable(name, module, known.get(id(module), i < last))
        for i, (name, module) in enumerate(modules)
    ]


def _rectified(model: nn.Module) -> dict[int, bool]:
    """What ``model.layers`` says of the layers, by the module's identity."""
    given = getattr(model, "layers", None)
    if isinstance(given, (tuple, list)) and all(isinstance(info, LayerInfo) for info in given):
        return {id(model.get_submodule(info.name)): info.rectified for info in given}
    return {}


def _has_other_weights(module: nn.Module) -> bool:
    """Whether a module itself holds weights between units and is not of a supported kind."""
    if isinstance(module, (*_KINDS, *_WEIGHTLESS, ParametrizationList)):
        return False
    own = [weight for weight in module._parameters.values() if weight is not None]
    return any(isinstance(w, UninitializedParameter) or w.dim() > 1 for w in own)


def _refuse_other_weights(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if _has_other_weights(module):
            raise SpecError(_wrong_kind(name, module))


def _refuse_shared_weights(model: nn.Module, found: Sequence[Attachable]) -> None:
    """Two layers with one W would each have a B of their own, and W would get errors of both."""
    chosen = {layer.name for layer in found}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for weight in module._parameters.values():
            if weight is None or weight.dim() < 2:
                continue
            other = owners.setdefault(id(weight), name)
            if other != name and {other, name} & chosen:
                raise SpecError(
                    f"every layer must have weights of its own, got {_layer(other)} and "
                    f"{_layer(name)}, which share them"
                )


def _wrong_kind(name: str, module: nn.Module) -> str:
    return (
        "layers with weights must be Linear, Conv1d or Conv2d to have backward weights (or be left "
        "on backprop by 'layers' or unsupported='backprop'), got "
        f"{_quoted(name)} ({type(module).__name__})"
    )


def _quoted(name: str) -> str:
    return repr(name) if name else "the model itself"


def _layer(name: str) -> str:
    return f"layer {name!r}" if name else "the model itself"


def _check(layer: Attachable, parametrized: bool) -> None:
    name, module, _ = layer
    kind = next((k for k in _KINDS if isinstance(module, k)), None)
    if kind is None:
        raise SpecError(_wrong_kind(name, module))
    forward = type(module).forward is kind.forward and "forward" not in module.__dict__
    own_conv = getattr(type(module), "_conv_forward", None) is getattr(kind, "_conv_forward", None)
    if not (forward and own_conv):
        raise SpecError(
            f"{_layer(name)} must compute PyTorch's own {kind.__name__} forward pass, got "
            f"{type(module).__name__} with another"
        )
    if isinstance(module._parameters.get("weight"), UninitializedParameter):
        raise SpecError(
            f"{_layer(name)} must be initialised before a rule is attached (run one batch through "
            f"the model), got {type(module).__name__}"
        )
    if is_parametrized(module) and not parametrized:
        raise SpecError(
            f"{_layer(name)} must have weights and biases that are its own parameters, got a "
            f"parametrized {kind.__name__}; leave it out by 'layers' or unsupported='backprop', "
            "and it keeps exact backprop"
        )
    weight = module._parameters.get("weight")
    if weight is not None and not weight.requires_grad:
        raise SpecError(
            f"{_layer(name)} must have weights that learn, got frozen ones; leave it out by "
            "'layers', and it keeps exact backprop"
        )
