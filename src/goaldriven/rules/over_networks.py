"""Operations of all networks of a stack at once, called inside `torch.vmap` over networks.

`torch.autograd.Function` has them as a static method ``vmap``. Its own way there takes longer than
all else that the host does in a step (signatures, trees of arguments), 1.5 ms of 4.6 for a KNet4;
where PyTorch has what it takes, `OverNetworks` goes there directly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd import Function

try:
    from torch._C import _are_functorch_transforms_active
    from torch._C._functorch import _add_batch_dim, _unwrap_batched
    from torch._functorch.pyfunctorch import (
        VmapInterpreter,
        retrieve_current_functorch_interpreter,
    )
except ImportError:  # private names: another PyTorch may have others
    _DIRECT = False
else:
    _DIRECT = True


class Info(NamedTuple):
    """What ``vmap`` is told besides its arguments, as PyTorch tells it."""

    batch_size: int


class OverNetworks(Function):
    """Base of operations that have ``vmap`` and nothing else.

    ``vmap(info, in_dims, *args)`` gets the tensors of all networks with the place of the network
    axis in each, None where all share it, and returns the output with the axis' place in it.
    """

    @staticmethod
    def forward(*args: Any) -> Any:
        raise NotImplementedError(
            "a stack of networks runs inside torch.vmap over networks only, got a call outside"
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Never reached: operations inside ``vmap`` keep what they need."""

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if not (_DIRECT and _are_functorch_transforms_active()):
            return super().apply(*args)
        interpreter = retrieve_current_functorch_interpreter()
        if not isinstance(interpreter, VmapInterpreter):
            return super().apply(*args)
        level = interpreter.level()
        parts = [_unwrap_batched(a, level) if isinstance(a, Tensor) else (a, None) for a in args]
        dims = tuple(dim for _, dim in parts)
        if all(dim is None for dim in dims):
            return super().apply(*args)
        with interpreter.lower():
            given = (tensor for tensor, _ in parts)
            output, dim = cls.vmap(Info(interpreter.batch_size()), dims, *given)
        return output if dim is None else _add_batch_dim(output, dim, level)
