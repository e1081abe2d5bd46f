"""From an optimizer's specification to PyTorch's optimizer and its learning rate over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from goaldriven.rules.noise import Noise, Streams, fill_normal
from goaldriven.specs.optimizers import SGDM, Adam, Schedule

Groups = list[dict[str, Any]]


def scaled_learning_rate(spec: SGDM | Adam, batch_size: int | None) -> float:
    """The learning rate, times batch size over ``reference_batch_size`` where both are given."""
    if spec.reference_batch_size is None or batch_size is None:
        return spec.learning_rate
    return spec.learning_rate * batch_size / spec.reference_batch_size


def schedule_factor(schedule: Schedule, epoch: float) -> float:
    """What the schedule multiplies the learning rate by at a time in (fractional) epochs.

    min(epoch / warmup_epochs, 1) · drop_factor^(number of drop epochs ≤ epoch).
    Source: Kunin et al. 2020's published code, ``learning_rate.py``.
    """
    warm = min(epoch / schedule.warmup_epochs, 1.0) if schedule.warmup_epochs else 1.0
    return warm * schedule.drop_factor ** sum(epoch >= drop for drop in schedule.drop_epochs)


def learning_rate_at(spec: SGDM | Adam, epoch: float, batch_size: int | None = None) -> float:
    """The learning rate at a time in (fractional) epochs since training began.

    >>> spec = SGDM(learning_rate=0.4, schedule={"warmup_epochs": 2, "drop_epochs": (30,)})
    >>> [round(learning_rate_at(spec, epoch, batch_size=128), 3) for epoch in (0, 1, 2, 30)]
    [0.0, 0.1, 0.2, 0.02]
    """
    return scaled_learning_rate(spec, batch_size) * schedule_factor(spec.schedule, epoch)


def build_optimizer(
    spec: SGDM | Adam, groups: Groups, batch_size: int | None, noise: Noise
) -> Optimizer:
    """PyTorch's optimizer over parameter groups, at the full learning rate.

    ``noise`` draws the noise of noisy updates, where the specification has any.
    """
    tensors = [tensor for group in groups for tensor in group["params"]]
    optimizer = _MAKERS[type(spec)](
        spec, groups, scaled_learning_rate(spec, batch_size), _fused(tensors)
    )
    if spec.update_noise > 0:
        _make_updates_noisy(optimizer, spec.update_noise, noise)
    return optimizer


_NOISE = "update_noise_source"
"""The attribute in which an optimizer keeps what draws the noise of its updates."""


def update_noise_of(optimizer: Optimizer) -> Noise | None:
    """What draws the noise of an optimizer's updates; None where they are not noisy."""
    return getattr(optimizer, _NOISE, None)


def draw_updates_from(optimizer: Optimizer, noise: Noise) -> None:
    """Have an optimizer whose updates are noisy go on with noise from elsewhere."""
    setattr(optimizer, _NOISE, noise)


def _make_updates_noisy(optimizer: Optimizer, variance: float, noise: Noise) -> None:
    """After every step, w ← w + η ε with ε ~ N(0, variance) and η the rate of that step.

    Source: thesis sections 5.6 and 5.9.3.
    """
    setattr(optimizer, _NOISE, noise)

    @torch.no_grad()
    def add_noise(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                drawn = _drawn_for(tensor, getattr(optimizer, _NOISE))
                tensor.add_(drawn.to(tensor.device), alpha=group["lr"] * variance**0.5)

    def save(optimizer: Optimizer, state: dict[str, Any]) -> None:
        state["update_noise"] = getattr(optimizer, _NOISE).get_state()

    def load(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        getattr(optimizer, _NOISE).set_state(state["update_noise"])
        return {key: value for key, value in state.items() if key != "update_noise"}

    optimizer.register_step_post_hook(add_noise)
    optimizer.register_state_dict_post_hook(save)
    optimizer.register_load_state_dict_pre_hook(load)


def _drawn_for(tensor: Tensor, noise: Noise) -> Tensor:
    """Normal draws of deviation 1; of a stack, whose tensors have a network axis, row by row."""
    if isinstance(noise, Streams):
        return noise.rows(fill_normal, tensor.shape[1:], tensor.dtype)
    return torch.randn(tensor.shape, generator=noise, dtype=tensor.dtype, device=noise.device)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def gate_weight_decay(optimizer: Optimizer, rate: Callable[[], float]) -> None:
    """Multiply every group's weight decay by ``rate()`` while the optimizer steps.

    A step whose task loss is multiplied by 0 must not feel the L2 penalty, which belongs to it, but
    momentum goes on. Between steps the groups show their own weight decay.
    """
    own: list[float] = []

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        own[:] = [group["weight_decay"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["weight_decay"] *= rate()

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group, weight_decay in zip(optimizer.param_groups, own, strict=True):
            group["weight_decay"] = weight_decay

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def _fused(tensors: Iterable[Tensor]) -> bool:
    """Whether the one-kernel implementations, much faster with many small tensors, apply."""
    return all(t.device.type in ("cpu", "cuda") and t.is_floating_point() for t in tensors)


def _sgdm(spec: SGDM, groups: Groups, learning_rate: float, fused: bool) -> Optimizer:
    return torch.optim.SGD(
        groups,
        lr=learning_rate,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        fused=fused,
    )


def _adam(spec: Adam, groups: Groups, learning_rate: float, fused: bool) -> Optimizer:
    betas = (spec.beta1, spec.beta2)
    return torch.optim.Adam(groups, lr=learning_rate, betas=betas, eps=spec.epsilon, fused=fused)


_MAKERS: dict[type, Callable[[Any, Groups, float, bool], Optimizer]] = {
    SGDM: _sgdm,
    Adam: _adam,
}
