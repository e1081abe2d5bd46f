"""Node perturbation teaches backward weights, which then carry the error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from goaldriven.layers import LayerInfo
from goaldriven.rules.backward_optimizer import BackwardWeightOptimizer, update_noise_source
from goaldriven.rules.base import Closure
from goaldriven.rules.feedback import backward_weight_of
from goaldriven.rules.feedback_alignment import FeedbackAlignment
from goaldriven.rules.node_perturbation import (
    correlate_calls,
    coupled_stimuli,
    refuse_coupled_losses,
)
from goaldriven.rules.noise import Noise
from goaldriven.rules.perturbation_passes import (
    RepeatedPasses,
    add_gradient,
    loss_change,
    noise_source,
)
from goaldriven.rules.perturbation_tape import Call, OnTape, Tape
from goaldriven.rules.ranks import Group, average_over_ranks, joined_change
from goaldriven.rules.state import check_state, check_tensors, refuse_removed
from goaldriven.specs import credit as specs


class NoisyInput(OnTape):
    """A layer with backward weights, whose errors are noted and whose input gets noise."""

    def noted(self, x: Tensor) -> Tensor:
        output: Tensor = self.plain(x)
        # Errors go no further back where the input does not depend on what learns.
        call = self.note(None, draws=x.requires_grad)
        if x.requires_grad and output.requires_grad:
            output.register_hook(call.keep_error)
        return output

    def noisy(self, x: Tensor, call: Call) -> Tensor:
        return self.plain(self.add_noise(x, call) if call.draws else x)


class LearnedFeedback(FeedbackAlignment):
    """Backward weights that learn to predict the errors which node perturbation estimates.

    The forward weights follow the error e carried back by B, as in feedback alignment. From layer
    to layer,

        e_x = P_Bᵀ e_y    with e_y at the layer's output and e_x at its input x,

    where the error at the output, e_L = ∂L/∂output, and the derivatives of all that lies between
    layers (non-linearities, pooling, batch norm, skip connections) are exact. Then come passes with
    noise σξ, ξ ~ N(0, 1), on the *inputs* x of all layers, as the layer sees them, after
    non-linearity and pooling; where x goes to several layers each has noise of its own, so that

        λ̂ = mean over ``samples`` of ΔL·ξ/σ ,   E λ̂ = P_Wᵀ ∂L/∂y   up to terms of order σ² ,

    is the error at x that comes through this layer alone. B descends, by its own optimizer,

        ½ mean over stimuli of ‖n (P_Bᵀ e_y − λ̂)‖² ,

    n being the first axis of x, which undoes the 1/n of a loss that is a batch's mean. With forward
    weights at rest B tends to W where B carries exact errors to the layers above, in all directions
    that the errors e_y have: at a layer of more outputs than the network has, not in all. A layer
    whose input depends on nothing that learns, as the first, needs no B: it gets no noise, and B
    stays as drawn. Layers that ``layers`` leaves out keep exact backprop.

    As with `NodePerturbation`, a closure should return the losses (n,), one per stimulus, unless
    batch norm in training mode makes them depend on each other; ΔL is then each stimulus' own.
    While ``delay_epochs`` last B learns alone: the task's gradients are 0.

    Source: Lansdell, Prakash & Kording 2019, whose h is our x.

    Parameters
    ----------
    generator : draws the initial backward weights, and seeds what draws the noise of noisy updates
        of B. Equal on all ranks, it keeps B equal.
    noise_generator : draws ξ, of the joined batch on every rank (default: seeded by
        ``generator``).
    batch_size : stimuli per step, for a learning rate of B that is scaled by it.
    group : the ranks over which B's gradients are averaged; None for this process alone.

    Attributes
    ----------
    tape : the calls of layers in the step under way.

    Raises
    ------
    SpecError : as `FeedbackAlignment`; another perturbation rule is attached.
    """

    credit_name = "node_perturbation_feedback"

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        generator: torch.Generator,
        noise_generator: torch.Generator | None,
        spec: specs.LearnedFeedback,
        batch_size: int | None,
        group: Group = None,
    ) -> None:
        super().__init__(model, layers, generator)
        self.spec = spec
        self._group = group
        self.noise: Noise = noise_source(noise_generator, generator)
        self._calls = 0
        self.tape = Tape(spec.sigma, group)
        self._noisy = [NoisyInput(layer, self.tape, self.noise) for layer in self._found]
        self._optimizer = BackwardWeightOptimizer(
            spec.optimizer,
            self._learning_weights,
            batch_size,
            bool(spec.delay_epochs),
            update_noise_source(generator),
        )
        if group is not None:
            for backward_weight in self.backward_weights.values():
                distributed.broadcast(backward_weight, group_src=0, group=group)

    @property
    def per_stimulus(self) -> bool:
        return coupled_stimuli(self.model) is None

    @property
    def task_epoch(self) -> float:
        return max(self.epoch - self.spec.delay_epochs, 0.0)

    @property
    def task_rate(self) -> float:
        delay = self.spec.delay_epochs
        return 0.0 if delay and self.epoch < delay else 1.0

    def backward(self, closure: Closure) -> Tensor:
        refuse_removed(self._removed)
        self._switch.task_rate = self.task_rate
        passes = RepeatedPasses(self.model, closure)
        try:
            with self.tape.noting(), torch.enable_grad():
                losses = passes.clean()
            refuse_coupled_losses(losses, self.model)
            self._send_errors_back(losses.mean())
            gradients = self.feedback_gradients(passes.again, losses.detach())
        finally:
            self.tape.clear()
        self.add_gradients(gradients)
        return losses.detach().mean()

    @torch.no_grad()
    def feedback_gradients(self, again: Callable[[], Tensor], clean: Tensor) -> dict[str, Tensor]:
        """Layer → the gradient of its B, from passes with noise.

        The pass without noise is on the tape, with the errors that reached the layers' outputs.
        Inside `torch.vmap` over the networks of a stack it is each network's.

        Parameters
        ----------
        again : runs one more pass of the step and returns its loss or losses.
        clean : those of the pass without noise.
        """
        self._estimate_errors(again, clean)
        gradients: dict[str, Tensor] = {}
        with torch.autocast(clean.device.type, enabled=False):
            for call in self.tape.calls:
                gradient = self._fit(call)
                if gradient is not None:
                    known = gradients.get(call.name)
                    gradients[call.name] = gradient if known is None else known + gradient
        return gradients

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Add the backward weights' gradients of one step to their ``.grad``."""
        for name, gradient in gradients.items():
            add_gradient(backward_weight_of(self._modules[name]), gradient)
        self._calls += 1

    def draw_from(self, noise: Noise, update_noise: Noise) -> None:
        """Go on with ξ, and noise of B's updates, from elsewhere."""
        self.noise = noise
        for layer in self._noisy:
            layer.generator = noise
        self._optimizer.draw_from(update_noise)

    @property
    def update_noise(self) -> Noise:
        """What draws the noise of noisy updates of B."""
        return self._optimizer.noise

    def step(self) -> None:
        """Update the backward weights."""
        refuse_removed(self._removed)
        weights, calls = self.backward_weights.values(), max(self._calls, 1)
        for weight in weights:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad / calls
        average_over_ranks([w.grad for w in weights if w.grad is not None], self._group)
        epoch = self.task_epoch if self._optimizer.timed else 0.0
        self._optimizer.step(self._optimizer.learning_rate(epoch))
        self._calls = 0

    def zero_grad(self) -> None:
        """Forget the gradients of the backward weights, as of a step that is skipped."""
        self._optimizer.zero_grad()
        self._calls = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "noise": self.noise.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.credit_name, {"backward_weights", "optimizer", "noise"})
        check_tensors(self.backward_weights, state["backward_weights"], "backward weights")
        self._optimizer.check_state(state["optimizer"])
        super().load_state_dict(state)
        self._optimizer.load_state_dict(state["optimizer"])
        self.noise.set_state(state["noise"])

    def _learning_weights(self) -> list[Tensor]:
        return list(self.backward_weights.values())

    def _send_errors_back(self, loss: Tensor) -> None:
        """A walk back through B, which leaves the task's gradients unless B learns alone."""
        if self.task_rate:
            loss.backward()
            return
        learning = [p for p in self.model.parameters() if p.requires_grad]
        torch.autograd.grad(loss, learning, allow_unused=True)
        for parameter in learning:
            if parameter.grad is None:  # the gradient of a loss times 0
                parameter.grad = torch.zeros_like(parameter)

    def _estimate_errors(self, again: Callable[[], Tensor], clean: Tensor) -> None:
        """Leave Σ ΔL·ξ over samples in every call that draws."""

        def noisy(sign: float) -> Tensor:
            with self.tape.noisy(sign):
                return again()

        for _ in range(self.spec.samples):
            self.tape.forget_noise()
            change = loss_change(noisy, clean, self.spec.antithetic)
            correlate_calls(self.tape, joined_change(change, self._group))

    def _fit(self, call: Call) -> Tensor | None:
        """The gradient of ½ mean ‖n (P_Bᵀ e − λ̂)‖² at B from one call."""
        if call.estimate is None or call.error is None:
            return None
        kernel = backward_weight_of(call.module)
        target = call.estimate / (self.spec.sigma * self.spec.samples)
        target, error = call.linear_map.batched(target, call.error.to(kernel.dtype))
        excess = call.linear_map.reconstruct(error, kernel, target) - target
        gradient = call.linear_map.weight_gradient(excess, error, kernel)
        return gradient * target.shape[0]
