"""Backward weights of a linear layer: closed forms against gradients, simulations and sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from goaldriven.errors import SpecError
from goaldriven.rules import theory

OUTPUTS, INPUTS = 4, 6
RULES = {
    "weight_mirror": 0.7,
    "information_alignment": 0.3,
    "symmetric_alignment": None,
    "activation_alignment": None,
}
OWN = {"amp": 1.3, "decay": 0.2, "null": 0.6, "sparse": 0.9, "self": 0.4}
CASES = [*RULES.items(), (OWN, None), ({"amp": 2.0, "null": 0.5}, None)]
IDS = [*RULES, "all primitives", "amp and null"]


def weights_and_inputs(seed=0, stimuli=200):
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=(2, OUTPUTS, INPUTS))
    mixing = rng.normal(size=(INPUTS, INPUTS)) / 2
    x = rng.normal(size=(stimuli, INPUTS)) @ mixing + 0.2
    return w, b, x, x.T @ x / stimuli


def gradient(weights, w, b, x):
    """∂R/∂B by autograd through the primitives as the thesis' Table 5.1 words them."""
    w, x = torch.tensor(w), torch.tensor(x)
    b = torch.tensor(b, requires_grad=True)
    y = x @ w.T
    n = len(x)
    loss = (
        weights["decay"] * b.square().sum() / 2
        - weights["amp"] * torch.einsum("ni,oi,no->", x, b, y) / n
        + weights["null"] * (y @ b).square().sum() / (2 * n)
        + weights["sparse"] * (x @ b.T).square().sum() / (2 * n)
        - weights["self"] * torch.trace(b.T @ w)
    )
    loss.backward()
    return b.grad.numpy()


@pytest.mark.parametrize(("rule", "decay"), CASES, ids=IDS)
def test_the_gradient_vanishes_at_the_fixed_point(rule, decay):
    w, b, x, moment = weights_and_inputs()
    weights = theory.primitive_weights(rule, decay)
    fixed = theory.backward_fixed_point(rule, w, moment, decay)
    np.testing.assert_allclose(gradient(weights, w, fixed, x), 0, atol=1e-11)
    assert np.abs(gradient(weights, w, b, x)).max() > 0.1


def test_fixed_points_are_the_closed_forms():
    w, _, _, c = weights_and_inputs()
    fixed = lambda rule, decay=None: theory.backward_fixed_point(rule, w, c, decay)  # noqa: E731
    np.testing.assert_allclose(fixed("weight_mirror", 0.7), w @ c / 0.7, atol=1e-11)
    inverse = np.linalg.inv(0.3 * np.eye(OUTPUTS) + w @ c @ w.T)
    np.testing.assert_allclose(fixed("information_alignment", 0.3), inverse @ w @ c, atol=1e-10)
    np.testing.assert_allclose(fixed("symmetric_alignment"), w, atol=1e-12)
    np.testing.assert_allclose(fixed("activation_alignment"), w, atol=1e-10)
    np.testing.assert_allclose(fixed({"decay": 0.5, "self": 2.0}), 4 * w, atol=1e-11)
    np.testing.assert_allclose(fixed({"sparse": 0.5, "amp": 2.0}), 4 * w, atol=1e-10)


def test_white_noise_aligns_a_weight_mirror_at_a_scale_of_its_own():
    w = weights_and_inputs()[0]
    fixed = theory.backward_fixed_point("weight_mirror", w, second_moment=2.25, decay=0.5)
    np.testing.assert_allclose(fixed, 2.25 / 0.5 * w)


@pytest.mark.parametrize(("rule", "decay"), CASES, ids=IDS)
def test_flow_is_simulated_gradient_flow(rule, decay):
    w, b, x, moment = weights_and_inputs()
    weights = theory.primitive_weights(rule, decay)
    times = np.array([0.0, 0.3, 1.0, 4.0])
    simulated = solve_ivp(
        lambda _, z: -gradient(weights, w, z.reshape(w.shape), x).ravel(),
        (0, times[-1]), b.ravel(), t_eval=times, rtol=1e-8, atol=1e-10,
    ).y.T.reshape(-1, *w.shape)  # fmt: skip
    flow = theory.backward_flow(rule, w, b, times, moment, decay)
    np.testing.assert_allclose(flow, simulated, atol=1e-5)
    np.testing.assert_allclose(flow[0], b, atol=1e-12)


