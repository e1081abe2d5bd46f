"""The chain fitted to sizes: known truth, coverage of intervals, the published data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from goaldriven.errors import DataError
from goaldriven.synapses import chains, markov, states
from synapses.made_up import P4, simulated_sizes, stationary_by_powers

BINS = states.Bins(np.arange(4.0), np.arange(3.0), np.arange(1.0, 4), 0.5)
DAYS = np.arange(8.0) * 4
N_SIMULATIONS = 200


def fit(w, clusters, rng, **settings):
    return markov.fit_markov(w, DAYS, clusters, bins=BINS, rng=rng, **settings)


def test_a_known_chain_is_recovered(rng):
    w = simulated_sizes(rng, n_synapses=6000)
    found = fit(w, np.arange(6000) // 50, rng, bootstraps=50)
    error = np.sqrt(P4 * (1 - P4) / found.counts.sum(axis=1, keepdims=True))
    assert (np.abs(found.transition - P4) <= 4 * error).all()
    np.testing.assert_allclose(found.stationary, stationary_by_powers(P4), atol=0.01)
    np.testing.assert_allclose(found.occupancy, stationary_by_powers(P4), atol=0.01)
    np.testing.assert_allclose(found.transition.sum(axis=1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("unit", markov.UNITS)
def test_bootstrap_intervals_cover_the_truth(rng, unit):
    """95% intervals of P, π and their functions hold the truth in about 95% of 200 simulations.

    A percentile interval of 40 clusters is a little short; it must not be shorter than 90%.
    """
    inside = []
    truth = np.concatenate([P4[:3, :3].ravel(), stationary_by_powers(P4)])
    for _ in range(N_SIMULATIONS):
        w = simulated_sizes(rng, n_synapses=200)
        found = fit(w, np.arange(200) // 5, rng, bootstraps=200)
        again = found.resamples[unit]
        samples = np.concatenate(
            [again.transition[:, :3, :3].reshape(200, -1), again.stationary], axis=1
        )
        low, high = np.percentile(samples, [2.5, 97.5], axis=0)
        inside.append((low <= truth) & (truth <= high))
    covered = np.mean(inside, axis=0)
    assert 0.92 < covered.mean() < 0.97
    assert (covered > 0.88).all()


def test_dendrites_that_differ_widen_the_intervals(rng):
    """Synapses of a dendrite that share a fate are fewer than they seem."""
    w = simulated_sizes(rng, n_synapses=400)
    w[:] = np.repeat(w[:40], 10, axis=0)  # ten copies on each of 40 dendrites
    found = fit(w, np.arange(400) // 10, rng, bootstraps=500)
    by_dendrite = found.resamples["dendrite"].stationary.std(axis=0)
    by_synapse = found.resamples["synapse"].stationary.std(axis=0)
    np.testing.assert_allclose(by_dendrite / by_synapse, np.sqrt(10), rtol=0.25)


def test_bootstrap_over_synapses_is_the_multinomial_error(rng):
    w = simulated_sizes(rng, n_synapses=1000, n_days=2)
    found = markov.fit_markov(w, DAYS[:2], np.arange(1000), bins=BINS, bootstraps=3000, rng=rng)
    p, n = found.transition, found.counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        found.resamples["synapse"].transition.std(axis=0), np.sqrt(p * (1 - p) / n), rtol=0.12
    )


def test_the_order_of_synapses_does_not_matter(pyr, rng):
    shuffled = rng.permutation(len(pyr.w))
    a = markov.fit_markov(*pyr, bootstraps=2, rng=rng)
    b = markov.fit_markov(pyr.w[shuffled], pyr.days, pyr.clusters[shuffled], bootstraps=2, rng=rng)
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_allclose(a.stationary, b.stationary)


def test_the_scale_of_sizes_does_not_matter(pv, rng):
    a = markov.fit_markov(*pv, bootstraps=2, rng=rng)
    b = markov.fit_markov(pv.w * 2.0, pv.days, pv.clusters, bootstraps=2, rng=rng)
    np.testing.assert_array_equal(a.counts, b.counts)


def test_a_skipped_session_is_no_step(rng):
    w = simulated_sizes(rng, n_synapses=50)
    gone = np.delete(w, 3, axis=1)
    a = fit(np.where(np.arange(8) == 3, np.nan, w), np.arange(50), rng, bootstraps=2)
    b = markov.fit_markov(gone, np.delete(DAYS, 3), np.arange(50), bins=BINS, bootstraps=2, rng=rng)
    np.testing.assert_array_equal(a.counts, b.counts)
    assert a.counts.sum() == 50 * 5


@pytest.mark.parametrize(("group", "distance"), [("pyr", 0.06), ("pv", 0.025)])
def test_stationary_matches_empirical_distribution(request, rng, group, distance):
    """Thesis §6.2.2, Figure 6.1g,h: for both cell types, here as total variation of present sizes.

    Absence of pyramidal synapses is still rising (births 225, deaths 271), so that over all
    states the distance is 0.08.
    """
    found = markov.fit_markov(*request.getfixturevalue(group), bootstraps=200, rng=rng)
    np.testing.assert_allclose(chains.stationary(found.transition), found.stationary, atol=1e-8)
    table = markov.stationarity(found).set_index("states")
    assert table.loc["present", "distance"] < distance
    assert table.loc["all", "distance"] < 0.085
    assert table.loc["present", "n_states"] == 20
    p, q = markov.given_present(found.stationary), markov.given_present(found.occupancy)
    assert table.loc["present", "distance"] == pytest.approx(np.abs(p - q).sum() / 2)


@pytest.mark.parametrize("group", ["pyr", "pv"])
def test_changes_are_gradual_and_grow_with_size(request, rng, group):
    """Thesis: few large jumps, and a central band that widens with size (Figure 6.1c,d)."""
    weights = request.getfixturevalue(group)
    found = markov.fit_markov(*weights, bootstraps=2, rng=rng)
    near = sum(np.trace(found.counts[1:, 1:], k) for k in (-2, -1, 0, 1, 2))
    assert near / found.counts[1:, 1:].sum() > 0.7
    k = np.arange(1, 21)
    given = found.transition[1:, 1:] / found.transition[1:, 1:].sum(axis=1, keepdims=True)
    spread = np.sqrt(given @ k**2 - (given @ k) ** 2)
    assert stats.spearmanr(k[:12], spread[:12]).statistic > 0.8


def test_every_start_comes_to_the_stationary_distribution(pv, rng):
    found = markov.fit_markov(*pv, bootstraps=2, rng=rng)
    table = markov.convergence(found, steps=120)
    assert set(table["start"]) == set(markov.STARTS)
    last = table[table["days"] == 480]
    assert last["distance"].max() < 1e-3
    assert table.loc[table["days"] == 0, "distance"].max() > 0.5
    sums = table.groupby(["start", "days"])["probability"].sum()
    np.testing.assert_allclose(sums, 1)
    per_start = table.drop_duplicates(["start", "days"])
    for _, path in per_start.groupby("start"):
        assert (np.diff(path["distance"]) <= 1e-12).all()  # a chain contracts


def test_tables_tell_the_fit(pv, rng):
    found = markov.fit_markov(*pv, bootstraps=100, rng=rng)
    table = found.table()
    assert table["transitions"].sum() == found.counts.sum() == 2766
    np.testing.assert_allclose(table["stationary"], found.stationary)
    inside = (table["occupancy_low"] <= table["occupancy"]) & (
        table["occupancy"] <= table["occupancy_high"]
    )
    assert inside.mean() > 0.9
    pairs = found.transitions()
    assert pairs.query("from_state == 2 and to_state == 3")["count"].item() == found.counts[2, 3]
    sums = pairs.groupby("from_state")["probability"].sum()
    np.testing.assert_allclose(sums, 1)


def test_no_successive_days_is_one_message(rng):
    w = np.array([[1.0, np.nan, 2.0, np.nan], [np.nan, 1.0, np.nan, 3.0]])
    with pytest.raises(DataError) as caught:
        markov.fit_markov(w, np.arange(4.0), ["a", "b"], rng=rng)
    assert str(caught.value) == (
        "size must be observed on two successive days for some synapse, got none"
    )
