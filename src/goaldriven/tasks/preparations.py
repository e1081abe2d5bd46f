"""The published ways of making an image ready for a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goaldriven.tasks import colour
from goaldriven.tasks.crops import (
    Box,
    Distortion,
    central_fraction,
    central_square,
    central_square_rounded,
    distorted_box,
    random_square,
)
from goaldriven.tasks.image_stores import Chosen, Labels, Pixels
from goaldriven.tasks.resize import Floats, resize_bicubic, resize_bilinear

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, red, green, blue, on a scale from 0 to 1."""

CENTRAL = 0.875  # 224/256, and Inception's and SimCLR's fraction as well
BRIGHTNESS = 32 / 255
SATURATION = (0.5, 1.5)


@dataclass(frozen=True)
class Preparation:
    """What is done to an image: geometry when it is read, the rest on the device.

    Attributes
    ----------
    augment, evaluate : pixels (h, w, 3) and the wanted size → (size, size, 3) as unsigned bytes.
    finish : bytes (n, size, size, 3) and the draws (n, n_draws) of augmented ones → the network's
        input (n, 3, size, size).
    n_draws : uniform numbers that ``finish`` needs for each augmented image.
    """

    augment: Callable[[Pixels, int, np.random.Generator], Pixels]
    evaluate: Callable[[Pixels, int], Pixels]
    finish: Callable[[Tensor, Tensor | None], Tensor]
    n_draws: int = 0


def size_of(pixels: Pixels) -> tuple[int, int]:
    """Height and width."""
    return pixels.shape[0], pixels.shape[1]


def cut(pixels: Pixels, box: Box) -> Pixels:
    return pixels[box.slices]


def flipped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirrored left to right, or not."""
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def truncated(values: Floats) -> Pixels:
    return values.astype(np.uint8)


def rounded(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# ResNet -------------------------------------------------------------------------------------------


def resnet_augment(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A random crop (area 0.08 to 1, in effect 0.1; aspect 3/4 to 4/3), resized, maybe mirrored.

    Where no crop was found, or it is the whole image, the largest square at a random place.
    """
    height, width = size_of(pixels)
    box = distorted_box(height, width, Distortion(area=(0.08, 1.0)), rng)
    if (box.height, box.width) == (height, width):
        box = random_square(height, width, rng)
    return flipped(truncated(resize_bilinear(cut(pixels, box), size, size)), rng)


def resnet_evaluate(pixels: Pixels, size: int) -> Pixels:
    """The middle 224/256 of the shorter side, squared and resized.

    In one resizing what is usually put as two: shorter side to 256, central 224 × 224.
    """
    box = central_square(*size_of(pixels), CENTRAL)
    return truncated(resize_bilinear(cut(pixels, box), size, size))


def resnet_finish(pixels: Tensor, draws: Tensor | None) -> Tensor:
    """(x/255 − mean)/deviation per channel."""
    mean, deviation = (colour.constants(v, pixels.device) for v in (MEAN, DEVIATION))
    return (colour.channels_first(pixels) - mean) / deviation


# Inception ----------------------------------------------------------------------------------------


