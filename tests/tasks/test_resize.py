"""TensorFlow 1's resizing against loops, torch's sampling at the same places, and PIL's."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from goaldriven.tasks.resize import resize_bicubic, resize_bilinear

SHAPES = [(12, 20, 32, 16), (31, 17, 16, 16), (40, 40, 40, 40), (5, 7, 64, 3), (1, 1, 4, 4)]


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def bilinear_by_loops(image, height, width):
    h, w, channels = image.shape
    out = np.empty((height, width, channels))
    for i in range(height):
        for j in range(width):
            y, x = i * (h / height), j * (w / width)
            a, b = int(y), int(x)
            c, d = min(a + 1, h - 1), min(b + 1, w - 1)
            f, g = y - a, x - b
            top = (1 - g) * image[a, b].astype(float) + g * image[a, d].astype(float)
            bottom = (1 - g) * image[c, b].astype(float) + g * image[c, d].astype(float)
            out[i, j] = (1 - f) * top + f * bottom
    return out


@pytest.mark.parametrize(("h", "w", "height", "width"), SHAPES)
def test_bilinear_by_loops(h, w, height, width):
    image = random_image(h, w)
    resized = resize_bilinear(image, height, width)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, bilinear_by_loops(image, height, width), atol=1e-2)


def test_tensorflows_own_example_of_the_old_convention():
    """Doubling keeps every input pixel and puts means between; the last one is repeated."""
    image = np.array([0, 100, 40], dtype=np.uint8).reshape(1, 3, 1)
    assert resize_bilinear(image, 1, 6)[0, :, 0].tolist() == [0, 50, 100, 70, 40, 40]


def grid_sampled(image, height, width, mode):
    """torch's sampler, which has the same cubic kernel, at y = i·h/height, x = j·w/width."""
    h, w = image.shape[:2]
    y = torch.arange(height, dtype=torch.float64) * h / height
    x = torch.arange(width, dtype=torch.float64) * w / width
    grid = torch.stack(
        torch.meshgrid(2 * x / max(w - 1, 1) - 1, 2 * y / max(h - 1, 1) - 1, indexing="xy"), -1
    )
    pixels = torch.from_numpy(image).double().permute(2, 0, 1)[None]
    sampled = functional.grid_sample(
        pixels, grid[None], mode=mode, padding_mode="border", align_corners=True
    )
    return sampled[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("h", "w", "height", "width"), SHAPES[:4])
def test_bilinear_is_torchs_sampling_at_the_same_places(h, w, height, width):
    image = random_image(h, w, 1)
    expected = grid_sampled(image, height, width, "bilinear")
    np.testing.assert_allclose(resize_bilinear(image, height, width), expected, atol=1e-2)


@pytest.mark.parametrize(("h", "w", "height", "width"), SHAPES[:4])
def test_bicubic_is_torchs_sampling_at_the_same_places(h, w, height, width):
    """To TensorFlow's table, which knows 1024 places between two pixels."""
    image = random_image(h, w, 2)
    expected = grid_sampled(image, height, width, "bicubic")
    np.testing.assert_allclose(resize_bicubic(image, height, width), expected, atol=0.6)


def test_bicubic_is_exact_where_the_table_is():
    """40 → 64: fractions in eighths."""
    image = random_image(40, 40, 3)
    expected = grid_sampled(image, 64, 64, "bicubic")
    np.testing.assert_allclose(resize_bicubic(image, 64, 64), expected, atol=1e-3)


def test_pil_at_the_same_places():
    """PIL puts pixels' centres at halves; with that taken off it agrees to rounding."""
    image = random_image(33, 21, 4)
    scale_y, scale_x = 33 / 28, 21 / 28
    shifted = (scale_x, 0, 0.5 - 0.5 * scale_x, 0, scale_y, 0.5 - 0.5 * scale_y)
    theirs = Image.fromarray(image).transform(
        (28, 28), Image.Transform.AFFINE, shifted, Image.Resampling.BILINEAR
    )
    ours = resize_bilinear(image, 28, 28)
    # PIL's fixed-point weights are good to one level.
    np.testing.assert_allclose(ours[:-1, :-1], np.asarray(theirs)[:-1, :-1], atol=1.01)


@pytest.mark.parametrize("resize", [resize_bilinear, resize_bicubic])
def test_flat_images_stay_flat(resize):
    image = np.full((9, 13, 3), 77, dtype=np.uint8)
    np.testing.assert_allclose(resize(image, 20, 5), 77, atol=1e-4)


@pytest.mark.parametrize("resize", [resize_bilinear, resize_bicubic])
def test_the_same_size_is_the_same_image(resize):
    image = random_image(9, 13, 5)
    np.testing.assert_array_equal(resize(image, 9, 13), image)
