"""SimCLR's random views, for images of a few pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ViewSettings:
    """How far apart two views of one image may lie.

    A view is a crop of random area, aspect ratio, place and angle, resized to the image's size,
    with random contrast and brightness and, at random, blurred. Against the published recipe there
    are no flips (a mirrored digit is another thing) and no colours (the images are grey), the crops
    are larger (a digit fills its 8×8 pixels) and small rotations are added.

    Attributes
    ----------
    area : smallest and largest area of the crop, in areas of the image.
    aspect : the crop's width : height lies between 1/aspect and aspect (uniform in the logarithm).
    rotation : largest angle, degrees, either way.
    contrast, brightness : largest relative and absolute change; pixels are in [0, 1].
    blur_probability, blur_sigma : how often, and range of the Gaussian's deviation in pixels.
    """

    area: tuple[float, float] = (0.5, 1.0)
    aspect: float = 4 / 3
    rotation: float = 15.0
    contrast: float = 0.4
    brightness: float = 0.2
    blur_probability: float = 0.5
    blur_sigma: tuple[float, float] = (0.3, 0.8)


def random_views(
    images: Tensor, generator: torch.Generator, settings: ViewSettings = ViewSettings()
) -> Tensor:
    """One random view of each image, each with its own parameters.

    Parameters
    ----------
    images : (n, channels, height, width) in [0, 1]; black (0) lies beyond the edges.
    generator : on the CPU; one call draws everything.

    Returns
    -------
    Tensor of the same shape, in [0, 1].
    """
    draws = torch.rand(9, images.shape[0], generator=generator).to(images.device)
    grid = functional.affine_grid(
        crop_transforms(draws[:5], settings), list(images.shape), align_corners=False
    )
    views = functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    views = _jitter(views, draws[5:7], settings)
    low, high = settings.blur_sigma
    sigma = low + (high - low) * draws[7]
    return blur(views, torch.where(draws[8] < settings.blur_probability, sigma, 0.0))


def crop_transforms(draws: Tensor, settings: ViewSettings) -> Tensor:
    """Affine maps (n, 2, 3) from the view's coordinates to the image's, both in [−1, 1].

    x_image = R(θ)·diag(w, h)·x_view + t, with |t| ≤ |1 − (w, h)|, from five uniform draws each.
    """
    low, high = settings.area
    area = low + (high - low) * draws[0]
    root_aspect = torch.exp((draws[1] - 0.5) * math.log(settings.aspect))
    angle = (2 * draws[2] - 1) * math.radians(settings.rotation)
    width, height = area.sqrt() * root_aspect, area.sqrt() / root_aspect
    cos, sin = angle.cos(), angle.sin()
    shift_x, shift_y = (1 - width) * (2 * draws[3] - 1), (1 - height) * (2 * draws[4] - 1)
    rows = (cos * width, -sin * height, shift_x, sin * width, cos * height, shift_y)
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def _jitter(images: Tensor, draws: Tensor, settings: ViewSettings) -> Tensor:
    """Contrast about each image's mean, then brightness, clipped to [0, 1]."""
    shape = (-1, 1, 1, 1)
    gain = (1 + settings.contrast * (2 * draws[0] - 1)).view(shape)
    offset = (settings.brightness * (2 * draws[1] - 1)).view(shape)
    mean = images.mean((1, 2, 3), keepdim=True)
    return torch.addcmul(mean * (1 - gain) + offset, images, gain).clamp_(0, 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve each image with its own 3×3 Gaussian, edges continued.

    ``sigma`` (n,): deviation in pixels; 0 leaves an image as it is. The kernel is separable, taps
    (a, 1, a)/(1 + 2a) with a = exp(−1/2σ²) along each axis.
    """
    side = torch.exp(-0.5 / sigma.square())  # exp(−∞) = 0 where σ = 0
    side = (side / (1 + 2 * side)).view(-1, 1, 1, 1)
    centre = 1 - 2 * side
    padded = functional.pad(images, (1, 1, 0, 0), mode="replicate")
    images = centre * images + side * (padded[..., :-2] + padded[..., 2:])
    padded = functional.pad(images, (0, 0, 1, 1), mode="replicate")
    return centre * images + side * (padded[..., :-2, :] + padded[..., 2:, :])
