"""The published preprocessing, step by step in NumPy."""

import numpy as np
import pytest
import torch

from goaldriven.tasks import colour
from goaldriven.tasks.crops import Distortion, distorted_box
from goaldriven.tasks.preparations import (
    SIMCLR_DRAWS,
    inception_augment,
    inception_evaluate,
    inception_finish,
    resnet_augment,
    resnet_evaluate,
    resnet_finish,
    simclr_augment,
    simclr_evaluate,
    simclr_finish,
)

from .test_resize import bilinear_by_loops, grid_sampled, random_image

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def rng(seed=0):
    return np.random.default_rng(seed)


def check_rounded(ours, exact):
    assert ours.dtype == np.uint8
    assert np.abs(ours - exact).max() <= 0.51


def check_truncated(ours, exact):
    assert ours.dtype == np.uint8
    assert (exact - ours).max() < 1.01
    assert (exact - ours).min() > -0.01


def test_resnet_evaluation():
    """The middle 0.875 of the shorter side; resized, cut to bytes, standardised."""
    image = random_image(40, 60)  # 0.875 · 40 = 35; offsets int(5/2), int(25/2)
    ours = resnet_evaluate(image, 28)
    expected = bilinear_by_loops(image[2:37, 12:47], 28, 28)
    check_truncated(ours, expected)
    ready = resnet_finish(torch.from_numpy(ours)[None], None)
    assert ready.shape == (1, 3, 28, 28)
    standardised = (ours / 255 - MEAN) / DEVIATION
    np.testing.assert_allclose(ready[0].permute(1, 2, 0), standardised, atol=1e-6)


