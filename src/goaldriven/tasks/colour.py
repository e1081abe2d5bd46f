"""Changes of colour and blur on whole batches, on the device, through kornia.

All take images (n, 3, height, width) in [0, 1] and give images in [0, 1]; nothing here draws
random numbers: the amounts are arguments, one for each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor

from goaldriven.errors import DataError

Adjustment = Callable[[Tensor, Tensor], Tensor]


def import_kornia(task: str) -> ModuleType:
    """kornia, or word of how to install it.

    Raises
    ------
    DataError : it is not installed.
    """
    try:
        import kornia
    except ImportError as error:
        raise DataError(
            f"task {task} needs the package {error.name!r}, which is not installed: "
            "pip install 'goaldriven[datasets]'"
        ) from error
    return kornia


def brightness(images: Tensor, amounts: Tensor) -> Tensor:
    """Add the amount everywhere, and clip. Source: ``tf.image.adjust_brightness``."""
    return (images + _per_image(amounts)).clamp(0, 1)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Stretch about each channel's mean, and clip. Source: ``tf.image.adjust_contrast``."""
    mean = images.mean((2, 3), keepdim=True)
    return (mean + (images - mean) * _per_image(factors)).clamp(0, 1)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply HSV's saturation, at most 1. Source: ``tf.image.adjust_saturation``."""
    from kornia.enhance import adjust_saturation

    return adjust_saturation(images, factors).clamp(0, 1)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn HSV's hue by so many full turns. Source: ``tf.image.adjust_hue``."""
    from kornia.enhance import adjust_hue

    return adjust_hue(images, 2 * math.pi * turns).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """The luma 0.299 R + 0.587 G + 0.114 B in all three channels."""
    from kornia.color import rgb_to_grayscale

    return rgb_to_grayscale(images).expand_as(images)


def blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Convolve each image with a Gaussian of its own deviation (n,), in pixels, black outside.

    ``kernel``: side of the kernel, odd.
    """
    from kornia.filters import gaussian_blur2d

    deviations = sigma[:, None].expand(-1, 2).to(images)
    return gaussian_blur2d(images, kernel, deviations, border_type="constant")


ADJUSTMENTS: tuple[Adjustment, ...] = (brightness, contrast, saturation, hue)


def jitter(images: Tensor, amounts: Tensor, order: Tensor) -> Tensor:
    """All four adjustments, in an order of its own for every image.

    Parameters
    ----------
    amounts : (n, 4), for brightness, contrast, saturation and hue.
    order : (n, 4), on the CPU: which of the four comes first, second, …
    """
    images = images.clone()
    for place in range(len(ADJUSTMENTS)):
        for which, adjust in enumerate(ADJUSTMENTS):
            rows = torch.nonzero(order[:, place] == which)[:, 0].to(images.device)
            if len(rows):
                images[rows] = adjust(images[rows], amounts[rows, which])
    return images


def where_drawn(
    images: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """``change``(images, rows) of the ``chosen`` (n,) images, the others as they are."""
    rows = torch.nonzero(chosen)[:, 0].to(images.device)
    if len(rows):
        images = images.clone()
        images[rows] = change(images[rows], rows)
    return images


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def scaled(draws: Tensor, low: float, high: float) -> Tensor:
    """Uniform draws of [0, 1) on [``low``, ``high``)."""
    return low + (high - low) * draws


def channels_first(pixels: Tensor, divisor: float = 255.0) -> Tensor:
    """Unsigned bytes (n, height, width, 3) → floating (n, 3, height, width) over ``divisor``."""
    return pixels.permute(0, 3, 1, 2).float().contiguous() / divisor


def constants(values: Sequence[float], device: torch.device) -> Tensor:
    """One number per channel, to be broadcast over images."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
