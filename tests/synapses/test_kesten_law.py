"""The Kesten process's stationary law: closed forms against simulation and quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special, stats

from goaldriven.errors import DataError
from goaldriven.synapses import kesten
from goaldriven.synapses.kesten_law import log_moment


def test_stationary_moments_are_those_of_a_long_simulation():
    rng = np.random.default_rng(0)
    truth = {"mu_a": -0.2, "mu_b": 0.25, "var_a": 0.05, "var_b": 0.04}
    w = kesten.simulate(
        **truth, start=np.ones(40_000), steps=120, rng=rng, boundary="none"
    )[:, -1]  # fmt: skip
    mean, variance = kesten.stationary_moments(*truth.values())
    assert w.mean() == pytest.approx(mean, abs=4 * w.std() / 200)
    assert w.var() == pytest.approx(variance, rel=0.05)
    assert mean == pytest.approx(1.25)


def test_there_is_no_mean_at_slope_one_and_no_variance_above_its_bound():
    mean, variance = kesten.stationary_moments([0.0, -0.1, -0.1], 0.1, [0.1, 0.3, 0.1], 0.1)
    assert np.isnan(mean[0])
    assert np.isnan(variance[0])
    assert mean[1] == pytest.approx(1.0)
    assert np.isinf(variance[1])
    assert np.isfinite(variance[2])


@pytest.mark.parametrize(("mu", "a", "v"), [(0.5, -0.1, 0.3), (3.2, -0.2, 0.05), (11, 0.1, 0.4)])
def test_moments_of_epsilon_are_those_of_quadrature_and_of_the_hypergeometric_function(mu, a, v):
    s, phi = np.sqrt(v), 1 + a
    direct, _ = integrate.quad(
        lambda e: np.abs(e) ** mu * stats.norm.pdf(e, phi, s), phi - 14 * s, phi + 14 * s,
        points=[0.0], limit=400,
    )  # fmt: skip
    closed = (
        s**mu * 2 ** (mu / 2) * special.gamma((mu + 1) / 2) / np.sqrt(np.pi)
        * special.hyp1f1(-mu / 2, 0.5, -(phi**2) / (2 * v))
    )  # fmt: skip
    assert float(log_moment(mu, a, v)) == pytest.approx(np.log(direct), abs=1e-6)
    assert float(log_moment(mu, a, v)) == pytest.approx(np.log(closed), abs=1e-6)


def test_the_second_and_fourth_moments_are_the_normal_ones():
    for a, v in ((-0.1, 0.2), (-0.05, 0.001), (0.3, 1.0)):
        phi = 1 + a
        assert float(log_moment(2, a, v)) == pytest.approx(np.log(phi**2 + v), abs=1e-9)
        fourth = phi**4 + 6 * phi**2 * v + 3 * v**2
        assert float(log_moment(4, a, v)) == pytest.approx(np.log(fourth), abs=1e-9)


def test_the_tail_exponent_solves_its_equation_and_is_two_at_the_bound_of_the_variance():
    a, v = np.array([-0.05, -0.2, -0.1, 0.0]), np.array([0.02, 0.05, 0.5, 0.9])
    mu = kesten.tail_exponent(a, v)
    np.testing.assert_allclose(log_moment(mu, a, v), 0.0, atol=1e-8)
    assert (mu > 0.01).all()
    # E ε² = 1 is φ² + σ² = 1, where the variance stops existing
    assert kesten.tail_exponent(-0.1, 1 - 0.81) == pytest.approx(2.0, abs=1e-6)


def test_no_tail_without_noise_and_none_without_a_stationary_law():
    assert np.isinf(kesten.tail_exponent(-0.1, 0.0))
    assert np.isnan(kesten.tail_exponent(0.2, 0.01))  # E log|ε| > 0
    assert np.isinf(kesten.tail_exponent(-0.5, 1e-6))  # too light to be told


def test_the_tail_exponent_is_the_hill_estimate_of_a_long_simulation():
    rng = np.random.default_rng(1)
    truth = {"mu_a": -0.15, "mu_b": 0.1, "var_a": 0.2, "var_b": 0.001}
    w = kesten.simulate(**truth, start=np.full(60_000, 0.6), steps=80, rng=rng)[:, -1]
    top = np.sort(w)[-400:]
    hill = 1 / np.log(top / top[0])[1:].mean()
    assert hill == pytest.approx(float(kesten.tail_exponent(-0.15, 0.2)), rel=0.15)


def test_boundaries():
    rng = np.random.default_rng(0)
    given = {
        "mu_a": -0.3,
        "mu_b": 0.0,
        "var_a": 0.3,
        "var_b": 0.2,
        "steps": 40,
        "start": np.ones(500),
    }
    free = kesten.simulate(**given, rng=rng, boundary="none")
    absorbed = kesten.simulate(**given, rng=rng, boundary="absorbing")
    reflected = kesten.simulate(**given, rng=rng, boundary="reflecting")
    assert (free < 0).any()
    assert (reflected >= 0).all()
    assert (absorbed == 0).any()
    lost = absorbed == 0
    assert (lost[:, 1:] >= lost[:, :-1]).all()  # never back
    with pytest.raises(DataError, match="boundary must be one of"):
        kesten.simulate(**given, rng=rng, boundary="sticky")
    with pytest.raises(DataError, match="variances must not be negative"):
        kesten.simulate(**(given | {"var_a": -1}), rng=rng)
