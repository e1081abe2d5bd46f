"""Layers whose errors travel backwards in a way of their own.

An attached layer runs PyTorch's own forward pass and hangs the output into the graph by one custom
operation per layer type. The output's value is PyTorch's; on the way back, dW and db are the exact
ones and the error goes on through the backward weights B instead of W:

    dense  y = x Wᵀ + b        dx = dy B                   dW = dyᵀ x                  db = Σ dy
    conv   y = conv(x, W) + b  dx = conv_transpose(dy, B)  dW = filter gradient(x, dy)  db = Σ dy

Under ``no_grad``, and so in forward-mode differentiation there, a layer is PyTorch's own; forward
mode with gradients enabled is refused by PyTorch.

B has the shape of W, so B = W is backprop. Sources: Lillicrap et al. 2016; Kunin et al. 2020 and
its published code (Neural-Alignment ``operations.py``).

A layer is attached by an attribute ``forward`` of the module, not by a forward hook: code compiled
by ``torch.compile`` is guarded against changes of the former only, and would go on with plain
backprop after the latter. Attached layers are part of the compiled graph, without graph breaks;
while an observer is set (alignment losses of activations) they run outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from goaldriven.errors import SpecError
from goaldriven.rules.linear_maps import Convolution, Dense, LinearMap

BUFFER = "backward_weight"
"""Name of the non-persistent buffer that holds B on its layer, where B is the layer's own."""

_MARK = "_goaldriven_rule"

_convolution_backward = torch.ops.aten.convolution_backward.default

Observer = Callable[["LayerFeedback", nn.Module, Tensor, Tensor], None]


class Switch:
    """What all attached layers of one model heed.

    Attributes
    ----------
    exact : errors travel through the forward weights.
    observer : called with (feedback, module, input, output) after each layer's forward pass.
    task_rate : what the last credit assignment multiplied the task's loss by.
    """

    def __init__(self) -> None:
        self.task_rate = 1.0
        self._observer: Observer | None = None
        # Compiled code is compiled anew whenever a value changes that it has read: of the observer
        # it reads this only, and of ``exact`` a tensor, whose value is no part of the code.
        self.observing = False
        self.exact_tensor = torch.zeros((), dtype=torch.bool)
        self._exact = False

    @property
    def exact(self) -> bool:
        return self._exact

    @exact.setter
    def exact(self, exact: bool) -> None:
        self._exact = exact
        # Through .data: a graph that has saved the tensor is to see the change, not to refuse it.
        self.exact_tensor.data.fill_(exact)

    @property
    def observer(self) -> Observer | None:
        return self._observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._observer = observer
        self.observing = observer is not None


class Carrier:
    """How an error gets from a layer's output to its input."""

    buffers: tuple[str, ...] = ()
    """The names of the buffers it keeps on the layer."""

    def renew(self, module: nn.Module) -> None:
        """Called as a forward pass of the layer begins."""

    def held(self, module: nn.Module) -> Tensor | None:
        """What B is made of besides W, where it is made of anything."""
        return None

    def kernel(self, weight: Tensor, held: Tensor | None) -> Tensor | None:
        """B, in the shape of W; None where `replacement` is the gradient at the input."""
        return None

    def replacement(self, x: Tensor) -> Tensor:
        """What stands for the gradient at the input ``x`` where there is no B."""
        raise NotImplementedError


class OwnWeights(Carrier):
    """Backward weights of the layer's own, kept in `BUFFER`: feedback alignment."""

    buffers = (BUFFER,)

    def held(self, module: nn.Module) -> Tensor | None:
        return module._buffers[BUFFER]

    def kernel(self, weight: Tensor, held: Tensor | None) -> Tensor | None:
        return held


