"""Colour against the standard library's colour spaces, NumPy and SciPy."""

import colorsys

import numpy as np
import pytest
import torch
from scipy import ndimage

from goaldriven.tasks import colour


def images(n=5, size=7, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def by_pixel(batch, change):
    """A function of (r, g, b, image's index) applied to every pixel."""
    out = np.empty(batch.shape)
    for i, image in enumerate(batch.double().numpy()):
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                out[i, :, y, x] = change(*image[:, y, x], i)
    return out


def test_brightness_adds():
    amounts = torch.tensor([-0.5, -0.1, 0.0, 0.2, 0.9])
    expected = np.clip(images().numpy() + amounts.numpy()[:, None, None, None], 0, 1)
    np.testing.assert_allclose(colour.brightness(images(), amounts), expected, atol=1e-6)


def test_contrast_is_about_each_channels_mean():
    factors = torch.tensor([0.0, 0.4, 1.0, 1.5, 1.8])
    x = images().numpy()
    mean = x.mean((2, 3), keepdims=True)
    expected = np.clip(mean + (x - mean) * factors.numpy()[:, None, None, None], 0, 1)
    np.testing.assert_allclose(colour.contrast(images(), factors), expected, atol=1e-6)


def test_saturation_multiplies_hsvs():
    factors = torch.tensor([0.0, 0.5, 1.0, 1.5, 4.0])

    def change(r, g, b, i):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        return colorsys.hsv_to_rgb(h, min(1.0, s * float(factors[i])), v)

    expected = by_pixel(images(), change)
    np.testing.assert_allclose(colour.saturation(images(), factors), expected, atol=1e-5)


def test_hue_turns_hsvs():
    turns = torch.tensor([-0.5, -0.2, 0.0, 0.1, 1.0])

    def change(r, g, b, i):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        return colorsys.hsv_to_rgb((h + float(turns[i])) % 1, s, v)

    expected = by_pixel(images(), change)
    np.testing.assert_allclose(colour.hue(images(), turns), expected, atol=1e-5)


def test_grey_is_the_luma():
    luma = np.einsum("ncyx,c->nyx", images().double().numpy(), [0.299, 0.587, 0.114])
    for channel in colour.grey(images()).unbind(1):
        np.testing.assert_allclose(channel, luma, atol=1e-6)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_blur_is_a_gaussian_of_its_own_for_each_image(kernel):
    sigma = torch.tensor([0.1, 0.4, 1.0, 1.5, 2.0])
    blurred = colour.blur(images(size=12), sigma, kernel).numpy()
    place = np.arange(kernel) - kernel // 2
    for i, image in enumerate(images(size=12).double().numpy()):
        taps = np.exp(-0.5 * (place / float(sigma[i])) ** 2)
        taps /= taps.sum()
        for axis in (1, 2):
            image = ndimage.correlate1d(image, taps, axis=axis, mode="constant")
        np.testing.assert_allclose(blurred[i], image, atol=1e-5)


def test_jitter_goes_by_each_images_order():
    generator = torch.Generator().manual_seed(3)
    order = torch.rand(5, 4, generator=generator).argsort(1)
    amounts = torch.tensor([0.1, 1.3, 0.7, 0.1]).repeat(5, 1)
    amounts += 0.05 * torch.rand(5, 4, generator=generator)
    jittered = colour.jitter(images(), amounts, order)
    adjust = (colour.brightness, colour.contrast, colour.saturation, colour.hue)
    for i in range(5):
        image = images()[i : i + 1]
        for which in order[i].tolist():
            image = adjust[which](image, amounts[i, which].view(1))
        torch.testing.assert_close(jittered[i : i + 1], image, atol=1e-6, rtol=1e-5)
    assert len({tuple(row) for row in order.tolist()}) > 1, "different orders were tried"


def test_only_chosen_images_change():
    x = images()
    changed = colour.where_drawn(x, torch.tensor([1, 0, 0, 1, 0]), lambda part, rows: 1 - part)
    torch.testing.assert_close(changed[[0, 3]], 1 - x[[0, 3]])
    assert torch.equal(changed[[1, 2, 4]], x[[1, 2, 4]])
    assert torch.equal(x, images()), "what was given stays as it was"


def test_nothing_is_drawn_here():
    state = torch.get_rng_state()
    for change in (colour.brightness, colour.contrast, colour.saturation, colour.hue):
        change(images(), torch.full((5,), 0.3))
    colour.blur(images(), torch.ones(5), 3)
    assert torch.equal(state, torch.get_rng_state())
