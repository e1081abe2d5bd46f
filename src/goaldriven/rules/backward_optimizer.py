"""The optimizer of backward weights that learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from goaldriven.errors import SpecError
from goaldriven.rules.noise import Noise
from goaldriven.rules.optimizers import (
    build_optimizer,
    draw_updates_from,
    scaled_learning_rate,
    schedule_factor,
    set_learning_rate,
)
from goaldriven.rules.perturbation_passes import noise_source
from goaldriven.specs.optimizers import SGDM, Adam

_KEYS = {"name", "state", "noise"}


class BackwardWeightOptimizer:
    """PyTorch's optimizer over a model's backward weights, which may be replaced by moved ones.

    Parameters
    ----------
    spec : of the optimizer. Its weight decay acts on every backward weight.
    weights : gives the backward weights as they now are, always in the same order: moving a model
        (`.to`) makes new buffers, and the optimizer goes on with those. A bound method, so that
        deep copies of a credit assignment step their own.
    batch_size : stimuli per step, for a learning rate that is scaled by it.
    delayed : the backward weights learn alone at first; the schedule then has no warm-up.
    noise : draws the noise of noisy updates; equal on all ranks, see `update_noise_source`.
    """

    def __init__(
        self,
        spec: SGDM | Adam,
        weights: Callable[[], Iterable[Tensor]],
        batch_size: int | None,
        delayed: bool,
        noise: Noise,
    ) -> None:
        self.spec, self.noise = spec, noise
        self._weights, self._batch_size = weights, batch_size
        without_warmup = spec.schedule.model_copy(update={"warmup_epochs": 0})
        self._schedule = without_warmup if delayed else spec.schedule
        self._build(self._weights())

    @property
    def timed(self) -> bool:
        """Whether the learning rate depends on the time."""
        return bool(self._schedule.warmup_epochs or self._schedule.drop_epochs)

    def learning_rate(self, epoch: float) -> float:
        """By the schedule, at a time of the task's clock in epochs."""
        full = scaled_learning_rate(self.spec, self._batch_size)
        return full * schedule_factor(self._schedule, epoch)

    def _follow_model(self) -> None:
        """Go on with the backward weights as they now are."""
        if all(a is b for a, b in zip(self._weights(), self._stepped, strict=True)):
            return
        state = self._optimizer.state_dict()["state"]
        self._build(self._weights())
        self._restore(state)

    def draw_from(self, noise: Noise) -> None:
        """Go on with noise of updates from elsewhere."""
        self.noise = noise
        draw_updates_from(self._optimizer, noise)

    def step(self, learning_rate: float, weight_decay_rate: float = 1.0) -> None:
        """Descend the gradients in ``.grad``, and forget them.

        Parameters
        ----------
        weight_decay_rate : what the weight decay is multiplied by.
        """
        self._follow_model()
        set_learning_rate(self._optimizer, learning_rate)
        for group in self._optimizer.param_groups:
            group["weight_decay"] = self.spec.weight_decay * weight_decay_rate
        self._optimizer.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self._weights():
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Momenta and the state of the noise; settings are the specification's."""
        return {
            "name": self.spec.name,
            "state": self._optimizer.state_dict()["state"],
            "noise": self.noise.get_state(),
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse what `load_state_dict` cannot restore.

        Raises
        ------
        SpecError : the state is of another optimizer, or incomplete.
        """
        if set(state) != _KEYS or state["name"] != self.spec.name:
            raise SpecError(
                f"state must hold that of the backward weights' optimizer {self.spec.name}, got "
                f"one of {state.get('name', sorted(state))}"
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of the same optimizer of backward weights of the same shapes.

        Raises
        ------
        SpecError : as `check_state`.
        """
        self.check_state(state)
        self._follow_model()
        self._restore(state["state"])
        self.noise.set_state(state["noise"])

    def __getstate__(self) -> dict[str, Any]:
        """PyTorch's optimizers lose their hooks, and so the noise of updates, when copied."""
        return {**self.__dict__, "_optimizer": self._optimizer.state_dict()["state"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._build(self._stepped)
        self._restore(state["_optimizer"])

    def _build(self, weights: Iterable[Tensor]) -> None:
        self._stepped = list(weights)
        groups: list[dict[str, Any]] = [{"params": self._stepped}]
        self._optimizer = build_optimizer(self.spec, groups, self._batch_size, self.noise)

    def _restore(self, state: Mapping[int, Any]) -> None:
        """Momenta alone: the settings stay those of this optimizer and this device."""
        now = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**now, "state": dict(state)})


def update_noise_source(generator: torch.Generator) -> torch.Generator:
    """What draws the noise of updates: a generator seeded by another.

    That is the one, equal on all ranks, which drew the backward weights, so that these stay equal.
    """
    return noise_source(None, generator)
