"""Calibration of classifiers on made-up networks: coverage as stated, curves as their errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from goaldriven.identify.calibration import brier_score
from goaldriven.identify.experiments import calibration, experiment, load, run
from goaldriven.identify.experiments.calibration import (
    AFTER,
    BEFORE,
    BY_RULE,
    MARGINAL,
    conformal,
    reliability,
)
from goaldriven.identify.experiments.engine import Settings, fit
from goaldriven.identify.experiments.scored import judged, wide

from ..made_up import make_examples


def only(monkeypatch, *classifiers):
    monkeypatch.setattr(calibration, "CLASSIFIERS", classifiers)
    monkeypatch.setattr(calibration, "RESAMPLES", 200)


def stages(results, classifier):
    table = results.table[results.table["bin"].isna()]
    table = table[table["classifier"] == classifier]
    return wide(table, ("stage",)).set_index("stage")


def test_sets_hold_the_true_rule_as_often_as_stated(material_of, monkeypatch):
    """Rules hard to tell; every network tested once, so that coverage is nearly binomial."""
    only(monkeypatch, "logistic_regression")
    examples = make_examples(240, n_layers=2, n_epochs=2, rule_effect=0.3)
    table = conformal(run(experiment("calibration"), material_of(examples, n_splits=4)))
    every = table[table["of_rule"] == "all"].set_index(["sets", "coverage"])
    for sets in (MARGINAL, BY_RULE):
        for coverage in (0.8, 0.9, 0.95):
            row = every.loc[sets, coverage]
            assert row["networks"] == 240
            low, high = binom.interval(0.999, 240, coverage)
            assert low / 240 <= row["covered"] <= high / 240
            assert row["covered_low"] < row["covered"] < row["covered_high"]
            assert 1 < row["mean_size"] < 4, "neither all rules nor none"
        assert every.loc[sets]["mean_size"].is_monotonic_increasing
    single = every.loc[MARGINAL, 0.8]
    assert single["singleton"] + single["empty"] <= 1


def test_an_svms_scores_are_too_timid_and_a_curve_adds_up_to_its_error(
    material_of, monkeypatch, tmp_path
):
    only(monkeypatch, "svm", "random_forest")
    given = material_of(
        make_examples(64, n_layers=2, n_epochs=2, rule_effect=0.6), n_splits=2, folder=tmp_path
    )
    results = run(experiment("calibration"), given)
    curves = reliability(results)
    for classifier in ("svm", "random_forest"):
        table = stages(results, classifier)
        for stage in (BEFORE, AFTER):
            mine = curves[(curves["classifier"] == classifier) & (curves["stage"] == stage)]
            assert mine["count"].sum() == 32, "16 networks in each of 2 splits"
            gaps = mine["count"] * (mine["accuracy"] - mine["confidence"]).abs()
            assert gaps.sum() / 32 == pytest.approx(table.loc[stage, "ece"])
            assert np.all(mine["left"] <= mine["confidence"] + 1e-12)
            assert np.all(mine["confidence"] <= mine["right"] + 1e-12)
            row = table.loc[stage]
            parts = row["brier_reliability"] - row["brier_resolution"]
            parts += row["brier_uncertainty"] + row["brier_within_bins"]
            assert parts == pytest.approx(row["brier"])
    again = load(tmp_path, "calibration")
    assert reliability(again).round(12).equals(curves.astype(reliability(again).dtypes).round(12))
    assert again.summary()["mean"].tolist() == results.summary()["mean"].tolist()
    # Logistic functions of one-vs-rest margins, divided by their sum, are nearly even.
    table = stages(results, "svm")
    before, after = table.loc[BEFORE], table.loc[AFTER]
    assert before["ece_p"] < 0.01
    assert before["ece"] > before["ece_expected_high"]
    assert after["ece"] < before["ece"] / 2
    assert after["ece_p"] > 0.01
    assert after["temperature"] < 0.8
    assert after["log"] < before["log"]
    scores, sets, *_ = experiment("calibration").findings(results)
    assert "svm" in scores.statement
    assert "the true rule inside" in sets.statement


def test_scores_are_those_of_networks_over_all_splits(material_of, monkeypatch):
    only(monkeypatch, "logistic_regression")
    given = material_of(make_examples(48, n_layers=2, n_epochs=2, rule_effect=0.5), n_splits=2)
    results = run(experiment("calibration"), given)
    p, truth = [], []
    for cell in given.cells(given.examples, ["logistic_regression"]):
        one = fit(cell, Settings("quick", 0, None))
        layers = one.scores["same"]
        networks = cell.train["network"].values[cell.split.test]
        for network in np.unique(networks):
            p.append(layers[networks == network].mean(axis=0))
            rule = cell.train["rule"].values[cell.split.test][networks == network][0]
            truth.append(one.classes.tolist().index(rule))
        assert len(judged(cell, one).networks) == len(np.unique(networks))
    found = stages(results, "logistic_regression").loc[BEFORE]
    assert found["brier"] == pytest.approx(brier_score(p, np.array(truth)))
    rows = np.arange(len(p))
    assert found["log"] == pytest.approx(-np.log(np.array(p)[rows, truth]).mean())


def test_levels_for_which_networks_are_too_few_are_named(material_of, monkeypatch):
    """24 networks: 4 or 5 of a rule are trained on, 9 are needed for 90%, 19 in all for 95%."""
    only(monkeypatch, "random_forest")
    monkeypatch.setattr(calibration, "COVERAGES", (0.8, 0.9, 0.95))
    examples = make_examples(20, n_layers=2, n_epochs=2, rule_effect=0.5)
    results = run(experiment("calibration"), material_of(examples, n_splits=2))
    table = conformal(results).query("of_rule == 'all'").set_index(["sets", "coverage"])
    assert np.isfinite(table.loc[(MARGINAL, 0.9), "covered"])
    assert np.isnan(table.loc[(MARGINAL, 0.95), "covered"])
    assert np.isnan(table.loc[(BY_RULE, 0.9), "covered"])
    missing = experiment("calibration").findings(results)[-1]
    assert missing.status == "not testable here"
    assert "95% all networks (16 of 19 needed)" in missing.statement
    assert "90% rule by rule (4 of 9 needed)" in missing.statement
