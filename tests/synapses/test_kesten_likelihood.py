"""Maximum likelihood of the Kesten process, its sub-models and likelihood ratios."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from goaldriven.errors import DataError
from goaldriven.synapses.kesten_likelihood import (
    VARIANTS,
    likelihood_ratio,
    log_likelihood,
    maximum_likelihood,
    moments,
    score,
)

THETA = np.array([-0.15, 0.18, 0.03, 0.01])


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    w = rng.lognormal(0.0, 0.6, 1500)
    mean, variance = moments(THETA, w)
    return w, mean + np.sqrt(variance) * rng.standard_normal(len(w))


def test_the_score_is_the_gradient_by_finite_differences(pairs):
    gradient = score(THETA, *pairs)
    for i in range(4):
        step = 1e-6 * np.eye(4)[i]
        slope = (log_likelihood(THETA + step, *pairs) - log_likelihood(THETA - step, *pairs)) / 2e-6
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-3)


def test_the_log_likelihood_is_scipys(pairs):
    w, d = pairs
    mean, variance = moments(THETA, w)
    assert log_likelihood(THETA, w, d) == pytest.approx(
        stats.norm.logpdf(d, mean, np.sqrt(variance)).sum()
    )


def test_the_score_is_zero_at_the_maximum_and_scipy_finds_no_better(pairs):
    theta, value = maximum_likelihood(*pairs)
    assert np.abs(score(theta[0], *pairs)).max() < 1e-2 * len(pairs[0])
    np.testing.assert_allclose(score(theta[0], *pairs) * 1e-4, 0.0, atol=2e-3)
    found = optimize.minimize(
        lambda t: -log_likelihood(np.concatenate([t[:2], np.exp(t[2:])]), *pairs),
        np.concatenate([THETA[:2], np.log(THETA[2:])]), method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-8, "maxiter": 4000},
    )  # fmt: skip
    assert value[0] == pytest.approx(-found.fun, abs=1e-4)
    np.testing.assert_allclose(theta[0, :2], found.x[:2], atol=1e-3)
    np.testing.assert_allclose(theta[0, 2:], np.exp(found.x[2:]), rtol=1e-2)


def test_sub_models_have_their_closed_forms_and_less_likelihood(pairs):
    w, d = pairs
    full = maximum_likelihood(w, d)[1][0]
    additive = maximum_likelihood(w, d, variant="additive")[0][0]
    np.testing.assert_allclose(additive, [0, d.mean(), 0, d.var()], rtol=1e-6)
    multiplicative = maximum_likelihood(w, d, variant="multiplicative")[0][0]
    np.testing.assert_allclose(multiplicative, [(d / w).mean(), 0, (d / w).var(), 0], rtol=1e-6)
    for variant, free in VARIANTS.items():
        theta, value = maximum_likelihood(w, d, variant=variant)
        assert (theta[0][~np.array(free)] == 0).all()
        assert value[0] <= full + 1e-6
        assert value[0] == pytest.approx(log_likelihood(theta[0], w, d))


def test_counts_are_repeats_of_pairs(pairs):
    w, d = pairs
    counts = np.random.default_rng(1).multinomial(len(w), np.full(len(w), 1 / len(w)), size=3)
    together, values = maximum_likelihood(w, d, counts)
    for row, theta, value in zip(counts, together, values, strict=True):
        alone, one = maximum_likelihood(np.repeat(w, row), np.repeat(d, row))
        np.testing.assert_allclose(theta, alone[0], rtol=1e-3, atol=1e-5)
        assert value == pytest.approx(one[0], abs=1e-4)


def test_variances_stay_at_or_above_zero():
    rng = np.random.default_rng(2)
    w = rng.lognormal(0.0, 0.6, (300,))
    draws = np.sqrt(0.02) * rng.standard_normal((200, 300))  # no multiplicative part
    theta, value = maximum_likelihood(w, draws)
    assert (theta[:, 2:] >= 0).all()
    assert np.isfinite(value).all()
    assert 0.3 < (theta[:, 2] == 0).mean() < 0.7  # on the boundary in half of the cases


@pytest.mark.parametrize(
    ("null", "truth"),
    [
        ("multiplicative", [-0.1, 0.0, 0.04, 0.0]),
        ("additive", [0.0, 0.1, 0.0, 0.04]),
        ("no additive variance", [-0.1, 0.1, 0.04, 0.0]),
        ("no additive mean", [-0.1, 0.0, 0.04, 0.01]),
    ],
)
def test_the_likelihood_ratio_has_its_law_under_the_sub_model(null, truth):
    rng = np.random.default_rng(3)
    w = rng.lognormal(0.0, 0.5, 400)
    mean, variance = moments(np.array(truth), w)
    draws = mean + np.sqrt(variance) * rng.standard_normal((1500, len(w)))
    full, low = (maximum_likelihood(w, draws, variant=v)[1] for v in ("full", null))
    statistic = 2 * (full - low)
    assert (statistic > -1e-4).all()
    law = {  # upper 10% and 5% points of the stated mixtures
        "multiplicative": lambda s: 0.5 * (stats.chi2.sf(s, 1) + stats.chi2.sf(s, 2)),
        "additive": lambda s: 0.5 * (stats.chi2.sf(s, 1) + stats.chi2.sf(s, 2)),
        "no additive variance": lambda s: 0.5 * stats.chi2.sf(s, 1),
        "no additive mean": lambda s: stats.chi2.sf(s, 1),
    }[null]
    for level in (0.1, 0.05):
        point = optimize.brentq(lambda s, level=level: law(s) - level, 1e-6, 50)
        rate = (statistic > point).mean()
        assert rate == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 1500))


def test_the_likelihood_ratio_has_power_and_its_two_p_values_agree(pairs):
    w, d = pairs
    rng = np.random.default_rng(4)
    test = likelihood_ratio(w, d, "multiplicative", resamples=99, rng=rng)
    assert test.p_value < 1e-6
    assert test.p_bootstrap == pytest.approx(0.01)
    assert test.law == "½χ²(1) + ½χ²(2)"
    mean, variance = moments(np.array([-0.1, 0.0, 0.04, 0.0]), w)
    null = mean + np.sqrt(variance) * rng.standard_normal(len(w))
    test = likelihood_ratio(w, null, "multiplicative", resamples=400, rng=rng)
    assert test.p_value == pytest.approx(test.p_bootstrap, abs=0.1)


def test_unknown_variants_are_named(pairs):
    with pytest.raises(DataError, match="variant must be one of"):
        maximum_likelihood(*pairs, variant="logistic")
    with pytest.raises(DataError, match="null must be one of"):
        likelihood_ratio(*pairs, "full")
