"""Layers whose errors travel backwards through weights of their own.

A forward hook takes PyTorch's own output of a layer and hangs it into the graph by one custom
operation per layer type. The output's value is PyTorch's; on the way back, dW and db are the exact
ones and the error goes on through the backward weights B instead of W:

    dense  y = x Wᵀ + b        dx = dy B                   dW = dyᵀ x                  db = Σ dy
    conv   y = conv(x, W) + b  dx = conv_transpose(dy, B)  dW = filter gradient(x, dy)  db = Σ dy

Under ``no_grad``, and so in forward-mode differentiation there, a layer is PyTorch's own; forward
mode with gradients enabled is refused by PyTorch.

B has the shape of W, so B = W is backprop. Sources: Lillicrap et al. 2016; Kunin et al. 2020 and
its published code (Neural-Alignment ``operations.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from goaldriven.rules.linear_maps import Convolution, Dense, LinearMap

BUFFER = "backward_weight"
"""Name of the non-persistent buffer that holds B on its layer."""

_convolution_backward = torch.ops.aten.convolution_backward.default

Observer = Callable[["LayerFeedback", nn.Module, Tensor, Tensor], None]


@dataclass
class Switch:
    """What all attached layers of one model heed.

    Attributes
    ----------
    exact : errors travel through the forward weights.
    observer : called with (feedback, module, input, output) after each layer's forward pass.
    task_rate : what the last credit assignment multiplied the task's loss by.
    """

    exact: bool = False
    observer: Observer | None = None
    task_rate: float = 1.0


@dataclass(eq=False)
class LayerFeedback:
    """The forward hook of one attached layer; deep copies of a model carry their own."""

    name: str
    rectified: bool
    linear_map: LinearMap
    switch: Switch

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor | None:
        x = args[0] if args else kwargs["input"]
        if self.switch.observer is not None:
            self.switch.observer(self, module, x, output)
        if not (output.requires_grad and torch.is_grad_enabled()):
            return None
        if isinstance(self.linear_map, Convolution):
            return _through_convolution(self.linear_map, self.switch, module, x, output)
        return _LinearFeedback.apply(
            x, module.weight, module.bias, module._buffers[BUFFER], output.detach(), self.switch
        )


def attach_layer(
    module: nn.Module, backward_weight: Tensor, name: str, rectified: bool, switch: Switch
) -> None:
    """Give one Linear, Conv1d or Conv2d its backward weights."""
    linear_map: LinearMap = (
        Convolution.of(module) if isinstance(module, (nn.Conv1d, nn.Conv2d)) else Dense()
    )
    module.register_buffer(BUFFER, backward_weight, persistent=False)
    hook = LayerFeedback(name, rectified, linear_map, switch)
    # First, so that hooks of the user's see the output that is part of the graph.
    module.register_forward_hook(hook, prepend=True, with_kwargs=True)


def backward_weight_of(module: nn.Module) -> Tensor:
    """B of an attached layer."""
    return module._buffers[BUFFER]  # type: ignore[return-value]


def feedback_of(module: nn.Module) -> LayerFeedback | None:
    """The hook of an attached layer, None for any other module."""
    hooks = module._forward_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, LayerFeedback)), None)


def detach(model: nn.Module) -> None:
    """Take the backward weights off every layer of ``model``, a deep copy for instance.

    The model is then as if no learning rule had been attached, its parameters as trained.
    """
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, LayerFeedback):
                del module._forward_hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
                del module._buffers[BUFFER]
                module._non_persistent_buffers_set.discard(BUFFER)


def _through_convolution(
    linear_map: Convolution, switch: Switch, module: nn.Module, x: Tensor, output: Tensor
) -> Tensor:
    batched_x, y = linear_map.batched(x, output)
    result = _ConvolutionFeedback.apply(
        linear_map.padded(batched_x),
        module.weight,
        module.bias,
        module._buffers[BUFFER],
        y.detach(),
        switch,
        linear_map,
    )
    return result if batched_x is x else result[0]


class _LinearFeedback(Function):
    """The dense layer's value is given (``y``); see the module's docstring for its derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        back: Tensor,
        y: Tensor,
        switch: Switch,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, back)
        ctx.switch = switch
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, back = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        dx = dweight = dbias = None
        if needs_x:
            dx = dy.matmul(_like(weight if ctx.switch.exact else back, dy))
        if needs_weight or needs_bias:
            flat = dy.reshape(-1, weight.shape[0])
            if needs_weight:
                dweight = flat.t().mm(_like(x, dy).reshape(-1, weight.shape[1]))
            if needs_bias:
                dbias = flat.sum(0)
        return dx, dweight, dbias, None, None, None


class _ConvolutionFeedback(Function):
    """As `_LinearFeedback`, over spatial axes; ``x`` is padded where edges need it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        back: Tensor,
        y: Tensor,
        switch: Switch,
        linear_map: Convolution,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, back)
        ctx.switch, ctx.linear_map = switch, linear_map
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, back = ctx.saved_tensors
        conv = ctx.linear_map
        # One call for all three: the kernel's values matter for dx alone.
        gradients = _convolution_backward(
            dy,
            _like(x, dy),
            _like(weight if ctx.switch.exact else back, dy),
            [weight.shape[0]],
            conv.stride,
            conv.padding,
            conv.dilation,
            False,
            [0] * len(conv.stride),
            conv.groups,
            ctx.needs_input_grad[:3],
        )
        return *gradients, None, None, None, None


def _like(tensor: Tensor, dy: Tensor) -> Tensor:
    """In the error's precision, which under autocast is lower than the parameters'."""
    return tensor if tensor.dtype == dy.dtype else tensor.to(dy.dtype)
