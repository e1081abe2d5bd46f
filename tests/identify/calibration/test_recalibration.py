"""Temperature scaling finds a planted temperature and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    before_and_after,
    brier_score,
    calibrated_probabilities,
    calibration_table,
    expected_calibration_error,
    fit_temperature,
    log_score,
)
from goaldriven.identify.calibration.recalibration import COLDEST

from .planted import RULES, calibrated, layered, tempered


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_recovers_a_planted_temperature(planted):
    # Scores p^(1/planted) of calibrated p: the temperature that mends them is 1/planted.
    p, truth = calibrated(np.random.default_rng(0), 5000, concentration=1.0)
    scores = tempered(p, planted)
    fitted = fit_temperature(scores, truth)
    assert fitted.value == pytest.approx(1 / planted, rel=0.06)
    assert not fitted.at_bound
    mended = calibrated_probabilities(scores, fitted)
    np.testing.assert_allclose(mended, tempered(p, planted * fitted.value), atol=1e-9)
    assert log_score(mended, truth) <= log_score(scores, truth) + 1e-12
    assert (mended.argmax(axis=1) == scores.argmax(axis=1)).all()


def test_against_another_minimiser():
    p, truth = calibrated(np.random.default_rng(1), 60)
    sharp = tempered(p, 0.3)
    found = minimize(
        lambda t: log_score(tempered(sharp, np.exp(t[0])), truth), [0.0], method="Nelder-Mead"
    )
    fitted = fit_temperature(sharp, truth, floor=1e-300)
    assert fitted.value == pytest.approx(np.exp(found.x[0]), rel=1e-3)


def test_networks_are_averaged_first():
    scores, truth, networks = layered(np.random.default_rng(2), 40)
    mean = scores.reshape(40, 6, 4).mean(axis=1)
    by_network = fit_temperature(scores, truth, networks)
    assert by_network == fit_temperature(mean, truth[::6])
    assert by_network.n_networks == 40
    np.testing.assert_allclose(
        calibrated_probabilities(scores, by_network, networks),
        calibrated_probabilities(mean, by_network),
    )


def test_zeros_of_a_forest():
    p = np.array([[1.0, 0, 0], [0.9, 0.1, 0], [0, 0.2, 0.8], [0, 1, 0], [1, 0, 0]])
    fitted = fit_temperature(p, [0, 0, 2, 1, 2])  # the last was called impossible
    assert fitted.floor == 0.05
    assert np.isfinite(fitted.value)
    mended = calibrated_probabilities(p, fitted)
    assert mended.min() > 0
    np.testing.assert_allclose(mended.sum(axis=1), 1)


def test_too_easy_networks_stop_at_the_bound():
    p = np.tile([0.8, 0.2], (10, 1))
    fitted = fit_temperature(p, np.zeros(10, dtype=int))
    assert fitted.at_bound
    assert fitted.value == pytest.approx(COLDEST, rel=1e-2)


def test_before_and_after_on_other_networks():
    rng = np.random.default_rng(3)
    scores, truth, networks = layered(rng, 240)
    sharp = tempered(scores, 0.25)
    train, test = networks < 120, networks >= 120
    parts = [(sharp[of], np.array(RULES)[truth[of]], networks[of]) for of in (train, test)]
    temperature, table = before_and_after(*parts, rng, rules=RULES, n_resamples=199)
    assert temperature.value > 1
    value = table.set_index(["stage", "metric"])["value"]
    for metric in ("brier", "log", "ece", "ece_classwise"):
        assert value["after", metric] < value["before", metric]
    p_value = table.set_index(["stage", "metric"])["p"]
    assert p_value["before", "ece"] < 0.01
    assert p_value["after", "ece"] > 0.01
    mean = sharp[test].reshape(120, 6, 4).mean(axis=1)
    assert value["before", "brier"] == pytest.approx(brier_score(mean, truth[test][::6]))
    with pytest.raises(IdentificationError, match="got 5 in both"):
        before_and_after(parts[0], (sharp[30:36], truth[30:36], networks[30:36]), rng)


def test_table():
    rng = np.random.default_rng(4)
    p, truth = calibrated(rng, 300)
    table = calibration_table(p, truth, rng, n_resamples=400).set_index("metric")
    assert table.loc["brier", "value"] == brier_score(p, truth)
    assert table.loc["log", "value"] == log_score(p, truth)
    assert table.loc["ece_equal_count", "value"] == expected_calibration_error(
        p, truth, binning="count"
    )
    # Were p right: E[Brier] = mean of 1 − Σp², E[log] = mean entropy.
    assert table.loc["brier", "expected"] == pytest.approx(np.mean(1 - (p**2).sum(1)), rel=0.01)
    entropy = -np.mean(np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1))
    assert table.loc["log", "expected"] == pytest.approx(entropy, rel=0.01)
    assert (table.loc[["brier", "log"], "low"] < table.loc[["brier", "log"], "value"]).all()
    each = np.sum((p - np.eye(4)[truth]) ** 2, axis=1)
    width = table.loc["brier", "high"] - table.loc["brier", "low"]
    assert width == pytest.approx(2 * 1.96 * each.std() / np.sqrt(300), rel=0.15)


def test_bad_input():
    p, truth = calibrated(np.random.default_rng(5), 10)
    with pytest.raises(IdentificationError, match="number of networks must be at least 2, got 1"):
        fit_temperature(p, np.zeros(10, dtype=int), np.zeros(10))
    with pytest.raises(IdentificationError, match="floor must lie between 0 and 1, got 0"):
        fit_temperature(p, truth, floor=0.0)
    with pytest.raises(IdentificationError, match="scores must sum to 1"):
        fit_temperature(p * 2 / 3, truth)
    mixed = np.arange(10) // 2
    truth = np.array([0, 1] * 5)
    with pytest.raises(IdentificationError, match="must be one for all rows of a network"):
        fit_temperature(p, truth, mixed)
