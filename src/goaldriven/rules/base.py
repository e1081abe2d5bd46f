"""The handle that a learning rule leaves on a model; as it stands here, exact backpropagation."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from goaldriven.errors import SpecError

Closure = Callable[[], Tensor]


class CreditAssignment:
    """How error reaches the layers of one model. A step of training is

    ::

        optimizer.zero_grad(set_to_none=True)
        loss = credit.backward(closure)     # (pseudo)gradients are in .grad
        optimizer.step()                    # forward weights
        credit.step()                       # backward weights, where they learn

    This base class is backprop: nothing is attached, B ≡ Wᵀ. Other credit assignments override what
    they do otherwise.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.passes: float | None = None  # over the stimuli, since training began
        self._forward_optimizer: Callable[[], Optimizer | None] = lambda: None

    @property
    def backward_weights(self) -> Mapping[str, Tensor]:
        """Layer name → B, of the shape of W; empty where B ≡ Wᵀ or there is no such B."""
        return {}

    @property
    def reroutes_errors(self) -> bool:
        """Whether a backward pass of the model gives pseudogradients in place of gradients."""
        return bool(self.backward_weights)

    @property
    def passes_per_epoch(self) -> int:
        """Passes over the stimuli that make one epoch of training: two where steps alternate."""
        return 1

    def set_progress(self, passes: float) -> None:
        """Tell the time, before each step: passes over the stimuli since training began.

        With fractions. Schedules and delays go by it; a rule that has any refuses to go on without.
        """
        self.passes = passes

    @property
    def epoch(self) -> float:
        """The time in epochs, of `passes_per_epoch` passes each.

        Raises
        ------
        SpecError : `set_progress` has not been called.
        """
        if self.passes is None:
            raise SpecError(
                "set_progress(passes) must be called before each step of a rule with a schedule or "
                "delay epochs, got no call"
            )
        return self.passes / self.passes_per_epoch

    @property
    def task_epoch(self) -> float:
        """The time by the task's clock, which stands still while the backward weights align alone.

        Schedules of the forward weights' optimizer go by this clock.
        """
        return self.epoch

    def follow(self, optimizer: Optimizer) -> None:
        """Remember the optimizer of the forward weights, whose learning rate some rules share."""
        self._forward_optimizer = weakref.ref(optimizer)

    @property
    def task_rate(self) -> float:
        """What the last `backward` multiplied the task's loss by, 0 or 1."""
        return 1.0

    @property
    def per_stimulus(self) -> bool:
        """Whether `backward` gains by a closure that returns the losses (n,), one per stimulus."""
        return False

    def backward(self, closure: Closure) -> Tensor:
        """Leave (pseudo)gradients in ``.grad`` of the parameters, added to what is there.

        Parameters
        ----------
        closure : runs the model and returns the loss, a scalar tensor.

        Returns
        -------
        The loss, detached.
        """
        loss = closure()
        check_scalar(loss)
        loss.backward()
        return loss.detach()

    def step(self) -> None:
        """Update the backward weights, where they learn."""

    def zero_grad(self) -> None:
        """Forget the backward weights' gradients, as when a batch is skipped."""

    @contextmanager
    def true_gradients(self) -> Iterator[None]:
        """Backward passes made inside go through the forward weights, whenever the graph was built.

        For measuring the angle between pseudogradient and gradient.
        """
        yield

    def alignment_diagnostics(self) -> dict[str, tuple[float, float]]:
        """Layer name → (angle between W and B in degrees, ‖B‖/‖W‖); empty where B ≡ Wᵀ.

        The angle is arccos(⟨W, B⟩/(‖W‖‖B‖)) of the flattened tensors, NaN where one is 0.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on as if never interrupted."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of the same credit assignment on the same architecture.

        Raises
        ------
        SpecError : the state belongs to other layers or another credit assignment.
        """
        if state:
            raise SpecError(f"state must be empty for backprop, got {sorted(state)}")

    def remove(self) -> None:
        """Make the model as if nothing had been attached; its parameters stay as trained."""


def check_scalar(loss: object) -> None:
    """Refuse what a closure must not return."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        given = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise SpecError(f"closure must return the loss, a scalar tensor, got {given}")


def angle_and_ratio(weight: Tensor, backward_weight: Tensor) -> tuple[float, float]:
    """(angle in degrees, ‖B‖/‖W‖) of two tensors of one shape, seen as vectors."""
    w, b = (t.detach().flatten().double() for t in (weight, backward_weight))
    w_norm, b_norm = w.norm(), b.norm()
    cosine = (torch.dot(w, b) / (w_norm * b_norm)).clamp(-1.0, 1.0)
    return float(torch.rad2deg(torch.acos(cosine))), float(b_norm / w_norm)
