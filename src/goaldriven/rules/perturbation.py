"""Weight perturbation: noise on the weights, correlated with what it does to the loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from goaldriven.errors import SpecError
from goaldriven.rules.attachable import refuse_attached
from goaldriven.rules.base import Closure, CreditAssignment
from goaldriven.rules.feedback import detach, mark
from goaldriven.rules.noise import Noise
from goaldriven.rules.perturbation_passes import (
    RepeatedPasses,
    add_gradient,
    loss_change,
)
from goaldriven.rules.perturbation_tape import standard_normal_like
from goaldriven.rules.ranks import Group, average_over_ranks
from goaldriven.rules.state import check_state, refuse_removed
from goaldriven.specs import credit as specs


class ParameterNoise:
    """Normal noise of standard deviation σ on parameters, put on in place and taken off.

    Attributes
    ----------
    estimates : per parameter Σ ΔL·ξ/σ over the draws so far; divided by their number, an estimate
        of the gradient.
    """

    def __init__(self, parameters: Sequence[Tensor], sigma: float, generator: Noise) -> None:
        self.parameters = list(parameters)
        self.estimates = [torch.zeros_like(p) for p in self.parameters]
        self._sigma, self._generator = sigma, generator
        self._before = [p.detach().clone() for p in self.parameters]
        self._noise: list[Tensor] = []

    def draw(self) -> None:
        """New ξ ~ N(0, 1) for every parameter."""
        self._noise = [standard_normal_like(p.detach(), self._generator) for p in self.parameters]

    @contextmanager
    def applied(self, sign: float) -> Iterator[None]:
        """Parameters W + sign·σξ inside, W to the bit again outside."""
        try:
            for parameter, noise in zip(self.parameters, self._noise, strict=True):
                parameter.detach().add_(noise, alpha=sign * self._sigma)
            yield
        finally:
            for parameter, before in zip(self.parameters, self._before, strict=True):
                parameter.detach().copy_(before)

    def correlate(self, change: Tensor) -> None:
        """Add ΔL·ξ/σ of the present draw to the estimates."""
        scale = change / self._sigma
        for estimate, noise in zip(self.estimates, self._noise, strict=True):
            estimate.add_(noise * (scale if scale.dtype == noise.dtype else scale.to(noise)))

    def sums(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters with their estimates."""
        return zip(self.parameters, self.estimates, strict=True)


class Perturbation(CreditAssignment):
    """What perturbation rules share: a generator of their own, and no backward weights.

    Attributes
    ----------
    learning : the names of the parameters that learn; None for those that require gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: specs.WeightPerturbation | specs.NodePerturbation,
        noise_generator: Noise,
        group: Group = None,
    ) -> None:
        super().__init__(model)
        if not any(p.requires_grad for p in model.parameters()):
            raise SpecError("model must have parameters that learn, got none")
        refuse_attached(model)
        self.spec = spec
        self.noise = noise_generator
        self.learning: frozenset[str] | None = None
        self._group = group
        self._removed = False

    @torch.no_grad()
    def backward(self, closure: Closure) -> Tensor:
        refuse_removed(self._removed)
        loss, sums = self.estimate(closure)
        leave_gradients(sums, self.spec.samples, self._group)
        return loss

    def estimate(self, closure: Closure) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The loss without noise, and parameters each with its estimates, summed over samples.

        Inside `torch.vmap` over the networks of a stack it is each network's.
        """
        raise NotImplementedError

    def draw_from(self, noise: Noise) -> None:
        """Go on with noise from elsewhere."""
        self.noise = noise

    def _learning(self) -> list[Tensor]:
        return [
            parameter
            for name, parameter in self.model.named_parameters()
            if (parameter.requires_grad if self.learning is None else name in self.learning)
        ]

    def step(self) -> None:
        refuse_removed(self._removed)

    def state_dict(self) -> dict[str, Any]:
        return {"credit": self.spec.name, "noise": self.noise.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.spec.name, {"noise"})
        self.noise.set_state(state["noise"])

    def remove(self) -> None:
        if not self._removed:  # else the model may be another credit assignment's by now
            detach(self.model)
        self._removed = True


class WeightPerturbation(Perturbation):
    """Gradients from the losses that noisy weights have; there is no backward pass.

    All parameters that learn get noise at once, ξ ~ N(0, 1) for each weight, and

        ∂L/∂W ≈ mean over ``samples`` of ΔL·ξ/σ ,   ΔL = L(W + σξ) − L(W) ,

    or with ``antithetic`` ΔL = (L(W + σξ) − L(W − σξ))/2, in which the loss's curvature cancels.
    Unbiased up to terms of order σ². For a gradient g of N weights the mean squared error is
    (N + 1)‖g‖²/samples, so relative to ‖g‖ the error grows with √N. A step takes one forward pass
    without noise, whose loss is returned, and one (``antithetic``: two) per sample.

    Where the closure returns losses (n,), their mean counts: all stimuli see the same weights.
    Modules of any kind may hold the weights. Passes differ in the noise alone, see
    `perturbation_passes.RepeatedPasses`. σ must be small to the scale on which the loss curves, and
    large to the rounding of the loss, which under autocast is coarse.

    Sources: Werfel, Xie & Seung 2005; Jabri & Flower 1992.

    Parameters
    ----------
    noise_generator : draws the noise; its state is the state of this credit assignment.
    group : the ranks over which estimates are averaged; None for this process alone.

    Raises
    ------
    SpecError : the model has no parameters that learn, or another rule attached.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: specs.WeightPerturbation,
        noise_generator: torch.Generator,
        group: Group = None,
    ) -> None:
        super().__init__(model, spec, noise_generator, group)
        mark(model, spec.name)

    def estimate(self, closure: Closure) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        passes = RepeatedPasses(self.model, closure)
        clean = passes.clean().mean()
        noise = ParameterNoise(self._learning(), self.spec.sigma, self.noise)

        def noisy(sign: float) -> Tensor:
            with noise.applied(sign):
                return passes.again().mean()

        for _ in range(self.spec.samples):
            noise.draw()
            noise.correlate(loss_change(noisy, clean, self.spec.antithetic))
        return clean, list(noise.sums())


def leave_gradients(sums: Iterable[tuple[Tensor, Tensor]], samples: int, group: Group) -> None:
    """Add to the parameters' ``.grad`` the mean over samples and ranks.

    Parameters
    ----------
    sums : parameters, each with the sum of its samples, which is overwritten.
    """
    pairs = list(sums)
    for _, total in pairs if samples > 1 else ():
        total.div_(samples)
    average_over_ranks((total for _, total in pairs), group)
    for parameter, mean in pairs:
        add_gradient(parameter, mean)
