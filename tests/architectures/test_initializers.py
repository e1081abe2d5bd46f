"""The distributions that kernels are drawn from."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from goaldriven.architectures.initializers import (
    Normal,
    TruncatedNormal,
    he_normal,
    variance_scaling,
)


def draws(initializer, n=200_000):
    tensor = torch.empty(n)
    initializer(tensor, torch.Generator().manual_seed(0))
    return tensor.numpy()


def test_normal():
    assert stats.kstest(draws(Normal(0.3)), stats.norm(scale=0.3).cdf).pvalue > 1e-3


def test_truncated_normal():
    """Against SciPy's, cut at two of its own deviations and scaled to the deviation asked for."""
    sample = draws(TruncatedNormal(0.3))
    scale = 0.3 / stats.truncnorm(-2, 2).std()
    assert stats.kstest(sample, stats.truncnorm(-2, 2, scale=scale).cdf).pvalue > 1e-3
    assert sample.std() == pytest.approx(0.3, rel=5e-3)
    assert np.abs(sample).max() == pytest.approx(2 * scale, rel=1e-3)


@pytest.mark.parametrize(("maker", "gain"), [(he_normal, 2.0), (variance_scaling, 1.0)])
def test_variance_is_gain_over_fan_in(maker, gain):
    assert maker(75).std == math.sqrt(gain / 75)
    assert draws(maker(75)).var() == pytest.approx(gain / 75, rel=0.02)


@pytest.mark.parametrize("initializer", [Normal(1.0), TruncatedNormal(1.0)])
def test_only_the_generator_matters(initializer):
    before = torch.get_rng_state()
    assert (draws(initializer) == draws(initializer)).all()
    assert torch.equal(before, torch.get_rng_state())
    parameter = torch.nn.Parameter(torch.zeros(3))
    initializer(parameter, torch.Generator())
    assert parameter.grad_fn is None