def test_one_resizing_is_close_to_resizing_and_cropping():
    """Shorter side to 256, central 224, the usual description, on a smooth image."""
    y, x = np.mgrid[:300, :400]
    waves = 127 + 100 * np.stack([np.sin(x / 40), np.cos(y / 30), np.sin((x + y) / 50)], -1)
    image = waves.astype(np.uint8)
    first = bilinear_by_loops(image, 256, int(400 * 256 / 300))
    usual = first[16:240, (first.shape[1] - 224) // 2 :][:, :224]
    # Up to a pixel of shift by rounding the crop; a pixel is up to 3 levels here.
    assert np.abs(resnet_evaluate(image, 224).astype(float) - usual).max() < 8


@pytest.mark.parametrize("seed", range(6))
def test_resnet_augmentation(seed):
    """Crop, resize, flip: from the same generator, in this order."""
    image = random_image(50, 37)
    generator = rng(seed)
    box = distorted_box(50, 37, Distortion(area=(0.08, 1.0)), generator)
    assert (box.height, box.width) != (50, 37)
    expected = bilinear_by_loops(image[box.slices], 16, 16)
    mirrored = generator.random() < 0.5
    expected = expected[:, ::-1] if mirrored else expected
    check_truncated(resnet_augment(image, 16, rng(seed)), expected)


def test_resnet_takes_a_square_where_no_crop_fits():
    """A strip of 20 × 1000: no crop has a tenth of its area; the squares slide along."""
    image = np.tile(np.arange(1000) // 4, (20, 1))[:, :, None].repeat(3, 2).astype(np.uint8)
    starts = {int(resnet_augment(image, 20, rng(s)).min()) for s in range(40)}
    assert len(starts) > 20
    spans = [np.ptp(resnet_augment(image, 20, rng(s))) for s in range(10)]
    assert max(spans) <= 5, "20 pixels, a level every 4"


def test_flips_are_even():
    image = np.zeros((30, 30, 3), np.uint8)
    image[:] = np.linspace(0, 255, 30).astype(np.uint8)[None, :, None]
    for augment in (resnet_augment, inception_augment, simclr_augment):
        views = [augment(image, 8, rng(s)).astype(int) for s in range(200)]
        mirrored = sum(view[0, 0, 0] > view[0, -1, 0] for view in views)
        assert 70 < mirrored < 130


def test_inception_evaluation():
    """The middle 0.875 of both sides, squeezed to a square, on [−1, 1]."""
    image = random_image(40, 64)  # offsets int(2.5), int(4)
    ours = inception_evaluate(image, 24)
    check_rounded(ours, bilinear_by_loops(image[2:38, 4:60], 24, 24))
    ready = inception_finish(torch.from_numpy(ours)[None], None)
    np.testing.assert_allclose(ready[0].permute(1, 2, 0), ours / 127.5 - 1, atol=1e-6)


def test_inception_augmentation_and_colours():
    image = random_image(40, 64)
    generator = rng(5)
    box = distorted_box(40, 64, Distortion(area=(0.05, 1.0)), generator)
    expected = bilinear_by_loops(image[box.slices], 12, 12)
    expected = expected[:, ::-1] if generator.random() < 0.5 else expected
    ours = inception_augment(image, 12, rng(5)).copy()
    check_rounded(ours, expected)
    draws = torch.tensor([[0.25, 0.8], [0.9, 0.1]])
    ready = inception_finish(torch.from_numpy(np.stack([ours, ours])), draws)
    start = colour.channels_first(torch.from_numpy(ours)[None])
    for i in range(2):
        lighter = (start + (2 * draws[i, 0] - 1) * 32 / 255).clamp(0, 1)
        coloured = colour.saturation(lighter, 0.5 + draws[i, 1:])
        torch.testing.assert_close(ready[i : i + 1], 2 * coloured - 1, atol=1e-5, rtol=1e-5)


def test_simclr_crops_are_bicubic():
    image = random_image(40, 64)
    generator = rng(7)
    box = distorted_box(40, 64, Distortion(area=(0.08, 1.0)), generator)
    expected = np.clip(np.rint(grid_sampled(image[box.slices], 12, 12, "bicubic")), 0, 255)
    expected = expected[:, ::-1] if generator.random() < 0.5 else expected
    ours = simclr_augment(image, 12, rng(7))
    assert np.abs(ours.astype(int) - expected).max() <= 1
    evaluated = simclr_evaluate(image, 12)  # 35 pixels at (3, 15)
    expected = np.clip(np.rint(grid_sampled(image[3:38, 15:50], 12, 12, "bicubic")), 0, 255)
    assert np.abs(evaluated.astype(int) - expected).max() <= 1


def views(n, size=20):
    return torch.from_numpy(np.stack([random_image(size, size, s) for s in range(n)]))


def test_simclr_view_by_hand():
    """Each branch of every image, from its row of draws."""
    n, strength = 40, 0.7
    draws = torch.rand(n, SIMCLR_DRAWS, generator=torch.Generator().manual_seed(1))
    made = simclr_finish(views(n), draws, strength)
    for i in range(n):
        row = draws[i]
        x = colour.channels_first(views(n)[i : i + 1])
        if row[0] < 0.8:
            amount = 2 * row[8:12] - 1
            steps = (
                lambda v, a=amount: colour.brightness(v, 0.8 * strength * a[:1]),
                lambda v, a=amount: colour.contrast(v, 1 + 0.8 * strength * a[1:2]),
                lambda v, a=amount: colour.saturation(v, 1 + 0.8 * strength * a[2:3]),
                lambda v, a=amount: colour.hue(v, 0.2 * strength * a[3:]),
            )
            for which in row[4:8].argsort().tolist():
                x = steps[which](x)
        if row[1] < 0.2:
            x = colour.grey(x)
        if row[2] < 0.5:
            x = colour.blur(x, 0.1 + 1.9 * row[3:4], 3).clamp(0, 1)
        torch.testing.assert_close(made[i : i + 1], x, atol=1e-5, rtol=1e-4)
    grey = (made.std(1).amax((1, 2)) < 1e-6).float().mean()
    assert 0.05 < grey < 0.4


def test_simclr_without_draws_is_the_image():
    np.testing.assert_allclose(
        simclr_finish(views(3), None), views(3).permute(0, 3, 1, 2).numpy() / 255, atol=1e-7
    )


def test_simclr_stays_in_range_at_any_strength():
    draws = torch.rand(64, SIMCLR_DRAWS, generator=torch.Generator().manual_seed(2))
    for strength in (0.0, 1.0, 3.0):
        made = simclr_finish(views(64), draws, strength)
        assert made.isfinite().all()
        assert made.min() >= 0
        assert made.max() <= 1
