"""The variance law of perturbation estimators, held against sampling."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import SpecError
from goaldriven.rules import theory


def assert_mean(draws, expected, precision=0.02):
    """The mean of draws is as expected, within 4.5 standard errors, themselves small."""
    draws = np.asarray(draws)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (error <= precision * np.abs(expected).max()).all()
    assert (np.abs(draws.mean(axis=0) - expected) < 4.5 * error).all()


def quadratic(seed=0, n=6):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, n))
    return rng.normal(size=n), (factor + factor.T) / 2


def loss_of(g, h):
    return lambda z: z @ g + np.einsum("ki,ij,kj->k", z, h, z) / 2


def one_sample_estimates(loss, n, noise, draws, rng, two_sided=False):
    xi = noise * rng.standard_normal((draws, n))
    zero = np.zeros((1, n))
    change = (loss(xi) - loss(-xi)) / 2 if two_sided else loss(xi) - loss(zero)
    return change[:, None] * xi / noise**2


@pytest.mark.parametrize("curved", [False, True])
def test_variance_of_the_perturbed_loss(curved):
    g, h = quadratic()
    h = h if curved else 0 * h
    xi = 0.7 * np.random.default_rng(1).standard_normal((200_000, 6))
    values = loss_of(g, h)(xi)
    expected = theory.perturbed_loss_variance(g, 0.7, h if curved else None)
    assert_mean((values - values.mean()) ** 2, expected)
    assert theory.perturbed_loss_variance(np.ones(50), 0.1) == pytest.approx(50 * 0.01)


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("noise", [1e-3, 0.8])
def test_error_of_weight_perturbation_on_a_quadratic_loss(noise, two_sided):
    g, h = quadratic()
    draws = one_sample_estimates(
        loss_of(g, h), 6, noise, 400_000, np.random.default_rng(2), two_sided
    )
    assert_mean(draws, g)  # unbiased, curved or not
    expected = theory.weight_perturbation_error(g, 1, noise, h, two_sided)
    assert_mean(np.sum((draws - g) ** 2, axis=1), expected)
    if two_sided:
        assert expected == pytest.approx(7 * np.sum(g**2))


def test_each_components_variance():
    g = np.array([2.0, -1.0, 0.5, 0.0])
    draws = one_sample_estimates(lambda z: z @ g, 4, 1.0, 400_000, np.random.default_rng(3))
    expected = theory.perturbation_variance(g)
    assert_mean((draws - g) ** 2, expected)
    assert expected.sum() == pytest.approx(theory.weight_perturbation_error(g))
    np.testing.assert_allclose(theory.perturbation_variance(np.ones(9), samples=5), 10 / 5)


def test_dividing_by_the_perturbation_has_no_variance_to_speak_of():
    """Why the law is that of Δf ξ_i/σ²: the sample variance of Δf/ξ_i grows with the sample."""
    rng = np.random.default_rng(4)
    found = []
    for draws in (10**3, 10**5):
        xi = rng.standard_normal((21, draws, 10))
        ratios = xi.sum(axis=2) / xi[..., 0]
        found.append(np.median(ratios.var(axis=1)))
    assert found[1] > 20 * found[0]


@pytest.mark.parametrize("two_sided", [False, True])
def test_estimator_averages_independent_samples(two_sided):
    g, h = quadratic()
    loss, point = loss_of(g, h), np.full(6, 0.3)
    here = g + h @ point
    rng = np.random.default_rng(5)
    estimates = [
        theory.estimate_gradient(loss, point, 0.5, 7, rng, two_sided) for _ in range(20_000)
    ]
    assert_mean(estimates, here)
    expected = theory.weight_perturbation_error(here, 7, 0.5, h, two_sided)
    assert_mean(np.sum((np.array(estimates) - here) ** 2, axis=1), expected)


def test_estimator_is_the_same_in_chunks(monkeypatch):
    from goaldriven.rules.theory import perturbation

    g, h = quadratic()
    whole = theory.estimate_gradient(loss_of(g, h), g, 0.5, 50, np.random.default_rng(6))
    monkeypatch.setattr(perturbation, "_CHUNK", 6 * 8)
    parts = theory.estimate_gradient(loss_of(g, h), g, 0.5, 50, np.random.default_rng(6))
    np.testing.assert_allclose(parts, whole)


@pytest.mark.parametrize("per_stimulus_loss", [True, False])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_error_of_node_perturbation_of_a_linear_layer(per_stimulus_loss, elsewhere):
    """Losses c_k·h_k plus, elsewhere, d_k·(other nodes that are perturbed at the same time)."""
    rng = np.random.default_rng(7)
    stimuli, nodes, inputs, draws = 3, 4, 5, 150_000
    g, x = rng.normal(size=(stimuli, nodes)), rng.normal(size=(stimuli, inputs))
    d = rng.normal(size=(stimuli, 6)) * elsewhere
    xi = rng.standard_normal((draws, stimuli, nodes))
    change = np.einsum("rkm,km->rk", xi, g)
    change += np.einsum("rkm,km->rk", rng.standard_normal((draws, stimuli, 6)), d)
    if per_stimulus_loss:
        credit = change[:, :, None] * xi / stimuli
    else:
        credit = change.mean(axis=1)[:, None, None] * xi
    estimates = np.einsum("rkm,ki->rmi", credit, x)
    truth = g.T @ x / stimuli
    assert_mean(estimates, truth)
    expected = theory.node_perturbation_error(
        g, x, 1, per_stimulus_loss, elsewhere=np.sum(d**2, axis=1) if elsewhere else 0.0
    )
    assert_mean(np.sum((estimates - truth) ** 2, axis=(1, 2)), expected)


def test_one_stimulus_obeys_weight_perturbations_law_with_nodes_for_weights():
    rng = np.random.default_rng(8)
    g, x = rng.normal(size=(1, 4)), rng.normal(size=(1, 9))
    size = np.sum((g.T @ x) ** 2)
    for per_stimulus_loss in (True, False):
        by_nodes = theory.node_perturbation_error(g, x, 3, per_stimulus_loss)
        assert by_nodes == pytest.approx((4 + 1) * size / 3)
    by_weights = theory.weight_perturbation_error(g.T @ x, 3)
    assert by_weights == pytest.approx((36 + 1) * size / 3)
    assert theory.perturbation_relative_error(36, 3) ** 2 == pytest.approx(by_weights / size)


@pytest.fixture(scope="module")
def measured():
    return theory.measure_perturbation(
        inputs=[4, 16, 64], outputs=[4, 16, 64], samples=[4, 32, 256], repeats=12,
        generator=np.random.default_rng(9),
    )  # fmt: skip


def test_measured_errors_are_the_predicted_ones(measured):
    deviation = (measured["relative_error"] - measured["predicted"]) / measured["standard_error"]
    assert np.sqrt((deviation**2).mean()) < 1.5  # a little over 1: standard errors of 12 repeats
    few = (measured["standard_error"] / measured["predicted"]).max()
    assert few < 0.25


def slope(x, y):
    return np.polyfit(np.log(np.broadcast_to(x, np.shape(y))).ravel(), np.log(y).ravel(), 1)[0]


def test_measured_slopes_are_a_half(measured):
    error, perturbed = measured["relative_error"], measured["perturbed"]
    for rule in measured["rule"].values:
        e = error.sel(rule=rule)
        centred = e / e.prod("samples") ** (1 / 3)
        assert slope(measured["samples"].values, centred.values) == pytest.approx(-0.5, abs=0.03)
        n = perturbed.sel(rule=rule).values
        found = slope(n, e.sel(samples=256).values)
        law = slope(n, np.sqrt(n + 1))  # ½ up to the +1
        assert found == pytest.approx(law, abs=0.03)
        assert law == pytest.approx(0.5, abs=0.05)
    by_nodes = error.sel(rule="node_perturbation", samples=256)
    fan_in = np.broadcast_to(measured["inputs"].values[:, None], by_nodes.shape)
    assert slope(fan_in, by_nodes.values) == pytest.approx(0, abs=0.05)
    by_weights = error.sel(rule="weight_perturbation", samples=256)
    assert slope(fan_in, by_weights.values) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.weight_perturbation_error([1.0], samples=0), "'samples' must be"),
        (lambda: theory.weight_perturbation_error([1.0], samples=1.5), "'samples' must be a whole"),
        (lambda: theory.weight_perturbation_error([1.0], noise=-1), "'noise' must be"),
        (
            lambda: theory.weight_perturbation_error([1.0], hessian=np.eye(2)),
            "the shape \\(1, 1\\)",
        ),
        (lambda: theory.perturbed_loss_variance([1, 1], 1, [[1, 2], [0, 1]]), "be symmetric"),
        (lambda: theory.perturbation_relative_error(0, 1), "'perturbed' must be at least 1"),
        (lambda: theory.node_perturbation_error(np.ones((2, 3)), np.ones((1, 3))), "'inputs' must"),
        (
            lambda: theory.node_perturbation_error([[1.0]], [[1.0]], elsewhere=[1.0, 2.0]),
            "'elsewhere' must be one number or 1",
        ),
        (
            lambda: theory.measure_perturbation([2], [2], [2], 1, np.random.default_rng(0)),
            "'repeats' must be",
        ),
    ],
)
def test_misuse_is_refused_by_name(call, message):
    with pytest.raises(SpecError, match=message):
        call()
