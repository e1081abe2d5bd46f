"""The CIFAR-10 augmentation against SciPy and its stated distribution."""

import numpy as np
import torch
from scipy import ndimage, stats

from goaldriven.tasks.shifts import shift_and_flip, transformed


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_against_scipy():
    """Linear interpolation, edges continued; the shift comes first, then the mirror."""
    x = torch.rand(8, 3, 10, 12, generator=generator(), dtype=torch.float64)
    down, right = torch.rand(2, 8, generator=generator(1), dtype=torch.float64) - 0.5
    mirror = torch.tensor([1.0, -1.0]).repeat(4)
    result = transformed(x, down, right, mirror).numpy()
    for i in range(8):
        shift = (0, -down[i].item() * 10, -right[i].item() * 12)
        expected = ndimage.shift(x[i].numpy(), shift, order=1, mode="nearest")
        expected = expected[:, :, ::-1] if mirror[i] < 0 else expected
        np.testing.assert_allclose(result[i], expected, atol=1e-12)


def test_distribution():
    """A ramp shows how far it was moved: shifts are uniform, half of the images mirrored."""
    n, side = 2000, 40
    ramp = torch.arange(side, dtype=torch.float32)
    rows = ramp.view(1, 1, side, 1).expand(n, 1, side, side)
    columns = ramp.view(1, 1, 1, side).expand(n, 1, side, side)
    down = shift_and_flip(rows, generator())[:, 0, 20, 20] - 20
    assert stats.kstest(down.numpy() / side, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3
    moved = shift_and_flip(columns, generator())[:, 0, 20]
    mirrored = (moved[:, 21] < moved[:, 20]).numpy()
    assert stats.binomtest(int(mirrored.sum()), n).pvalue > 1e-3
    right = np.where(mirrored, moved[:, 19], moved[:, 20]) - 20
    assert stats.kstest(right / side, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(right, down)[0, 1]) < 0.1


def test_nothing_to_do_is_the_identity():
    x = torch.rand(5, 3, 32, 32, generator=generator())
    torch.testing.assert_close(shift_and_flip(x, generator(), shift=0, flip=0), x)
    torch.testing.assert_close(shift_and_flip(x, generator(), shift=0, flip=1), x.flip(-1))


def test_values_stay_between_the_neighbours():
    x = torch.rand(50, 1, 32, 32, generator=generator())
    y = shift_and_flip(x, generator())
    assert y.min() >= x.min()
    assert y.max() <= x.max()