@pytest.mark.parametrize(("rule", "decay"), CASES, ids=IDS)
def test_steps_are_gradient_descent_on_a_batch(rule, decay):
    w, b, x, moment = weights_and_inputs()
    weights = theory.primitive_weights(rule, decay)
    rate = 0.3 * theory.largest_learning_rate(rule, w, moment, decay)
    expected, here = {}, b
    for step in range(31):
        expected[step] = here
        here = here - rate * gradient(weights, w, here, x)
    steps = [0, 1, 7, 30]
    found = theory.backward_steps(rule, w, b, steps, rate, moment, decay)
    np.testing.assert_allclose(found, [expected[k] for k in steps], atol=1e-9)


@pytest.mark.parametrize(("rule", "decay"), CASES[:-1], ids=IDS[:-1])
def test_the_slowest_rate_is_that_of_the_approach_and_the_fastest_bounds_the_step(rule, decay):
    w, b, x, moment = weights_and_inputs()
    weights = theory.primitive_weights(rule, decay)
    rates = theory.backward_rates(rule, w, moment, decay)
    fixed = theory.backward_fixed_point(rule, w, moment, decay)
    late = 12 / rates.min() + np.array([0.0, 1.0])
    distance = np.linalg.norm(theory.backward_flow(rule, w, b, late, moment, decay) - fixed,
                              axis=(1, 2))  # fmt: skip
    assert -np.log(distance[1] / distance[0]) == pytest.approx(rates.min(), rel=0.02)
    largest = theory.largest_learning_rate(rule, w, moment, decay)
    for factor, grows in ((0.98, False), (1.02, True)):
        here = b
        for _ in range(300):
            here = here - factor * largest * gradient(weights, w, here, x)
        assert (np.linalg.norm(here - fixed) > np.linalg.norm(b - fixed)) == grows


def test_symmetric_alignment_alone_converges_exponentially_at_the_weight_of_decay():
    w, b, _, _ = weights_and_inputs()
    rule = {"decay": 0.8, "self": 0.8}
    times = np.array([0.0, 1.0, 3.0])
    flow = theory.backward_flow(rule, w, b, times)
    shrunk = np.linalg.norm(flow - w, axis=(1, 2)) / np.linalg.norm(b - w)
    np.testing.assert_allclose(shrunk, np.exp(-0.8 * times))
    steps = theory.backward_steps(rule, w, b, [5], 0.1)
    np.testing.assert_allclose(steps[0] - w, 0.92**5 * (b - w), atol=1e-12)


def test_information_alignment_stays_in_bounds_where_a_weight_mirror_without_decay_diverges():
    w, b, _, moment = weights_and_inputs()
    with pytest.raises(SpecError, match="'rule' must hold the backward weights in bounds"):
        theory.backward_fixed_point("weight_mirror", w, moment, decay=0.0)
    late = np.array([1e3, 1e6])
    mirror = theory.backward_flow("weight_mirror", w, b, late, moment, decay=0.0)
    np.testing.assert_allclose(mirror, b + late[:, None, None] * (w @ moment), rtol=1e-9)
    bounded = theory.backward_flow("information_alignment", w, b, late, moment, decay=0.0)
    fixed = theory.backward_fixed_point("information_alignment", w, moment, decay=0.0)
    np.testing.assert_allclose(bounded, [fixed, fixed], atol=1e-9)
    np.testing.assert_allclose(w @ fixed.T, np.eye(OUTPUTS), atol=1e-9)  # B reconstructs


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("rule", [{"amp": 1.0, "sparse": 1.0}, {"amp": 1.0, "null": 1.0},
                                  {"amp": 1.0, "null": 1.0, "sparse": 0.5}])  # fmt: skip