class Attached:
    """Base of what a credit assignment puts in the place of a module's ``forward``.

    ``before`` is the module's own attribute of that name, if it had one. Deep copies of a model
    carry their own.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before: Callable[..., Any] | None = module.__dict__.get("forward")
        module.forward = self  # type: ignore[assignment]

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """The forward pass as it was before."""
        if self.before is not None:
            return self.before(*args, **kwargs)
        return type(self.module).forward(self.module, *args, **kwargs)

    def release(self) -> None:
        """Give the module its own forward pass back."""
        if self.before is None:
            del self.module.__dict__["forward"]
        else:
            self.module.forward = self.before


class LayerFeedback(Attached):
    """The forward pass of one attached Linear, Conv1d or Conv2d."""

    def __init__(
        self, module: nn.Module, carrier: Carrier, name: str, rectified: bool, switch: Switch
    ) -> None:
        super().__init__(module)
        self.name, self.rectified = name, rectified
        self.carrier, self.switch = carrier, switch
        self.linear_map: LinearMap = (
            Convolution.of(module) if isinstance(module, (nn.Conv1d, nn.Conv2d)) else Dense()
        )

    def __call__(self, input: Tensor) -> Tensor:
        return self._observed(input) if self.switch.observing else self._run(input, None)

    @torch.compiler.disable
    def _observed(self, x: Tensor) -> Tensor:
        return self._run(x, self.switch.observer)

    def _run(self, x: Tensor, observer: Observer | None) -> Tensor:
        self.carrier.renew(self.module)
        output = self.plain(x)
        if observer is not None:
            observer(self, self.module, x, output)
        if not (output.requires_grad and torch.is_grad_enabled()):
            return output
        return self.hang(x, output, self.carrier)

    def hang(self, x: Tensor, output: Tensor, carrier: Carrier) -> Tensor:
        """The output as part of a graph in which ``carrier`` brings the error to the input."""
        module, switch = self.module, self.switch
        held = carrier.held(module)
        compiling = torch.compiler.is_compiling()
        given = (module.weight, module.bias, held, switch.exact_tensor if compiling else None)
        if not isinstance(self.linear_map, Convolution):
            return _DenseFeedback.apply(x, *given, output.detach(), switch, carrier)
        batched_x, y = self.linear_map.batched(x, output)
        padded = self.linear_map.padded(batched_x)
        result = _ConvolutionFeedback.apply(
            padded, *given, y.detach(), switch, carrier, self.linear_map
        )
        return result if batched_x is x else result[0]

    def release(self) -> None:
        super().release()
        for name in self.carrier.buffers:
            self.module._buffers.pop(name, None)
            self.module._non_persistent_buffers_set.discard(name)


def multiply(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    held: Tensor | None,
    switch: Switch,
    carrier: Carrier,
) -> Tensor:
    """Dense layers of several networks, (k, n, inputs) → (k, n, outputs), with their own B."""
    with torch.no_grad():
        transposed = weight.mT
        y = x.matmul(transposed) if bias is None else torch.baddbmm(bias[:, None], x, transposed)
    if not torch.is_grad_enabled():
        return y
    return _DenseFeedback.apply(x, weight, bias, held, None, y, switch, carrier)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    held: Tensor | None,
    switch: Switch,
    carrier: Carrier,
    conv: Convolution,
) -> Tensor:
    """A convolution of padded inputs, of several networks where it has their groups."""
    with torch.no_grad():
        y = torch.convolution(
            x,
            weight,
            bias,
            conv.stride,
            conv.padding,
            conv.dilation,
            False,
            [0] * len(conv.stride),
            conv.groups,
        )
    if not torch.is_grad_enabled():
        return y
    return _ConvolutionFeedback.apply(x, weight, bias, held, None, y, switch, carrier, conv)


def feedback_of(module: nn.Module) -> LayerFeedback | None:
    """What has taken the place of an attached layer's forward pass, None for any other module."""
    attached = module.__dict__.get("forward")
    while isinstance(attached, Attached) and not isinstance(attached, LayerFeedback):
        attached = attached.before
    return attached if isinstance(attached, LayerFeedback) else None


def backward_weight_of(module: nn.Module) -> Tensor:
    """B of an attached layer: the tensor itself, where the layer has one, else made from W.

    Raises
    ------
    SpecError : the layer has no backward weights.
    """
    feedback = feedback_of(module)
    if feedback is not None:
        weight: Tensor = module.weight.detach()  # type: ignore[operator]
        kernel = feedback.carrier.kernel(weight, feedback.carrier.held(module))
        if kernel is not None:
            return kernel
    raise SpecError(f"layer must have backward weights, got {module} without")


def mark(model: nn.Module, name: str) -> None:
    """Have a model known as attached to, by a rule that takes the place of no forward pass."""
    model.__dict__[_MARK] = name


