"""Which calls of layers belong together: the forward passes of a model.

Direct feedback needs the error at the output of the layer that is called last in a forward pass, at
the inputs of all that are called in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven.rules.feedback import Attached


def backward_pass() -> int:
    """The number of the backward pass that is under way, −1 if there is none."""
    return torch._C._current_graph_task_id()


class ForwardPass:
    """One call of the model.

    Attributes
    ----------
    grad : gradients were enabled as it began.
    reentrant : parts of it are checkpointed so, and walked back in backward passes of their own.
    last : the call of the layer that was called last.
    error : e, the gradient at that call's output (n, n_out), once a backward pass has come there.
    task : which backward pass that was.
    """

    def __init__(self, grad: bool) -> None:
        self.grad = grad
        self.reentrant = False
        self.last: Call | None = None
        self.error: Tensor | None = None
        self.task = -1

    @property
    def returning(self) -> bool:
        """Whether the backward pass under way is one of this pass, and has come to its output.

        The error may be of an earlier backward pass through the same graph.
        """
        return self.reentrant or self.task == backward_pass()


class Call:
    """One call of a layer; ``again``: reentrant checkpointing will call it again, or has."""

    def __init__(self, layer: str, samples: int, again: bool) -> None:
        self.layer, self.samples, self.again = layer, samples, again


class Passes:
    """The forward passes of one model. Copies of a model begin with none.

    Layers that checkpointing calls again, during a backward pass, belong to the forward pass whose
    error came last, or before any has come to the latest.

    Attributes
    ----------
    owners : layer → the layer that has the D of its input.
    """

    def __init__(self) -> None:
        self.owners: dict[str, Any] = {}
        self._running: ForwardPass | None = None
        self._latest: ForwardPass | None = None
        self._returning: ForwardPass | None = None

    def __reduce__(self) -> tuple[type[Passes], tuple[()]]:
        return Passes, ()

    @contextmanager
    def one(self) -> Iterator[None]:
        """While the model is called."""
        before, self._running = self._running, ForwardPass(torch.is_grad_enabled())
        if self._running.grad:
            self._latest, self._returning = self._running, None
        try:
            yield
        finally:
            self._running = before

    @property
    def again(self) -> bool:
        """Whether a layer that is called now is called again, by checkpointing."""
        return self._running is None and backward_pass() != -1

    def current(self) -> ForwardPass | None:
        """The pass that a layer called now belongs to, None if it is called by itself."""
        return (self._returning or self._latest) if self.again else self._running

    def called(self, during: ForwardPass, layer: str, samples: int) -> Call:
        """Note a call of a layer."""
        call = Call(layer, samples, self.again or not torch.is_grad_enabled())
        last = during.last
        if not self.again:
            during.last = call
        elif last is not None and last.again and last.layer == layer:
            during.last, during.error = call, None
        return call

    def receive(self, during: ForwardPass, call: Call, gradient: Tensor) -> None:
        """Keep the gradient at a call's output, if that is the network's output."""
        if during.last is call:
            during.error = gradient.reshape(call.samples, -1)
            during.task = backward_pass()
            self._returning = during


class WholeModel(Attached):
    """The forward pass of the model, which is never compiled."""

    def __init__(self, module: nn.Module, passes: Passes) -> None:
        super().__init__(module)
        self.passes = passes

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.before or type(self.module).forward.__get__(self.module))

    @torch.compiler.disable
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.passes.one():
            return self.plain(*args, **kwargs)
