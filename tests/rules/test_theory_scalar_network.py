"""The two-layer scalar network: its velocity is the rules', its fixed points hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import root
from torch import nn

from goaldriven import rules
from goaldriven.errors import SpecError
from goaldriven.rules import theory

RULES = ["backprop", "feedback_alignment", "symmetric_alignment"]
X, Y = 1.7, -0.6


def states_for(rule, count=40, seed=0):
    states = np.random.default_rng(seed).normal(size=(count, 3))
    if rule == "backprop":
        states[:, 2] = states[:, 1]
    return states


def data_and_moments():
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(9, 1))
    targets = rng.normal(size=(9, 1))
    return inputs, targets, np.mean(inputs**2), np.mean(inputs * targets)


@pytest.mark.parametrize("rule", ["backprop", "feedback_alignment"])
def test_velocity_is_what_a_network_with_that_rule_computes(rule):
    inputs, targets, x, y = data_and_moments()
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    credit = rules.make("fa" if rule == "feedback_alignment" else "sgdm").attach(
        model, generator=torch.Generator().manual_seed(0)
    )
    for w1, w2, b in states_for(rule, count=5):
        with torch.no_grad():
            model[0].weight.fill_(w1)
            model[1].weight.fill_(w2)
            for weight in credit.backward_weights.values():
                weight.fill_(b)
        model.zero_grad()
        credit.backward(
            lambda: (model(torch.tensor(inputs)) - torch.tensor(targets)).square().mean() / 2
        )
        velocity = theory.network_velocity(rule, (w1, w2, b), x, y)
        np.testing.assert_allclose(
            velocity[:2], [-float(m.weight.grad) for m in model], rtol=1e-10, atol=1e-12
        )


def test_backward_weights_move_as_their_rule_says():
    w1, w2, b = states_for("symmetric_alignment").T
    states = np.stack([w1, w2, b], axis=1)
    following = theory.network_velocity("symmetric_alignment", states, X, Y)
    np.testing.assert_allclose(following[:, 2], w2 - b)
    resting = theory.network_velocity("feedback_alignment", states, X, Y)
    assert not resting[:, 2].any()
    np.testing.assert_array_equal(resting[:, :2], following[:, :2])
    tied = theory.network_velocity("backprop", states_for("backprop"), X, Y)
    np.testing.assert_array_equal(tied[:, 2], tied[:, 1])


@pytest.mark.parametrize("rule", RULES)
def test_jacobian_is_the_derivative_of_the_velocity(rule):
    directions = np.eye(3)
    if rule == "backprop":  # b moves with w2, and not by itself
        directions = np.array([[1, 0, 0], [0, 1, 1.0]])
    for state in states_for(rule, count=8):
        jacobian = theory.network_jacobian(rule, state, X, Y)
        for column, direction in enumerate(directions):
            ahead, behind = (
                theory.network_velocity(rule, state + sign * 1e-6 * direction, X, Y)
                for sign in (1, -1)
            )
            np.testing.assert_allclose(jacobian[:, column], (ahead - behind) / 2e-6, atol=1e-7)
        if rule == "backprop":
            assert not jacobian[:, 2].any()


@pytest.mark.parametrize("rule", RULES)
def test_eigenvalues_on_the_hyperbola_are_the_thesis_table(rule):
    w1 = np.array([-3, -1, -0.4, 0.2, 0.9, 2.5])
    w2 = Y / (X * w1)
    b = np.linspace(-2, 2, 6) if rule == "feedback_alignment" else w2
    found = theory.network_eigenvalues(rule, np.stack([w1, w2, b], axis=-1), X, Y)
    curvature = X * (w1**2 + b * w2)
    trivial = {"backprop": (0, 0), "feedback_alignment": (0, 0), "symmetric_alignment": (0, 1)}
    expected = np.sort(np.stack([*np.broadcast_arrays(*trivial[rule], curvature)], -1), axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_eigenvalues_at_the_origin():
    origin = np.zeros(3)
    np.testing.assert_allclose(
        theory.network_eigenvalues("backprop", origin, X, Y), [-0.6, 0, 0.6], atol=1e-12
    )
    assert not theory.network_eigenvalues("feedback_alignment", origin, X, Y).any()
    np.testing.assert_allclose(
        theory.network_eigenvalues("symmetric_alignment", origin, X, Y),
        np.sort(np.roots([-1, 1, 0, -(Y**2)]).real),
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("rule", "b"),
    [("backprop", None), ("symmetric_alignment", None), ("feedback_alignment", 0.0),
     ("feedback_alignment", 1.5), ("feedback_alignment", -0.8)],
)  # fmt: skip
def test_fixed_points_stand_still_and_are_of_the_families_of_the_rule(rule, b):
    positions = np.array([-2, -1, -0.3, 0.3, 1, 2])
    points = theory.network_fixed_points(rule, positions, b, X, Y)
    states = np.stack([points[name] for name in ("w1", "w2", "b")], axis=-1)
    np.testing.assert_allclose(theory.network_velocity(rule, states, X, Y), 0, atol=1e-12)
    families = set(points["family"].values)
    assert families == {
        None: {"minimum", "origin"}, 0.0: {"minimum", "origin", "line"},
    }.get(b, {"minimum"})  # fmt: skip
    on_hyperbola = points["family"] == "minimum"
    np.testing.assert_allclose((points["w1"] * points["w2"])[on_hyperbola], Y / X)
    kinds = points["stability"].values
    if rule == "feedback_alignment":
        attracts = (points["w1"] ** 2 + points["b"] * points["w2"])[on_hyperbola] > 0
        assert (kinds[on_hyperbola] == np.where(attracts, "sink", "source")).all()
        assert (kinds[~on_hyperbola] == "neutral").all()
        assert b == 0 or set(kinds) == {"sink", "source"}
    else:
        assert (kinds[on_hyperbola] == "sink").all()
        assert (kinds[~on_hyperbola] == "saddle").all()


@pytest.mark.parametrize(
    ("rule", "b"),
    [("backprop", None), ("symmetric_alignment", None), ("feedback_alignment", 0.0),
     ("feedback_alignment", 1.5)],
)  # fmt: skip
def test_there_are_no_other_fixed_points(rule, b):
    """Roots of the velocity, searched from everywhere, all lie in the families."""

    def state_of(z):
        if rule == "symmetric_alignment":
            return z
        return np.array([z[0], z[1], z[1] if b is None else b])

    size = 3 if rule == "symmetric_alignment" else 2
    starts = np.random.default_rng(5).uniform(-3, 3, size=(60, size))
    found = set()
    for start in starts:
        result = root(
            lambda z: theory.network_velocity(rule, state_of(z), X, Y)[:size],
            start,
            method="lm",
            tol=1e-13,
        )
        velocity = theory.network_velocity(rule, state_of(result.x), X, Y)
        if np.abs(velocity).max() > 1e-10:
            continue
        w1, w2, backward = state_of(result.x)
        on_hyperbola = abs(w1 * w2 - Y / X) < 1e-4
        if rule == "symmetric_alignment":
            assert abs(backward - w2) < 1e-6
        if b == 0.0 and abs(w1) < 1e-4:
            found.add("line")
        elif np.abs([w1, w2, backward]).max() < 1e-3:
            found.add("origin")
        else:
            assert on_hyperbola
            found.add("minimum")
    assert "minimum" in found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("w1", [-1.2, -0.5, 0.5, 1.4])
def test_simulated_flow_near_a_minimum_meets_its_eigenvalue(rule, w1):
    """The excess loss near a minimum changes at twice the eigenvalue: falls at sinks, rises at
    feedback alignment's sources."""
    b = 0.9 if rule == "feedback_alignment" else 1.0 / w1
    at_rest = np.array([w1, 1.0 / w1, b])
    value = w1**2 + b / w1
    times = np.linspace(0, 0.5 / abs(value), 20)
    pushed = at_rest + 1e-5 * np.array([b, w1, 0.0])  # along the flow's own direction
    if rule == "backprop":
        pushed[2] = pushed[1]
    path = theory.network_trajectory(rule, pushed, times)
    rate = -np.polyfit(times, np.log(path["excess_loss"]), 1)[0]
    if rule == "symmetric_alignment":  # b lags behind w2 by a little: not the eigenvector exactly
        assert rate == pytest.approx(2 * value, rel=0.02)
    else:
        assert rate == pytest.approx(2 * value, rel=1e-3)
    assert (rate < 0) == (rule == "feedback_alignment" and w1 == -0.5)