def inception_augment(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A random crop (area 0.05, in effect 0.1, to 1; aspect 0.75 to 1.33), resized and mirrored."""
    drawn = Distortion(area=(0.05, 1.0), aspect=(0.75, 1.33))
    box = distorted_box(*size_of(pixels), drawn, rng)
    return flipped(rounded(resize_bilinear(cut(pixels, box), size, size)), rng)


def inception_evaluate(pixels: Pixels, size: int) -> Pixels:
    """The middle 0.875 of both sides, resized to a square."""
    box = central_fraction(*size_of(pixels), CENTRAL)
    return rounded(resize_bilinear(cut(pixels, box), size, size))


def inception_finish(pixels: Tensor, draws: Tensor | None) -> Tensor:
    """Brightness by up to ±32/255, then saturation times 0.5 to 1.5 (in training); 2x − 1."""
    images = colour.channels_first(pixels)
    if draws is not None:
        draws = draws.to(images.device)
        images = colour.brightness(images, colour.scaled(draws[:, 0], -BRIGHTNESS, BRIGHTNESS))
        images = colour.saturation(images, colour.scaled(draws[:, 1], *SATURATION))
    return 2 * images - 1


# SimCLR -------------------------------------------------------------------------------------------

JITTER_PROBABILITY, GREY_PROBABILITY, BLUR_PROBABILITY = 0.8, 0.2, 0.5
BLUR_SIGMA = (0.1, 2.0)  # pixels
SIMCLR_DRAWS = 12


def simclr_augment(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A random crop (area 0.08 to 1, in effect 0.1; aspect 3/4 to 4/3), resized, maybe mirrored."""
    box = distorted_box(*size_of(pixels), Distortion(area=(0.08, 1.0)), rng)
    return flipped(rounded(resize_bicubic(cut(pixels, box), size, size)), rng)


def simclr_evaluate(pixels: Pixels, size: int) -> Pixels:
    """The middle 0.875 of the shorter side, squared and resized."""
    box = central_square_rounded(*size_of(pixels), CENTRAL)
    return rounded(resize_bicubic(cut(pixels, box), size, size))


def simclr_finish(pixels: Tensor, draws: Tensor | None, strength: float = 1.0) -> Tensor:
    """Colour distortion, grey and blur (in training), in [0, 1].

    With probability 0.8 brightness (added, up to ±0.8 s), contrast and saturation (times 1 ± 0.8 s)
    and hue (up to ±0.2 s turns), in random order; then grey with probability 0.2 and with
    probability 0.5 a Gaussian blur of σ from 0.1 to 2 pixels, in a kernel a tenth of the image's
    side wide. ``strength`` is s.

    Draws, by column: whether to jitter, to make grey, to blur; σ; the order (4); the amounts (4).

    Source: Chen et al. 2020, appendix A, and google-research/simclr ``data_util.py`` at be133b3,
    which lr-identify builds on; there a batch shares one σ, here every image has its own.
    """
    images = colour.channels_first(pixels)
    if draws is None:
        return images
    reach = strength * torch.tensor([0.8, 0.8, 0.8, 0.2])
    centre = torch.tensor([0.0, 1.0, 1.0, 0.0])
    amounts = centre + reach * colour.scaled(draws[:, 8:12], -1, 1)
    # A factor below 0, with a strength above 1.25, would invert the image.
    amounts[:, 1:3] = amounts[:, 1:3].clamp(min=0)
    order = draws[:, 4:8].argsort(1)
    amounts, sigma = (
        t.to(images.device) for t in (amounts, colour.scaled(draws[:, 3], *BLUR_SIGMA))
    )
    jittered = torch.nonzero(draws[:, 0] < JITTER_PROBABILITY)[:, 0]
    images = colour.where_drawn(
        images,
        draws[:, 0] < JITTER_PROBABILITY,
        lambda x, rows: colour.jitter(x, amounts[rows], order[jittered]),
    )
    images = colour.where_drawn(
        images, draws[:, 1] < GREY_PROBABILITY, lambda x, rows: colour.grey(x)
    )
    kernel = 2 * (images.shape[2] // 10 // 2) + 1
    return colour.where_drawn(
        images,
        draws[:, 2] < BLUR_PROBABILITY,
        lambda x, rows: colour.blur(x, sigma[rows], kernel).clamp(0, 1),
    )


RESNET = Preparation(resnet_augment, resnet_evaluate, resnet_finish)
INCEPTION = Preparation(inception_augment, inception_evaluate, inception_finish, 2)
SIMCLR = Preparation(simclr_augment, simclr_evaluate, simclr_finish, SIMCLR_DRAWS)

PREPARATIONS = {"resnet": RESNET, "inception": INCEPTION}
"""By the name of `goaldriven.specs.tasks.ImageNet.preprocessing`."""


@dataclass(frozen=True, eq=False)
class Photographs:
    """Images of a store as a loader reads them: one (size, size, 3) for each index.

    ``views``: how many independently augmented versions are read side by side, (views, …), with
    their draws one after another; None for a single one without that axis.
    """

    images: Chosen
    preparation: Preparation
    size: int
    views: int | None = None

    @property
    def labels(self) -> Labels:
        return self.images.labels

    @property
    def shape(self) -> tuple[int, ...]:
        one = (self.size, self.size, 3)
        return one if self.views is None else (self.views, *one)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def n_draws(self) -> int:
        return self.preparation.n_draws * (self.views or 1)

    def fill(
        self, index: int, rng: np.random.Generator | None, out: NDArray[Any]
    ) -> NDArray[np.float64] | None:
        pixels = self.images.pixels(index)
        if rng is None:
            out[...] = self.preparation.evaluate(pixels, self.size)
            return None
        for view in out if self.views is not None else (out,):
            view[...] = self.preparation.augment(pixels, self.size, rng)
        return rng.random(self.n_draws)
