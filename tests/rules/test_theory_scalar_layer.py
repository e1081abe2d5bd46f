"""The scalar layer's flow is the gradient of the losses, and simulations meet its eigenvalues."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from goaldriven.errors import SpecError
from goaldriven.rules import theory

LINEAR = ["weight_mirror", "symmetric_alignment", "activation_alignment"]
FREE_DECAY = ["weight_mirror", "information_alignment"]


def closed_loss(rule, w, b, x, decay):
    """The symmetrised losses as sections 5.5 and 5.6 of the thesis put them, not by primitives."""
    if rule == "weight_mirror":
        return -(x * b) * (w * x) + decay / 2 * (w**2 + b**2)
    if rule == "symmetric_alignment":
        return (w - b) ** 2 / 2
    if rule == "activation_alignment":
        return (w * x - b * x) ** 2 / 2
    if rule == "information_alignment":  # a regularised linear autoencoder
        return (x - b * w * x) ** 2 / 2 + decay / 2 * (w**2 + b**2)
    return 0 * w * b  # feedback alignment


def simulate(rule, start, times, x, decay):
    """Gradient flow on the loss itself: derivatives by central differences."""

    def velocity(_, state):
        w, b = state
        h = 1e-5
        along_w = closed_loss(rule, w + h, b, x, decay) - closed_loss(rule, w - h, b, x, decay)
        along_b = closed_loss(rule, w, b + h, x, decay) - closed_loss(rule, w, b - h, x, decay)
        return [-along_w / (2 * h), -along_b / (2 * h)]

    return solve_ivp(velocity, (0, times[-1]), start, t_eval=times, rtol=1e-8, atol=1e-10).y


def decay_argument(rule, decay):
    return decay if rule in FREE_DECAY else None


@pytest.mark.parametrize("rule", [*LINEAR, "information_alignment", "feedback_alignment"])
def test_velocity_is_minus_the_gradient_of_the_loss(rule):
    points = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    closed_loss(rule, points[:, 0], points[:, 1], 1.3, 0.4).sum().backward()
    velocity = theory.alignment_velocity(
        rule, points.detach().numpy(), x=1.3, decay=decay_argument(rule, 0.4)
    )
    np.testing.assert_allclose(velocity, -points.grad.numpy(), atol=1e-12)


def test_velocity_of_weighted_primitives_is_minus_the_gradient_of_their_sum():
    weights = {"amp": 0.7, "decay": 0.2, "null": 1.9, "sparse": 0.3, "self": 1.1}
    points = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    w, b = points.unbind(1)
    x = torch.tensor([0.5, -2.0, 1.1], dtype=torch.float64)[:, None]  # inputs: root mean square
    primitives = {
        "amp": -(x * b * w * x).mean(0),
        "decay": (w**2 + b**2) / 2,
        "null": ((b * w * x) ** 2).mean(0) / 2,
        "sparse": ((x * b) ** 2 + (x * w) ** 2).mean(0) / 2,
        "self": -w * b,
    }
    sum(weights[name] * value for name, value in primitives.items()).sum().backward()
    rms = float(x.square().mean().sqrt())
    velocity = theory.alignment_velocity(weights, points.detach().numpy(), x=rms)
    np.testing.assert_allclose(velocity, -points.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("rule", [*LINEAR, "information_alignment"])
def test_matrix_is_the_hessian_at_the_origin_with_the_thesis_eigenbasis(rule):
    decay = decay_argument(rule, 0.7)
    hessian = torch.autograd.functional.hessian(
        lambda point: closed_loss(rule, point[0], point[1], 1.5, 0.7),
        torch.zeros(2, dtype=torch.float64),
    )
    matrix = theory.alignment_matrix(rule, x=1.5, decay=decay)
    np.testing.assert_allclose(matrix, hessian.numpy(), atol=1e-12)
    symmetric, skew = theory.alignment_eigenvalues(rule, x=1.5, decay=decay)
    np.testing.assert_allclose(matrix @ [1, 1], symmetric * np.array([1, 1]), atol=1e-12)
    np.testing.assert_allclose(matrix @ [1, -1], skew * np.array([1, -1]), atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(hessian.numpy()), sorted([symmetric, skew]), atol=1e-12
    )


@pytest.mark.parametrize(
    ("rule", "x", "decay", "symmetric", "skew"),
    [
        ("symmetric_alignment", 3.0, None, 0, 2),
        ("activation_alignment", 3.0, None, 0, 18),
        ("weight_mirror", 3.0, 4.0, -5, 13),
        ("weight_mirror", 3.0, None, -8, 10),
        ("information_alignment", 2.0, 5.0, 1, 9),
        ("feedback_alignment", 2.0, None, 0, 0),
    ],
)
def test_eigenvalues_are_those_of_the_thesis(rule, x, decay, symmetric, skew):
    assert theory.alignment_eigenvalues(rule, x, decay) == (symmetric, skew)


@pytest.mark.parametrize("rule", LINEAR)
@pytest.mark.parametrize("decay", [0.5, 2.0])
def test_simulated_components_grow_and_decay_at_the_eigenvalues(rule, decay):
    times = np.linspace(0, 2, 41)
    w, b = simulate(rule, (0.9, -0.4), times, 1.2, decay)
    found = [-np.polyfit(times, np.log(np.abs(part)), 1)[0] for part in (w + b, w - b)]
    expected = theory.alignment_eigenvalues(rule, 1.2, decay_argument(rule, decay))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", [*LINEAR, "information_alignment", "feedback_alignment"])
@pytest.mark.parametrize("decay", [0.3, 1.44, 3.0])
def test_trajectories_are_those_of_the_simulated_loss(rule, decay):
    times = np.linspace(0, 3, 31)
    found = theory.alignment_trajectory(
        rule, (0.9, -0.4), times, x=1.2, decay=decay_argument(rule, decay)
    )
    w, b = simulate(rule, (0.9, -0.4), times, 1.2, decay)
    np.testing.assert_allclose(found["w"], w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["b"], b, rtol=1e-5, atol=1e-6)


def test_unit_gaussian_inputs_leave_the_weight_mirror_neutral_on_average():
    draws = np.random.default_rng(0).standard_normal(40_000)
    symmetric = np.array([theory.alignment_eigenvalues("weight_mirror", x, 1.0)[0] for x in draws])
    assert symmetric.std() > 1  # single inputs are far from neutral
    assert abs(symmetric.mean()) < 4 * symmetric.std() / np.sqrt(draws.size)
    assert theory.alignment_stability("weight_mirror", x=1.0, decay=1.0) == "neutral"


@pytest.mark.parametrize(
    ("rule", "decay", "verdict"),
    [
        ("weight_mirror", 0.9, "exploding"),
        ("weight_mirror", 1.44, "neutral"),
        ("weight_mirror", 2.0, "over-regularised"),
        ("symmetric_alignment", None, "neutral"),
        ("activation_alignment", None, "neutral"),
        ("feedback_alignment", None, "neutral"),
        ("information_alignment", 0.9, "bounded"),
        ("information_alignment", 0.0, "bounded"),
        ("information_alignment", 2.0, "over-regularised"),
        ({"null": 1.0}, None, "neutral"),
        ({"amp": 1.0, "null": 0.1, "self": 2.0}, None, "bounded"),
    ],
)
def test_verdicts_are_what_becomes_of_trajectories(rule, decay, verdict):
    assert theory.alignment_stability(rule, 1.2, decay) == verdict
    times = [0.0, 30.0, 60.0]
    starts = [(0.6, 0.5), (1.9, 0.1), (-1.2, -1.4)]
    paths = [theory.alignment_trajectory(rule, s, times, 1.2, decay) for s in starts]
    size = np.array([np.hypot(path["w"], path["b"]) for path in paths])
    late, last = size[:, 1], size[:, 2]
    if verdict == "over-regularised":
        assert (last < 1e-6).all()
    elif verdict == "exploding":
        assert (last > 1e3 * late).all()
    else:
        np.testing.assert_allclose(last, late, rtol=1e-4)
        assert (last > 0.1).all()
        one_size = verdict == "bounded" and decay  # without decay, any of a hyperbola
        assert (np.ptp(last) < 1e-6) == bool(one_size)


def test_at_the_border_information_alignment_decays_as_a_power_of_time():
    """du/dt = −x² u³/4 for w = b: u⁻² grows by x²/2 per unit time."""
    assert theory.alignment_stability("information_alignment", 1.2, 1.44) == "over-regularised"
    path = theory.alignment_trajectory("information_alignment", (1, 1), [0, 50, 1e3], 1.2, 1.44)
    np.testing.assert_allclose((2 * path["w"]) ** -2.0, 0.25 + 0.72 * path["time"], rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
def test_information_alignment_obeys_its_exact_laws(decay):
    """w² − b² decays at 2λ exactly; from w = b the square of w follows a logistic curve."""
    times = np.linspace(0, 4, 30)
    path = theory.alignment_trajectory("information_alignment", (1.4, 0.2), times, 1.5, decay)
    np.testing.assert_allclose(
        path["w"] ** 2 - path["b"] ** 2, (1.4**2 - 0.2**2) * np.exp(-2 * decay * times), rtol=1e-6
    )
    even = theory.alignment_trajectory("information_alignment", (0.1, 0.1), times, 1.5, decay)
    growth = 1.5**2 - decay
    limit = growth / 1.5**2
    logistic = limit / (1 + (limit / 0.01 - 1) * np.exp(-2 * growth * times))
    np.testing.assert_allclose(even["w"] ** 2, logistic, rtol=1e-6)
    np.testing.assert_allclose(even["b"], even["w"], rtol=1e-6)


def test_information_alignment_is_bounded_where_the_weight_mirror_diverges():
    rng = np.random.default_rng(1)
    for start in rng.normal(size=(10, 2)):
        mirror = theory.alignment_trajectory("weight_mirror", start, [0, 30], 1.5, 0.5)
        bounded = theory.alignment_trajectory("information_alignment", start, [0, 30], 1.5, 0.5)
        assert np.hypot(mirror["w"][-1], mirror["b"][-1]) > 1e10
        size = np.sqrt(1 - 0.5 / 1.5**2) * np.sign(start.sum())
        np.testing.assert_allclose([bounded["w"][-1], bounded["b"][-1]], size, rtol=1e-6)


def numerical_jacobian(rule, point, x, decay):
    step = 1e-6
    columns = [
        theory.alignment_velocity(rule, point + step * e, x, decay)
        - theory.alignment_velocity(rule, point - step * e, x, decay)
        for e in np.eye(2)
    ]
    return np.stack(columns, axis=1) / (2 * step)


@pytest.mark.parametrize("decay", [0.4, 1.44, 3.0])
@pytest.mark.parametrize("rule", FREE_DECAY)
def test_fixed_points_stand_still_with_the_eigenvalues_of_the_jacobian(rule, decay):
    points = theory.alignment_fixed_points(rule, 1.2, decay)
    expected = 3 if rule == "information_alignment" and decay < 1.44 else 1
    assert points.sizes["point"] == expected
    for i in range(expected):
        point = np.array([float(points["w"][i]), float(points["b"][i])])
        np.testing.assert_allclose(
            theory.alignment_velocity(rule, point, 1.2, decay), 0, atol=1e-12
        )
        minus = -numerical_jacobian(rule, point, 1.2, decay)
        symmetric, skew = points["eigenvalue"][i].values
        np.testing.assert_allclose(minus @ [1, 1], [symmetric, symmetric], atol=1e-8)
        np.testing.assert_allclose(minus @ [1, -1], [skew, -skew], atol=1e-8)


def test_fixed_points_of_information_alignment_and_their_kinds():
    points = theory.alignment_fixed_points("information_alignment", x=2.0, decay=1.0)
    np.testing.assert_allclose(points["w"], [0, -np.sqrt(0.75), np.sqrt(0.75)])
    assert points["stability"].values.tolist() == ["saddle", "sink", "sink"]
    np.testing.assert_allclose(points["eigenvalue"], [[-3, 5], [6, 2], [6, 2]])


@pytest.mark.parametrize(
    ("rule", "decay", "member", "continuum"),
    [
        ("symmetric_alignment", None, (0.7, 0.7), "w = b"),
        ("activation_alignment", None, (-3.0, -3.0), "w = b"),
        ("weight_mirror", 4.0, (1.5, 1.5), "w = b"),
        ("information_alignment", 0.0, (4.0, 0.25), "w b = product"),
        ({"amp": 3.0, "null": 2.0}, None, (3.0, 0.5), "w b = product"),
        ({"null": 2.0}, None, (3.0, 0.0), "w b = product"),
        ("feedback_alignment", None, (1.0, -5.0), "everywhere"),
        ("weight_mirror", 3.0, None, ""),
    ],
)
def test_continua_of_fixed_points_are_named(rule, decay, member, continuum):
    attributes = theory.alignment_fixed_points(rule, 2.0, decay).attrs
    assert attributes["continuum"] == continuum
    assert np.isnan(attributes["product"]) == (continuum != "w b = product")
    if continuum == "w b = product":
        assert attributes["product"] == member[0] * member[1]
    if member:
        assert not theory.alignment_velocity(rule, member, 2.0, decay).any()


def test_flow_is_the_velocity_on_the_grid():
    flow = theory.alignment_flow("information_alignment", [-1, 0, 2], [0.5, 1.0], x=2, decay=1)
    assert flow["dw"].dims == flow["db"].dims == ("b", "w")
    for i, b in enumerate((0.5, 1.0)):
        for j, w in enumerate((-1, 0, 2)):
            velocity = theory.alignment_velocity("information_alignment", (w, b), 2, 1)
            assert [flow["dw"][i, j], flow["db"][i, j]] == velocity.tolist()
    assert flow.attrs["verdict"] == "bounded"
    assert (flow.attrs["eigenvalue_symmetric"], flow.attrs["eigenvalue_skew"]) == (-3, 5)
    assert flow.sizes["point"] == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.alignment_matrix("weight_miror"), "did you mean 'weight_mirror'"),
        (lambda: theory.alignment_matrix({"ampl": 1}), "did you mean 'amp'"),
        (lambda: theory.alignment_matrix({"amp": -1}), "'weight of amp' must be .* at least 0"),
        (lambda: theory.alignment_matrix("weight_mirror", decay=-1), "'decay' must be"),
        (lambda: theory.alignment_matrix("weight_mirror", x=np.nan), "'x' must be a finite"),
        (lambda: theory.alignment_matrix("symmetric_alignment", decay=1), "must be left out"),
        (lambda: theory.alignment_matrix({"decay": 1}, decay=1), "must be left out"),
        (lambda: theory.alignment_velocity("weight_mirror", [1, 2, 3]), "last axis of 2"),
        (lambda: theory.alignment_trajectory("weight_mirror", (1, 1), [1, 0]), "must ascend"),
        (lambda: theory.alignment_trajectory("weight_mirror", (1, 1, 1), [1]), "two numbers"),
        (lambda: theory.alignment_flow("weight_mirror", 3, [1]), "'w' must have 1 axes"),
        (lambda: theory.alignment_flow("weight_mirror", ["a"], [1]), "array of real numbers"),
    ],
)
def test_misuse_is_refused_by_name(call, message):
    with pytest.raises(SpecError, match=message):
        call()