def test_feedback_alignment_ends_where_its_conserved_quantity_says():
    """w1²/2 − b w2 is conserved, so the end is the next root of a cubic along that parabola."""
    for w1, w2, b in states_for("feedback_alignment", count=20, seed=7):
        c = w1**2 / 2 - b * w2
        path = theory.network_trajectory("feedback_alignment", (w1, w2, b), [0, 5, 2000])
        np.testing.assert_allclose(path["w1"] ** 2 / 2 - path["b"] * path["w2"], c, atol=1e-6)
        roots = np.roots([0.5, 0, -c, -b])
        real = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
        uphill = b - w1 * (w1**2 / 2 - c)  # the sign of dw1/dt along the parabola
        end = real[real > w1].min() if uphill > 0 else real[real < w1].max()
        assert path["w1"][-1] == pytest.approx(end, abs=1e-4)
        assert path["excess_loss"][-1] < 1e-6
        assert end**2 + b * (end**2 / 2 - c) / b > -1e-6  # it is a sink


def test_backprop_conserves_its_quantity_and_symmetric_alignment_joins_its_minima():
    for w1, w2, _ in states_for("backprop", count=8, seed=8):
        path = theory.network_trajectory("backprop", (w1, w2, w2), [0, 1, 10, 200])
        np.testing.assert_allclose(path["w1"] ** 2 - path["w2"] ** 2, w1**2 - w2**2, atol=1e-6)
        assert path["excess_loss"][-1] < 1e-9
    for state in states_for("symmetric_alignment", count=8, seed=9):
        path = theory.network_trajectory("symmetric_alignment", state, [0, 10, 400])
        assert path["excess_loss"][-1] < 1e-9
        assert abs(path["b"][-1] - path["w2"][-1]) < 1e-6


