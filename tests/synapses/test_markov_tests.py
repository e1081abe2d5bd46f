"""Tests of the chain: they hold their level, see what is wrong, and agree with formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from goaldriven.errors import DataError
from goaldriven.synapses import bin_selection, chains, markov_tests, states
from synapses.made_up import P4, second_order_states, simulated_sizes, stationary_by_powers


def chain(rng, n_synapses=60, n_days=7):
    start = rng.choice(4, size=n_synapses, p=stationary_by_powers(P4))
    seen = rng.random((n_synapses, n_days)) < 0.95
    seen[:, 0] = True
    return chains.simulate_states(P4, start, seen, 1, rng)[0]


def test_likelihood_ratio_is_twice_the_mutual_information(rng):
    """Order 0 on two columns: G² of the contingency table (SciPy's)."""
    pairs = rng.integers(3, size=(500, 2))
    found = markov_tests.order_test(pairs, 3, order=0, simulations=2, rng=rng)
    table = stats.contingency.crosstab(pairs[:, 0], pairs[:, 1]).count
    g2 = stats.chi2_contingency(table, lambda_="log-likelihood", correction=False).statistic
    assert found["g2"] == pytest.approx(g2)
    assert found["windows"] == 500


def test_second_order_statistic_is_a_sum_over_the_middle_state(rng):
    """Given the middle state, first and third must be independent: one table for each."""
    triples = rng.integers(3, size=(800, 3))
    found = markov_tests.order_test(triples, 3, order=1, simulations=2, rng=rng)
    g2 = 0.0
    for middle in range(3):
        of = triples[triples[:, 1] == middle]
        table = stats.contingency.crosstab(of[:, 0], of[:, 2]).count
        g2 += stats.chi2_contingency(table, lambda_="log-likelihood", correction=False).statistic
    assert found["g2"] == pytest.approx(g2)


def test_with_many_data_the_null_is_chi_squared(rng):
    """S(S−1)² degrees of freedom for 2 states, order 1 against 2: mean 2, variance 4."""
    p = np.array([[0.7, 0.3], [0.4, 0.6]])
    seen = np.ones((400, 8), dtype=bool)
    paths = chains.simulate_states(p, rng.integers(2, size=400), seen, 1, rng)[0]
    found = markov_tests.order_test(paths, 2, order=1, simulations=2000, rng=rng)
    assert found["g2_expected"] == pytest.approx(2, abs=0.25)
    assert found["g2_sd"] == pytest.approx(2, abs=0.3)


@pytest.mark.slow
def test_order_test_holds_its_level(rng):
    """200 first-order chains, some observations missing: 5% are rejected, within chance."""
    p = [
        markov_tests.order_test(chain(rng), 4, order=1, simulations=99, rng=rng)["p"]
        for _ in range(200)
    ]
    rejected = int((np.array(p) <= 0.05).sum())
    assert stats.binomtest(rejected, 200, 0.05).pvalue > 0.005
    assert stats.kstest(p, "uniform").pvalue > 0.005


def test_states_that_do_not_occur_are_not_simulated(pyr, rng):
    present = markov_tests.chain_states(pyr.w, states.equal_width_bins(pyr.w), "present")
    matrix = markov_tests.hypothesis(present, 21)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert not matrix[1:, 0].any()
    assert (matrix[1:, 1:] > 0).all()
    for paths in markov_tests.simulated_tables(matrix, present, 3, rng):
        used = (present >= 0).any(axis=1)
        np.testing.assert_array_equal(paths[0] >= 0, present[used] >= 0)
        assert not (paths == 0).any()


def test_order_test_has_power_against_second_order(rng):
    p = []
    for _ in range(20):
        paths = second_order_states(rng, 80, 8, keep=0.4)
        p.append(markov_tests.order_test(paths, 3, order=1, simulations=99, rng=rng)["p"])
    assert np.mean(np.array(p) <= 0.05) > 0.9


def test_zeroth_order_is_rejected_for_a_chain_and_not_for_noise(rng):
    assert markov_tests.order_test(chain(rng), 4, order=0, simulations=99, rng=rng)["p"] == 0.01
    p = [
        markov_tests.order_test(rng.integers(3, size=(40, 6)), 3, order=0, simulations=39, rng=rng)[
            "p"
        ]
        for _ in range(60)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.15


def test_excess_is_the_information_of_the_second_order_chain(rng):
    """I(s(t−1); s(t+1) | s(t)) of the made-up chain, from its conditional distribution."""
    keep, third = 0.5, 1 / 3
    paths = second_order_states(rng, 20_000, 8, keep)
    found = markov_tests.order_test(paths[:, 2:], 3, order=1, simulations=20, rng=rng)
    p_back = keep + (1 - keep) * third
    p_other = (1 - keep) * third
    information = np.log(3) + p_back * np.log(p_back) + 2 * p_other * np.log(p_other)
    assert found["excess"] == pytest.approx(information, rel=0.03)


def test_goodness_of_fit_accepts_the_chain_and_sees_what_is_not_one(rng):
    good = markov_tests.goodness_of_fit(chain(rng, 150), 4, step=4, simulations=99, rng=rng)
    assert good["check"].tolist() == [
        "homogeneity", "2 steps", "3 steps", "4 steps", "5 steps", "6 steps", "occupancy",
    ]  # fmt: skip
    assert good["lag"].tolist() == [4, 8, 12, 16, 20, 24, 0]
    assert (good["p"] > 0.01).all()
    # Two kinds of synapse that never mix: no chain, and many steps ahead show it.
    still = np.tile(np.arange(3)[rng.integers(3, size=100)][:, None], 7)
    mixed = np.concatenate([still, rng.integers(3, size=(100, 7))])
    bad = markov_tests.goodness_of_fit(mixed, 3, simulations=99, rng=rng).set_index("check")
    assert bad.loc["3 steps", "p"] == 0.01
    assert bad.loc["3 steps", "distance"] > 2 * bad.loc["3 steps", "distance_expected"]
    # Transitions that change half-way.
    first = chains.simulate_states(
        P4, rng.integers(4, size=300), np.ones((300, 4), dtype=bool), 1, rng
    )[0]
    later = rng.integers(4, size=(300, 4))
    changed = np.concatenate([first, later], axis=1)
    table = markov_tests.goodness_of_fit(changed, 4, simulations=99, rng=rng).set_index("check")
    assert table.loc["homogeneity", "p"] == 0.01


def test_present_states_leave_absence_out(pyr):
    bins = states.equal_width_bins(pyr.w)
    present = markov_tests.chain_states(pyr.w, bins, "present")
    np.testing.assert_array_equal(present == -1, ~(pyr.w > 0))
    assert (markov_tests.chain_states(pyr.w, bins, "all") >= 0).all()


def test_bad_orders_and_short_tables(rng):
    with pytest.raises(DataError) as caught:
        markov_tests.order_test(chain(rng), 4, order=2, rng=rng)
    assert str(caught.value) == "order must be 0 or 1, got 2"
    with pytest.raises(DataError) as caught:
        markov_tests.order_test(np.zeros((5, 2), dtype=int), 2, order=1, rng=rng)
    assert str(caught.value) == (
        "size must be observed on 3 successive days for some synapse, got none"
    )


def test_memory_is_the_partial_correlation(rng):
    """Against residuals of regressions, on complete data."""
    logs = rng.normal(size=(300, 3)) @ np.array([[1, 0.8, 0.5], [0, 1, 0.6], [0, 0, 1]])
    found = markov_tests.memory(np.exp(logs), np.arange(300), bootstraps=200, rng=rng)
    one = np.column_stack([np.ones(300), logs[:, 1]])
    residual = [logs[:, k] - one @ np.linalg.lstsq(one, logs[:, k], rcond=None)[0] for k in (0, 2)]
    assert found["partial_correlation"] == pytest.approx(np.corrcoef(*residual)[0, 1])
    assert found["lag_two"] == pytest.approx(np.corrcoef(logs[:, 0], logs[:, 2])[0, 1])
    assert found["triples"] == 300


def test_two_synapses_leave_no_partial_correlation():
    """Any two points lie on a line: the correlations are ±1, and nothing is left but rounding."""
    x = np.array([[0.3, 1.7, 0.9], [1.1, 0.2, 1.4]])
    sums = np.concatenate([[2.0], x.sum(0), (x.T @ x).ravel()])
    partial, one, two = markov_tests._partial(sums)
    assert np.isnan(partial)
    assert abs(one) == pytest.approx(1)
    assert abs(two) == pytest.approx(1)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_memory_of_a_first_order_process_is_noise(rng, noise):
    """Log-AR(1): none; measured with noise τ, what its autocovariances say."""
    rho, n = 0.9, 4000
    x = np.empty((n, 6))
    x[:, 0] = rng.normal(size=n)
    for t in range(5):
        x[:, t + 1] = rho * x[:, t] + np.sqrt(1 - rho**2) * rng.normal(size=n)
    w = np.exp(x + noise * rng.normal(size=x.shape))
    found = markov_tests.memory(w, np.arange(n), bootstraps=300, rng=rng)
    r1, r2 = rho / (1 + noise**2), rho**2 / (1 + noise**2)
    expected = (r2 - r1**2) / (1 - r1**2)
    assert found["low"] - 0.01 < expected < found["high"] + 0.01
    assert found["partial_correlation"] == pytest.approx(expected, abs=0.03)


def test_the_published_synapses_have_memory_beyond_one_step(pyr, pv, rng):
    """Unlike what the thesis reads from Figure 6.1e,f; noise in the sizes is enough for it."""
    for weights, least in ((pyr, 0.15), (pv, 0.3)):
        found = markov_tests.memory(weights.w, weights.clusters, bootstraps=300, rng=rng)
        assert found["low"] > least


def test_bins_are_chosen_by_held_out_density(rng):
    """Sizes of three separate clusters: two bins miss them, sixty waste data."""
    w = simulated_sizes(rng, n_synapses=300)
    table = bin_selection.choose_bins(
        w, np.arange(300) // 10, kinds=("quantile",), numbers=(2, 3, 60), rng=rng
    )
    best = table.drop_duplicates("n_bins").set_index("n_bins")["log_likelihood"]
    assert best[3] > best[2]
    assert best[3] > best[60]
    assert table["log_likelihood"].is_monotonic_decreasing
    assert table["sem"][0] == 0
    assert (table["pairs"] == 300 * 7).all()


def test_held_out_likelihood_by_hand():
    bins = states.Bins(np.array([0.0, 1, 3]), np.array([0.0, 1]), np.array([1.0, 3]), 0.5)
    p = np.array([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5]])
    w = np.array([[0.0, 0.4, 2.0], [2.5, 0.0, np.nan]])
    tail = -np.log(0.5) - (2.0 - 1) / 0.5
    expected = np.log(0.25) + np.log(1.0) + np.log(0.3) + tail + np.log(0.2)
    assert bin_selection.held_out(w, bins, p) == pytest.approx(expected)


def test_folds_need_dendrites(rng):
    w = simulated_sizes(rng, n_synapses=30)
    with pytest.raises(DataError) as caught:
        bin_selection.choose_bins(w, np.zeros(30, dtype=int), folds=2, rng=rng)
    assert str(caught.value) == ("folds must be between 2 and the number of dendrites, 1, got 2")
