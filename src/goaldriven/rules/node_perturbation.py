"""Node perturbation: noise on the layers' outputs, correlated with what it does to the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from goaldriven.errors import SpecError
from goaldriven.layers import LayerInfo
from goaldriven.rules.attachable import find_layers
from goaldriven.rules.base import Closure
from goaldriven.rules.noise import Noise
from goaldriven.rules.perturbation import ParameterNoise, Perturbation
from goaldriven.rules.perturbation_passes import RepeatedPasses, correlation, loss_change
from goaldriven.rules.perturbation_tape import Call, OnTape, Tape
from goaldriven.rules.ranks import Group, joined_change
from goaldriven.specs import credit as specs


class NoisyOutput(OnTape):
    """A layer whose input is noted, and whose output gets noise."""

    def noted(self, x: Tensor) -> Tensor:
        self.note(x)
        return self.plain(x)

    def noisy(self, x: Tensor, call: Call) -> Tensor:
        return self.add_noise(self.plain(x), call)


class NodePerturbation(Perturbation):
    """Errors from the losses that noisy outputs of layers cause; there is no backward pass.

    All Linear and convolutional layers get noise on their outputs h at once, ξ ~ N(0, 1) for every
    unit, position and stimulus; with x the layer's input without noise,

        ∂L/∂h ≈ λ̂ = mean over ``samples`` of ΔL·ξ/σ ,   ΔL = L(h + σξ) − L(h) ,
        ∂L/∂W ≈ λ̂ xᵀ  (for convolutions the filter gradient of x and λ̂) ,   ∂L/∂b ≈ Σ λ̂ ,

    or with ``antithetic`` ΔL = (L(h + σξ) − L(h − σξ))/2. Parameters that belong to no such layer,
    as those of batch norm, get noise themselves in the same passes and the estimate of
    `WeightPerturbation`. Both are unbiased up to terms of order σ².

    The error grows with the root of the number of outputs that the loss depends on, of all stimuli
    together: with a scalar loss those of the whole batch. **A closure should return the losses
    (n,), one per stimulus**, as loss functions with ``reduction="none"`` give them: then each
    stimulus' noise is correlated with its own loss alone, which makes the error about √n times
    smaller; the gradient is that of their mean. (Ten epochs of the digits in batches of 64: 0.92
    correct, with a scalar loss 0.36.) That holds where stimuli do not influence each other's
    losses. Batch norm in training mode makes them, through the batch's mean and variance, and
    losses (n,) are then refused.

    Passes as in `WeightPerturbation`. Noise and inputs of all layers are kept during a step.

    Sources: Williams 1992; Fiete & Seung 2006; Werfel, Xie & Seung 2005.

    Parameters
    ----------
    layers : the layers with noise on their outputs; by default all Linear, Conv1d and Conv2d.
    noise_generator, group : as in `WeightPerturbation`.

    Raises
    ------
    SpecError : the model has weights of other kinds, or another rule attached; see `find_layers`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[LayerInfo | str] | None,
        spec: specs.NodePerturbation,
        noise_generator: Noise,
        group: Group = None,
    ) -> None:
        super().__init__(model, spec, noise_generator, group)
        found = find_layers(model, layers, parametrized=True)
        self._tape = Tape(spec.sigma, group)
        self._modules = [layer.module for layer in found]
        self._noisy = [NoisyOutput(layer, self._tape, noise_generator) for layer in found]

    def draw_from(self, noise: Noise) -> None:
        super().draw_from(noise)
        for layer in self._noisy:
            layer.generator = noise

    @property
    def per_stimulus(self) -> bool:
        return coupled_stimuli(self.model) is None

    def estimate(self, closure: Closure) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        tape, passes = self._tape, RepeatedPasses(self.model, closure)
        others = ParameterNoise(self._other_parameters(), self.spec.sigma, self.noise)

        def noisy(sign: float) -> Tensor:
            with others.applied(sign), tape.noisy(sign):
                return passes.again()

        try:
            with tape.noting():
                clean = passes.clean()
            refuse_coupled_losses(clean, self.model)
            for _ in range(self.spec.samples):
                tape.forget_noise()
                others.draw()
                change = loss_change(noisy, clean, self.spec.antithetic)
                correlate_calls(tape, joined_change(change, self._group))
                others.correlate(change.mean())
            with torch.autocast(clean.device.type, enabled=False):
                return clean.mean(), [*self._layer_gradients(), *others.sums()]
        finally:
            tape.clear()

    def _other_parameters(self) -> list[Tensor]:
        direct = {
            id(parameter)
            for module in self._modules
            for parameter in module._parameters.values()
            if parameter is not None
        }
        return [p for p in self._learning() if id(p) not in direct]

    def _layer_gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameter and Σ over samples of its gradient, one tensor for each parameter."""
        totals: dict[int, Tensor] = {}
        for call in self._tape.calls:
            for parameter, gradient in call_gradients(call, self.spec.sigma):
                known = totals.get(id(parameter))
                totals[id(parameter)] = gradient if known is None else known.add_(gradient)
        return ((p, totals[id(p)]) for p in self._learning() if id(p) in totals)


def call_gradients(call: Call, sigma: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The gradients of a layer's weight and bias from one call."""
    weight, bias = (call.module._parameters.get(name) for name in ("weight", "bias"))
    if call.estimate is None:
        return
    x, error = call.linear_map.batched(call.unchanged_input(), call.estimate / sigma)
    if weight is not None:
        yield weight, call.linear_map.weight_gradient(x.to(error), error, weight.detach())
    if bias is not None:
        channels = error.dim() - 1 if isinstance(call.module, nn.Linear) else 1
        yield bias, error.sum([axis for axis in range(error.dim()) if axis != channels])


def correlate_calls(tape: Tape, change: Tensor) -> None:
    """Add ΔL·ξ of the present draw to the estimates of every call that drew."""
    for call in tape.calls:
        if call.noise is None:
            continue
        kernel: Tensor = call.module.weight  # type: ignore[assignment]
        product = correlation(change, call.noise, kernel.dtype)
        call.estimate = product if call.estimate is None else call.estimate.add_(product)


def coupled_stimuli(model: nn.Module) -> str | None:
    """The first batch norm that makes a stimulus' loss depend on the others of its batch."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            return name
    return None


def refuse_coupled_losses(losses: Tensor, model: nn.Module) -> None:
    """Refuse losses (n,) of stimuli that depend on each other."""
    name = coupled_stimuli(model) if losses.dim() else None
    if name is not None:
        raise SpecError(
            "closure must return a scalar loss where batch norm in training mode makes stimuli "
            f"depend on each other, got losses {tuple(losses.shape)} and batch norm {name!r}; "
            "return their mean, or put batch norm in eval mode"
        )
