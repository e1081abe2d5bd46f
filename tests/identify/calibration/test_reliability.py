"""A calibrated model is measured as such; an overconfident one is found out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.calibration import calibration_curve

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    calibration_error,
    expected_calibration_error,
    reliability_curve,
)

from .planted import RULES, calibrated, tempered


@pytest.mark.parametrize(("binning", "strategy"), [("width", "uniform"), ("count", "quantile")])
def test_curve_against_scikit_learn(binning, strategy):
    p, truth = calibrated(np.random.default_rng(0), 400, 2)
    curve = reliability_curve(p, truth, 8, "classwise", binning=binning, rules=None)
    of_rule = curve[curve["rule"] == "1"]
    accuracy, confidence = calibration_curve(truth, p[:, 1], n_bins=8, strategy=strategy)
    np.testing.assert_allclose(of_rule["accuracy"], accuracy)
    np.testing.assert_allclose(of_rule["confidence"], confidence)
    assert of_rule["count"].sum() == 400


def test_top_curve_and_error_against_sums_written_out():
    p = np.array([[0.7, 0.3], [0.75, 0.25], [0.1, 0.9], [0.05, 0.95], [0.45, 0.55]])
    truth = np.array([0, 1, 1, 1, 0])
    curve = reliability_curve(p, truth, 5)
    assert curve["bin"].tolist() == [2, 3, 4]
    assert curve["confidence"].tolist() == pytest.approx([0.55, 0.725, 0.925])
    assert curve["accuracy"].tolist() == [0, 0.5, 1]
    assert curve["count"].tolist() == [1, 2, 2]
    assert (curve["left"].iloc[0], curve["right"].iloc[0]) == pytest.approx((0.4, 0.6))
    expected = (1 * 0.55 + 2 * 0.225 + 2 * 0.075) / 5
    assert expected_calibration_error(p, truth, 5) == pytest.approx(expected)
    interval = binomtest(1, 2).proportion_ci(method="wilson")
    assert curve[["low", "high"]].iloc[1].tolist() == pytest.approx([interval.low, interval.high])


@pytest.mark.parametrize("kind", ["top", "classwise"])
@pytest.mark.parametrize("binning", ["width", "count"])
def test_error_is_the_mean_gap_of_the_curve(kind, binning):
    p, truth = calibrated(np.random.default_rng(1), 300)
    names = np.array(RULES)[truth]
    curve = reliability_curve(p, names, 6, kind, binning=binning, rules=RULES)
    gap = (curve["accuracy"] - curve["confidence"]).abs() * curve["count"]
    expected = gap.groupby(curve["rule"]).sum().mean() / 300
    error = expected_calibration_error(p, truth, 6, binning=binning, kind=kind)
    assert error == pytest.approx(expected, rel=1e-12)
    assert set(curve["rule"]) == ({"top"} if kind == "top" else set(RULES))


def test_ties_stay_in_one_bin():
    p = np.array([[0.6, 0.4]] * 7 + [[0.8, 0.2]] * 3)
    curve = reliability_curve(p, np.zeros(10, dtype=int), 5, binning="count")
    assert curve["count"].tolist() == [7, 3]
    one = reliability_curve(p[:7], np.zeros(7, dtype=int), 5, binning="count")
    assert one["count"].tolist() == [7]


def test_intervals_count_networks_and_not_rows():
    p, truth = calibrated(np.random.default_rng(2), 50)
    ten = {"probabilities": np.repeat(p, 10, axis=0), "truth": np.repeat(truth, 10)}
    once = reliability_curve(p, truth, 4)
    naive = reliability_curve(**ten, n_bins=4)
    honest = reliability_curve(**ten, n_bins=4, networks=np.repeat(np.arange(50), 10))
    np.testing.assert_allclose(honest[["low", "high"]], once[["low", "high"]])
    assert ((naive["high"] - naive["low"]) < (once["high"] - once["low"])).all()


@pytest.mark.parametrize("kind", ["top", "classwise"])
def test_a_calibrated_model_lies_in_its_band(kind):
    """Over simulations p ≤ 0.05 as often as chance has it, and the debiased error is about 0."""
    rng, n = np.random.default_rng(3), 150
    found = [calibration_error(*calibrated(rng, 80), rng, kind=kind, n_resamples=99)
             for _ in range(n)]  # fmt: skip
    rejected = sum(one.p <= 0.05 for one in found)
    assert binom.ppf(1e-4, n, 0.05) <= rejected <= binom.ppf(1 - 1e-4, n, 0.05)
    debiased = np.array([one.debiased for one in found])
    assert abs(debiased.mean()) < 4 * debiased.std() / np.sqrt(n)
    assert np.mean([one.value for one in found]) > 0.02  # biased upwards, though calibrated
    assert all(one.low <= one.expected <= one.high for one in found)


def test_expected_error_has_its_size():
    # In one bin all confidences are c: E|mean hit − c| is the binomial mean absolute deviation.
    p, n = np.tile([0.7, 0.3], (60, 1)), np.arange(61)
    error = calibration_error(
        p, np.zeros(60, dtype=int), np.random.default_rng(4), n_resamples=4000
    )
    expected = np.sum(binom.pmf(n, 60, 0.7) * np.abs(n / 60 - 0.7))
    assert error.expected == pytest.approx(expected, rel=0.05)
    assert error.expected == pytest.approx(np.sqrt(2 * 60 * 0.21 / np.pi) / 60, rel=0.05)
    assert error.value == pytest.approx(0.3)


def test_an_overconfident_model_is_found_out():
    rng = np.random.default_rng(5)
    p, truth = calibrated(rng, 200)
    for kind in ("top", "classwise"):
        error = calibration_error(tempered(p, 0.4), truth, rng, kind=kind)
        assert error.p < 0.01
        assert error.value > error.high
        assert error.debiased > 0.03


def test_repeated_rows_are_no_new_evidence():
    """Each network tested ten times: the naive band is far too narrow, the honest one the same."""
    rng, n = np.random.default_rng(6), 60
    naive = honest = 0
    for _ in range(n):
        p, truth = calibrated(rng, 40)
        p, truth = np.repeat(p, 10, axis=0), np.repeat(truth, 10)
        networks = np.repeat(np.arange(40), 10)
        naive += calibration_error(p, truth, rng, n_resamples=99).p <= 0.05
        honest += calibration_error(p, truth, rng, networks=networks, n_resamples=99).p <= 0.05
    assert honest <= binom.ppf(1 - 1e-4, n, 0.05)
    assert naive > n / 2


def test_unknown_names():
    p, truth = calibrated(np.random.default_rng(7), 10)
    with pytest.raises(IdentificationError, match="kind must be one of classwise, top"):
        reliability_curve(p, truth, kind="all")
    with pytest.raises(IdentificationError, match="binning must be one of count, width"):
        expected_calibration_error(p, truth, binning="equal")
    with pytest.raises(IdentificationError, match="n_bins must be at least 1, got 0"):
        expected_calibration_error(p, truth, 0)
