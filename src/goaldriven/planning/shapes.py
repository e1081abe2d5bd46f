"""Tensors that have shapes and no data, on which a model's code runs to be counted.

They are PyTorch's meta tensors, except that they say they are on the CPU, so that the package's own
code takes the way that it takes there. PyTorch's fake tensors do that too, ten times as slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_META = torch.device("meta")
_CPU = torch.device("cpu")
_DEVICE_OF = Tensor.device.__get__
_NO_OPERATIONS = ("prim", "profiler")
"""Namespaces of what is no work of the device: questions about tensors, marks of the profiler."""


class Operations(TorchDispatchMode):
    """Sees every operation that is started: their number, and the FLOPs of products.

    Attributes
    ----------
    count : operations, views left out.
    flops : of matrix products and convolutions, a multiply-add being two; PyTorch's formulas.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count, self.flops = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return _one(args[0])  # a rule looks at a number (is all finite?): say yes
        kwargs = kwargs or {}
        kind = func._overloadpacket
        shortcut = _SHORTCUTS.get(kind)
        out = func(*args, **kwargs) if shortcut is None else shortcut(func, args, kwargs)
        if func.namespace not in _NO_OPERATIONS and not func.is_view:
            self.count += 1
            if kind in flop_registry:
                self.flops += flop_registry[kind](*args, **kwargs, out_val=out)
        return out


@contextmanager
def without_data() -> Iterator[Operations]:
    """New tensors have no data inside, and whatever is done with them is counted."""
    operations = Operations()
    with _META, _AsOnCpu(), operations:
        yield operations


class _AsOnCpu(TorchFunctionMode):
    """Tensors say that they are on the CPU; what is asked for there is made without data."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func == _DEVICE_OF:
            return _CPU
        if func is Tensor.cpu:
            return args[0]
        if func is Tensor.tolist:
            return _ones(args[0].shape, _one(args[0]))
        if not kwargs:
            return func(*map(_moved, args))
        named = {name: _moved(v) for name, v in kwargs.items() if name != "generator"}
        return func(*map(_moved, args), **named)  # without the generator: nothing is drawn


def _one(tensor: Tensor) -> float | int | bool:
    if tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.is_floating_point() else 1


def _ones(shape: Sequence[int], one: float | int | bool) -> Any:
    """Nested lists."""
    return [_ones(shape[1:], one) for _ in range(shape[0])] if shape else one


def _moved(value: Any) -> Any:
    is_cpu = value == "cpu" if isinstance(value, str) else isinstance(value, torch.device)
    return _META if is_cpu else value


# PyTorch works out the shapes of the following in Python, at length.


def _in_place(func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    return args[0]


def _nothing(func: Any, args: tuple[Any, ...], kwargs: Any) -> None:
    """For fused optimizers, which have no shapes to work out, and no version for meta tensors."""


def _elementwise(func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Of a float tensor and others of its kind that spread over its shape, or numbers."""
    first = args[0]
    if (
        isinstance(first, Tensor)
        and first.is_floating_point()
        and all(_spreads(a, first) for a in args[1:] if isinstance(a, Tensor))
        and "out" not in kwargs
    ):
        return _like(first)
    return func(*args, **kwargs)


def _spreads(other: Tensor, over: Tensor) -> bool:
    if other.dtype != over.dtype or other.dim() > over.dim():
        return False
    pairs = zip(reversed(other.shape), reversed(over.shape), strict=False)
    return all(size in (1, full) for size, full in pairs)


def _like(x: Tensor) -> Tensor:
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x.new_empty_strided(x.shape, x.stride())
    return torch.empty_like(x)


def _batch_norm(func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    x, training = args[0], args[5]
    kept = x.new_empty((x.shape[1] if training else 0,))
    return _like(x), kept, kept.new_empty(kept.shape)


def _batch_norm_backward(func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    x, wanted = args[1], args[9]
    of_channels = (x.new_empty((x.shape[1],)) if wanted[i] else None for i in (1, 2))
    return (_like(x) if wanted[0] else None, *of_channels)


def _table() -> dict[Any, Callable[[Any, tuple[Any, ...], Any], Any]]:
    aten = torch.ops.aten
    in_place = (
        aten.add_, aten.sub_, aten.mul_, aten.div_, aten.addcmul_, aten.relu_, aten.zero_,
        aten.fill_, aten.copy_, aten.normal_, aten.uniform_, aten.erfinv_,
    )  # fmt: skip
    elementwise = (
        aten.add, aten.sub, aten.mul, aten.div, aten.relu, aten.threshold_backward, aten.reciprocal,
        aten.tanh, aten.neg,
    )  # fmt: skip
    fused = (aten._fused_sgd_, aten._fused_adam_)
    return {
        **dict.fromkeys(in_place, _in_place),
        **dict.fromkeys(elementwise, _elementwise),
        **dict.fromkeys(fused, _nothing),
        aten.native_batch_norm: _batch_norm,
        aten.native_batch_norm_backward: _batch_norm_backward,
    }


_SHORTCUTS = _table()
