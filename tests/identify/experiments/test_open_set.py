"""A rule is left out: one far from the others is noticed, one equal to another is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import bootstrap_by_network
from goaldriven.identify.experiments import experiment, open_set, run
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.engine import Settings, fit
from goaldriven.identify.experiments.open_set import areas_by_split, strangers, without
from goaldriven.identify.features import features
from goaldriven.identify.scaling import ZScore
from goaldriven.identify.splits import by_network

from ..made_up import make_examples
from .planted import alike, placed


@pytest.fixture
def svm_alone(monkeypatch):
    monkeypatch.setattr(open_set, "CLASSIFIERS", ("svm",))


def corners(names, size=3.0):
    """Rules that are equally far from one another."""
    return {name: size * np.eye(6)[i] for i, name in enumerate(names)}


def test_what_is_far_is_noticed(material_of, svm_alone):
    places = corners("abc") | {"far": [9.0] * 6}
    given = material_of(placed(places, 96, n_layers=2, n_epochs=2), n_splits=4)
    results = run(experiment("open_set"), given)
    table = strangers(results).set_index(["left_out", "method"])
    assert len(table) == 4 * 3
    far = table.loc["far", "distance"]
    assert far["auroc"] == 1.0
    assert far["auroc_low"] < 1.0, "no interval without width"
    assert far["detection"] > 0.95
    assert far["balanced_accuracy"] > 0.85
    # 72 known networks, each tested in one of the four splits.
    assert np.all(table["alpha"] == 0.1)
    assert np.all(table["false_alarm"] <= binom.isf(1e-3, 72, 0.1) / 72)
    (finding,) = experiment("open_set").findings(results)
    assert "to far 1.00" in finding.statement
    assert "nowhere more false alarms" in finding.statement


def test_what_is_equal_is_not_noticed(material_of, svm_alone):
    """Each rule has two names: the one left out is known by the other."""
    examples = placed(corners("abc"), 96, n_layers=2, n_epochs=2)
    for rule in "abc":
        examples = alike(examples, rule, f"{rule}2")
    results = run(experiment("open_set"), material_of(examples, n_splits=4))
    every, gaps = strangers(results), []
    table = every.groupby("method")[["auroc", "detection", "false_alarm"]].mean()
    # 96 networks are left out once.
    assert np.all(table["detection"] < binom.isf(1e-3, 96, 0.1) / 96)
    assert np.all(table["false_alarm"] < binom.isf(1e-3, 80, 0.1) / 80)
    # The two names of a rule are exchangeable: one left out is noticed as often as the other.
    alarms = results.table[results.table["metric"] == "false_alarm"]
    for left_out, part in every.groupby("left_out"):
        partner = left_out[:1] if left_out.endswith("2") else f"{left_out}2"
        mine = alarms[(alarms["left_out"] == left_out) & (alarms["of_rule"] == partner)]
        named = mine.set_index("method")["value"]
        gaps.append(part.set_index("method")["detection"] - named)
    assert np.all(np.abs(np.mean(gaps, axis=0)) < 0.1)
    rows = results.table[results.table["metric"] == "known_accuracy"].set_index("left_out")
    assert np.all(rows["value"] < 0.9), "two names of a rule are guessed"
    # 16 networks of a2 are always tested and always wrong; of the other 80 a quarter is tested.
    common = results.summary().query("metric == 'network_accuracy'").set_index("left_out")
    assert common.loc["a2", "mean"] == pytest.approx(rows.loc["a2", "value"] * 20 / 36)


def test_where_all_rules_are_one_strangers_are_as_novel_as_others(material_of, svm_alone):
    given = material_of(make_examples(96, n_layers=2, n_epochs=2), n_splits=4)
    table = strangers(run(experiment("open_set"), given)).groupby("method")
    areas = table["auroc"].mean()
    assert np.all(np.abs(areas[["distance", "max_probability"]] - 0.5) < 0.1)


def test_a_split_without_a_rule():
    examples = make_examples(32)
    rules = examples["rule"].values
    for split in by_network(examples, 3):
        left = without(split, rules, "fa")
        assert "fa" not in rules[left.train]
        assert np.sum(rules[left.test] == "fa") == np.sum(rules == "fa")
        known = rules[split.test] != "fa"
        np.testing.assert_array_equal(left.test[rules[left.test] != "fa"], split.test[known])


def test_areas_are_those_under_the_curve_and_their_interval_is_of_networks():
    rng = np.random.default_rng(3)
    frames = []
    for split in range(3):
        known = rng.choice(30, 20, replace=False)
        frames.append(
            pd.DataFrame(
                {
                    "split": split,
                    "network": [*(f"k{i}" for i in known), *(f"u{i}" for i in range(12))],
                    "truth": [*np.array(["a", "b"])[known % 2], *["z"] * 12],
                    "novelty": np.round(
                        np.concatenate([rng.normal(size=20), rng.normal(0.8, 1, size=12)]), 1
                    ),
                }
            )
        )
    decisions = pd.concat(frames, ignore_index=True)
    areas, low, high = areas_by_split(decisions, "z", np.random.default_rng(0))
    by_hand = [roc_auc_score(f["truth"] == "z", f["novelty"]) for f in frames]
    np.testing.assert_allclose(areas, by_hand)

    def mean_area(rows):
        drawn = decisions.iloc[rows]
        return np.mean(
            [roc_auc_score(p["truth"] == "z", p["novelty"]) for _, p in drawn.groupby("split")]
        )

    networks, truth = (decisions[c].to_numpy() for c in ("network", "truth"))
    expected = bootstrap_by_network(mean_area, networks, truth, np.random.default_rng(1), 300)
    np.testing.assert_allclose([low, high], expected, atol=0.03)


def test_probes_of_the_training_part():
    """Out-of-fold scores as of the other probe; fold by fold what the test networks get."""
    examples = make_examples(32, n_epochs=2, rule_effect=0.8)
    split = by_network(examples, 1)[0]
    probes = ("out_of_fold", "cross_fitted", "neighbour_distances")
    alone, both = (
        fit(Cell({}, "svm", examples, split, 0, probes=p), Settings("quick", 0, None)).found
        for p in (probes[:1], probes)
    )
    np.testing.assert_array_equal(both["out_of_fold"], alone["out_of_fold"])
    networks, rules = examples["network"].values, examples["rule"].values
    fold = pd.Series(both["fold"]).groupby(networks[split.train])
    assert fold.nunique().eq(1).all()
    assert both["fold_tests"].shape == (5, len(split.test), 4)
    np.testing.assert_allclose(both["fold_tests"].sum(axis=2), 1)
    assert len({s.tobytes() for s in both["fold_tests"]}) == 5
    named = np.unique(rules)[both["fold_tests"].mean(axis=0).argmax(axis=1)]
    assert np.mean(named == rules[split.test]) > 0.5
    x = features(examples, examples["statistic"].values.tolist(), "dynamics")
    scaler = ZScore().fit(x[split.train])
    near = NearestNeighbors(n_neighbors=5).fit(scaler.transform(x[split.train]))
    distance = near.kneighbors(scaler.transform(x[split.test]))[0][:, -1]
    by_hand = pd.Series(distance).groupby(networks[split.test], sort=False).mean()
    np.testing.assert_allclose(both["distance_test"], by_hand)


def test_fewer_networks_make_a_coarser_level(material_of, svm_alone):
    """Three rules of 4 networks: two known ones have 3 to train on each; 1/(6 + 1) is possible."""
    examples = make_examples(12, rules=("a", "b", "c"), n_epochs=2)
    table = strangers(run(experiment("open_set"), material_of(examples, n_splits=1)))
    np.testing.assert_allclose(table["alpha"], 1 / 7)


def test_too_few_rules_are_said(material_of):
    examples = make_examples(32, rules=("adam", "fa"))
    with pytest.raises(IdentificationError, match=r"at least 3 rules to leave one out, got 2"):
        run(experiment("open_set"), material_of(examples))
