"""Brier and log scores against closed forms, scikit-learn and sums written out."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import brier_decomposition, brier_score, log_score

from .planted import RULES, calibrated, tempered


def test_by_hand():
    p = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]
    assert brier_score(p, [0, 1]) == pytest.approx((0.38 + (0.01 + 0.81 + 0.64)) / 2)
    assert log_score(p, [0, 1]) == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2)
    named = (p, ["fa", "ia"], ("fa", "ia", "sgdm"))
    assert brier_score(*named) == brier_score(p, [0, 1])
    assert log_score(*named) == log_score(p, [0, 1])


def test_bounds_and_certainty():
    sure = np.eye(3)
    assert brier_score(sure, [0, 1, 2]) == 0
    assert brier_score(sure, [1, 2, 0]) == 2
    assert log_score(sure, [0, 1, 2]) == pytest.approx(0, abs=1e-12)
    assert log_score(sure, [1, 2, 0]) == pytest.approx(-np.log(np.finfo(float).eps))
    assert brier_score(np.full((4, 4), 0.25), [0, 1, 2, 3]) == pytest.approx(0.75)


def test_against_scikit_learn():
    p, truth = calibrated(np.random.default_rng(0), 200)
    assert log_score(p, truth) == pytest.approx(log_loss(truth, p), rel=1e-12)
    if "scale_by_half" in inspect.signature(brier_score_loss).parameters:
        expected = brier_score_loss(truth, p, labels=range(4), scale_by_half=False)
        assert brier_score(p, truth) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n_rules", "concentration"), [(2, 1.0), (4, 0.5), (12, 0.2)])
def test_a_calibrated_model_has_its_closed_form(n_rules, concentration):
    # E[1 − Σp²] of a Dirichlet: 1 − (a + 1)/(Ka + 1)
    n = 20_000
    p, truth = calibrated(np.random.default_rng(1), n, n_rules, concentration)
    each = np.sum((p - np.eye(n_rules)[truth]) ** 2, axis=1)
    expected = 1 - (concentration + 1) / (n_rules * concentration + 1)
    assert abs(brier_score(p, truth) - expected) < 4 * each.std() / np.sqrt(n)


def test_scores_are_proper():
    p, truth = calibrated(np.random.default_rng(2), 20_000)
    for other in (0.5, 2.0):
        assert brier_score(tempered(p, other), truth) > brier_score(p, truth)
        assert log_score(tempered(p, other), truth) > log_score(p, truth)


@pytest.mark.parametrize("n_bins", [None, 1, 7])
def test_parts_add_up(n_bins):
    p, truth = calibrated(np.random.default_rng(3), 300)
    parts = brier_decomposition(p.round(1) / p.round(1).sum(1, keepdims=True), truth, None, n_bins)
    expected = brier_score(p.round(1) / p.round(1).sum(1, keepdims=True), truth)
    assert parts.total == pytest.approx(expected, rel=1e-12)
    if n_bins is None:
        assert parts.within_bins == pytest.approx(0, abs=1e-15)
    if n_bins == 1:
        assert parts.resolution == pytest.approx(0, abs=1e-15)
    base = np.bincount(truth) / len(truth)
    assert parts.uncertainty == pytest.approx(np.sum(base * (1 - base)), rel=1e-12)


def test_parts_against_sums_written_out():
    p = np.array([[0.8, 0.2]] * 5 + [[0.4, 0.6]] * 5)
    truth = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 0])
    parts = brier_decomposition(p, truth)
    # Rule 0: said 0.8, was 4/5; said 0.4, was 2/5. Rule 1 mirrors it. Calibrated: no reliability.
    assert parts.reliability == pytest.approx(0, abs=1e-15)
    assert parts.resolution == pytest.approx(2 * 0.5 * (0.2**2 + 0.2**2))
    assert parts.uncertainty == pytest.approx(2 * 0.6 * 0.4)
    shifted = brier_decomposition(np.array([[0.9, 0.1]] * 5 + [[0.2, 0.8]] * 5), truth)
    assert shifted.reliability == pytest.approx(2 * (0.5 * 0.1**2 + 0.5 * 0.2**2))


@pytest.mark.parametrize(
    ("p", "truth", "rules", "message"),
    [
        ([[0.5, 0.4]], [0], None, "must sum to 1 over the rules, got 0.9 in row 0"),
        ([[0.5, 0.5], [np.nan, 1]], [0, 1], None, r"must be finite.*the first is 1"),
        ([[1.2, -0.2]], [0], None, "must lie in 0…1, got -0.2…1.2"),
        ([0.5, 0.5], [0, 1], None, r"must have shape \(row, rule\)"),
        (np.empty((0, 2)), [], None, r"must have shape \(row, rule\)"),
        ([[0.5, 0.5]], [2], None, "truth must lie in 0…1, got 2"),
        ([[0.5, 0.5]], [0, 1], None, "truth must have one rule per row, 1, got"),
        ([[0.5, 0.5]], ["fa"], None, "indices of columns unless rules are given"),
        ([[0.5, 0.5]], ["fb"], ("fa", "ia"), "truth must be one of fa, ia; got 'fb'"),
        ([[0.5, 0.5]], ["fa"], ("fa", "fa"), "rules must name the 2 columns, each differently"),
        ([[0.5, 0.5]], ["fa"], RULES, "rules must name the 2 columns"),
    ],
)
def test_bad_input(p, truth, rules, message):
    for score in (brier_score, log_score, brier_decomposition):
        with pytest.raises(IdentificationError, match=message):
            score(p, truth, rules)
