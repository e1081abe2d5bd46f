"""Indistinguishable pairs of rules, where it is known which rules are the same."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import degeneracy_table
from goaldriven.identify.experiments import degeneracy, engine, experiment, run, separability
from goaldriven.identify.experiments.engine import Settings, fit, fit_all
from goaldriven.identify.experiments.material import OBSERVABLES
from goaldriven.identify.experiments.scored import judged

from ..made_up import make_examples
from .planted import alike, placed


def same_pairs(table, **levels):
    for column, level in levels.items():
        table = table[table[column] == level]
    return {
        (row["rule_a"], row["rule_b"]) for _, row in table.iterrows() if row["indistinguishable"]
    }


@pytest.fixture
def examples():
    """Rule b is two rules by name; from activations alone, a and b are one rule too."""
    weight, activation, change = (4.0, 0.0), (0.0, 0.0), (0.0, 0.0)
    places = {
        "a": (*weight, *activation, *change),
        "b": (0.0, 0.0, *activation, 4.0, 0.0),
        "c": (0.0, 4.0, 0.0, 4.0, 0.0, 4.0),
    }
    return alike(placed(places, 72, n_layers=2, n_epochs=3), "b", "b2")


def test_rules_that_are_the_same_are_found_indistinguishable(examples, material_of):
    results = run(experiment("degeneracy"), material_of(examples, n_splits=3))
    table = degeneracy.degeneracies(results)
    assert len(table) == 2 * len(OBSERVABLES) * 6
    for classifier in degeneracy.CLASSIFIERS:
        for name in ("all", "weight", "activity_change"):
            found = same_pairs(table, observables=name, classifier=classifier)
            assert found == {("b", "b2")}
        found = same_pairs(table, observables="activation", classifier=classifier)
        assert found == {("a", "b"), ("a", "b2"), ("b", "b2")}
    forest, svm = experiment("degeneracy").findings(results)
    assert "weight: 1 of 6, b and b2" in forest.statement
    assert "linking a – b – b2" in svm.statement


@pytest.fixture
def svm_alone(monkeypatch):
    monkeypatch.setattr(degeneracy, "CLASSIFIERS", ("svm",))


@pytest.mark.usefixtures("svm_alone")
def test_the_table_is_that_of_the_scores_of_all_splits(examples, material_of):
    given = material_of(examples, n_splits=3)
    results = run(experiment("degeneracy"), given)
    row = degeneracy.degeneracies(results).query(
        "observables == 'all' and classifier == 'svm' and rule_a == 'a' and rule_b == 'c'"
    ).iloc[0]  # fmt: skip
    recalls = {"a": [], "c": []}
    for cell in given.cells(given.observables("all"), ["svm"]):
        part = judged(cell, fit(cell, Settings("quick", 0, None)))
        for rule, scores in zip(part.truth, part.scores, strict=True):
            if rule in recalls:
                recalls[rule].append(
                    scores[0] > scores[3] if rule == "a" else scores[3] > scores[0]
                )
    assert row["pair_accuracy"] == pytest.approx(
        (np.mean(recalls["a"]) + np.mean(recalls["c"])) / 2
    )
    assert (row["networks_a"], row["networks_b"]) == (18, 18)


def test_nothing_is_fitted_that_separability_fitted(material_of, tmp_path, monkeypatch):
    given = material_of(make_examples(80, n_epochs=2, n_layers=1, rule_effect=1.0), n_splits=1)
    settings = Settings("quick", 0, tmp_path)
    theirs = [
        cell
        for cell in separability.SEPARABILITY.cells(given)
        if cell.classifier in degeneracy.CLASSIFIERS and cell.split.kind == "network"
    ]
    list(fit_all(theirs, settings))

    def refuse(*_, **__):
        raise AssertionError("nothing was to be fitted")

    monkeypatch.setattr(engine, "choose", refuse)
    ours = list(degeneracy.DEGENERACY.cells(given))
    assert len(list(fit_all(ours, settings))) == len(theirs)


def test_other_things_may_vary_than_observables(examples, material_of):
    given = material_of(examples, n_splits=3)
    noise = np.random.default_rng(1).normal(size=examples["value"].shape)
    measured = {
        "clean": examples, "noisy": examples.assign(value=(examples["value"].dims, noise)),
    }  # fmt: skip
    cells = [
        cell
        for cell in degeneracy.degeneracy_cells(given, measured, "measurement")
        if cell.classifier == "svm"
    ]
    fits = list(fit_all(cells, Settings("quick", 0, None)))
    rows = list(degeneracy.pair_rows(given, cells, fits))
    same = {
        name: {r["pair"] for r in rows if r["measurement"] == name and r["value"]
               and r["metric"] == "indistinguishable"}
        for name in measured
    }  # fmt: skip
    assert same["clean"] == {"b or b2"}
    assert len(same["noisy"]) == 6


def test_too_few_networks_are_said_before_anything_is_fitted(material_of):
    given = material_of(make_examples(16), n_splits=1)
    with pytest.raises(
        IdentificationError,
        match=r"must be about .* each for alpha = 0.05 over 6 .* 1 splits; more",
    ):
        degeneracy.DEGENERACY.cells(given)


def test_a_single_split_is_judged_by_the_plain_test(material_of):
    """No tested network was trained on then: no allowance for that, narrower intervals."""
    given = material_of(placed(dict.fromkeys("abc", [0.0] * 6), 72), n_splits=1)
    cell = given.cells(given.observables("all"), ["svm"])[0]
    one = fit(cell, Settings("quick", 0, None))
    part = judged(cell, one)
    plain = degeneracy_table(
        part.scores, part.truth, part.networks, np.random.default_rng(0),
        rules=one.classes.tolist(), test_share=None,
    )  # fmt: skip
    rows = list(degeneracy.pair_rows(given, [cell], [one]))
    lows = [r["value"] for r in rows if r["metric"] == "pair_accuracy_low"]
    np.testing.assert_allclose(lows, plain["low"])
