"""Where the published preprocessing cuts an image before it resizes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """A part of an image, in whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True)
class Distortion:
    """How crops are drawn.

    Attributes
    ----------
    area : smallest and largest area of the crop, in areas of the image.
    aspect : smallest and largest width : height.
    covered : the crop must cover so much of the object, which is the whole image: in effect a
        second lower limit to the area, and above the first one as published.
    attempts : draws until the whole image is taken instead.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    covered: float = 0.1
    attempts: int = 100


def distorted_box(height: int, width: int, distortion: Distortion, rng: np.random.Generator) -> Box:
    """A random crop, by TensorFlow's algorithm.

    Each attempt draws the aspect ratio uniformly, then the height uniformly between those that the
    area's limits give with it, then the place; sizes are rounded to whole pixels. As in TensorFlow
    the last possible row and column of places are never drawn.

    Source: ``tf.image.sample_distorted_bounding_box`` with the whole image as the object
    (tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc).
    """
    low, high = distortion.aspect
    for _ in range(distortion.attempts):
        aspect = low + (high - low) * rng.random()
        size = _crop_size(height, width, distortion.area, aspect, rng)
        if size is None:
            continue
        top = int(rng.integers(height - size[0])) if size[0] < height else 0
        left = int(rng.integers(width - size[1])) if size[1] < width else 0
        if size[0] * size[1] >= distortion.covered * height * width:
            return Box(top, left, *size)
    return Box(0, 0, height, width)


def _crop_size(
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: float,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Height and width of a crop of an aspect ratio; None where none fits."""
    smallest, largest = (limit * height * width for limit in area)
    lowest = round(math.sqrt(smallest / aspect))
    highest = round(math.sqrt(largest / aspect))
    if round(highest * aspect) > width:
        highest = int((width + 0.5 - 1e-7) / aspect)
        highest -= round(highest * aspect) > width
    highest = min(highest, height)
    drawn = min(lowest, highest)
    if drawn < highest:
        drawn += int(rng.integers(highest - drawn + 1))
    if drawn * round(drawn * aspect) < smallest:  # by rounding only
        drawn += 1
    if drawn * round(drawn * aspect) > largest:
        drawn -= 1
    size = (drawn, round(drawn * aspect))
    fits = 0 < size[0] <= height and 0 < size[1] <= width
    return size if fits and smallest <= size[0] * size[1] <= largest else None


def random_square(height: int, width: int, rng: np.random.Generator) -> Box:
    """The largest square, anywhere it fits."""
    side = min(height, width)
    top, left = (int(rng.integers(n - side + 1)) for n in (height, width))
    return Box(top, left, side, side)


def central_square(height: int, width: int, fraction: float) -> Box:
    """A square in the middle, with ``fraction`` of the shorter side."""
    side = max(1, int(fraction * min(height, width)))
    return Box(int((height - side) / 2), int((width - side) / 2), side, side)


def central_fraction(height: int, width: int, fraction: float) -> Box:
    """The middle of an image, in its own shape, with ``fraction`` of both sides.

    Source: ``tf.image.central_crop``.
    """
    top, left = (int((n - n * fraction) / 2) for n in (height, width))
    return Box(top, left, height - 2 * top, width - 2 * left)


def central_square_rounded(height: int, width: int, fraction: float) -> Box:
    """As `central_square`, sides and places rounded as in SimCLR's evaluation."""
    side = max(1, round(fraction * min(height, width)))
    return Box((height - side + 1) // 2, (width - side + 1) // 2, side, side)
