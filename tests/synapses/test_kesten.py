"""Fits of the Kesten process: binned regressions, intervals, noise, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from goaldriven.errors import DataError
from goaldriven.synapses import kesten
from goaldriven.synapses.kesten_binned import bin_moments, lines
from goaldriven.synapses.kesten_likelihood import maximum_likelihood
from goaldriven.synapses.kesten_noise import fit_noisy, noise_from_repeats, triples
from goaldriven.synapses.kesten_pairs import checked, resampled, transitions

from .simulated import TRUTH, kesten_weights

NAMES = list(TRUTH)


@pytest.fixture(scope="module")
def clean():
    rng = np.random.default_rng(2)
    return kesten_weights(1500, 8, rng), np.arange(8) * 4.0, np.repeat(np.arange(30), 50)


def test_binned_moments_are_those_of_pandas(clean):
    w = clean[0][:410]
    before, after = w[:, :-1].ravel(), w[:, 1:].ravel()
    size = -(-len(before) // 20)
    pairs = pd.DataFrame({"w": before, "dw": after - before}).sort_values("w", ignore_index=True)
    bins = pairs.groupby(pairs.index // size)
    table = kesten.binned_moments(w)
    np.testing.assert_allclose(table["w_mean"], bins["w"].mean())
    np.testing.assert_allclose(table["w2_mean"], bins["w"].agg(lambda x: (x**2).mean()))
    np.testing.assert_allclose(table["dw_mean"], bins["dw"].mean())
    np.testing.assert_allclose(table["dw_var"], bins["dw"].var(ddof=0))
    assert table["n"].tolist() == bins.size().tolist()
    assert table["n"].tolist()[:-1] == [size] * 19


def test_absent_and_unobserved_synapses_are_not_weights():
    w = np.array([[1.0, 0.0, 0.0, 2.0, 3.0], [np.nan, 1.0, 2.0, np.nan, 1.0], [0, 5, 6, 0, 0]])
    weights = checked(w, np.arange(5), None)
    pairs = transitions(weights, deaths=True)
    assert list(zip(pairs.before, pairs.after, pairs.synapse, strict=True)) == [
        (1, 0, 0), (2, 3, 0), (1, 2, 1), (5, 6, 2), (6, 0, 2),
    ]  # fmt: skip
    assert transitions(weights).before.tolist() == [2, 1, 5]


def test_lines_are_those_of_scipy(clean):
    pairs = transitions(checked(*clean))
    table = bin_moments(pairs.before, pairs.change, np.ones((1, len(pairs.before))), 20)
    x, x2, y, y2 = table[0].T[:4]
    found = lines(table)
    for (at, of), (slope, intercept), r2 in (
        ((x, y), found.theta[0, [0, 1]], found.r2_mean),
        ((x2, y2), found.theta[0, [2, 3]], found.r2_variance),
    ):
        line = stats.linregress(at, of)
        assert (slope, intercept) == pytest.approx((line.slope, line.intercept))
        assert r2[0] == pytest.approx(line.rvalue**2)
    alone = lines(table, additive=False)
    k = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
    assert alone.theta[0, 0] == pytest.approx(k)
    assert alone.theta[0, 1] == 0
    assert alone.r2_mean[0] == pytest.approx(
        1 - ((y - k * x) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    )


def test_every_estimator_recovers_the_truth_within_its_interval(clean):
    w, days, clusters = clean
    fit = kesten.fit_kesten(w, days, clusters, bootstraps=100, rng=np.random.default_rng(1))
    table = fit.table(level=0.999).set_index(["estimator", "parameter"])
    for estimator in ("likelihood", "noise constant", "noise proportional"):
        for name, truth in TRUTH.items():
            row = table.loc[estimator, name]
            assert row["low"] <= truth <= row["high"], (estimator, name, row.tolist())
    mean, variance = kesten.stationary_moments(*TRUTH.values())
    assert fit.estimate("likelihood", "stationary_mean") == pytest.approx(mean, rel=0.02)
    assert fit.estimate("likelihood", "stationary_variance") == pytest.approx(variance, rel=0.15)
    assert fit.estimate("binned", "mu_a") == pytest.approx(TRUTH["mu_a"], abs=0.02)
    assert fit.estimate("noise constant", "noise") < 0.005
    tests = fit.test_table().set_index("null")
    assert (tests.loc[["multiplicative", "additive"], "p_value"] < 1e-10).all()
    assert fit.pairs == 10_500
    assert fit.pairs_to_absent == 0


@pytest.mark.slow
def test_intervals_cover_the_truth():
    rng = np.random.default_rng(2)
    truth = np.array(list(TRUTH.values()))
    hits = np.zeros(4)
    for _ in range(200):
        weights = checked(kesten_weights(60, 6, rng, burn=30), np.arange(6), None)
        pairs = transitions(weights)
        counts = resampled(weights, 120, rng)[:, pairs.synapse]
        theta, _ = maximum_likelihood(pairs.before, pairs.change, counts)
        low, high = np.quantile(theta, [0.025, 0.975], axis=0)
        hits += (low <= truth) & (truth <= high)
    # 95% intervals of 60 synapses: percentile intervals of variances are a little narrow
    assert (hits >= 200 * 0.86).all(), hits


def test_noise_looks_like_an_additive_part_until_it_is_allowed_for():
    rng = np.random.default_rng(3)
    truth = {"mu_a": -0.04, "mu_b": 0.05, "var_a": 0.02, "var_b": 0.002}
    w = kesten_weights(4000, 8, rng, noise=0.05, burn=100, **truth)
    weights = checked(w, np.arange(8), None)
    pairs = transitions(weights)
    naive = maximum_likelihood(pairs.before, pairs.change)[0][0]
    assert naive[0] < 3 * truth["mu_a"]
    assert naive[1] > 3 * truth["mu_b"]
    found = fit_noisy(triples(weights), resampled(weights, 100, rng))
    draws = dict(zip(NAMES, found.theta.T, strict=True)) | {"noise": found.noise}
    for name, value in (truth | {"noise": 0.05}).items():
        assert abs(draws[name].mean() - value) < 3.5 * draws[name].std(), name
    assert draws["noise"].mean() == pytest.approx(0.05, rel=0.1)
    assert draws["mu_a"].std() < 0.02


def test_proportional_noise_is_told_from_multiplicative_dynamics():
    rng = np.random.default_rng(4)
    true = kesten_weights(5000, 8, rng)
    read = true * (1 + 0.15 * rng.standard_normal(true.shape))
    counts = resampled(checked(read, np.arange(8), None), 100, rng, "synapse")
    data = triples(checked(read, np.arange(8), None))
    found = fit_noisy(data, counts, noise="proportional")
    everything = {**TRUTH, "noise": 0.15**2}
    draws = dict(zip(NAMES, found.theta.T, strict=True)) | {"noise": found.noise}
    for name, value in everything.items():
        assert abs(draws[name].mean() - value) < 3.5 * draws[name].std(), name
    naive = fit_noisy(data, counts, noise_variance=0.0)
    assert naive.theta[:, 2].mean() > 1.5 * TRUTH["var_a"]


def test_noise_that_is_known_from_repeats_is_taken_out():
    rng = np.random.default_rng(5)
    true = kesten_weights(2000, 8, rng)
    first, second = (true + np.sqrt(0.04) * rng.standard_normal(true.shape) for _ in range(2))
    noise = noise_from_repeats(first, second)
    assert noise == pytest.approx(0.04, rel=0.06)
    fit = kesten.fit_kesten(
        np.maximum(first, 1e-6), np.arange(8), None, bootstraps=60, rng=rng, noise_variance=noise
    )  # fmt: skip
    table = fit.table(level=0.999).set_index(["estimator", "parameter"]).loc["noise known"]
    for name, truth in TRUTH.items():
        assert table.loc[name, "low"] <= truth <= table.loc[name, "high"], name


def test_resampling_draws_whole_clusters_or_single_synapses():
    weights = checked(np.ones((12, 3)), np.arange(3), np.repeat(["a", "b", "c"], 4))
    rng = np.random.default_rng(0)
    counts = resampled(weights, 50, rng, "cluster").reshape(50, 3, 4)
    assert (counts == counts[:, :, :1]).all()
    assert (counts.sum(axis=(1, 2)) == 12).all()
    assert (resampled(weights, 50, rng, "synapse").reshape(50, 3, 4).std(axis=2) > 0).any()


def test_the_most_frequent_interval_is_a_step():
    w = np.ones((4, 5)) + np.arange(5)
    pairs = transitions(checked(w, [0, 4, 8, 20, 24], None))
    assert len(pairs.before) == 4 * 3
    assert 3.0 not in pairs.before


GOOD = np.random.default_rng(0).lognormal(size=(30, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": -GOOD}, "finite and not negative"),
        ({"w": GOOD * np.inf}, "finite and not negative"),
        ({"w": GOOD[:, :1], "days": [0]}, "two or more days"),
        ({"w": GOOD[0]}, "two or more days"),
        ({"w": 0 * GOOD}, "present synapse"),
        ({"days": [0, 4, 4, 8, 12]}, "days must be increasing"),
        ({"days": [8, 4, 0, 12, 16]}, "days must be increasing"),
        ({"days": [0, 4]}, "one per column"),
        ({"clusters": [1, 2]}, "one per row"),
        ({"clusters": [1] * 30}, "two or more, got 1"),
        ({"bootstraps": -1}, "bootstraps must not be negative"),
        ({"bins": 200}, "bins must be 3 or more"),
        ({"resample": "animal"}, "resample must be one of"),
        ({"noise_variance": -0.1}, "noise_variance must be 0 or more"),
        ({"noise_variance": 1e6}, "less than the variance"),
    ],
)
def test_mistakes_are_named(change, message):
    given = {"w": GOOD, "days": np.arange(5), "clusters": None, "bootstraps": 5, **change}
    with pytest.raises(DataError, match=message):
        kesten.fit_kesten(**given, rng=np.random.default_rng(0))


def test_without_bootstraps_there_are_no_intervals():
    fit = kesten.fit_kesten(GOOD, np.arange(5), None, bootstraps=0, rng=np.random.default_rng(0))
    assert fit.table()["low"].isna().all()
    assert fit.table()["estimate"].notna().any()
