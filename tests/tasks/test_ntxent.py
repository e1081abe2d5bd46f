"""NT-Xent against its definition and its limits."""

import math

import numpy as np
import pytest
import torch

from goaldriven.tasks.ntxent import nt_xent


def brute_force(z, temperature):
    n = len(z) // 2
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i in range(2 * n):
        j = i + n if i < n else i - n
        others = [math.exp(unit[i] @ unit[k] / temperature) for k in range(2 * n) if k != i]
        total -= math.log(math.exp(unit[i] @ unit[j] / temperature) / sum(others))
    return total / (2 * n)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0, 20.0])
@pytest.mark.parametrize(("n", "features"), [(1, 3), (2, 1), (5, 4), (17, 32)])
def test_equals_the_sum_over_pairs(n, features, temperature):
    z = np.random.default_rng(n).normal(size=(2 * n, features))
    value = nt_xent(torch.from_numpy(z), temperature).item()
    assert value == pytest.approx(brute_force(z, temperature), rel=1e-12, abs=1e-12)


def test_single_pair_is_always_solved():
    assert nt_xent(torch.randn(2, 5), 0.1).item() == 0


def test_uninformative_projections_cost_the_log_of_the_candidates():
    assert nt_xent(torch.ones(20, 3), 0.1).item() == pytest.approx(math.log(19), rel=1e-6)


def test_high_temperature_limit():
    z = torch.randn(20, 3, dtype=torch.float64)
    assert nt_xent(z, 1e9).item() == pytest.approx(math.log(19), rel=1e-8)


def test_orthogonal_stimuli_with_equal_views():
    """All positives at similarity 1, all negatives at 0: log(1 + (2N − 2)·e^(−1/τ))."""
    n, temperature = 6, 0.5
    z = torch.eye(n, dtype=torch.float64).repeat(2, 1)
    expected = math.log(1 + (2 * n - 2) * math.exp(-1 / temperature))
    assert nt_xent(z, temperature).item() == pytest.approx(expected, rel=1e-12)
    assert nt_xent(z, 0.01).item() < 1e-40


def test_length_does_not_matter_and_order_of_views_neither():
    z = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value = nt_xent(z, 0.2)
    torch.testing.assert_close(nt_xent(z * (torch.rand(12, 1) * 9 + 0.1), 0.2), value)
    torch.testing.assert_close(nt_xent(z.roll(6, 0), 0.2), value)
    assert not torch.isclose(nt_xent(z[[1, 0, *range(2, 12)]], 0.2), value), "but the pairing does"


def test_gradient():
    z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: nt_xent(x, 0.3), (z,))


def test_low_temperatures_stay_finite():
    assert nt_xent(torch.randn(20, 8), 1e-3).isfinite()


def test_the_published_code_adds_the_two_orders():
    """Softmax cross-entropy over the other view and the rest, once from either view."""
    z = torch.randn(12, 5, dtype=torch.float64)
    unit = torch.nn.functional.normalize(z, dim=1)
    a, b = unit.split(6)
    orders = []
    for one, other in ((a, b), (b, a)):
        own = (one @ one.T / 0.3).fill_diagonal_(-1e9)
        logits = torch.cat([one @ other.T / 0.3, own], 1)
        orders.append(torch.nn.functional.cross_entropy(logits, torch.arange(6)))
    torch.testing.assert_close(nt_xent(z, 0.3, added=True), orders[0] + orders[1])
    torch.testing.assert_close(nt_xent(z, 0.3), (orders[0] + orders[1]) / 2)
