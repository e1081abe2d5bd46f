"""Crops: inside the image, of the areas and shapes asked for, where TensorFlow would put them."""

import numpy as np
import pytest
from scipy import stats

from goaldriven.tasks.crops import (
    Box,
    Distortion,
    central_fraction,
    central_square,
    central_square_rounded,
    distorted_box,
    random_square,
)

IMAGES = [(375, 500), (500, 333), (224, 224), (40, 18), (1000, 100)]


DEFAULT = Distortion()


def draw(height, width, n=400, distortion=DEFAULT, seed=0):
    rng = np.random.default_rng(seed)
    return [distorted_box(height, width, distortion, rng) for _ in range(n)]


@pytest.mark.parametrize(("height", "width"), IMAGES)
def test_crops_keep_to_their_limits(height, width):
    for box in draw(height, width):
        assert 0 <= box.top <= height - box.height
        assert 0 <= box.left <= width - box.width
        if (box.height, box.width) == (height, width):
            continue  # no crop was found
        area = box.height * box.width / (height * width)
        assert 0.1 <= area <= 1.0
        # The width is a rounded multiple of the height, by an aspect ratio within the limits; where
        # rounding missed the area the height has moved by one.
        assert 0.75 * (box.height - 1) - 0.5 <= box.width <= 4 / 3 * (box.height + 1) + 0.5


def test_the_smallest_area_is_that_of_the_covered_object():
    """0.08 (or 0.05) is asked for, but a crop must cover a tenth of the image."""
    for lowest in (0.05, 0.08):
        boxes = draw(300, 300, 4000, Distortion(area=(lowest, 1.0)))
        areas = np.array([b.height * b.width for b in boxes]) / 300**2
        assert areas.min() >= 0.1
        assert areas.min() < 0.105
    free = draw(300, 300, 4000, Distortion(area=(0.05, 1.0), covered=0.0))
    assert min(b.height * b.width for b in free) < 0.06 * 300**2


def test_the_height_follows_from_aspect_and_area():
    """One area, one aspect ratio: nothing is left but the place, which is uniform."""
    boxes = draw(400, 600, 3000, Distortion(area=(0.25, 0.25), aspect=(1.5, 1.5)))
    assert {(b.height, b.width) for b in boxes} == {(200, 300)}
    tops, lefts = (np.array([getattr(b, n) for b in boxes]) for n in ("top", "left"))
    assert tops.max() == 199, "as in TensorFlow, the last place is never drawn"
    for places, n in ((tops, 200), (lefts, 300)):
        assert stats.kstest((places + 0.5) / n, "uniform").pvalue > 1e-3


def test_aspect_ratio_and_height_are_uniform():
    boxes = draw(2000, 2000, 3000, Distortion(area=(0.2, 0.5)), seed=1)
    aspect = np.array([b.width / b.height for b in boxes])
    assert stats.kstest((aspect - 0.75) / (4 / 3 - 0.75), "uniform").pvalue > 1e-3
    low, high = (2000 * np.sqrt(a / aspect) for a in (0.2, 0.5))
    height = np.array([b.height for b in boxes])
    assert stats.kstest((height - low) / (high - low), "uniform").pvalue > 1e-3


def test_a_shape_that_cannot_be_cut_is_taken_whole():
    assert draw(1, 100, 5) == [Box(0, 0, 1, 100)] * 5
    assert draw(64, 1000, 5, Distortion(area=(0.9, 1.0))) == [Box(0, 0, 64, 1000)] * 5


def test_generators_decide():
    assert draw(90, 120, seed=3) == draw(90, 120, seed=3)
    assert draw(90, 120, seed=3) != draw(90, 120, seed=4)


def test_squares_anywhere():
    boxes = [random_square(40, 100, np.random.default_rng(s)) for s in range(300)]
    assert {(b.top, b.height, b.width) for b in boxes} == {(0, 40, 40)}
    assert min(b.left for b in boxes) == 0
    assert max(b.left for b in boxes) == 60


@pytest.mark.parametrize(
    ("crop", "height", "width", "expected"),
    [
        # 0.875 · 375 = 328.125; (500 − 328)/2 = 86, (375 − 328)/2 = 23.5
        (central_square, 375, 500, Box(23, 86, 328, 328)),
        (central_square, 256, 256, Box(16, 16, 224, 224)),
        (central_square, 1, 1, Box(0, 0, 1, 1)),
        # (375 − 328.125)/2 = 23.4, (500 − 437.5)/2 = 31.25
        (central_fraction, 375, 500, Box(23, 31, 329, 438)),
        (central_fraction, 8, 8, Box(0, 0, 8, 8)),
        (central_square_rounded, 375, 500, Box(24, 86, 328, 328)),
    ],
)
def test_central_crops(crop, height, width, expected):
    assert crop(height, width, 0.875) == expected


def test_boxes_cut_arrays():
    image = np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(image[Box(1, 2, 2, 3).slices], [[7, 8, 9], [12, 13, 14]])
