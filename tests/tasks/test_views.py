"""SimCLR's views against SciPy's image operations."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from goaldriven.tasks.views import ViewSettings, blur, crop_transforms, random_views

PLAIN = ViewSettings(
    area=(1.0, 1.0), aspect=1.0, rotation=0.0, contrast=0.0, brightness=0.0, blur_probability=0.0
)


def images(n=6, side=8, channels=1):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(n, channels, side, side, generator=generator)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_change_at_all_is_the_identity():
    torch.testing.assert_close(random_views(images(), generator(), PLAIN), images())


def test_views_stay_in_range_and_differ():
    x = images(64).repeat(2, 1, 1, 1)
    views = random_views(x, generator())
    assert views.shape == x.shape
    assert views.min() >= 0
    assert views.max() <= 1
    assert not torch.isclose(views[:64], views[64:]).flatten(1).all(1).any()
    assert torch.equal(x, images(64).repeat(2, 1, 1, 1)), "inputs are left alone"


def test_each_image_has_parameters_of_its_own():
    """A view does not depend on the other images in the batch."""
    x = images(10)
    other = x.clone()
    other[5:] = 0
    one, two = random_views(x, generator()), random_views(other, generator())
    torch.testing.assert_close(one[:5], two[:5])


def test_crops_against_scipy():
    """The same affine map through ``scipy.ndimage``: linear, black beyond the edges."""
    settings = ViewSettings(contrast=0, brightness=0, blur_probability=0)
    x, side = images(20, 9), 9
    views = random_views(x, generator(3), settings)
    draws = torch.rand(9, 20, generator=generator(3))
    for image, view, theta in zip(x, views, crop_transforms(draws[:5], settings), strict=True):
        # From [−1, 1] with x first to pixels with rows first.
        matrix = theta[:, :2].numpy()[::-1, ::-1]
        centre = (side - 1) / 2
        offset = theta[:, 2].numpy()[::-1] * side / 2 + centre - matrix @ [centre, centre]
        padded = np.pad(image[0].numpy(), 5)  # SciPy's constant mode does not blend into black
        expected = ndimage.affine_transform(
            padded, matrix, offset + 5 - matrix @ [5, 5], order=1, output_shape=padded.shape
        )[5:-5, 5:-5]
        np.testing.assert_allclose(view[0], expected, atol=1e-5)


def test_crop_geometry():
    """Areas, aspect ratios, angles are uniform in their ranges; unrotated crops lie inside."""
    settings = ViewSettings(area=(0.4, 0.9), aspect=1.5, rotation=20)
    theta = crop_transforms(torch.rand(5, 4000, generator=generator()), settings)
    linear, shift = theta[:, :, :2], theta[:, :, 2]
    area = torch.linalg.det(linear)
    assert stats.kstest(area.numpy(), stats.uniform(0.4, 0.5).cdf).pvalue > 1e-3
    width, height = linear.norm(dim=1).unbind(1)
    log_aspect = (width / height).log().numpy()
    limit = math.log(1.5)
    assert stats.kstest(log_aspect, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0]).rad2deg().numpy()
    assert stats.kstest(angle, stats.uniform(-20, 40).cdf).pvalue > 1e-3
    straight = crop_transforms(
        torch.rand(5, 4000, generator=generator()), ViewSettings(aspect=1.0, rotation=0)
    )
    reach = straight[:, :, :2].diagonal(dim1=1, dim2=2) + straight[:, :, 2].abs()
    assert reach.max() <= 1 + 1e-6
    assert shift.abs().max() > 0.2


def test_contrast_and_brightness():
    """Each view is an affine function of its image, with slope and offset in their ranges."""
    settings = ViewSettings((1.0, 1.0), 1.0, 0.0, 0.3, 0.1, 0.0)
    x = 0.4 + 0.2 * images(200)  # far from the limits, so that nothing is clipped
    views = random_views(x, generator(), settings)
    slopes, offsets = [], []
    for image, view in zip(x.flatten(1).numpy(), views.flatten(1).numpy(), strict=True):
        slope, _, r, *_ = stats.linregress(image, view)
        assert r == pytest.approx(1, abs=1e-4)
        slopes.append(slope)
        offsets.append(view.mean() - image.mean())
    assert stats.kstest(slopes, stats.uniform(0.7, 0.6).cdf).pvalue > 1e-3
    assert stats.kstest(offsets, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_blur_against_scipy():
    x = images(5, channels=2)
    sigma = torch.tensor([0.3, 0.5, 0.8, 2.0, 0.0])
    blurred = blur(x, sigma)
    for image, view, s in zip(x, blurred, sigma.tolist(), strict=True):
        for plane, result in zip(image, view, strict=True):
            expected = plane.numpy()
            if s:
                expected = ndimage.gaussian_filter(expected, s, mode="nearest", radius=1)
            np.testing.assert_allclose(result, expected, atol=1e-6)


def test_blur_happens_as_often_as_said():
    settings = ViewSettings((1.0, 1.0), 1.0, 0.0, 0.0, 0.0, 0.25)
    x = images(2000)
    views = random_views(x, generator(), settings)
    unchanged = torch.isclose(views, x, atol=1e-5).flatten(1).all(1).float().mean().item()
    assert stats.binomtest(round(unchanged * 2000), 2000, 0.75).pvalue > 1e-3
