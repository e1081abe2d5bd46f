"""Dropout whose masks belong to the network, not to the process."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Sets units to 0 with probability ``p`` in training and scales the rest by 1/(1 − p).

    The masks of the k-th training pass come from the seed and k alone. So the global generator is
    neither read nor moved, equal networks see equal masks (the published networks fix the seed at
    0 too), and a network that is stored and read again goes on with the masks it would have had: k
    is a buffer. A rule that repeats a step's passes, and puts the buffers back, sees the same mask
    in all of them.

    ``part`` is (rank, ranks) where several processes train on equal parts of a batch: the mask is
    that of the joined batch, of which each takes its own rows.

    Shapes: any → the same. Source: Srivastava et al. 2014; lr-identify ``alexnet.py``
    (``keep_prob`` 0.5, ``seed`` 0).
    """

    passes: Tensor

    def __init__(self, p: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and below 1, got {p}")
        self.p, self.seed, self.part = p, seed, (0, 1)
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        generator = torch.Generator(x.device).manual_seed((self.seed << 40) + int(self.passes))
        self.passes += 1
        rank, ranks = self.part
        joined = (ranks * x.shape[0], *x.shape[1:])
        kept = torch.rand(joined, generator=generator, device=x.device) >= self.p
        return x * kept.unflatten(0, (ranks, -1))[rank] / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}, seed={self.seed}"
