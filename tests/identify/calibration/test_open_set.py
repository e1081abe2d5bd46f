""" "None of these" is said of a rule far away, and of one that is like a known rule as often as of
the known ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    NONE,
    average_over_layers,
    feature_distances,
    network_folds,
    none_of_these,
    novelty_p_values,
    open_set_metrics,
    wilson,
)

KNOWN = ("adam", "fa", "ia")
D, LAYERS = 6, 4
CENTRES = {
    "adam": 3 * np.eye(D)[0],
    "fa": 3 * np.eye(D)[1],
    "ia": 3 * np.eye(D)[2],
    "aside": 9 * np.eye(D)[4],  # where no known rule is
    "beyond": 15 * np.eye(D)[0],  # behind adam: a linear classifier is surer than ever
}


def _examples(rng, rules, prefix):
    """Features (position in front), rules and networks, for one network per entry of ``rules``."""
    centre = np.array([CENTRES[rule] for rule in rules])
    own = centre + rng.normal(size=centre.shape)
    x = own[:, None] + 0.5 * rng.normal(size=(len(rules), LAYERS, D))
    position = np.tile(np.eye(3)[np.arange(LAYERS) % 3], (len(rules), 1))
    networks = np.repeat([f"{prefix}{i:03d}" for i in range(len(rules))], LAYERS)
    return np.hstack([position, x.reshape(-1, D)]), np.repeat(rules, LAYERS), networks


def _decide(rng, tested, alpha, n=60, kind="neighbours"):
    """Decisions on one network for each rule that ``tested`` names."""
    x, rules, networks = _examples(rng, np.array(KNOWN)[np.arange(n) % 3], "k")
    new, _, new_networks = _examples(rng, tested, "t")
    out = np.empty((len(x), 3))
    for rest, held in network_folds(networks, rules, 4, 0):
        out[held] = LogisticRegression().fit(x[rest], rules[rest]).predict_proba(x[held])
    scores = average_over_layers(out, networks)[1]
    fitted = LogisticRegression().fit(x, rules)
    names, test = average_over_layers(fitted.predict_proba(new), new_networks)
    far = feature_distances(x, rules, networks, new, new_networks, kind=kind, n_folds=4)
    return none_of_these(
        scores, rules[::LAYERS], test, alpha,
        rules=KNOWN, test_networks=names, distances=(far.train, far.test),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["neighbours", "mahalanobis"])
def test_a_far_rule_is_detected(kind):
    rng, alpha = np.random.default_rng(0), 0.1
    tested = np.array([*KNOWN * 20, *["aside"] * 30, *["beyond"] * 30])
    decisions = _decide(rng, tested, alpha, kind=kind)
    table = open_set_metrics(
        decisions, np.tile(tested, 3), KNOWN, ["aside", "beyond"], rng, n_resamples=200
    )
    value = table.set_index(["method", "metric", "rule"])["value"]
    assert value["distance", "detection", "aside"] > 0.95
    assert value["distance", "detection", "beyond"] == 1
    assert value["distance", "auroc", "all"] > 0.99
    assert value["distance", "balanced_accuracy", "all"] > 0.85
    # The classifier is sure of what lies behind a known rule: only distances notice.
    assert value["max_probability", "detection", "beyond"] == 0
    assert value["conformal", "detection", "beyond"] == 0
    assert value["max_probability", "auroc", "all"] < 0.9


@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_a_rule_like_the_known_ones_is_not_detected(alpha):
    """Detection and false alarms ≈ α, AUROC ≈ ½; conformal sets are empty no more often than α."""
    rng = np.random.default_rng(1)
    truth = np.array([*KNOWN * 5, *["twin"] * 15])  # twins are networks of the known rules
    tables = []
    for _ in range(30):
        decisions = _decide(rng, np.array(KNOWN * 10), alpha, n=48)
        tables.append(
            open_set_metrics(decisions, np.tile(truth, 3), KNOWN, ["twin"], rng, n_resamples=1)
        )
    table = pd.concat(tables)
    found = table[table["rule"] == "all"].groupby(["method", "metric"])["value"]
    mean, sem = found.mean(), found.sem()
    for method in ("conformal", "max_probability", "distance"):
        assert abs(mean[method, "auroc"] - 0.5) < 4 * sem[method, "auroc"]
        for metric in ("false_alarm", "detection"):
            assert mean[method, metric] < alpha + 4 * sem[method, metric]
            if method != "conformal":
                assert mean[method, metric] > alpha - 0.03 - 4 * sem[method, metric]


def test_decisions_by_hand():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
    truth = np.array([0, 0, 0, 1, 0])  # a = 0.1, 0.2, 0.3, 0.2, 0.6; doubts 0.1 0.2 0.3 0.2 0.4
    decisions = none_of_these(
        scores, truth, [[0.65, 0.35], [0.5, 0.5]], 0.2,
        rules=None, test_networks=["x", "y"], distances=([1, 2, 3, 4, 5], [5.5, 2.0]),
    )  # fmt: skip
    decisions = decisions.set_index(["method", "network"])
    p = decisions["p_value"]
    assert p["conformal", "x"] == pytest.approx(2 / 6)  # a ≥ 0.35: one
    assert p["conformal", "y"] == pytest.approx(2 / 6)
    assert p["max_probability", "x"] == pytest.approx(2 / 6)
    assert p["max_probability", "y"] == pytest.approx(1 / 6)
    assert p["distance", "x"] == pytest.approx(1 / 6)
    assert p["distance", "y"] == pytest.approx(5 / 6)
    assert decisions.loc[("max_probability", "y"), "verdict"] == NONE
    assert decisions.loc[("max_probability", "x"), "verdict"] == "0"
    assert decisions["unknown"].tolist() == [False, False, False, True, True, False]
    assert (decisions["alpha"] == 0.2).all()


def test_conformal_says_none_where_the_set_is_empty():
    from goaldriven.identify.calibration import conformal_sets

    rng = np.random.default_rng(2)
    truth = np.arange(60) % 3
    logits = 4 * np.eye(3)[truth] + rng.normal(size=(60, 3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    test = np.vstack([scores[:10], np.full((5, 3), 1 / 3)])
    for per_rule in (False, True):
        sets = conformal_sets(test, scores[10:], truth[10:], 0.1, per_rule=per_rule)
        decisions = none_of_these(scores[10:], truth[10:], test, 0.1, per_rule=per_rule)
        of = decisions["method"] == "conformal"
        assert decisions[of]["unknown"].tolist() == (sets.sizes == 0).tolist()
        assert (sets.sizes[10:] == 0).all()


def test_novelty_p_values():
    found = novelty_p_values([3.0, 1.0, 2.0, 2.0], [0.0, 2.0, 2.5, 9.0])
    assert found.tolist() == [1.0, 0.8, 0.4, 0.2]
    with pytest.raises(IdentificationError, match="test must be finite"):
        novelty_p_values([1.0], [np.nan])
    with pytest.raises(IdentificationError, match="train must hold one novelty per network"):
        novelty_p_values([], [1.0])


def _decisions(novelty, unknown, verdict):
    n = len(novelty)
    return pd.DataFrame(
        {"method": "m", "network": np.arange(n), "novelty": novelty, "p_value": 0.5,
         "alpha": 0.1, "unknown": unknown, "verdict": verdict}
    )  # fmt: skip


def test_metrics_by_hand():
    truth = np.array(["fa", "fa", "ia", "ia", "kp", "kp", "wm"])
    decisions = _decisions(
        [0.1, 0.4, 0.2, 0.3, 0.5, 0.25, 0.6],
        [False, True, False, False, True, False, True],
        ["fa", NONE, "fa", "ia", NONE, "ia", NONE],
    )
    rng = np.random.default_rng(3)
    table = open_set_metrics(decisions, truth, ("fa", "ia"), ("kp", "wm"), rng, n_resamples=50)
    row = table.set_index(["metric", "rule"])
    novelty = decisions["novelty"].to_numpy()
    area = mannwhitneyu(novelty[4:], novelty[:4]).statistic / 12
    assert row.loc[("auroc", "all"), "value"] == pytest.approx(area)
    assert row.loc[("false_alarm", "all"), "value"] == 0.25
    assert row.loc[("false_alarm", "fa"), "value"] == 0.5
    assert row.loc[("detection", "all"), "value"] == pytest.approx(2 / 3)
    assert row.loc[("detection", "kp"), "value"] == 0.5
    balanced = (0.5 + 0.5 + 2 / 3) / 3
    assert row.loc[("balanced_accuracy", "all"), "value"] == pytest.approx(balanced)
    low, high = wilson(0.25, 4)
    assert row.loc[("false_alarm", "all"), ["low", "high"]].tolist() == [low, high]
    # Two splits of the same networks: the same values, and no narrower interval.
    twice = open_set_metrics(
        pd.concat([decisions, decisions]), np.tile(truth, 2), ("fa", "ia"), ("kp", "wm"), rng
    )
    pd.testing.assert_series_equal(twice["value"], table["value"])
    kept = table["metric"] != "auroc"
    pd.testing.assert_frame_equal(twice[kept], table[kept])


def test_perfect_separation_has_an_interval():
    decisions = _decisions([0.1] * 8 + [0.9] * 4, [False] * 8 + [True] * 4, ["fa"] * 8 + [NONE] * 4)
    truth = np.array(["fa"] * 8 + ["kp"] * 4)
    table = open_set_metrics(decisions, truth, ["fa"], ["kp"], np.random.default_rng(4))
    assert table[table["metric"] != "false_alarm"]["value"].eq(1).all()
    assert (table["high"] - table["low"] > 0.2).all()


def test_bad_input():
    rng = np.random.default_rng(5)
    decisions = _decisions([0.1, 0.2], [False, True], ["fa", NONE])
    both = (("fa", "ia"), ("kp",), rng)
    with pytest.raises(IdentificationError, match="truth must be one of fa, ia, kp; got 'ka'"):
        open_set_metrics(decisions, ["fa", "ka"], *both)
    with pytest.raises(IdentificationError, match="must hold networks of unknown rules, got none"):
        open_set_metrics(decisions, ["fa", "ia"], *both)
    with pytest.raises(IdentificationError, match="must hold networks of known rules, got none"):
        open_set_metrics(decisions, ["kp", "kp"], *both)
    with pytest.raises(IdentificationError, match="unknown_rules must not be among rules, got ia"):
        open_set_metrics(decisions, ["fa", "ia"], ("fa", "ia"), ("ia",), rng)
    with pytest.raises(IdentificationError, match="one rule per decision, 2"):
        open_set_metrics(decisions, ["fa"], *both)
    p, truth = np.full((8, 2), 0.5), np.arange(8) % 2
    with pytest.raises(IdentificationError, match=r"must be at least 9 for alpha = 0.1"):
        none_of_these(p, truth, p, 0.1)
    with pytest.raises(IdentificationError, match=r"of rule 0 must be at least 7 .* got 4"):
        none_of_these(p, truth, p, 0.125, per_rule=True)
    with pytest.raises(IdentificationError, match="distances must be those of 8 training and 8"):
        none_of_these(p, truth, p, 0.2, distances=([1.0], [2.0]))
