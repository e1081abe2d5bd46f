"""Equal rules are found indistinguishable, separated ones are not; the error of the table holds."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, permutation_test

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    PairCalls,
    degeneracy_of_pairs,
    degeneracy_table,
    degenerate_groups,
    holm,
    mean_of_rates,
)
from goaldriven.identify.calibration.degeneracy import smallest_p

from .planted import RULES


def _scores(rng, signal, n=12):
    """Scores of n networks of each rule; ``signal`` (rule, rule) is the mean of the logits."""
    truth = np.repeat(np.arange(len(signal)), n)
    logits = np.asarray(signal)[truth] + rng.normal(size=(len(truth), len(signal)))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), truth


TWINS = 3 * np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])  # ia is sgdm


def test_planted_twins():
    rng = np.random.default_rng(0)
    scores, truth = _scores(rng, TWINS)
    table = degeneracy_table(scores, truth, None, rng, rules=None, test_share=None)
    told = table.set_index(["rule_a", "rule_b"])
    assert told["indistinguishable"].to_dict() == {
        pair: pair == ("2", "3") for pair in itertools.combinations("0123", 2)
    }
    assert told.loc[("2", "3"), "low"] < 0.5 < told.loc[("2", "3"), "high"]
    assert told["accuracy"].drop(("2", "3")).min() > 0.8
    assert (told[["networks_a", "networks_b"]] == 12).all(axis=None)
    assert degenerate_groups(table) == (("0",), ("1",), ("2", "3"))
    named = degeneracy_table(scores, np.array(RULES)[truth], None, rng, rules=RULES)
    assert degenerate_groups(named) == (("adam",), ("fa",), ("ia", "sgdm"))


def test_error_of_the_whole_table():
    """Four equal rules: a pair is said to differ in 5% of tables at most. With one pair of twins
    among rules that are told, that pair is too."""
    rng, n = np.random.default_rng(1), 200
    wrong = twins = 0
    for _ in range(n):
        scores, truth = _scores(rng, np.zeros((4, 4)), 10)
        table = degeneracy_table(scores, truth, None, rng, test_share=None, n_resamples=399)
        wrong += not table["indistinguishable"].all()
        scores, truth = _scores(rng, TWINS, 10)
        table = degeneracy_table(scores, truth, None, rng, test_share=None, n_resamples=399)
        twins += not table["indistinguishable"].iloc[-1]
    bound = binom.ppf(1 - 1e-4, n, 0.05)
    assert wrong <= bound
    assert twins <= bound


def _nearest_neighbour_calls(rng, n, n_splits=10):
    """Two equal rules, 75/25 splits in each of which a classifier is fitted to the rest."""
    x, rule = rng.normal(size=(2 * n, 2)), np.repeat([0, 1], n)
    squares = ((x[:, None] - x) ** 2).sum(axis=2)
    called, networks = [], []
    for _ in range(n_splits):
        tested = np.concatenate([rng.permutation(n)[: n // 4], n + rng.permutation(n)[: n // 4]])
        rest = np.setdiff1d(np.arange(2 * n), tested)
        called.append(rule[rest[squares[np.ix_(tested, rest)].argmin(axis=1)]])
        networks.append(tested)
    networks = np.concatenate(networks)
    return PairCalls(np.concatenate(called).astype(float), rule[networks] == 1, networks)


def test_networks_that_are_trained_on_elsewhere():
    """Cross-validated calls depend on one another: without the factor the test is too eager."""
    rng, n = np.random.default_rng(2), 500
    found = {0.25: 0, None: 0}
    for _ in range(n):
        calls = _nearest_neighbour_calls(rng, 24)
        for share in found:
            table = degeneracy_of_pairs({("a", "b"): calls}, rng, test_share=share, n_resamples=399)
            found[share] += not table["indistinguishable"].iloc[0]
    assert found[0.25] <= binom.ppf(1 - 1e-3, n, 0.05)
    assert found[None] > binom.ppf(1 - 1e-3, n, 0.05)


def test_p_against_scipy():
    rng = np.random.default_rng(3)
    called, is_b = rng.choice([0, 0.5, 1], 10, p=[0.3, 0.2, 0.5]), np.arange(10) >= 4
    calls = PairCalls(called, is_b, np.arange(10))
    table = degeneracy_of_pairs({("a", "b"): calls}, rng, test_share=None, n_resamples=20_000).iloc[
        0
    ]
    exact = permutation_test(
        (called[is_b], called[~is_b]), lambda b, a: b.mean() - a.mean(), alternative="greater"
    )
    assert table["p"] == pytest.approx(exact.pvalue, abs=0.015)
    balanced = (called[is_b].mean() + 1 - called[~is_b].mean()) / 2
    assert table["accuracy"] == pytest.approx(balanced)


def test_repeated_networks_are_one():
    rng = np.random.default_rng(4)
    scores, truth = _scores(rng, np.eye(2), 15)
    once = degeneracy_table(scores, truth, None, np.random.default_rng(5), test_share=None)
    again = degeneracy_table(
        np.tile(scores, (5, 1)), np.tile(truth, 5), np.tile(np.arange(30), 5),
        np.random.default_rng(5), test_share=None,
    )  # fmt: skip
    pd.testing.assert_frame_equal(once, again)
    crossed = degeneracy_table(scores, truth, None, np.random.default_rng(5)).iloc[0]
    assert crossed["p"] > once["p"].iloc[0]
    assert crossed["high"] - crossed["low"] > (once["high"] - once["low"]).iloc[0]


def test_ties_are_half_right():
    table = degeneracy_table(
        np.full((24, 2), 0.5), np.arange(24) % 2, None, np.random.default_rng(6)
    )
    assert table["accuracy"].tolist() == [0.5]
    assert table["p"].tolist() == [1]


@pytest.mark.parametrize(("share", "squared"), [(None, 1), (0.25, 1 + 4 / 3), (0.5, 3)])
def test_interval_is_of_so_many_networks(share, squared):
    """One row per network: f² = 1 + 1/(1 − r) networks count as one."""
    called = np.array([0] * 8 + [1] * 2 + [1] * 13 + [0], dtype=float)
    calls = PairCalls(called, np.arange(24) >= 10, np.arange(24))
    row = degeneracy_of_pairs({("a", "b"): calls}, np.random.default_rng(7), test_share=share)
    expected = mean_of_rates([0.8, 13 / 14], [10 / squared, 14 / squared])
    assert row.loc[0, ["accuracy", "low", "high"]].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("n_a", "n_b", "factor"), [(4, 4, 1), (3, 6, 1), (6, 6, 1.6), (8, 5, 2)])
def test_smallest_p(n_a, n_b, factor):
    called = np.arange(n_a + n_b) >= n_a
    values = [
        np.mean(called[list(b)]) - (called.sum() - called[list(b)].sum()) / n_a
        for b in itertools.combinations(range(n_a + n_b), n_b)
    ]
    expected = np.mean(np.array(values) * factor >= 1 - 1e-12)
    assert smallest_p(n_a, n_b, factor) == pytest.approx(expected)
    if factor == 1:
        assert expected == pytest.approx(1 / comb(n_a + n_b, n_a))


def test_holm():
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.9])
    assert holm(p).tolist() == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9])
    rng = np.random.default_rng(8)
    for _ in range(50):  # adjusted ≤ α just where the step-down procedure rejects
        p, alpha = rng.random(6) ** 3, 0.1
        rejected = np.zeros(6, dtype=bool)
        for i, j in enumerate(np.argsort(p)):
            if p[j] > alpha / (6 - i):
                break
            rejected[j] = True
        np.testing.assert_array_equal(holm(p) <= alpha, rejected)


def test_groups_are_linked_through_others():
    table = pd.DataFrame(
        [("a", "b", True), ("a", "c", False), ("b", "c", True), ("a", "d", False),
         ("b", "d", False), ("c", "d", False)],
        columns=["rule_a", "rule_b", "indistinguishable"],
    )  # fmt: skip
    assert degenerate_groups(table) == (("a", "b", "c"), ("d",))


def test_bad_input():
    rng = np.random.default_rng(9)
    scores, truth = _scores(rng, np.eye(4), 4)
    with pytest.raises(
        IdentificationError,
        match=r"rules 0 and 1 must be about 5 each .* 6 pairs, got 4 and 4",
    ):
        degeneracy_table(scores, truth, None, rng)
    with pytest.raises(IdentificationError, match="rule 3 must have tested networks, got none"):
        degeneracy_table(scores[:12], truth[:12], None, rng, alpha=0.5)
    scores, truth = _scores(rng, np.eye(4), 12)
    with pytest.raises(IdentificationError, match="n_resamples must be at least 119, got 99"):
        degeneracy_table(scores, truth, None, rng, n_resamples=99)
    with pytest.raises(IdentificationError, match="test_share must lie between 0 and 1, got 1"):
        degeneracy_table(scores, truth, None, rng, test_share=1)
    with pytest.raises(IdentificationError, match="scores must be finite"):
        degeneracy_table(scores * np.nan, truth, None, rng)
    with pytest.raises(IdentificationError, match="pairs must hold at least one pair"):
        degeneracy_of_pairs({}, rng)
