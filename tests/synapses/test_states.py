"""Bins of size: the published ones, back and forth, and their densities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from goaldriven.errors import DataError
from goaldriven.synapses import states


def test_published_bins(pyr):
    """§6.2.4: 40 equal bins, the last 21 one: 20 states of size and absence, 21 in all."""
    bins = states.equal_width_bins(pyr.w)
    assert bins.n_states == 21
    present = pyr.w[pyr.w > 0]
    counts, edges = np.histogram(present, 40)
    np.testing.assert_allclose(bins.edges[:20], edges[:20])
    assert bins.edges[-1] == present.max()
    expected = [*counts[:19], counts[19:].sum()]
    found = np.bincount(bins.to_states(present), minlength=21)[1:]
    np.testing.assert_array_equal(found, expected)


def test_states_of_absent_unobserved_and_outlying_sizes():
    bins = states.equal_width_bins([1.0, 5.0], n_bins=4, pooled=1)
    w = [np.nan, 0, 0.1, 1, 1.99, 2, 4.9, 5, 99]
    assert bins.to_states(w).tolist() == [-1, 0, 1, 1, 1, 2, 4, 4, 4]


def test_quantile_bins_hold_equally_many(pyr):
    bins = states.quantile_bins(pyr.w, 7)
    counts = np.bincount(bins.to_states(pyr.w[pyr.w > 0]))[1:]
    assert np.ptp(counts) <= 1


def test_sizes_of_states_are_uniform_within_what_was_found(pyr, rng):
    bins = states.equal_width_bins(pyr.w)
    of_bin_3 = pyr.w[bins.to_states(pyr.w) == 3]
    drawn = bins.to_sizes(np.full(20_000, 3), rng)
    assert of_bin_3.min() <= drawn.min()
    assert drawn.max() <= of_bin_3.max()
    middle = (of_bin_3.min() + of_bin_3.max()) / 2
    assert drawn.mean() == pytest.approx(middle, abs=4 * np.ptp(of_bin_3) / np.sqrt(12 * 20_000))
    assert drawn.var() == pytest.approx(np.ptp(of_bin_3) ** 2 / 12, rel=0.03)
    everything = bins.to_states(pyr.w)
    np.testing.assert_array_equal(bins.to_states(bins.to_sizes(everything, rng)), everything)
    assert np.isnan(bins.to_sizes([-1], rng)[0])
    assert bins.to_sizes([0], rng)[0] == 0


@pytest.mark.parametrize("make", [states.equal_width_bins, lambda w: states.quantile_bins(w, 6)])
def test_density_given_a_state_integrates_to_one(pyr, make):
    bins = make(pyr.w)

    def density(x):
        return np.exp(bins.log_density(np.array(x)))

    lower = [0.0, *bins.edges[1:-1]]
    for state in range(1, bins.n_states):
        upper = np.inf if state == bins.n_states - 1 else bins.edges[state]
        total, _ = integrate.quad(density, lower[state - 1], upper)
        assert total == pytest.approx(1, abs=1e-6)
    assert bins.log_density(0.0) == 0


BAD = {
    "one bin left": (
        lambda: states.equal_width_bins([1, 2], 4, 4),
        "pooled must be between 1 and n_bins − 1 = 3, got 4",
    ),
    "one quantile": (lambda: states.quantile_bins([1, 2], 1), "n_bins must be at least 2, got 1"),
    "few sizes": (
        lambda: states.quantile_bins([1, 2, 2, 2], 4),
        "n_bins must be small enough for bins of different sizes, got 4 for 2 different sizes",
    ),
    "one size": (
        lambda: states.equal_width_bins([1, 1, 0]),
        "size must hold at least two different values above 0, got 2",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bins_that_cannot_be(case):
    make, message = BAD[case]
    with pytest.raises(DataError) as caught:
        make()
    assert str(caught.value) == message
