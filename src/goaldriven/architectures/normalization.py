"""Local response normalisation over channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LocalResponseNorm(nn.Module):
    """Divides each unit by a power of the energy of its neighbours in channel space.

    y_c = x_c / (k + α Σ_{|d − c| ≤ r} x_d²)^β, with k = 1, over the channels d that exist. α is not
    divided by the window's size, as it is in PyTorch's own layer: this is TensorFlow's.

    Shapes: (n, channels, height, width) → the same. Source: Krizhevsky et al. 2012, section 3.3.
    """

    neighbours: Tensor

    def __init__(
        self, channels: int, depth_radius: int = 3, alpha: float = 5e-5, bias: float = 1.0
    ) -> None:
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index[None, :]).abs() <= depth_radius
        self.register_buffer("neighbours", near.float(), persistent=False)
        self.alpha, self.bias = alpha, bias

    def forward(self, x: Tensor) -> Tensor:
        # One product with the channels last, as they lie in memory; α rides on the small matrix.
        energy = torch.matmul(x.square().movedim(1, -1), self.alpha * self.neighbours)
        energy = energy.movedim(-1, 1)  # the band is symmetric, so left and right products agree
        inverse_root = (energy + self.bias).rsqrt()
        return x * (inverse_root * inverse_root.sqrt())  # s^(−1/2) · s^(−1/4) = s^(−3/4)

    def extra_repr(self) -> str:
        return f"channels={self.neighbours.shape[0]}"
