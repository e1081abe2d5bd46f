"""Markov chains: estimates, the long run, simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from goaldriven.errors import DataError
from goaldriven.synapses import chains
from synapses.made_up import P4, stationary_by_powers

UNIFORM = np.full(4, 0.25)


def test_counts_by_hand():
    paths = np.array([[0, 1, -1, 1, 2], [2, 2, 0, 0, 1]])
    counts = chains.count_transitions(paths, 3)
    np.testing.assert_array_equal(counts, [[1, 2, 0], [0, 0, 1], [1, 0, 1]])
    np.testing.assert_array_equal(
        chains.count_transitions(paths, 3, step=3), [[0, 1, 0], [0, 0, 1], [1, 1, 0]]
    )
    stacked = chains.count_transitions(np.stack([paths, paths[:, ::-1]]), 3)
    np.testing.assert_array_equal(stacked[0], counts)
    np.testing.assert_array_equal(stacked[1], counts.T)


def test_maximum_likelihood_is_a_maximum(rng):
    counts = rng.integers(1, 30, size=(4, 4)).astype(float)
    best = chains.transition_matrix(counts)

    def likelihood(p):
        return (counts * np.log(p)).sum()

    for _ in range(50):
        other = best * np.exp(rng.normal(0, 0.05, best.shape))
        other /= other.sum(axis=1, keepdims=True)
        assert likelihood(other) < likelihood(best)


def test_prior_is_the_mean_of_the_dirichlet_posterior(rng):
    counts = np.array([[3.0, 0, 1], [0, 0, 0], [2, 2, 2]])
    p = chains.transition_matrix(counts, prior=0.5)
    draws = np.stack([rng.dirichlet(row + 0.5, size=40_000).mean(axis=0) for row in counts])
    np.testing.assert_allclose(p, draws, atol=0.006)
    np.testing.assert_allclose(p[1], 1 / 3)
    small = chains.transition_matrix(counts, prior=1e-12)
    np.testing.assert_allclose(chains.transition_matrix(counts), small, atol=1e-10)
    with pytest.raises(DataError) as caught:
        chains.transition_matrix(counts, prior=-1)
    assert str(caught.value) == "prior must be 0 or above, got -1"


def test_stationary_by_four_ways(rng):
    """Eigenvector, iteration, elimination and a long simulation agree."""
    pi = chains.stationary(P4)
    np.testing.assert_allclose(pi @ P4, pi, atol=1e-14)
    np.testing.assert_allclose(pi, stationary_by_powers(P4), atol=1e-12)
    np.testing.assert_allclose(chains.long_run(P4, UNIFORM), pi, atol=1e-8)
    for start in np.eye(4):
        iterated, steps = chains.stationary_by_iteration(P4, start)
        np.testing.assert_allclose(iterated, pi, atol=1e-10)
        assert 10 < steps < 1000
    seen = np.ones((2000, 400), dtype=bool)
    paths = chains.simulate_states(P4, np.zeros(2000, dtype=int), seen, 1, rng)[0, :, 100:]
    share = np.bincount(paths.ravel(), minlength=4) / paths.size
    # The effective number of draws falls by the correlation time, (1 + λ₂)/(1 − λ₂).
    second = np.exp(-1 / chains.relaxation_steps(P4))
    n = paths.size * (1 - second) / (1 + second)
    np.testing.assert_array_less(np.abs(share - pi), 4 * np.sqrt(pi * (1 - pi) / n))


def test_permuting_the_states_permutes_the_stationary_distribution(rng):
    order = rng.permutation(4)
    permuted = P4[np.ix_(order, order)]
    np.testing.assert_allclose(chains.stationary(permuted), chains.stationary(P4)[order])
    np.testing.assert_allclose(
        chains.long_run(permuted, UNIFORM), chains.long_run(P4, UNIFORM)[order], atol=1e-12
    )


def test_long_run_of_many_random_chains_is_the_eigenvector(rng):
    p = rng.dirichlet(np.full(21, 0.2), size=(30, 21))
    starts = rng.dirichlet(np.ones(21), size=30)
    found = chains.long_run(p, starts)
    for one, pi in zip(p, found, strict=True):
        np.testing.assert_allclose(chains.stationary(one), pi, atol=1e-7)


def test_two_closed_sets_are_reported_and_mixed_by_the_start():
    apart = np.kron(np.eye(2), np.array([[0.5, 0.5], [0.25, 0.75]]))
    with pytest.raises(DataError) as caught:
        chains.stationary(apart)
    assert str(caught.value) == (
        "transition must have one stationary distribution, got 2 separate sets of states that are "
        "never left"
    )
    pi = np.array([1, 2]) / 3
    np.testing.assert_allclose(
        chains.long_run(apart, np.array([0.3, 0.0, 0.3, 0.4])),
        [*(0.3 * pi), *(0.7 * pi)],
        atol=1e-8,
    )
    # A transient state: absorbed with chances 1/4 and 3/4.
    absorbing = np.array([[0.2, 0.2, 0.6], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(
        chains.long_run(absorbing, np.array([1.0, 0, 0])), [0, 0.25, 0.75], atol=1e-8
    )


def test_periodic_chains_do_not_settle():
    flip = np.array([[0.0, 1], [1, 0]])
    np.testing.assert_allclose(chains.stationary(flip), [0.5, 0.5])
    with pytest.raises(DataError, match="must settle within 50 steps, got a largest change of"):
        chains.stationary_by_iteration(flip, np.array([1.0, 0]), most=50)
    assert chains.relaxation_steps(flip) == np.inf


def test_relaxation_is_the_slope_of_the_distance():
    """Total variation to π falls as |λ₂|ᵏ."""
    path = chains.iterate(P4, np.eye(4)[0], 60)
    distance = chains.total_variation(path, chains.stationary(P4))
    slope = np.polyfit(np.arange(30, 50), np.log(distance[30:50]), 1)[0]
    assert -1 / slope == pytest.approx(chains.relaxation_steps(P4), rel=1e-3)


def test_simulated_steps_follow_the_matrix(rng):
    start = np.repeat(np.arange(4), 5000)
    paths = chains.simulate_states(P4, start, np.ones((20_000, 2), dtype=bool), 1, rng)[0]
    np.testing.assert_array_equal(paths[:, 0], start)
    for state in range(4):
        found = np.bincount(paths[start == state, 1], minlength=4)
        possible = P4[state] > 0
        assert not found[~possible].any()
        assert stats.chisquare(found[possible], 5000 * P4[state][possible]).pvalue > 1e-4


def test_simulation_is_seen_where_the_data_were(rng):
    observed = np.array([[False, True, True, False, True], [True, False, True, True, True]])
    paths = chains.simulate_states(P4, np.array([3, 1]), observed, 7, rng)
    assert paths.shape == (7, 2, 5)
    np.testing.assert_array_equal(paths != -1, np.broadcast_to(observed, paths.shape))
    assert (paths[:, 0, 1] == 3).all()
    assert (paths[:, 1, 0] == 1).all()


def test_one_life_only(rng):
    seen = np.ones((500, 40), dtype=bool)
    paths = chains.simulate_states(P4, np.zeros(500, dtype=int), seen, 4, rng, once=True)
    alive = paths > 0
    changes = np.diff(alive.astype(int), axis=2)
    assert ((changes == 1).sum(axis=2) <= 1).all()
    assert ((changes == -1).sum(axis=2) <= 1).all()
    assert (changes == -1).any()
    many = chains.simulate_states(P4, np.zeros(500, dtype=int), seen, 4, rng) > 0
    assert ((np.diff(many.astype(int), axis=2) == 1).sum(axis=2) > 1).any()
