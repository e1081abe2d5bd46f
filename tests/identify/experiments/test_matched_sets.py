"""Matched sets against brute force on small cases."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.matched_sets import matched_sets, ranges_of


def every_way(performance, rules, tolerance):
    """All families of disjoint sets within the tolerance, each as a list of ranges."""
    members = [np.flatnonzero(rules == name) for name in np.unique(rules)]
    near = {}
    for one in itertools.product(*members):
        apart = max(
            np.abs(performance[a] - performance[b]).max() for a, b in itertools.combinations(one, 2)
        )
        if apart <= tolerance:
            near[sum(1 << int(i) for i in one)] = apart
    return near


def most(near):
    """The largest number of disjoint sets."""

    @cache
    def best(used):
        return max((1 + best(used | m) for m in near if not used & m), default=0)

    return best(0)


def smallest_sum(near, n_sets):
    """The smallest sum of ranges of this many disjoint sets."""

    @cache
    def best(used, n):
        if n == 0:
            return 0.0
        ways = (w + best(used | m, n - 1) for m, w in near.items() if not used & m)
        return min(ways, default=np.inf)

    return best(0, n_sets)


def cases(n_rules, n_records, n_each, n_cases=25, seed=0):
    rng = np.random.default_rng([seed, n_rules, n_records])
    rules = np.repeat([f"rule{i}" for i in range(n_rules)], n_each)
    for _ in range(n_cases):
        order = rng.permutation(len(rules))
        performance = rng.normal(size=(len(rules), n_records))
        yield performance, rules[order], rng.uniform(0.3, 1.5)


@pytest.mark.parametrize("n_records", [1, 4])
def test_pairs_are_as_many_and_as_close_as_can_be(n_records):
    for performance, rules, tolerance in cases(2, n_records, 5):
        near = every_way(performance, rules, tolerance)
        sets = matched_sets(performance, rules, tolerance)
        assert len(sets) == most(near)
        assert ranges_of(performance, sets).sum() == pytest.approx(smallest_sum(near, len(sets)))


@pytest.mark.parametrize(("n_rules", "n_each"), [(3, 4), (4, 3)])
def test_sets_of_one_record_are_as_many_as_can_be_within_the_smallest_range(n_rules, n_each):
    for performance, rules, tolerance in cases(n_rules, 1, n_each):
        sets = matched_sets(performance, rules, tolerance)
        assert len(sets) == most(every_way(performance, rules, tolerance))
        if len(sets):
            widest = ranges_of(performance, sets).max()
            assert most(every_way(performance, rules, widest - 1e-6)) < len(sets)


@pytest.mark.parametrize(("n_rules", "n_records", "n_each"), [(3, 2, 4), (3, 4, 4), (4, 2, 3)])
def test_sets_of_many_records_are_nearly_as_many_as_can_be(n_rules, n_records, n_each):
    found = possible = 0
    for performance, rules, tolerance in cases(n_rules, n_records, n_each):
        sets = matched_sets(performance, rules, tolerance)
        best = most(every_way(performance, rules, tolerance))
        assert len(sets) <= best
        found, possible = found + len(sets), possible + best
    assert possible > 0
    assert found >= 0.9 * possible


@pytest.mark.parametrize(("n_rules", "n_records"), [(2, 1), (2, 3), (4, 1), (4, 3)])
def test_sets_hold_every_rule_once_and_no_network_twice(n_rules, n_records):
    for performance, rules, tolerance in cases(n_rules, n_records, 20, n_cases=3):
        sets = matched_sets(0.5 * performance, rules, tolerance)
        assert len(sets)
        assert len(np.unique(sets)) == sets.size
        assert (rules[sets] == np.unique(rules)).all()
        for one in sets:
            assert np.ptp(0.5 * performance[one], axis=0).max() <= tolerance + 1e-9


def test_a_difference_of_the_tolerance_is_within_it():
    performance = np.array([[0.99], [0.97], [0.95]])  # 0.99 − 0.97 > 0.02 in floating point
    assert len(matched_sets(performance[:2], np.array(["a", "b"]), 0.02)) == 1
    assert len(matched_sets(performance, np.array(["a", "b", "c"]), 0.04)) == 1
    assert len(matched_sets(performance, np.array(["a", "b", "c"]), 0.039)) == 0


def test_networks_without_a_finite_value_match_none():
    rules = np.array(["a", "a", "b", "b"])
    performance = np.array([[0.5, np.nan], [0.5, 0.6], [0.5, 0.6], [0.5, np.inf]])
    assert matched_sets(performance, rules, 1.0).tolist() == [[1, 2]]
    assert matched_sets(performance[[0, 2]], rules[[0, 2]], 1.0).shape == (0, 2)


def test_errors():
    performance = np.zeros((2, 1))
    with pytest.raises(IdentificationError, match="at least 2 rules, got 1"):
        matched_sets(performance, np.array(["a", "a"]), 0.1)
    with pytest.raises(IdentificationError, match="tolerance must be at least 0, got -1"):
        matched_sets(performance, np.array(["a", "b"]), -1)
