"""Normalisation, selection and the events of a synapse's life."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import DataError
from goaldriven.synapses import preparation, published, table
from goaldriven.synapses.preparation import Status


def codes(row):
    return [Status(s).name for s in preparation.status(np.array([row], dtype=float))[0]]


def test_absence_birth_death_and_missing_days_are_kept_apart():
    nan = np.nan
    assert codes([0, 0, 1, nan, 0]) == ["unborn", "unborn", "present", "not_observed", "lost"]
    assert codes([1, 0, 2, 0, nan]) == ["present", "gap", "present", "lost", "not_observed"]
    assert codes([nan, 0, 0]) == ["not_observed", "never", "never"]


def test_published_synapses_live_once(pyr, pv):
    """No synapse that is lost comes back: this is why survival has one life."""
    for weights in (pyr, pv):
        assert not (preparation.status(weights.w) == Status.gap).any()


def test_pairs_need_both_days():
    w = np.array([[1, 2, np.nan, 4], [0, 3, 0, 0.5]])
    pairs = preparation.consecutive_pairs(w)
    np.testing.assert_array_equal(pairs.before, [1, 0, 3, 0])
    np.testing.assert_array_equal(pairs.after, [2, 3, 0, 0.5])
    np.testing.assert_array_equal(pairs.synapse, [0, 1, 1, 1])
    present = preparation.consecutive_pairs(w, present=True)
    np.testing.assert_array_equal(present.before, [1])


def test_pairs_of_the_published_data(pyr, pv):
    assert len(preparation.consecutive_pairs(pyr.w, present=True).before) == 3010
    before = preparation.consecutive_pairs(pv.w).before
    assert (before > 0).sum() == 2482  # with those that end in 0: 20 bins of 124


def test_skipped_sessions_become_columns():
    w = np.array([[1.0, 2.0, 3.0]])
    full, days = preparation.regular_days(w, [2, 4, 8])
    np.testing.assert_array_equal(days, [2, 4, 6, 8])
    np.testing.assert_array_equal(full, [[1, 2, np.nan, 3]])
    with pytest.raises(DataError) as caught:
        preparation.regular_days(w, [0, 4, 10])
    assert str(caught.value) == (
        "day must be spaced by multiples of the smallest interval, got intervals 4, 6"
    )


def test_normalisation_by_hand():
    """Ten present synapses: the nearest ranks to the percentiles, 4.6 and 6.4, are 5 and 6."""
    raw = np.array([[10.0], [1], [9], [2], [8], [3], [7], [4], [6], [5], [0], [np.nan]])
    normalised = preparation.normalise(raw, ["d"] * 12)
    middle = (5 + 6) / 2
    np.testing.assert_allclose(normalised, raw / middle)


def test_normalisation_takes_out_a_sessions_gain_and_leaves_other_dendrites_alone(pyr, rng):
    gain = rng.uniform(0.5, 2, size=(1, pyr.w.shape[1]))
    one = pyr.clusters == pyr.clusters[0]
    scaled = np.where(one[:, None], pyr.w * gain, pyr.w)
    plain = preparation.normalise(pyr.w, pyr.clusters)
    np.testing.assert_allclose(preparation.normalise(scaled, pyr.clusters), plain, rtol=1e-12)
    shuffled = rng.permutation(len(pyr.w))
    np.testing.assert_allclose(
        preparation.normalise(pyr.w[shuffled], pyr.clusters[shuffled]), plain[shuffled]
    )


@pytest.mark.parametrize(("group", "exact", "typical"), [("pyr", 0.69, 0.019), ("pv", 0.90, 0.003)])
def test_how_closely_raw_fluorescence_gives_the_authors_sizes(group, exact, typical):
    """Most sessions to rounding; in the others their mean is over a run of ranks a little lower."""
    whole = published.load_demo(common_sessions=False)
    raw = published.load_demo("raw", common_sessions=False)
    w, _, clusters = table.weights_of(whole, group)
    again = preparation.normalise(table.weights_of(raw, group).w, clusters)
    ratios = []
    for dendrite in np.unique(clusters):
        mine = clusters == dendrite
        for t in range(w.shape[1]):
            present = w[mine, t] > 0
            if present.any():
                ratio = again[mine, t][present] / w[mine, t][present]
                np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)  # one factor per session
                ratios.append(ratio[0])
    off = np.abs(1 / np.array(ratios) - 1)
    assert exact < (off < 1e-5).mean() < exact + 0.02
    assert np.mean(off) < typical
    assert off.max() < 0.18


@pytest.mark.parametrize(("group", "exact", "sessions"), [("pyr", 111, 112), ("pv", 161, 161)])
def test_a_few_more_weak_synapses_explain_the_rest(group, exact, sessions):
    """Up to four absent synapses counted as the weakest give the authors' factor to rounding."""
    whole = published.load_demo(common_sessions=False)
    raw = published.load_demo("raw", common_sessions=False)
    w, _, clusters = table.weights_of(whole, group)
    x = table.weights_of(raw, group).w
    found = []
    for dendrite in np.unique(clusters):
        mine = clusters == dendrite
        for t in range(w.shape[1]):
            there = w[mine, t] > 0
            if not there.any():
                continue
            present = x[mine, t][there]
            factor = np.median(present / w[mine, t][there])
            more = [np.full(m, present.min() / 2) for m in range(5)]
            columns = [np.concatenate([extra, present]) for extra in more]
            again = [
                c[-1] / preparation.normalise(c[:, None], ["d"] * len(c))[-1, 0] for c in columns
            ]
            found.append(np.isclose(again, factor, rtol=1e-5).any())
    assert (sum(found), len(found)) == (exact, sessions)


def test_normalise_refuses_percentiles_in_the_wrong_order():
    with pytest.raises(DataError) as caught:
        preparation.normalise(np.ones((2, 2)), ["a", "a"], low=60, high=40)
    assert str(caught.value) == "percentiles must be 0 ≤ low < high ≤ 100, got 60 and 40"


def test_middle_half_of_the_persistent_has_the_published_counts(pyr, pv):
    """n = 174 and 190 in the paper's Figure 4."""
    for weights, n_persistent, n in ((pyr, 348, 174), (pv, 382, 190)):
        assert preparation.persistent(weights.w).sum() == n_persistent
        chosen = preparation.middle_half(weights.w)
        assert chosen.sum() == n
        first = weights.w[preparation.persistent(weights.w), 0]
        outside = first[~chosen[preparation.persistent(weights.w)]]
        inside = weights.w[chosen, 0]
        assert ((outside < inside.min()) | (outside > inside.max())).all()


def test_common_sessions_blank_what_some_dendrites_lack():
    size = [[1, 1, np.nan], [1, 1, 1], [1, np.nan, 1]]
    made = table.make_table(size, [0, 1, 2], ["a", "b", "c"], group=["x", "x", "y"])
    kept = table.keep_common_sessions(made)["size"].values
    np.testing.assert_array_equal(kept, [[1, 1, np.nan], [1, 1, np.nan], [1, np.nan, 1]])
