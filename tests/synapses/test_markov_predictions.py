"""What the chain predicts: correlations of changes and survival, against exact expressions."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import DataError
from goaldriven.synapses import markov, markov_predictions, states
from synapses.made_up import P4, SIZES, simulated_sizes, stationary_by_powers

BINS = states.Bins(np.arange(4.0), np.arange(3.0), np.arange(1.0, 4), 0.5)
DAYS = np.arange(8.0)


def exact_correlation(transition, pi, lags, middle, within):
    """C(δ)/C(0) of a stationary chain whose sizes are uniform within bins.

    E[W_s W_t] = Σ π_i m_i (P^k)_ij m_j for k = |t − s| > 0, and Σ π_i (m_i² + v_i) for k = 0.
    """

    def moment(k):
        if k == 0:
            return pi @ (middle**2 + within)
        return (pi * middle) @ np.linalg.matrix_power(transition, k) @ middle

    # ΔW has mean 0; Cov(ΔW(t), ΔW(t+δ)) = 2 R(δ) − R(δ+1) − R(|δ−1|)
    c = [2 * moment(d) - moment(d + 1) - moment(abs(d - 1)) for d in lags]
    return np.array(c) / c[0]


WITHIN = np.array([0, 1, 1, 1]) / 12


def test_simulated_sizes_correlate_as_the_chain_says(rng):
    w = simulated_sizes(rng, n_synapses=40_000)
    exact = exact_correlation(P4, stationary_by_powers(P4), range(7), SIZES, WITHIN)
    for pooling in ("pairs", "sessions"):
        found = markov_predictions.cross_correlation(w, pooling=pooling)
        np.testing.assert_allclose(found, exact, atol=0.02)


def test_independent_sizes_correlate_minus_a_half_and_walks_not_at_all(rng):
    w = rng.normal(10, 1, size=(20_000, 6))
    np.testing.assert_allclose(
        markov_predictions.cross_correlation(w), [1, -0.5, 0, 0, 0], atol=0.02
    )
    walk = np.cumsum(w - 10, axis=1) + 100
    np.testing.assert_allclose(
        markov_predictions.cross_correlation(walk), [1, 0, 0, 0, 0], atol=0.02
    )


def test_correlation_is_numpys(pyr):
    change = np.diff(pyr.w)
    x, y = change[:, :-1].ravel(), change[:, 1:].ravel()
    expected = np.corrcoef(x, y)[0, 1]
    assert markov_predictions.cross_correlation(pyr.w)[1] == pytest.approx(expected)
    by_t = [np.corrcoef(change[:, t], change[:, t + 1])[0, 1] for t in range(6)]
    found = markov_predictions.cross_correlation(pyr.w, pooling="sessions")
    assert found[1] == pytest.approx(np.mean(by_t))


def test_unobserved_sizes_are_left_out(rng):
    w = rng.normal(10, 1, size=(50, 6))
    padded = np.concatenate([w, np.full((1, 6), np.nan)])
    np.testing.assert_allclose(
        markov_predictions.cross_correlation(padded), markov_predictions.cross_correlation(w)
    )


@pytest.mark.parametrize("group", ["pyr", "pv"])
def test_correlation_drops_sharply_with_separation(request, rng, group):
    """Thesis, Figure 6.1e,f: 1 at 0, and beyond one step little, in the data and in the chain."""
    weights = request.getfixturevalue(group)
    fit = markov.fit_markov(*weights, bootstraps=50, rng=rng)
    table = markov_predictions.compare_correlations(
        fit, weights.w, weights.clusters, simulations=20, bootstraps=200, rng=rng
    )
    assert table["data"][0] == table["model"][0] == 1
    assert (table[["data", "model"]][2:].abs() < 0.1).all(axis=None)
    assert (table["model_low"][1:] <= table["model"][1:]).all()
    assert (table["data_low"][1:] <= table["data"][1:]).all()
    lag_one = table["data"][1]
    if group == "pyr":  # as the chain has it
        assert table["model_low"][1] < lag_one < table["model_high"][1]
    else:  # more than the chain has: what noise in the sizes would do
        assert lag_one < table["model_low"][1] - 0.1


def test_survival_of_the_chain_by_hand_and_by_simulation(rng):
    """Q without absence: after one step Σ start·(1 − P_i0)."""
    start = np.array([0.4, 0.3, 0.2, 0.1])
    curve = markov_predictions.survival_curve(P4, start, 5)
    alive = start[1:] / 0.6
    assert curve[0] == 1
    assert curve[1] == pytest.approx(alive @ (1 - P4[1:, 0]))
    assert curve[5] == pytest.approx((alive @ np.linalg.matrix_power(P4[1:, 1:], 5)).sum())
    stacked = markov_predictions.survival_curve(np.stack([P4, P4]), np.stack([start, start]), 5)
    np.testing.assert_allclose(stacked, np.stack([curve, curve]))
    w = simulated_sizes(rng, n_synapses=4000)
    fit = markov.fit_markov(w, DAYS, np.arange(4000) // 40, bins=BINS, bootstraps=100, rng=rng)
    table = markov_predictions.predict_survival(fit, simulations=20, rng=rng)
    np.testing.assert_allclose(table["simulated"], table["predicted"], atol=0.01)
    data = np.logical_and.accumulate(w[w[:, 0] > 0] > 0, axis=1).mean(axis=0)
    np.testing.assert_allclose(table["predicted"], data, atol=0.03)
    assert ((table["predicted_low"] <= data) & (data <= table["predicted_high"])).all()


@pytest.mark.parametrize("group", ["pyr", "pv"])
def test_predicted_survival_is_near_the_data(request, rng, group):
    """Thesis, Figure 6.1k. By four weeks the data survive a little better than the chain says."""
    weights = request.getfixturevalue(group)
    fit = markov.fit_markov(*weights, bootstraps=300, rng=rng)
    table = markov_predictions.predict_survival(fit, simulations=20, rng=rng)
    alive = np.logical_and.accumulate(weights.w[weights.w[:, 0] > 0] > 0, axis=1).mean(axis=0)
    assert (np.abs(table["predicted"] - alive) < 0.09).all()
    if group == "pv":
        assert ((table["predicted_low"] <= alive) & (alive <= table["predicted_high"])).all()


def test_nothing_alive_on_the_first_day_is_one_message(rng):
    w = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    fit = markov.fit_markov(w, np.arange(3.0), ["a", "b"], bins=BINS, bootstraps=2, rng=rng)
    with pytest.raises(DataError) as caught:
        markov_predictions.predict_survival(fit, rng=rng)
    assert str(caught.value) == "size must be above 0 for some synapse on the first day, got none"


def test_paths_start_where_they_should(rng):
    w = simulated_sizes(rng, n_synapses=3000)
    fit = markov.fit_markov(w, DAYS, np.arange(3000), bins=BINS, bootstraps=2, rng=rng)
    for start, p in (
        ("stationary", fit.stationary),
        ("first_day", np.bincount(fit.states[:, 0], minlength=4) / 3000),
    ):
        sizes = markov_predictions.simulate_sizes(fit, 10, rng, start=start)
        assert sizes.shape == (10, *w.shape)
        first = np.bincount(BINS.to_states(sizes[:, :, 0]).ravel(), minlength=4) / 30_000
        np.testing.assert_allclose(first, p, atol=0.015)
