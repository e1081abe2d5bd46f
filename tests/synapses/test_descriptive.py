"""Description: by hand on small tables, against the thesis on the published ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from goaldriven.errors import DataError
from goaldriven.synapses import descriptive, distribution

NAN = np.nan
DAYS = np.array([0.0, 4.0, 8.0])
W = np.array([[1.0, 2.0, 0.0], [1.0, 0.5, 0.25], [0.0, 3.0, 4.0], [2.0, NAN, 2.0]])
CLUSTERS = np.array(["a", "a", "b", "b"])
SETTINGS = {"bootstraps": 200}


def test_weight_change_by_hand(rng):
    every = np.ones(4, dtype=bool)
    table = descriptive.weight_changes(W, DAYS, CLUSTERS, among=every, rng=rng, **SETTINGS)
    assert table["n"].tolist() == [3, 2, 2]
    log2 = np.log(2)
    np.testing.assert_allclose(table["change"], [0, log2, (2 * log2 + 0) / 2])
    np.testing.assert_allclose(table["log_change"], [0, 0, -log2])
    np.testing.assert_allclose(table["percent"], [0, 100, 100])
    np.testing.assert_allclose(table["size"], [4 / 3, 1.25, 1.125])
    np.testing.assert_allclose(table["change_sem"][1:], [0, log2])


@pytest.mark.parametrize(
    ("group", "change", "sem", "percent"), [("pyr", 0.46, 0.03, 58), ("pv", 0.24, 0.02, 27)]
)
def test_change_at_day_24_is_the_published_one(request, rng, group, change, sem, percent):
    """Thesis §6.2.2: 0.46 ± 0.03 (58%) and 0.24 ± 0.02 (27%)."""
    table = descriptive.weight_changes(*request.getfixturevalue(group), rng=rng, **SETTINGS)
    row = table.set_index("day").loc[24]
    assert round(row["change"], 2) == change
    assert round(row["change_sem"], 2) == sem
    assert round(row["percent"]) == percent
    assert row["change_low"] < row["change"] < row["change_high"]


@pytest.mark.parametrize("group", ["pyr", "pv"])
def test_persistent_synapses_do_not_grow_or_shrink_on_average(request, rng, group):
    """Thesis, Figure 6.1a: mean size of the middle half stays; here within 16% over four weeks."""
    table = descriptive.weight_changes(*request.getfixturevalue(group), rng=rng, **SETTINGS)
    assert (np.abs(table["size"] / table["size"][0] - 1) < 0.16).all()


def test_changes_by_interval_by_hand(rng):
    every = np.ones(4, dtype=bool)
    table = descriptive.changes_by_interval(W, DAYS, CLUSTERS, among=every, rng=rng, **SETTINGS)
    assert table["interval"].tolist() == [4, 8]
    assert table["pairs"].tolist() == [4, 2]
    log2 = np.log(2)
    np.testing.assert_allclose(table["change"], [(3 * log2 + np.log(4 / 3)) / 4, log2])


def test_change_of_a_random_walk_grows_as_the_square_root(rng):
    """E|N(0, kσ²)| = σ √(2k/π), so the slope in logarithms is one half."""
    steps = rng.normal(0, 0.1, size=(4000, 9))
    w = np.exp(np.cumsum(steps, axis=1))
    every = np.ones(len(w), dtype=bool)
    table = descriptive.changes_by_interval(
        w, np.arange(9.0), np.arange(len(w)), among=every, rng=rng, **SETTINGS
    )
    np.testing.assert_allclose(
        table["change"], 0.1 * np.sqrt(2 * table["interval"] / np.pi), rtol=0.03
    )


def test_survival_by_hand(rng):
    table = descriptive.survival(W, DAYS, CLUSTERS, rng=rng, **SETTINGS)
    assert table["n"].tolist() == [3, 2, 2]  # the last synapse is lost from sight, not dead
    np.testing.assert_allclose(table["survival"], [1, 1, 0.5])
    with pytest.raises(DataError, match="for some synapse in the first session, got none"):
        descriptive.survival(W * [[0, 1, 1]], DAYS, CLUSTERS, rng=rng, **SETTINGS)


def test_survival_intervals_over_synapses_are_binomial(pyr, rng):
    """Each synapse its own cluster: the bootstrap's width is the binomial one."""
    alone = np.arange(len(pyr.w))
    table = descriptive.survival(pyr.w, pyr.days, alone, bootstraps=4000, rng=rng)
    width = (table["survival_high"] - table["survival_low"])[1:]
    np.testing.assert_allclose(width, 2 * 1.96 * table["survival_sem"][1:], rtol=0.08)


