"""Averages over layers, and intervals whose units are networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    average_over_layers,
    bootstrap_by_network,
    first_of_each,
    mean_of_rates,
    wilson,
)


def test_average_over_layers_keeps_the_order_of_first_rows():
    networks = np.array(["z", "a", "z", "m", "a"])
    values = np.array([[1.0, 0], [0, 1], [0, 1], [0.5, 0.5], [1, 0]])
    names, mean = average_over_layers(values, networks)
    assert names.tolist() == ["z", "a", "m"]
    np.testing.assert_allclose(mean, [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    assert first_of_each(np.array(["r", "q", "r", "p", "q"]), networks).tolist() == ["r", "q", "p"]
    assert average_over_layers(np.arange(5.0), networks)[1].tolist() == [1, 2.5, 3]
    with pytest.raises(IdentificationError, match=r"rule must be one .* not of z"):
        first_of_each(np.array(["r", "q", "x", "p", "q"]), networks)
    with pytest.raises(IdentificationError, match="one network per row, 5"):
        average_over_layers(values, networks[:4])


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 7), (7, 7), (40, 53)])
def test_wilson_against_scipy(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.9, method="wilson")
    low, high = wilson(hits / n, n, 0.9)
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing():
    low, high = wilson(np.nan, 0)
    assert np.isnan(low)
    assert np.isnan(high)


@pytest.mark.parametrize("rates", [(0.8, 0.9), (0.5, 0.5), (0.95, 0.6), (0.98, 0.98)])
@pytest.mark.parametrize("n", [(6, 6), (10, 14), (24, 24)])
def test_mean_of_rates_covers(rates, n):
    """Summed over all outcomes; outcomes are discrete, hence not 0.95 exactly."""
    covered = 0.0
    for hits in itertools.product(range(n[0] + 1), range(n[1] + 1)):
        mean, low, high = mean_of_rates(np.divide(hits, n), n)
        assert 0 <= low <= mean <= high <= 1
        covered += (low <= np.mean(rates) <= high) * binom.pmf(hits, n, rates).prod()
    assert 0.91 < covered < 0.985


def test_mean_of_perfect_rates_has_an_interval():
    mean, low, high = mean_of_rates([1.0, 1.0], [6, 6])
    assert (mean, high) == (1, 1)
    assert 0.6 < low < 0.8


def test_bootstrap_takes_networks_whole():
    # 12 networks of 30 equal rows: the s.e. of the mean is that of 12 numbers, not of 360.
    rng = np.random.default_rng(1)
    own = rng.normal(size=12)
    values, networks = np.repeat(own, 30), np.repeat(np.arange(12), 30)
    zeros = np.zeros(360)
    low, high = bootstrap_by_network(lambda r: values[r].mean(), networks, zeros, rng, 2000)
    assert (high - low) / (2 * 1.96 * own.std() / np.sqrt(12)) == pytest.approx(1, abs=0.1)


def test_bootstrap_keeps_strata():
    rng = np.random.default_rng(2)
    strata = np.array([0] * 3 + [1] * 9)
    share = bootstrap_by_network(lambda r: strata[r].mean(), np.arange(12), strata, rng, 50)
    assert share == (0.75, 0.75)
