"""Dropout whose masks belong to the network, not to the process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


class Dropout(nn.Module):
    """Sets units to 0 with probability ``p`` in training and scales the rest by 1/(1 − p).

    The masks of the k-th training pass come from the seed and k alone. So the global generator is
    neither read nor moved, equal networks see equal masks (the published networks fix the seed at
    0 too), and a network that is stored and read again goes on with the masks it would have had: k
    is a buffer. A rule that repeats a step's passes, and puts the buffers back, sees the same mask
    in all of them.

    ``part`` is (rank, ranks) where several processes train on equal parts of a batch: the mask is
    that of the joined batch, of which each takes its own rows. ``stacked`` tells that the module
    runs inside `torch.vmap` over networks, each of which has a k of its own.

    Shapes: any → the same. Source: Srivastava et al. 2014; lr-identify ``alexnet.py``
    (``keep_prob`` 0.5, ``seed`` 0).
    """

    passes: Tensor

    def __init__(self, p: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and below 1, got {p}")
        self.p, self.seed, self.part, self.stacked = p, seed, (0, 1), False
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = _Masks.apply(x, self.passes, self) if self.stacked else self.mask(x, self.passes)
        self.passes += 1
        return x * kept / (1 - self.p)

    def mask(self, x: Tensor, passes: Tensor | int) -> Tensor:
        """Which units of ``x`` are kept in the pass of that number."""
        generator = torch.Generator(x.device).manual_seed((self.seed << 40) + int(passes))
        rank, ranks = self.part
        joined = (ranks * x.shape[0], *x.shape[1:])
        kept = torch.rand(joined, generator=generator, device=x.device) >= self.p
        return kept.unflatten(0, (ranks, -1))[rank]

    def extra_repr(self) -> str:
        return f"p={self.p}, seed={self.seed}"


class _Masks(Function):
    """The masks of all networks, by its rule for `torch.vmap`, which is all there is."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        raise NotImplementedError("masks of several networks are drawn inside torch.vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Never reached: a mask has no derivative."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, passes: Tensor, dropout: Dropout
    ) -> tuple[Tensor, int | None]:
        one = x if in_dims[0] is None else x.movedim(in_dims[0], 0)[0]
        numbers = [int(number) for number in passes.tolist()]
        masks = {number: dropout.mask(one, number) for number in dict.fromkeys(numbers)}
        if len(masks) == 1:
            return masks[numbers[0]], None
        return torch.stack([masks[number] for number in numbers]), 0
