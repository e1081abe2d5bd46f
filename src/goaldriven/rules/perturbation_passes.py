"""Running one closure several times on equal terms: without noise, then with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from goaldriven.errors import SpecError
from goaldriven.rules.base import Closure
from goaldriven.rules.feedback import BUFFER
from goaldriven.rules.linear_maps import per_sample


class RepeatedPasses:
    """The passes of one training step through a model.

    The first, `clean`, is a forward pass like any other: it moves running statistics and PyTorch's
    global random generators (the CPU's and those of the model's devices). Each that follows,
    `again`, draws the same random numbers from them, for dropout or augmentation, begins with the
    same counts in buffers of whole numbers, by which modules may draw, and leaves buffers and
    generators as the first left them. Random numbers from other sources (NumPy, a
    generator of the closure's own) differ between passes and must not be drawn in the closure.
    """

    def __init__(self, model: nn.Module, closure: Closure) -> None:
        self._closure = closure
        self._model = model
        self._devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})

    def clean(self) -> Tensor:
        """The loss () or losses (n,) of the first pass."""
        self._start, counts = self._generator_states(), counts_of(self._model)
        losses = check_losses(self._closure())
        self._keep_buffers(counts)
        return losses

    def taken(self, counts: Mapping[str, Tensor]) -> None:
        """The first pass was made elsewhere, just before, and moved no generators.

        Parameters
        ----------
        counts : `counts_of` the model before it.
        """
        self._start = self._generator_states()
        self._keep_buffers(counts)

    def _keep_buffers(self, counts: Mapping[str, Tensor]) -> None:
        self._counts = [
            (buffer, counts[name]) for name, buffer in self._model.named_buffers() if name in counts
        ]
        self._buffers = [
            (module._buffers, name, buffer, buffer.detach().clone())
            for module in self._model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None and name != BUFFER
        ]

    def again(self) -> Tensor:
        """The loss or losses of one more pass."""
        after = self._generator_states()
        self._set_generators(self._start)
        for buffer, count in self._counts:
            buffer.copy_(count)
        try:
            return check_losses(self._closure())
        finally:
            self._set_generators(after)
            self._restore_buffers()

    def _generator_states(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in self._devices)]

    def _set_generators(self, states: Sequence[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self._devices, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)

    def _restore_buffers(self) -> None:
        with torch.no_grad():
            for buffers, name, buffer, value in self._buffers:
                buffer.copy_(value)
                buffers[name] = buffer


def counts_of(model: nn.Module) -> dict[str, Tensor]:
    """Name → a copy of every buffer of whole numbers."""
    named = model.named_buffers()
    return {name: b.detach().clone() for name, b in named if not b.is_floating_point()}


def check_losses(losses: object) -> Tensor:
    """The loss as a tensor (), or the losses (n,), one per stimulus, where there are several.

    Raises
    ------
    SpecError : neither of them.
    """
    if isinstance(losses, Tensor) and losses.numel() == 1:
        return losses.reshape(())
    if isinstance(losses, Tensor) and losses.dim() == 1 and losses.numel() > 1:
        return losses
    given = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
    raise SpecError(
        "closure must return the loss, a scalar tensor, or the losses, one per stimulus, a tensor "
        f"(n,); got {given}"
    )


def loss_change(noisy: Callable[[float], Tensor], clean: Tensor, antithetic: bool) -> Tensor:
    """L(ξ) − L(0), or with ``antithetic`` (L(ξ) − L(−ξ))/2; ``noisy`` takes the noise's sign."""
    if antithetic:
        return (noisy(1.0) - noisy(-1.0)) / 2
    return noisy(1.0) - clean


def correlation(change: Tensor, noise: Tensor, dtype: torch.dtype) -> Tensor:
    """ΔL·ξ, the mean loss's change times the noise.

    With changes (n,) of each stimulus' own loss, Δℓ_i·ξ_i/n, the noise's first axis being that of
    the stimuli.

    Raises
    ------
    SpecError : the first axis of the noise is not of length n.
    """
    change, noise = change.to(dtype), noise.to(dtype)
    if not change.dim():
        return noise * change
    n = change.shape[0]
    if not noise.dim() or noise.shape[0] != n:
        raise SpecError(
            f"closure must return a scalar loss where a layer's first axis is not of the {n} "
            f"stimuli, got losses ({n},) and a layer of shape {tuple(noise.shape)}"
        )
    return noise * per_sample(change / n, noise)


def add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """Add to ``parameter.grad``, laid out in memory as the parameter: fused optimizers need it."""
    if parameter.grad is not None:
        parameter.grad.add_(gradient)
    elif gradient.stride() == parameter.stride() and gradient.dtype == parameter.dtype:
        parameter.grad = gradient
    else:
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def noise_source(given: torch.Generator | None, generator: torch.Generator) -> torch.Generator:
    """``given``, or else a generator seeded by another."""
    if given is not None:
        return given
    device = generator.device
    seed = torch.randint(2**62, (), generator=generator, device=device)
    return torch.Generator(device).manual_seed(int(seed))
