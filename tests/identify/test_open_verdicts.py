"""Verdicts that may be "none of these": coverage, false alarms, and rules never trained on."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from goaldriven.errors import DataError, IdentificationError
from goaldriven.identify import identify, load, verdicts
from goaldriven.identify.open_verdicts import NONE, Calibration, calibration_of, judge

from .made_up import make_examples

ALPHA = 0.1


def planted(n_networks: int, seed: int, *, last: bool = False):
    """Three rules, each around its own point; with ``last``, a fourth in the midst of them.

    The pattern is the same whatever the noise, so that new networks are of the same rules.
    """
    rules = ["a", "b", "c", "d"]
    examples = make_examples(n_networks, rules=rules, n_layers=2, n_epochs=2, seed=seed)
    places = np.random.default_rng(5).normal(size=(3, 2, 6)) * 1.2
    places = np.concatenate([places, places.mean(axis=0, keepdims=True)])
    index = np.array([rules.index(rule) for rule in examples["rule"].values])
    value = examples["value"].transpose("example", "epoch", "statistic").values + places[index]
    made = examples.assign(value=(("example", "epoch", "statistic"), value))
    made = made.assign_coords(network=("example", [f"{seed}-{n}" for n in made["network"].values]))
    return made.isel(example=np.flatnonzero((index == 3) if last else (index < 3)))


@pytest.fixture(scope="module")
def results():
    return identify(
        planted(240, 1), classifiers=["logistic_regression"], observables=["all"], n_splits=1,
        permutations=0, alpha=ALPHA,
    )  # fmt: skip


def test_known_rules_are_called_none_of_these_no_more_often_than_stated(results):
    table = verdicts(results.classifier("logistic_regression"), planted(800, 2), ALPHA)
    n = len(table)
    assert n == 600
    # The calibration networks' own scatter is beside that of the test networks.
    most = binom.ppf(0.999, n, ALPHA) / n + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 135)
    assert np.mean(table["verdict"] == NONE) <= most
    covered = [
        rule in held.split(", ")
        for rule, held in zip(table["rule"], table["conformal_set"], strict=True)
    ]
    assert np.mean(covered) >= 1 - most
    named = table[table["verdict"] != NONE]
    assert np.mean(named["verdict"] == named["rule"]) > 0.9
    assert ((table["p_value"] <= ALPHA) == (table["verdict"] == NONE)).all()
    # Calibrated: as often right as they say.
    right = (named["verdict"] == named["rule"]).mean()
    assert right == pytest.approx(named["probability"].mean(), abs=0.1)


def test_a_rule_never_trained_on_is_called_none_of_these(results):
    fitted = results.classifier("logistic_regression")
    unknown = np.mean(verdicts(fitted, planted(400, 3, last=True), ALPHA)["verdict"] == NONE)
    known = np.mean(verdicts(fitted, planted(400, 4), ALPHA)["verdict"] == NONE)
    assert unknown > 0.6
    assert known < 0.2


def test_the_table_of_results_is_that_of_the_kept_classifier(results, tmp_path):
    results.save(tmp_path)
    back = load(tmp_path)
    table = back.open_verdicts
    assert table.equals(results.open_verdicts)
    [split] = [s for s in results.splits if s.kind == "network"]
    examples = planted(240, 1).isel(example=split.test)
    again = verdicts(back.classifier("logistic_regression"), examples, ALPHA)
    assert again["verdict"].tolist() == table["verdict"].tolist()
    np.testing.assert_allclose(again["p_value"], table["p_value"])
    np.testing.assert_allclose(again["probability"], table["probability"])
    assert set(table["alpha"]) == {ALPHA}
    assert (table["correct"] == (table["verdict"] == table["rule"])).all()


def test_calibration_networks_are_those_trained_on_judged_by_others(results):
    fitted = results.classifier("logistic_regression")
    [split] = [s for s in results.splits if s.kind == "network"]
    assert set(fitted.calibration.networks) == set(results.networks(split)[0])
    examples = planted(240, 1).isel(example=split.train)
    own = calibration_of(
        fitted.probabilities(examples), examples["network"].values, examples["rule"].values
    )
    assert not np.allclose(own.scores, fitted.calibration.scores)
    surer = [
        np.mean([row[fitted.rules.index(r)] for row, r in zip(c.scores, c.rules, strict=True)])
        for c in (own, fitted.calibration)
    ]
    assert surer[0] > surer[1], "its own training networks look surer than new ones"


def test_p_values_and_sets_are_those_of_counting():
    known = Calibration(
        tuple("0123456789"), ("a",) * 5 + ("b",) * 5,
        np.array([[s, 1 - s] for s in (0.9, 0.8, 0.7, 0.6, 0.95)]
                 + [[1 - s, s] for s in (0.9, 0.8, 0.7, 0.6, 0.95)]),
    )  # fmt: skip
    table = judge([[0.75, 0.25], [0.5, 0.5], [0.02, 0.98]], ["x", "y", "z"], ["a", "b"], known, 0.1)
    # True rules' scores are .6 .6 .7 .7 .8 .8 .9 .9 .95 .95: four are at most 0.75.
    np.testing.assert_allclose(table["p_value"], [5 / 11, 1 / 11, 11 / 11])
    assert table["conformal_set"].tolist() == ["a", "", "b"]
    assert table["verdict"].tolist() == ["a", NONE, "b"]


def test_what_cannot_be_judged_is_refused(results):
    fitted = results.classifier("logistic_regression")
    with pytest.raises(IdentificationError, match="must be new to the classifier, got 135"):
        verdicts(fitted, planted(240, 1))
    layer = identify(
        planted(48, 1), classifiers=["logistic_regression"], observables=["all"], n_splits=1,
        permutations=0, splits=["layer"],
    ).classifier("logistic_regression", split_kind="layer")  # fmt: skip
    with pytest.raises(IdentificationError, match="must be one of a split by network"):
        verdicts(layer, planted(8, 2))
    with pytest.raises(IdentificationError, match=r"must be at least 999 for alpha = 0\.001"):
        verdicts(fitted, planted(8, 2), 0.001)
    with pytest.raises(IdentificationError, match="alpha must lie between 0 and 1, got 2"):
        identify(planted(48, 1), alpha=2)


def test_too_few_networks_widen_the_level_of_the_table():
    few = identify(
        planted(20, 1), classifiers=["logistic_regression"], observables=["all"], n_splits=1,
        permutations=0, alpha=0.01,
    )  # fmt: skip
    n = len(few.classifier("logistic_regression").calibration.networks)
    assert set(few.open_verdicts["alpha"]) == {1 / (n + 1)}


def test_damaged_calibration_is_refused(results, tmp_path):
    results.save(tmp_path)
    record = json.loads((tmp_path / "identification.json").read_text())
    for one in record["classifiers"]:
        if one["calibration"]:
            one["calibration"]["networks"].pop()
    (tmp_path / "identification.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="is damaged: calibration must have one row of scores"):
        load(tmp_path)


def test_a_recording_has_no_rule(results):
    """The verdicts are the same, and what made the networks is said to be unknown."""
    fitted = results.classifier("logistic_regression")
    examples = planted(40, 9)
    bare = examples.drop_vars(
        [name for name in examples.coords if examples[name].dims == ("example",)]
    ).assign_coords({n: examples[n].variable for n in ("network", "position")})
    table = verdicts(fitted, bare)
    assert set(table["rule"]) == {"unknown"}
    pd.testing.assert_frame_equal(
        table.drop(columns="rule"), verdicts(fitted, examples).drop(columns="rule")
    )


@pytest.mark.parametrize("name", ["network", "position", "epoch", "statistic"])
def test_a_missing_coordinate_is_named(name, results):
    fitted = results.classifier("logistic_regression")
    with pytest.raises(IdentificationError, match=rf"^examples must have a coordinate '{name}' \("):
        verdicts(fitted, planted(8, 9).drop_vars(name))


def test_a_position_that_does_not_exist(results):
    examples = planted(8, 9)
    places = np.full(examples.sizes["example"], "L4")
    with pytest.raises(
        IdentificationError, match=r"^position must be one of early, middle, deep .*got 'L4'$"
    ):
        verdicts(
            results.classifier("logistic_regression"),
            examples.assign_coords(position=("example", places)),
        )