def test_what_no_primitive_moves_stays_as_it_was(rule, rank):
    """Inputs and weights of low rank: the exact zeros of W C Wᵀ must be found as such."""
    rng = np.random.default_rng(rank)
    x = rng.normal(size=(50, rank)) @ rng.normal(size=(rank, INPUTS))
    w = rng.normal(size=(OUTPUTS, 2)) @ rng.normal(size=(2, INPUTS))
    b, moment = rng.normal(size=w.shape), x.T @ x / 50
    weights = theory.primitive_weights(rule)
    fixed = theory.backward_fixed_point(rule, w, moment, start=b)
    np.testing.assert_allclose(gradient(weights, w, fixed, x), 0, atol=1e-9)
    late = theory.backward_flow(rule, w, b, [1e7], moment)[0]
    np.testing.assert_allclose(late, fixed, atol=1e-6)
    from_nothing = theory.backward_fixed_point(rule, w, moment)
    assert np.linalg.norm(from_nothing) < np.linalg.norm(fixed)


def test_mean_of_steps_over_fresh_samples():
    """The mean is exact also where B multiplies the sample's own moment (null, sparse)."""
    rng = np.random.default_rng(2)
    w, b = rng.normal(size=(2, 2, 3))
    weights, rate, runs = OWN, 0.05, 20_000
    here = np.repeat(b[None], runs, axis=0)
    for _ in range(6):
        x = rng.standard_normal((runs, 3))  # one stimulus a step
        y = x @ w.T
        reconstruction = np.einsum("ro,roi->ri", y, here)
        projection = np.einsum("roi,ri->ro", here, x)
        step = weights["decay"] * here - weights["self"] * w
        step = (
            step + y[:, :, None] * (weights["null"] * reconstruction - weights["amp"] * x)[:, None]
        )
        step = step + weights["sparse"] * projection[:, :, None] * x[:, None]
        here = here - rate * step
    predicted = theory.backward_steps(weights, w, b, [6], rate)[0]
    error = here.std(axis=0) / np.sqrt(runs)
    assert (np.abs(here.mean(axis=0) - predicted) < 4.5 * error).all()
    assert (error < 0.02).all()


def mirrored(w, b, steps, rate, batch, decay, covariance, runs, rng):
    """Backward weights of weight mirrors that see fresh Gaussian noise, (runs, …)."""
    root = np.linalg.cholesky(covariance)
    here = np.repeat(b[None], runs, axis=0)
    for _ in range(steps):
        x = rng.standard_normal((runs, batch, w.shape[1])) @ root.T
        here = (1 - rate * decay) * here + rate * w @ (x.transpose(0, 2, 1) @ x) / batch
    return here


@pytest.mark.parametrize(("decay", "white"), [(0.0, True), (2.0, True), (0.8, False)])
def test_mirrored_weights_have_the_predicted_moments_and_angle(decay, white):
    rng = np.random.default_rng(4)
    w, b = rng.normal(size=(2, 12, 15))
    factor = rng.normal(size=(15, 15))
    covariance = 0.49 * np.eye(15) if white else factor @ factor.T / 15
    moment = 0.49 if white else covariance
    predicted = theory.weight_mirror_alignment(
        w, b, [20], 0.05, batch_size=4, decay=decay, second_moment=moment
    )
    found = mirrored(w, b, 20, 0.05, 4, decay, covariance, 1500, rng)
    mean = theory.backward_steps({"amp": 1.0, "decay": decay}, w, b, [20], 0.05, moment)[0]
    spread = np.sum((found - mean) ** 2, axis=(1, 2))
    assert abs(spread.mean() - predicted["variance"][0]) < 4 * spread.std() / np.sqrt(1500)
    assert spread.std() / np.sqrt(1500) < 0.02 * spread.mean()
    np.testing.assert_allclose(predicted["mean_square"], np.sum(mean**2))
    norms = np.linalg.norm(found, axis=(1, 2))
    angles = np.degrees(np.arccos(np.sum(found * w, axis=(1, 2)) / (norms * np.linalg.norm(w))))
    assert float(predicted["angle"][0]) == pytest.approx(angles.mean(), abs=0.35)
    ratio = np.sqrt(np.mean(norms**2)) / np.linalg.norm(w)
    assert float(predicted["norm_ratio"][0]) == pytest.approx(ratio, rel=0.01)


