"""Information alignment: backward weights learn to carry error, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.base import Closure, check_scalar
from goaldriven.rules.feedback import LayerFeedback, backward_weight_of
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.operations import make_paths
from goaldriven.rules.optimizers import (
    build_optimizer,
    scaled_learning_rate,
    schedule_factor,
    set_learning_rate,
)
from goaldriven.rules.primitives import total_gradient
from goaldriven.specs import rules as specs


def loss_rates(spec: specs.InformationAlignment, step: int, passes: float) -> tuple[float, float]:
    """What the task's loss and the alignment losses are multiplied by at one step, each 0 or 1.

    While ``passes`` over the stimuli are fewer than ``delay_epochs``, the backward weights align
    alone. With ``alternating``, even steps align and odd steps learn the task.
    Source: Kunin et al. 2020's published code, ``rate_scheduler.py``.

    >>> spec = specs.InformationAlignment(amp=1, decay=1, null=1, optimizer=specs.Adam(
    ...     learning_rate=0.001), alternating=True, delay_epochs=1)
    >>> [loss_rates(spec, step, passes=step / 2) for step in range(5)]
    [(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 1.0)]
    """
    delayed = passes < spec.delay_epochs
    aligning = not spec.alternating or step % 2 == 0
    task = 0.0 if delayed or (spec.alternating and aligning) else 1.0
    return task, 1.0 if aligning or delayed else 0.0


class InformationAlignment(FeedbackAlignment):
    """Backward weights that descend R = α·amp + β·decay + γ·null of their own layer.

    The layers' inputs and outputs are those of the training step itself: the gradient of R is taken
    in closed form as each layer's forward pass ends (see `goaldriven.rules.primitives` for what it
    costs), summed over calls where a layer is called more than once; decay counts once a step.
    Forward weights, biases and earlier layers never see it.

    A rate of 0 multiplies a loss and skips no optimizer: gradients are then 0, and momentum goes
    on. Delay epochs are passes over the stimuli, also where steps alternate. With a delay, the
    alignment's own schedule has no warm-up and starts after it.

    Sources: Kunin et al. 2020 and its published code; thesis sections 5.4 to 5.9.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo] | None,
        generator: torch.Generator,
        noise_generator: torch.Generator | None,
        spec: specs.InformationAlignment,
        batch_size: int | None,
    ) -> None:
        super().__init__(model, layers, generator)
        self.spec = spec
        self._weights = {"amp": spec.amp, "null": spec.null}
        unrectified = {"forward_relu": False, "backward_relu": False}
        self._operations = {
            True: spec.operations,
            False: spec.operations.model_copy(update=unrectified),
        }
        self._batch_size = batch_size
        self._epoch, self._step = 0.0, 0
        self._rates = (1.0, 1.0)
        self._noise = noise_generator or _successor(generator)
        self._build_optimizer()

    @property
    def passes_per_epoch(self) -> int:
        return 2 if self.spec.alternating else 1

    def set_progress(self, epoch: float) -> None:
        self._epoch = epoch

    def task_epoch(self, epoch: float) -> float:
        return max(epoch - self.spec.delay_epochs / self.passes_per_epoch, 0.0)

    @property
    def task_rate(self) -> float:
        return self._rates[0]

    def backward(self, closure: Closure) -> Tensor:
        self._rates = loss_rates(self.spec, self._step, self._epoch * self.passes_per_epoch)
        task, align = self._rates
        self._switch.task_rate = task
        self._switch.observer = self._observe if align else None
        try:
            loss = closure()
        finally:
            self._switch.observer = None
        check_scalar(loss)
        if task:
            loss.backward()
        else:
            _fill_missing_gradients(self.model)
        self._finish_gradients(align)
        return loss.detach()

    def step(self) -> None:
        self._follow_model()
        spec = self.spec.optimizer
        set_learning_rate(self._optimizer, self._learning_rate())
        for group in self._optimizer.param_groups:
            group["weight_decay"] = spec.weight_decay * self._rates[1]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "noise": self._noise.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        missing = {"optimizer", "step", "noise"} - set(state)
        if missing:
            raise SpecError(
                f"state must be of information alignment, got one without {sorted(missing)}"
            )
        super().load_state_dict(state)
        self._optimizer.load_state_dict(state["optimizer"])
        self._step = state["step"]
        self._noise.set_state(state["noise"])

    @torch.no_grad()
    def _observe(self, feedback: LayerFeedback, module: nn.Module, x: Tensor, y: Tensor) -> None:
        """Add the gradient of one layer's amp and null to its ``.grad``, from one forward pass."""
        kernel = backward_weight_of(module)
        device = kernel.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                gradient = self._gradient(feedback, module, kernel, x.to(kernel), y.to(kernel))
        else:
            gradient = self._gradient(feedback, module, kernel, x, y)
        if gradient is not None:
            _add_gradient(kernel, gradient)

    def _gradient(
        self, feedback: LayerFeedback, module: nn.Module, kernel: Tensor, x: Tensor, y: Tensor
    ) -> Tensor | None:
        x, y = feedback.linear_map.batched(x, y)
        paths = make_paths(
            feedback.linear_map,
            kernel,
            module.weight,  # type: ignore[arg-type]
            module.bias,  # type: ignore[arg-type]
            self._operations[feedback.rectified],
            x,
            y,
            self._draw_noise(x),
        )
        return total_gradient(self._weights, paths)

    def _draw_noise(self, x: Tensor) -> Tensor | None:
        if self.spec.input_noise is None:
            return None
        device = self._noise.device
        noise = torch.randn(x.shape, generator=self._noise, dtype=x.dtype, device=device)
        return noise.mul_(self.spec.input_noise).to(x.device)

    def _finish_gradients(self, align: float) -> None:
        for backward_weight in self.backward_weights.values():
            if not align:
                backward_weight.grad = torch.zeros_like(backward_weight)
            elif backward_weight.grad is None:
                backward_weight.grad = self.spec.decay * backward_weight
            elif self.spec.decay:
                backward_weight.grad.add_(backward_weight, alpha=self.spec.decay)

    def _learning_rate(self) -> float:
        spec = self.spec.optimizer
        schedule = spec.schedule
        if self.spec.delay_epochs:
            schedule = schedule.model_copy(update={"warmup_epochs": 0})
        factor = schedule_factor(schedule, self.task_epoch(self._epoch))
        return scaled_learning_rate(spec, self._batch_size) * factor

    def _build_optimizer(self) -> None:
        self._weights_stepped = list(self.backward_weights.values())
        groups = [{"params": self._weights_stepped}]
        self._optimizer = build_optimizer(self.spec.optimizer, groups, self._batch_size)

    def _follow_model(self) -> None:
        """Moving a model (`.to`) makes new buffers: the optimizer must step those."""
        now = self.backward_weights.values()
        if all(a is b for a, b in zip(now, self._weights_stepped, strict=True)):
            return
        state = self._optimizer.state_dict()
        self._build_optimizer()
        self._optimizer.load_state_dict(state)


def _fill_missing_gradients(model: nn.Module) -> None:
    """Gradients of a loss times 0, where there are none yet."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _add_gradient(kernel: Tensor, gradient: Tensor) -> None:
    """Add to ``kernel.grad``, laid out in memory as the kernel: fused optimizers rely on it."""
    if kernel.grad is not None:
        kernel.grad.add_(gradient)
    elif gradient.stride() == kernel.stride():
        kernel.grad = gradient
    else:
        kernel.grad = torch.empty_like(kernel).copy_(gradient)


def _successor(generator: torch.Generator) -> torch.Generator:
    """A generator seeded by another."""
    device = generator.device
    seed = torch.randint(2**62, (), generator=generator, device=device)
    return torch.Generator(device).manual_seed(int(seed))
