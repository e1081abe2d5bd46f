"""Keras' random shifts and flips, on whole batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def shift_and_flip(
    images: Tensor, generator: torch.Generator, shift: float = 0.1, flip: float = 0.5
) -> Tensor:
    """Shift each image by its own random amount along both axes, then flip some of them.

    Amounts are uniform on ±``shift`` of the image's size, whole pixels or not; values between
    pixels are interpolated linearly and the outermost pixels are continued outwards. An image is
    mirrored left to right with probability ``flip``.

    Parameters
    ----------
    images : (n, channels, height, width), floating.
    generator : on the CPU.

    Source: Keras' ``ImageDataGenerator`` (width and height shift range 0.1, fill mode nearest,
    horizontal flip), as in the published CIFAR-10 training.
    """
    draws = torch.rand(3, images.shape[0], generator=generator)
    mirror = torch.where(draws[2] < flip, -1.0, 1.0)
    down, right = (2 * draws[:2] - 1) * shift
    return transformed(images, down, right, mirror)


def transformed(images: Tensor, down: Tensor, right: Tensor, mirror: Tensor) -> Tensor:
    """Sample image i at (row + ``down``ᵢ·height, column + ``right``ᵢ·width), then mirror it.

    ``mirror``ᵢ: −1 mirrors left to right, +1 does not. Sampling beyond the edge gives the edge.
    """
    zero, one = torch.zeros_like(down), torch.ones_like(down)
    # In affine_grid's coordinates the image spans [−1, 1], so a shift by its size is 2.
    rows = (mirror, zero, 2 * right, zero, one, 2 * down)
    theta = torch.stack(rows, dim=1).view(-1, 2, 3).to(images)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