def test_angle_falls_with_the_square_root_of_the_stimuli_and_rests_with_decay():
    w = np.random.default_rng(6).normal(size=(10, 30))
    steps = np.array([0, 1, 10, 100, 1000])
    free = theory.weight_mirror_alignment(w, np.zeros_like(w), steps, 0.01, batch_size=8)
    assert np.isnan(free["angle"][0])
    np.testing.assert_allclose(
        np.tan(np.radians(free["angle"][1:])), np.sqrt(31 / (8 * steps[1:])), rtol=1e-9
    )
    decayed = theory.weight_mirror_alignment(w, w * 0, [20_000], 0.01, batch_size=8, decay=2.0)
    np.testing.assert_allclose(
        np.tan(np.radians(decayed["angle"])), np.sqrt(0.02 / 1.98 * 31 / 8), rtol=1e-9
    )


def test_simulated_mirror_falls_with_slope_minus_one_half():
    rng = np.random.default_rng(8)
    w = rng.normal(size=(20, 25))
    steps = np.array([8, 16, 32, 64, 128, 256])
    tangents = []
    for k in steps:
        found = mirrored(w, w * 0, k, 0.1, 16, 0.0, np.eye(25), 20, rng)
        cosine = np.sum(found * w, axis=(1, 2)) / np.linalg.norm(found, axis=(1, 2))
        tangents.append(np.tan(np.arccos(cosine / np.linalg.norm(w))).mean())
    slope = np.polyfit(np.log(steps), np.log(tangents), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.02)
    np.testing.assert_allclose(tangents, np.sqrt(26 / (16 * steps)), rtol=0.05)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_kolen_pollack_contracts_as_with_pytorchs_sgd(momentum, nesterov):
    """Both weights get one and the same random gradient at every step."""
    w, b = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD(
        [w, b], lr=0.2, weight_decay=0.3, momentum=momentum, nesterov=nesterov
    )
    first = (w - b).detach().clone()
    expected = theory.kolen_pollack_contraction(range(13), 0.2, 0.3, momentum, nesterov)
    for step in range(13):
        torch.testing.assert_close((w - b).detach(), expected[step] * first)
        w.grad = torch.randn_like(w)
        b.grad = w.grad.clone()
        optimizer.step()
    if not momentum:
        np.testing.assert_allclose(expected, 0.94 ** np.arange(13))


W = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.backward_rates("weight_mirror", [1.0, 2.0]), "must have 2 axes"),
        (lambda: theory.backward_rates("weight_mirror", W, np.eye(2)), "the shape \\(3, 3\\)"),
        (lambda: theory.backward_rates("weight_mirror", W, -1.0), "'second_moment' must be"),
        (lambda: theory.backward_rates("weight_mirror", W, -np.eye(3)), "no negative eigenvalue"),
        (lambda: theory.backward_rates("weight_mirror", W, np.triu(W.T @ W)), "symmetric"),
        (lambda: theory.backward_flow("weight_mirror", W, W.T, [1.0]), "forward weight's shape"),
        (lambda: theory.backward_steps("weight_mirror", W, W, [0.5], 0.1), "whole numbers"),
        (lambda: theory.backward_steps("weight_mirror", W, W, [1], 0.0), "'learning_rate' must"),
        (lambda: theory.weight_mirror_alignment(W, W, [1], 0.1, batch_size=0), "'batch_size'"),
        (lambda: theory.kolen_pollack_contraction([1], 0.1, 0.1, 1.0), "'momentum' must be below"),
        (lambda: theory.kolen_pollack_contraction([1], 0.1, -0.1), "'weight_decay' must be"),
    ],
)
def test_misuse_is_refused_by_name(call, message):
    with pytest.raises(SpecError, match=message):
        call()
