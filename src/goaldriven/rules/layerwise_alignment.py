"""Layer-wise alignment: backward weights learn to carry error, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.backward_optimizer import BackwardWeightOptimizer, update_noise_source
from goaldriven.rules.base import Closure, check_scalar
from goaldriven.rules.feedback import LayerFeedback, backward_weight_of
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.noise import Noise, Streams
from goaldriven.rules.operations import make_paths
from goaldriven.rules.perturbation_passes import add_gradient, noise_source
from goaldriven.rules.primitives import (
    ACTIVATION_PRIMITIVES,
    KERNEL_PRIMITIVES,
    total_gradient,
)
from goaldriven.rules.ranks import Group, average_over_ranks, own_part, place
from goaldriven.rules.state import check_state, check_tensors, refuse_removed
from goaldriven.specs.credit import LayerwiseOperations
from goaldriven.specs.optimizers import SGDM, Adam

_NO_OPERATIONS = LayerwiseOperations()


@dataclass(frozen=True)
class AlignmentLoss:
    """What backward weights descend, Σ weight · primitive, with what, and when.

    Attributes
    ----------
    name : of the credit assignment, for messages.
    weights : primitive → its weight.
    optimizer : of the backward weights.
    operations, input_noise, noise_distribution : of the losses of activations.
    alternating, delay_epochs : see `loss_rates`.
    shares_rate : the learning rate is at every step that of the forward weights' optimizer.
    """

    name: str
    weights: Mapping[str, float]
    optimizer: SGDM | Adam
    operations: LayerwiseOperations = _NO_OPERATIONS
    input_noise: float | None = None
    noise_distribution: Literal["normal", "uniform"] = "normal"
    alternating: bool = False
    delay_epochs: int = 0
    shares_rate: bool = False


def loss_rates(loss: AlignmentLoss, step: int, passes: float) -> tuple[float, float]:
    """What the task's loss and the alignment losses are multiplied by at one step, each 0 or 1.

    While ``passes`` over the stimuli are fewer than ``delay_epochs``, the backward weights align
    alone. With ``alternating``, even steps align and odd steps learn the task.
    Source: Kunin et al. 2020's published code, ``rate_scheduler.py``.

    >>> loss = AlignmentLoss("mine", {"amp": 1.0}, Adam(learning_rate=0.001), alternating=True,
    ...     delay_epochs=1)
    >>> [loss_rates(loss, step, passes=step / 2) for step in range(5)]
    [(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 1.0)]
    """
    delayed = passes < loss.delay_epochs
    aligning = not loss.alternating or step % 2 == 0
    task = 0.0 if delayed or (loss.alternating and aligning) else 1.0
    return task, 1.0 if aligning or delayed else 0.0


class LayerwiseAlignment(FeedbackAlignment):
    """Backward weights that descend R = Σ weight · primitive of their own layer.

    The layers' inputs and outputs are those of the training step itself: the gradient of R is taken
    in closed form as each layer's forward pass ends (see `goaldriven.rules.primitives` for what it
    costs), summed over calls where a layer is called more than once. Forward weights, biases and
    earlier layers never see it. `step` adds the primitives of kernels: decay and self, and angle,
    whose pseudogradient is the forward weights' ``.grad`` as it then stands, clipped or averaged
    over ranks as the optimizer saw it. Where gradients are accumulated over several calls of
    `backward`, the mean over them is taken, and where there are several ranks, over them.

    A rate of 0 multiplies a loss and skips no optimizer: gradients are then 0, and momentum goes
    on. Delay epochs are passes over the stimuli, also where steps alternate. With a delay, the
    alignment's own schedule has no warm-up and starts after it.

    Sources: Kunin et al. 2020 and its published code; thesis sections 5.4 to 5.9 and 5.11.3.

    Parameters
    ----------
    loss : what the backward weights descend, and when.
    noise_generator : draws input noise.
    batch_size : stimuli per step, for a learning rate that is scaled by it.
    group : the ranks over which gradients are averaged; None for this process alone.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        generator: torch.Generator,
        noise_generator: torch.Generator | None,
        loss: AlignmentLoss,
        batch_size: int | None,
        group: Group = None,
    ) -> None:
        super().__init__(model, layers, generator)
        self._loss, self.credit_name = loss, loss.name
        of_activations = {n: w for n, w in loss.weights.items() if n in ACTIVATION_PRIMITIVES}
        self._of_activations = of_activations
        self._of_kernels = {n: w for n, w in loss.weights.items() if n in KERNEL_PRIMITIVES}
        operations = loss.operations
        unrectified = {"forward_relu": False, "backward_relu": False}
        self._operations = {True: operations, False: operations.model_copy(update=unrectified)}
        self._group = group
        self._step, self._calls, self._gathered = 0, 0, False
        self._rates = (1.0, 1.0)
        self._optimizer = BackwardWeightOptimizer(
            loss.optimizer,
            self._learning_weights,
            batch_size,
            delayed=loss.delay_epochs > 0,
            noise=update_noise_source(generator),
        )
        self.noise: Noise = noise_source(noise_generator, generator)

    @property
    def passes_per_epoch(self) -> int:
        return 2 if self._loss.alternating else 1

    @property
    def task_epoch(self) -> float:
        return max(self.epoch - self._loss.delay_epochs / self.passes_per_epoch, 0.0)

    @property
    def task_rate(self) -> float:
        return self._rates[0]

    def backward(self, closure: Closure) -> Tensor:
        task, _, watching = self.begin()
        observed: set[str] = set()
        if watching:
            self._switch.observer = self._observer(observed)
        try:
            with torch.set_grad_enabled(bool(task)):
                loss = closure()
        finally:
            self._switch.observer = None
        check_scalar(loss)
        if watching:
            self._require(observed)
        if task:
            loss.backward()
        else:
            _fill_missing_gradients(self.model)
        self.end()
        return loss.detach()

    def begin(self) -> tuple[float, float, bool]:
        """Begin a call of `backward`, or of what stands for it.

        Returns
        -------
        What the task's loss and the alignment losses are multiplied by (see `loss_rates`), and
        whether the layers' activities are needed.
        """
        refuse_removed(self._removed)
        passes = self.epoch * self.passes_per_epoch if self._timed else 0.0
        self._rates = loss_rates(self._loss, self._step, passes)
        self._switch.task_rate = self._rates[0]
        return *self._rates, bool(self._rates[1] and self._of_activations)

    @torch.no_grad()
    def end(self) -> None:
        """End what `begin` began, before the forward weights are stepped; `step` may follow.

        Both gradients are taken at the same W and B: B is pulled towards the W that this pass saw.
        """
        self._calls += 1
        pull = self._of_kernels.get("self", 0.0)
        if pull and self._rates[1]:
            for module in self._modules.values():
                kernel, forward = backward_weight_of(module), module.weight.detach()  # type: ignore[operator]
                gradient = KERNEL_PRIMITIVES["self"].gradient(kernel, forward, forward)
                add_gradient(kernel, gradient * pull)

    @torch.no_grad()
    def align(self, feedback: LayerFeedback, x: Tensor, y: Tensor) -> None:
        """Add the gradient of one layer's losses of activations, of several networks at once.

        The layer's tensors have a leading network axis, as have its inputs and outputs.
        """
        module = feedback.module
        kernel, noise = backward_weight_of(module), self.draw_noise(x)
        given = (kernel, module.weight, module.bias, x, y, noise)
        axes = tuple(None if tensor is None else 0 for tensor in given)

        def of_one(kernel: Tensor, *others: Any) -> Tensor:
            gradient = self._gradient(feedback, kernel, *others)
            return torch.zeros_like(kernel) if gradient is None else gradient

        gradient = torch.vmap(of_one, in_dims=axes)(*given)
        add_gradient(kernel, gradient.contiguous())

    def gather(self) -> None:
        """Complete the backward weights' ``.grad`` to that of the whole alignment loss.

        `step` does it; do it before, once, to look at these gradients or to change them.
        """
        refuse_removed(self._removed)
        if self._gathered or not self._calls:
            return
        self._gathered = True
        align, calls = self._rates[1], self._calls
        for name, module in self._modules.items():
            kernel = backward_weight_of(module)
            if kernel.grad is None:
                kernel.grad = torch.zeros_like(kernel)
            elif calls > 1:
                kernel.grad.div_(calls)
            if align:
                self._add_kernel_primitives(name, module, kernel)
        if align:  # they are 0 otherwise
            gradients = (b.grad for b in self.backward_weights.values())
            average_over_ranks((g for g in gradients if g is not None), self._group)

    def step(self) -> None:
        """Update the backward weights.

        Where the angle primitive finds gradients of the forward weights that are not finite, which
        a gradient scaler then does not step by either, nothing is updated.

        Raises
        ------
        SpecError : there was no `backward` since the last step; the angle primitive finds no
            gradient of the forward weights, or no optimizer whose learning rate to share.
        """
        refuse_removed(self._removed)
        if not self._calls:
            raise SpecError(
                "step() must follow backward(closure) of the credit assignment, got no such call "
                "since the last step (loss.backward() alone does not teach the backward weights)"
            )
        if "angle" in self._of_kernels and not self._finite():
            self.zero_grad()
            return
        self.gather()
        self._optimizer.step(self._learning_rate(), weight_decay_rate=self._rates[1])
        self.zero_grad()
        self._step += 1

    def zero_grad(self) -> None:
        self._calls, self._gathered = 0, False
        self._optimizer.zero_grad()

    def _finite(self) -> bool:
        gradients = [module.weight.grad for module in self._modules.values()]
        return all(bool(torch.isfinite(g).all()) for g in gradients if isinstance(g, Tensor))

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "noise": self.noise.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.credit_name, {"backward_weights", "optimizer", "step", "noise"})
        check_tensors(self.backward_weights, state["backward_weights"], "backward weights")
        self._optimizer.check_state(state["optimizer"])
        super().load_state_dict(state)
        self._optimizer.load_state_dict(state["optimizer"])
        self._step = state["step"]
        self.noise.set_state(state["noise"])

    def _observer(self, observed: set[str]) -> Any:
        @torch.no_grad()
        def observe(feedback: LayerFeedback, module: nn.Module, x: Tensor, y: Tensor) -> None:
            """Add the gradient of one layer's losses of activations to its ``.grad``."""
            observed.add(feedback.name)
            kernel = backward_weight_of(module)
            device = kernel.device.type
            given: tuple[Tensor, Any, Any] = (kernel, module.weight, module.bias)
            x, y = feedback.linear_map.batched(x, y)
            if torch.is_autocast_enabled(device):
                with torch.autocast(device, enabled=False):
                    x, y = x.to(kernel), y.to(kernel)
                    gradient = self._gradient(feedback, *given, x, y, self.draw_noise(x))
            else:
                gradient = self._gradient(feedback, *given, x, y, self.draw_noise(x))
            if gradient is not None:
                add_gradient(kernel, gradient)

        return observe

    def _gradient(
        self,
        feedback: LayerFeedback,
        kernel: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        x: Tensor,
        y: Tensor,
        noise: Tensor | None,
    ) -> Tensor | None:
        operations = self._operations[feedback.rectified]
        paths = make_paths(
            feedback.linear_map, kernel, weight, bias, operations, x, y, noise, self._group
        )
        return total_gradient(self._of_activations, paths)

    def draw_noise(self, x: Tensor) -> Tensor | None:
        """Noise of standard deviation σ in the input's shape: normal, or uniform within ±√3 σ.

        In a stack x has a leading network axis, and every network draws its own.
        """
        if self._loss.input_noise is None:
            return None
        if isinstance(self.noise, Streams):
            return self.noise.rows(self._fill, x.shape[1:], x.dtype).to(x.device)
        joined = (place(self._group)[1] * x.shape[0], *x.shape[1:])
        noise = torch.empty(joined, dtype=x.dtype, device=self.noise.device)
        self._fill(noise, self.noise)
        return own_part(noise, self._group).to(x.device)

    def _fill(self, noise: Tensor, generator: torch.Generator) -> None:
        sigma = self._loss.input_noise
        assert sigma is not None  # narrows the type: only then is there noise
        if self._loss.noise_distribution == "normal":
            noise.normal_(0.0, sigma, generator=generator)
        else:
            noise.uniform_(-(3**0.5) * sigma, 3**0.5 * sigma, generator=generator)

    def draw_from(self, noise: Noise, update_noise: Noise) -> None:
        """Go on with input noise, and noise of B's updates, from elsewhere."""
        self.noise = noise
        self._optimizer.draw_from(update_noise)

    @property
    def update_noise(self) -> Noise:
        """What draws the noise of noisy updates of B."""
        return self._optimizer.noise

    def _require(self, observed: set[str]) -> None:
        missing = [name for name in self._modules if name not in observed]
        if missing:
            raise SpecError(
                f"primitives {', '.join(self._of_activations)} need every layer's activations, "
                f"which the closure must compute, got none of layer {missing[0]!r} (leave it out "
                "by 'layers')"
            )

    def _add_kernel_primitives(self, name: str, module: nn.Module, kernel: Tensor) -> None:
        forward: Tensor = module.weight  # type: ignore[assignment]
        pseudogradient = forward.grad
        if "angle" in self._of_kernels and pseudogradient is None:
            raise SpecError(
                "primitive 'angle' needs the pseudogradient of every layer when step() is called "
                f"(before zero_grad), got none of layer {name!r}"
            )
        known = forward.detach() if pseudogradient is None else pseudogradient
        for primitive, weight in self._of_kernels.items():
            if primitive == "self":  # `end` has added it
                continue
            gradient = KERNEL_PRIMITIVES[primitive].gradient(kernel, forward.detach(), known)
            kernel.grad.add_(gradient, alpha=weight)  # type: ignore[union-attr]

    def _learning_weights(self) -> Iterable[Tensor]:
        return self.backward_weights.values()

    @property
    def _timed(self) -> bool:
        """Whether anything goes by the time that `set_progress` tells."""
        return self._loss.delay_epochs > 0 or self._optimizer.timed

    def _learning_rate(self) -> float:
        if self._loss.shares_rate:
            optimizer = self._forward_optimizer()
            if optimizer is None:
                raise SpecError(
                    f"{self._loss.name} shares the learning rate of the forward weights' optimizer "
                    "unless its credit has one of its own, got none (make it by rule.optimizer, or "
                    "pass yours to credit.follow)"
                )
            return float(optimizer.param_groups[0]["lr"])
        return self._optimizer.learning_rate(self.task_epoch if self._timed else 0.0)


def _fill_missing_gradients(model: nn.Module) -> None:
    """Gradients of a loss times 0, where there are none yet."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
