"""Dropout whose masks belong to the network, not to the process."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Sets units to 0 with probability ``p`` in training and scales the rest by 1/(1 − p).

    The masks of the k-th training pass come from the seed and k alone. So the global generator is
    neither read nor moved, equal networks see equal masks (the published networks fix the seed at
    0 too), and a network that is stored and read again goes on with the masks it would have had: k
    is part of the state. Each pass counts, also the second one of a perturbation rule.

    Shapes: any → the same. Source: Srivastava et al. 2014; lr-identify ``alexnet.py``
    (``keep_prob`` 0.5, ``seed`` 0).
    """

    def __init__(self, p: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and below 1, got {p}")
        self.p, self.seed, self.passes = p, seed, 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        generator = torch.Generator(x.device).manual_seed((self.seed << 40) + self.passes)
        self.passes += 1
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.p
        return x * kept / (1 - self.p)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.passes)

    def set_extra_state(self, state: Tensor) -> None:
        self.passes = int(state)

    def extra_repr(self) -> str:
        return f"p={self.p}, seed={self.seed}"