def is_attached(module: nn.Module) -> bool:
    """Whether a credit assignment has put something on the module itself."""
    return isinstance(module.__dict__.get("forward"), Attached) or _MARK in module.__dict__


def detach(model: nn.Module) -> None:
    """Take what a credit assignment has put on ``model``, a deep copy for instance, off again.

    The model is then as if no learning rule had been attached, its parameters as trained.
    """
    for module in model.modules():
        module.__dict__.pop(_MARK, None)
        while isinstance(attached := module.__dict__.get("forward"), Attached):
            attached.release()


@torch.library.custom_op("goaldriven::kernel_for_error", mutates_args=())
def _kernel_for_error(dy: Tensor, weight: Tensor, back: Tensor, exact: Tensor) -> Tensor:
    """A copy of W or of B, in the precision of the error, as ``exact`` says when this is run.

    For compiled code, which would otherwise hold the choice of the time when it was compiled. It
    depends on the error, or it would be run, and the choice made, in the forward pass.
    """
    chosen = weight if bool(exact) else back
    return torch.empty_like(weight, dtype=dy.dtype).copy_(chosen)


@_kernel_for_error.register_fake
def _(dy: Tensor, weight: Tensor, back: Tensor, exact: Tensor) -> Tensor:
    return torch.empty_like(weight, dtype=dy.dtype)


def _kernel(
    ctx: Any, dy: Tensor, weight: Tensor, held: Tensor | None, exact: Tensor | None
) -> Tensor | None:
    """What the error goes through, None where it is replaced."""
    if exact is None and ctx.switch.exact:
        return _like(weight, dy)
    kernel = ctx.carrier.kernel(weight, held)
    if kernel is None:
        return None
    return _like(kernel, dy) if exact is None else _kernel_for_error(dy, weight, kernel, exact)


class _DenseFeedback(Function):
    """The dense layer's value is given (``y``); see the module's docstring for its derivative.

    Layers of several networks have one more axis, before the others: x is then (k, n, inputs).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        held: Tensor | None,
        exact: Tensor | None,
        y: Tensor,
        switch: Switch,
        carrier: Carrier,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, held, exact)
        ctx.switch, ctx.carrier = switch, carrier
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, held, exact = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        dx = dweight = dbias = None
        if needs_x:
            kernel = _kernel(ctx, dy, weight, held, exact)
            dx = ctx.carrier.replacement(x) if kernel is None else dy.matmul(kernel)
        if needs_weight or needs_bias:
            *networks, n_out, n_in = weight.shape
            flat = dy.reshape(*networks, -1, n_out)
            if needs_weight:
                dweight = flat.mT.matmul(_like(x, dy).reshape(*networks, -1, n_in))
            if needs_bias:
                dbias = flat.sum(-2)
        return dx, dweight, dbias, None, None, None, None, None


class _ConvolutionFeedback(Function):
    """As `_DenseFeedback`, over spatial axes; ``x`` is padded where edges need it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        held: Tensor | None,
        exact: Tensor | None,
        y: Tensor,
        switch: Switch,
        carrier: Carrier,
        linear_map: Convolution,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, held, exact)
        ctx.switch, ctx.carrier, ctx.linear_map = switch, carrier, linear_map
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, held, exact = ctx.saved_tensors
        conv = ctx.linear_map
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        kernel = _kernel(ctx, dy, weight, held, exact) if needs_x else None
        # One call for all three: the kernel's values matter for dx alone.
        dx, dweight, dbias = _convolution_backward(
            dy,
            _like(x, dy),
            _like(weight, dy) if kernel is None else kernel,
            [weight.shape[0]],
            conv.stride,
            conv.padding,
            conv.dilation,
            False,
            [0] * len(conv.stride),
            conv.groups,
            (kernel is not None, needs_weight, needs_bias),
        )
        if needs_x and kernel is None:
            dx = ctx.carrier.replacement(x)
        return dx, dweight, dbias, None, None, None, None, None, None


def _like(tensor: Tensor, dy: Tensor) -> Tensor:
    """In the error's precision, which under autocast is lower than the parameters'."""
    return tensor if tensor.dtype == dy.dtype else tensor.to(dy.dtype)