def test_turnover_by_hand(rng):
    table = descriptive.turnover(W, DAYS, CLUSTERS, rng=rng, **SETTINGS)
    assert table["n"].tolist() == [2, 3, 5]
    assert table["births"].tolist() == [1, 0, 1]
    assert table["deaths"].tolist() == [0, 1, 1]
    np.testing.assert_allclose(table["loss"], [0, 1 / 3, 1 / 5])


def test_additions_and_eliminations_have_the_published_counts(pyr, pv):
    """225 and 45 additions, 271 and 50 eliminations (Figure 4 of the paper)."""
    for weights, added, lost in ((pyr, 225, 271), (pv, 45, 50)):
        additions = descriptive.aligned(weights.w, weights.days, "addition").set_index("days_since")
        assert additions["n"][0] == added
        eliminations = descriptive.aligned(weights.w, weights.days, "elimination")
        assert eliminations.set_index("days_since")["n"][-4] == lost
        # Thesis, Figure 6.1i,j: born weak and growing; weak before they go.
        all_sizes = weights.w[weights.w > 0].mean()
        assert additions["size"][0] < 0.6 * all_sizes
        assert additions["size"][0] < additions["size"][4] < additions["size"][8]
        assert eliminations["size"].iloc[-1] < 0.6 * all_sizes


def test_alignment_by_hand():
    w = np.array([[0, 1, 2, 0.0], [3, 0, 0, 0], [NAN, 1, 1, 1], [0, 0, 0, 5]])
    days = np.array([0, 4, 8, 12.0])
    added = descriptive.aligned(w, days, "addition")
    assert added["days_since"].tolist() == [0, 4]
    assert added["n"].tolist() == [2, 1]
    np.testing.assert_allclose(added["size"], [3, 2])
    lost = descriptive.aligned(w, days, "elimination")
    assert lost["days_since"].tolist() == [-8, -4]
    np.testing.assert_allclose(lost["size"], [1, 2.5])


def test_lognormal_fit_and_density_agree_with_scipy(pyr):
    fit = distribution.fit_lognormal(pyr.w)
    x = pyr.w[pyr.w > 0]
    s, _, scale = stats.lognorm.fit(x, floc=0)
    np.testing.assert_allclose([fit.mu, fit.sigma], [np.log(scale), s], rtol=1e-3)
    np.testing.assert_allclose(fit.density(x), stats.norm.pdf(np.log(x), fit.mu, fit.sigma) / x)


def test_lognormal_describes_both_cell_types_best(pyr, pv):
    """Thesis §6.2.2; and synapses onto PV neurons are less heterogeneous."""
    for weights in (pyr, pv):
        assert distribution.compare_distributions(weights.w)["distribution"][0] == "lognorm"
    assert distribution.fit_lognormal(pv.w).sigma < 0.6 * distribution.fit_lognormal(pyr.w).sigma


def test_anderson_darling_agrees_with_scipy(pyr, rng):
    import warnings

    table = distribution.lognormality_test(pyr.w, pyr.days, simulations=99, rng=rng)
    for t in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # SciPy changes its p-values, not A²
            expected = stats.anderson(np.log(pyr.w[pyr.w[:, t] > 0, t]), "norm").statistic
        assert table["anderson_darling"][t] == pytest.approx(expected, rel=1e-8)


def test_lognormality_test_holds_its_level_and_has_power(rng):
    normal = np.exp(rng.normal(0, 0.7, size=(100, 200)))
    exponential = rng.exponential(size=(100, 20))
    days = np.arange(200.0)
    p = distribution.lognormality_test(normal, days, simulations=199, rng=rng)["p"]
    rejections = (p <= 0.05).sum()
    assert stats.binomtest(int(rejections), 200, 0.05).pvalue > 0.001
    p = distribution.lognormality_test(exponential, days[:20], simulations=199, rng=rng)["p"]
    assert (p <= 0.05).mean() > 0.9


def test_sizes_that_do_not_vary_have_no_distribution():
    with pytest.raises(DataError) as caught:
        distribution.compare_distributions(np.array([[2.0, 2.0, 0.0]]))
    assert str(caught.value) == ("size must hold at least two different values above 0, got 2")
