"""Families of rules: planted ones, and which family a rule is of."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments import experiment, families, run
from goaldriven.identify.experiments.families import (
    ALIGNED,
    BACKPROP,
    CALLED,
    FAMILY_OF_CREDIT,
    PERTURBATION,
    RANDOM,
    SUMMED,
    TRAINED,
)
from goaldriven.layers import layer_position
from goaldriven.specs import STATISTICS
from goaldriven.specs.rules import RULES
from goaldriven.trajectories import write

from ..made_up import make_examples, with_rules
from .planted import placed


def values_of(results, metric, **levels):
    rows = results.table[results.table["metric"] == metric]
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    assert len(rows), (metric, levels)
    return rows["value"].to_numpy()


@pytest.fixture
def planted():
    """Four rules of aligned feedback that are one, and one rule of each of two other families."""
    near, far, other = [0.0] * 6, [4.0, 0.0] * 3, [0.0, 4.0] * 3
    places = {"wm": near, "ia": near, "sa": near, "aa": near, "sgdm": far, "fa": other}
    return placed(places, 96, n_layers=2, n_epochs=3)


def test_families_are_told_where_their_rules_cannot_be(planted, material_of):
    results = run(experiment("rule_families"), material_of(planted, n_splits=2))
    for classifier in families.CLASSIFIERS:
        fine = values_of(results, "network_accuracy", level="rules", classifier=classifier).mean()
        # Two of six rules are told, the other four guessed: (2 + 4/4)/6.
        assert abs(fine - 0.5) < 0.2
        for way in (TRAINED, SUMMED, CALLED):
            coarse = values_of(
                results, "family_network_accuracy", families_by=way, classifier=classifier
            )
            assert len(coarse) == 2, "one for each split"
            assert coarse.mean() > 0.95
            assert coarse.mean() >= fine
            (balanced,) = values_of(
                results, "family_balanced_accuracy", families_by=way, classifier=classifier
            )
            assert balanced > 0.95
        (inside,) = values_of(results, "errors_in_family", classifier=classifier)
        (by_chance,) = values_of(results, "errors_in_family_by_chance", classifier=classifier)
        # Nearly all errors are of the four: 3 of the 5 other rules are of their family.
        assert by_chance == pytest.approx(0.6, abs=0.1)
        assert inside > 0.8
    first, recalls, confused = experiment("rule_families").findings(results)
    assert "by chance 0.33" in first.statement
    assert f"{ALIGNED} 1.00" in recalls.statement
    assert "sgdm" not in confused.statement
    assert "% were called another rule of their family" in confused.statement


def test_the_family_of_the_rule_called_is_right_wherever_the_rule_is(material_of):
    examples = make_examples(
        64, rules=("adam", "sgdm", "fa", "dfa"), n_layers=2, n_epochs=2, rule_effect=0.3
    )
    results = run(experiment("rule_families"), material_of(examples, n_splits=2))
    for of in ("layer", "network"):
        for classifier in families.CLASSIFIERS:
            fine = values_of(results, f"{of}_accuracy", level="rules", classifier=classifier)
            coarse = values_of(
                results, f"family_{of}_accuracy", families_by=CALLED, classifier=classifier
            )
            assert np.all(coarse >= fine)
        # A classifier of families has the same accuracy under both names.
        np.testing.assert_allclose(
            values_of(results, f"{of}_accuracy", level="families"),
            values_of(results, f"family_{of}_accuracy", families_by=TRAINED),
        )


def test_chance_on_layers_and_on_networks_are_two(planted, material_of, monkeypatch):
    """Networks of backprop have one layer, others two: it has fewer of the layers."""
    monkeypatch.setattr(families, "CLASSIFIERS", ("svm",))
    kept = (planted["rule"].values != "sgdm") | (planted["layer"].values == "layer0")
    given = material_of(planted.isel(example=np.flatnonzero(kept)), n_splits=2)
    results = run(experiment("rule_families"), given)
    table = families.accuracies(results)
    for of in ("layer", "network"):
        name = "chance" if of == "layer" else "network_chance"
        expected = values_of(results, name, level="families").mean()
        rows = table[(table["metric"] == f"{of}_accuracy") & (table["named"] != "rules")]
        np.testing.assert_allclose(rows["chance"], [expected] * 3)
    # Of 6 rules 4 are aligned, which it is best to say always: of networks and of layers.
    layers, networks = (values_of(results, n, level="families").mean()
                        for n in ("chance", "network_chance"))  # fmt: skip
    assert layers == pytest.approx(8 / 11, abs=0.02)
    assert networks == pytest.approx(4 / 6, abs=0.02)


def test_sums_are_over_the_rules_of_a_family():
    scores = np.array([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.5, 0.0]])
    found, names = families.summed(scores, [RANDOM, BACKPROP, RANDOM, BACKPROP])
    assert names == [BACKPROP, RANDOM]
    np.testing.assert_allclose(found, [[0.6, 0.4], [0.25, 0.75]])


def test_even_scores_do_not_speak_for_the_family_with_the_most_rules(material_of, monkeypatch):
    """Four rules against one: raw scores of an SVM are near 1/5 each, and their sum misleads."""
    monkeypatch.setattr(families, "CLASSIFIERS", ("svm",))
    apart = {
        rule: np.eye(6)[i] * 3 for i, rule in enumerate(["wm", "ia", "sa", "aa", "sgdm", "adam"])
    }
    examples = placed(apart, 96, n_layers=2, n_epochs=3)
    results = run(experiment("rule_families"), material_of(examples, n_splits=2))
    recall = values_of(
        results, "family_recall", families_by=SUMMED, family=BACKPROP, classifier="svm"
    )
    assert recall > 0.9


def test_every_rule_of_the_package_has_a_family():
    assert {rule.credit.name for rule in RULES.values()} <= set(FAMILY_OF_CREDIT)
    family = {name: FAMILY_OF_CREDIT[rule.credit.name] for name, rule in RULES.items()}
    assert {n for n, f in family.items() if f == BACKPROP} == {"adam", "sgdm"}
    assert {n for n, f in family.items() if f == RANDOM} == {"fa", "dfa"}
    assert {n for n, f in family.items() if f == PERTURBATION} == {"wp", "np"}


def trajectory(network: str, rule: str, credit: str) -> xr.Dataset:
    """The least that a trajectory file must hold."""
    n, epochs = 2, [0, 5]
    curve = ("epoch", np.zeros(2))
    return xr.Dataset(
        {
            "observable": (("epoch", "layer", "statistic"), np.zeros((2, n, len(STATISTICS)))),
            "loss": curve, "metric": curve, "training_loss": curve,
            **{v: (("epoch", "layer"), np.zeros((2, n)))
               for v in ("weight_angle", "weight_norm_ratio", "gradient_angle")},
        },
        coords={
            "epoch": epochs, "layer": ["a", "b"], "statistic": list(STATISTICS),
            "position": ("layer", [layer_position(i, n) for i in range(n)]),
            "measure": ("statistic", [s.measure for s in STATISTICS.values()]),
        },
        attrs={
            "spec": json.dumps({"rule": {"name": rule, "credit": {"name": credit}}}),
            "network_id": network, "task": "digits", "architecture": "knet4", "rule": rule,
            "batch_size": 64, "model_seed": 0, "data_seed": 1, "metric_name": "accuracy",
            "chance": 0.1, "outcome": "trained", "seconds": 1.0, "recording_seconds": 0.5,
            "versions": "{}",
        },
    )  # fmt: skip


def test_a_rule_of_ones_own_is_of_the_family_of_its_credit_assignment(material_of, tmp_path):
    examples = make_examples(8, rules=("mine", "sgdm"))
    write(trajectory("net000", "mine", "weight_mirror"), tmp_path / "networks" / "net000.nc")
    given = material_of(examples, folder=tmp_path)
    assert families.families_of(given) == {"mine": ALIGNED, "sgdm": BACKPROP}


def test_rules_without_a_family_are_listed(material_of):
    examples = make_examples(8, rules=("mine", "sgdm"))
    with pytest.raises(
        IdentificationError, match=r"got mine \(credit assignment unknown\); known are backprop, "
    ):
        families.families_of(material_of(examples))
    named = with_rules(examples, ["sgdm", "fa"] * 12)
    with pytest.raises(IdentificationError, match="at least 2 families, and a family with 2 rules"):
        run(experiment("rule_families"), material_of(named))