def test_feedback_alignment_is_stuck_on_its_line_where_symmetric_alignment_is_not():
    stuck = theory.network_trajectory("feedback_alignment", (0.0, 0.8, 0.0), [0, 100])
    assert stuck["excess_loss"][-1] == pytest.approx(0.5)
    free = theory.network_trajectory("symmetric_alignment", (0.0, 0.8, 0.0), [0, 100])
    assert free["excess_loss"][-1] < 1e-9


def test_excess_loss_is_the_loss_above_least_squares():
    inputs, targets, x, y = data_and_moments()
    path = theory.network_trajectory("feedback_alignment", (0.5, 0.3, 1.0), [0, 1, 3], x, y)
    residual = lambda w: np.mean((targets - w * inputs) ** 2) / 2  # noqa: E731
    least = np.linalg.lstsq(inputs, targets, rcond=None)[0].item()
    for i in range(3):
        w = float(path["w1"][i] * path["w2"][i])
        assert float(path["excess_loss"][i]) == pytest.approx(residual(w) - residual(least))


@pytest.mark.parametrize(
    ("rule", "b"), [("backprop", None), ("symmetric_alignment", 1.0), ("feedback_alignment", -1.0)]
)
def test_portrait_puts_flow_fixed_points_and_paths_together(rule, b):
    portrait = theory.network_portrait(rule, b=b, x=X, y=Y, reach=2.0, duration=5.0)
    w1, w2 = portrait["w1"].values[12], portrait["w2"].values[40]
    kept = -1.0 if rule == "feedback_alignment" else w2
    velocity = theory.network_velocity(rule, (w1, w2, kept), X, Y)
    assert [float(portrait[n][40, 12]) for n in ("dw1", "dw2", "db")] == velocity.tolist()
    first = [float(portrait[f"path_{n}"][3, 0]) for n in ("w1", "w2", "b")]
    again = theory.network_trajectory(rule, first, [0, 5.0], X, Y)
    assert np.hypot(first[0], first[1]) == pytest.approx(1.7)
    np.testing.assert_allclose(portrait["path_w1"][3, -1], again["w1"][-1], rtol=1e-6)
    on_hyperbola = portrait["family"] == "minimum"
    assert np.abs(portrait["fixed_w1"][on_hyperbola]).max() == pytest.approx(2.0)
    assert np.abs(portrait["fixed_w2"][on_hyperbola]).max() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.network_velocity("sa", (1, 1, 1)), "rule must be one of backprop"),
        (lambda: theory.network_velocity("backprop", (1, 2, 3)), "b = w2"),
        (lambda: theory.network_velocity("backprop", (1, 2)), "last axis of 3"),
        (lambda: theory.network_velocity("backprop", (1, 2, 2), x=0), "'x' must be above 0"),
        (lambda: theory.network_fixed_points("backprop", [0.0, 1.0]), "'positions' must not be 0"),
        (lambda: theory.network_fixed_points("backprop", [1.0], y=0), "'y' must not be 0"),
        (lambda: theory.network_fixed_points("feedback_alignment", [1.0]), "'b' must be given"),
        (lambda: theory.network_fixed_points("backprop", [1.0], b=1.0), "'b' must be left out"),
        (lambda: theory.network_portrait("symmetric_alignment"), "'b' must be given"),
        (lambda: theory.network_trajectory("backprop", [(1, 2, 2)], [1]), "three numbers"),
    ],
)
def test_misuse_is_refused_by_name(call, message):
    with pytest.raises(SpecError, match=message):
        call()
