"""Importances of planted signals: a signal in one statistic, or at some epochs, comes first."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments import experiment, material, run
from goaldriven.identify.experiments.engine import Settings, fit
from goaldriven.identify.experiments.importance import KINDS, importances
from goaldriven.specs import PUBLISHED_STATISTICS

from .planted_networks import FEW, pattern, planted

MEDIAN = "weight_raw_median"
LATE = (20, 25)


@pytest.fixture(scope="module")
def of_median():
    return material(planted(signal=pattern(statistics=[MEDIAN])), n_splits=4)


@pytest.fixture(scope="module")
def found_of_median(of_median):
    return run(experiment("importance"), of_median)


@pytest.fixture(scope="module")
def found_late():
    return run(experiment("importance"), material(planted(signal=pattern(epochs=LATE)), n_splits=2))


def ranked(results, kind):
    table = importances(results)
    return table[table["importance"] == kind].set_index("statistic")["mean"]


@pytest.mark.parametrize("kind", ["gini", "permutation by statistic"])
def test_the_planted_statistic_comes_first(found_of_median, kind):
    order = ranked(found_of_median, kind)
    assert set(order.index) == {"layer_position", *FEW}
    assert order.index[0] == MEDIAN
    assert order.iloc[0] > 0.4 > 4 * np.abs(order.iloc[1:]).max()


@pytest.mark.parametrize("kind", ["gini by epoch", "permutation by epoch"])
def test_the_planted_epochs_come_first(found_late, kind):
    order = ranked(found_late, kind)
    assert set(order.index) == {"layer_position", *(f"epoch {5 * i}" for i in range(6))}
    assert set(order.index[:2]) == {f"epoch {e}" for e in LATE}
    assert order.iloc[1] > 0.15 > 2 * np.abs(order.iloc[2:]).max()


def test_gini_sums_to_one(found_of_median):
    for kind in ("gini", "gini by epoch"):
        assert ranked(found_of_median, kind).sum() == pytest.approx(1)


def test_mean_and_error_are_over_trees_and_splits(of_median, found_of_median):
    """Pooled from the splits' means, s.d. and numbers; here from all trees at once."""
    spec = experiment("importance")
    fits = [fit(cell, Settings("quick", 0, None)) for cell in spec.cells(of_median)]
    table = importances(found_of_median)
    for probe, kind in KINDS.items():
        values = np.concatenate([f.found[probe] for f in fits])
        rows = table[table["importance"] == kind]
        np.testing.assert_allclose(np.sort(values.mean(axis=0)), np.sort(rows["mean"]), atol=1e-12)
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        np.testing.assert_allclose(np.sort(error), np.sort(rows["sem"]), atol=1e-12)
        assert (rows["n"] == len(values)).all()


def test_findings_on_importance(found_of_median):
    findings = experiment("importance").findings(found_of_median)
    weight, first, activation, position, measures, permuted, when = findings
    assert weight.status == first.status == "reproduced"
    assert f"{MEDIAN} is number 1 of 2" in weight.statement
    assert "activation_raw_median" in weight.statement  # one of those that the study lacks
    assert "activation_raw_norm is number" in activation.statement
    # Last, but the others are noise and matter hardly more.
    assert position.status == "undecided"
    assert "number 7 of 7" in position.statement
    for finding in (weight, first, activation, position, when):
        assert "(± s.e.m. over trees and splits, not over networks)" in finding.statement
    for finding in (permuted, when):
        assert "(± s.e.m. over permutations and splits, not over networks)" in finding.statement
    assert "±" not in measures.statement
    assert " less layer_position +0.0" in position.statement
    assert "activity change" in measures.statement
    assert "from 2" in measures.statement


def test_another_statistic_is_not_a_median():
    trajectories = planted(signal=pattern(statistics=["weight_abs_mean"]))
    results = run(experiment("importance"), material(trajectories, n_splits=4))
    weight, first, *_ = experiment("importance").findings(results)
    assert weight.status == first.status == "not reproduced"
    assert f"{MEDIAN} is number 2 of 2" in weight.statement


def test_only_published_statistics_are_used():
    names = ("weight_raw_skew", "weight_raw_mean", "activation_raw_norm")
    trajectories = planted(statistics=names, signal=pattern(statistics=["weight_raw_skew"]))
    given = material(trajectories, n_splits=1)
    cell = experiment("importance").cells(given)[0]
    assert cell.train["statistic"].values.tolist() == ["weight_raw_mean", "activation_raw_norm"]
    assert "weight_raw_skew" not in PUBLISHED_STATISTICS
    few = material(planted(statistics=names[:2]), n_splits=1)
    with pytest.raises(
        IdentificationError, match=r"at least 2 of the published .* weight_raw_mean"
    ):
        experiment("importance").cells(few)


def test_each_statistic_by_itself():
    """The planted one names nearly all layers, any other as many as chance."""
    few = (MEDIAN, "weight_abs_mean", "activation_raw_norm")
    trajectories = planted(16, statistics=few, signal=pattern(3.0, statistics=[MEDIAN]))
    spec = experiment("single_statistics")
    results = run(spec, material(trajectories, n_splits=2))
    rows = results.summary()
    rows = rows[rows["metric"] == "layer_accuracy"]
    for classifier in ("random_forest", "svm"):
        mean = rows[rows["classifier"] == classifier].set_index("statistic")["mean"]
        assert set(mean.index) == {"all", "layer_position", *few}
        assert mean[MEDIAN] > 0.85
        # 96 tested layers: three standard errors of the binomial distribution.
        assert np.abs(mean[list(few[1:])] - 0.25).max() < 3 * np.sqrt(0.25 * 0.75 / 96)
        assert mean["layer_position"] == pytest.approx(0.25, abs=0.05)
    forest, svm = spec.findings(results)
    assert f"the best of each measure: {MEDIAN}" in forest.statement
    assert "(svm, " in svm.statement
