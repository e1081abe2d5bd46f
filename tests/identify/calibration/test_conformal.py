"""Conformal sets hold the true rule as often as stated, counted over networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    average_over_layers,
    conformal_p_values,
    conformal_report,
    conformal_sets,
    networks_needed,
)

from .planted import RULES, calibrated, layered

N_SIMULATIONS = 400


def _networks(rng, n):
    """Mean scores and truth of networks whose rules are drawn at random."""
    scores, truth, networks = layered(rng, 4 * n)
    mean = average_over_layers(scores, networks)[1]
    chosen = rng.permutation(4 * n)[:n]
    return mean[chosen], truth[::6][chosen]


def _within(covered, expected):
    """Mean of simulations within 4 standard errors of what is expected."""
    covered = np.asarray(covered, dtype=float)
    return abs(covered.mean() - expected) < 4 * covered.std() / np.sqrt(len(covered))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_coverage(alpha):
    """Exactly ⌈(n + 1)(1 − α)⌉/(n + 1): scores have no ties."""
    rng, n = np.random.default_rng(0), 39
    covered = []
    for _ in range(N_SIMULATIONS):
        scores, truth = _networks(rng, n + 20)
        sets = conformal_sets(scores[n:], scores[:n], truth[:n], alpha)
        covered.append(sets.members[np.arange(20), truth[n:]].mean())
    exact = math.ceil((n + 1) * (1 - alpha) - 1e-9) / (n + 1)
    assert exact >= 1 - alpha
    assert _within(covered, exact)


@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_coverage_of_each_rule(alpha):
    """Per rule where asked for; without, a hard rule pays for the easy ones."""
    rng, n = np.random.default_rng(1), 23  # of each rule
    exact = math.ceil((n + 1) * (1 - alpha) - 1e-9) / (n + 1)
    covered = {True: np.zeros((N_SIMULATIONS, 4)), False: np.zeros((N_SIMULATIONS, 4))}
    for i in range(N_SIMULATIONS):
        truth = np.arange(4 * (n + 5)) % 4
        logits = rng.normal(size=(len(truth), 4)) + np.eye(4)[truth] * np.array([0, 1, 2, 3])
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for per_rule, found in covered.items():
            sets = conformal_sets(
                scores[4 * n :], scores[: 4 * n], truth[: 4 * n], alpha, per_rule=per_rule
            )
            hit = sets.members[np.arange(20), truth[4 * n :]]
            found[i] = hit.reshape(5, 4).mean(axis=0)
    for k in range(4):
        assert _within(covered[True][:, k], exact)
    marginal = covered[False].mean(axis=0)
    assert marginal[0] < 1 - alpha - 0.05
    assert marginal[3] > 1 - alpha + 0.05


@pytest.mark.parametrize(("n", "alpha"), [(5, 0.05), (12, 0.1), (12, 0.2)])
def test_layers_are_no_units(n, alpha):
    """Layers that say the same, counted as exchangeable units, promise more than they hold."""
    rng, m = np.random.default_rng(2), 10
    exact = math.ceil((n * m + 1) * (1 - alpha) / m - 1e-9) / (n + 1)
    by_layer, by_network = [], []
    for _ in range(4 * N_SIMULATIONS):
        scores, truth = _networks(rng, n + 1)
        layers, of_layers = np.repeat(scores[:n], m, axis=0), np.repeat(truth[:n], m)
        sets = conformal_sets(scores[n:], layers, of_layers, alpha)  # n·m ≥ 1/α − 1: no error
        by_layer.append(sets.members[0, truth[n]])
        if n >= networks_needed(alpha):
            sets = conformal_sets(scores[n:], scores[:n], truth[:n], alpha)
            by_network.append(sets.members[0, truth[n]])
    assert exact < 1 - alpha
    assert _within(by_layer, exact)
    assert binomtest(sum(by_layer), len(by_layer), 1 - alpha, "less").pvalue < 0.01
    if by_network:
        assert np.mean(by_network) > 1 - alpha - 4 * np.std(by_network) / np.sqrt(len(by_network))


def test_correlated_layers_mislead_about_networks():
    """Realistic layers (alike, not the same): calibrated on layers, mean scores are over-covered
    in the mean, and from one set of networks to the next coverage varies more than n·m independent
    units would let it."""
    rng, n, alpha = np.random.default_rng(3), 20, 0.1
    network_level, layer_level = [], []
    for _ in range(N_SIMULATIONS):
        scores, truth, networks = layered(rng, 120, own=1.0)
        order = rng.permutation(120)
        known, new = (np.isin(networks, part) for part in (order[:n], order[n:]))
        mean = average_over_layers(scores[new], networks[new])[1]
        tested = truth[new][::6]
        sets = conformal_sets(mean, scores[known], truth[known], alpha)
        network_level.append(sets.members[np.arange(len(tested)), tested].mean())
        sets = conformal_sets(scores[new], scores[known], truth[known], alpha)
        layer_level.append(sets.members[np.arange(6 * len(tested)), truth[new]].mean())
    assert np.mean(network_level) > 1 - alpha + 0.03
    claimed = np.sqrt(alpha * (1 - alpha) / (6 * n))  # spread, were 120 layers independent
    assert np.std(layer_level) > 1.5 * claimed


def test_p_values_by_hand():
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    truth = np.array([0, 0, 1, 0])  # a = 0.1, 0.4, 0.3, 0.8
    test = np.array([[0.6, 0.4], [0.05, 0.95]])  # a = 0.4, 0.6; 0.95, 0.05
    assert conformal_p_values(test, scores, truth).tolist() == [[0.6, 0.4], [0.2, 1.0]]
    own = conformal_p_values(test, scores, truth, per_rule=True)
    assert own.tolist() == [[0.75, 0.5], [0.25, 1.0]]
    names = np.array(["b", "b", "a", "b"])
    named = conformal_p_values(test, scores, names, rules=("b", "a"))
    assert named.tolist() == [[0.6, 0.4], [0.2, 1.0]]


def test_p_values_are_uniform():
    """P(p ≤ j/(n + 1)) = j/(n + 1) for every j."""
    rng, n, counts = np.random.default_rng(4), 9, np.zeros(10)
    for _ in range(5000):
        p, truth = calibrated(rng, n + 1)
        value = conformal_p_values(p[n:], p[:n], truth[:n])[0, truth[n]]
        counts[round(value * (n + 1)) - 1] += 1
    assert (np.abs(counts - 500) < 4 * np.sqrt(450)).all()


def test_cross_conformal_by_hand_and_in_coverage():
    rng, alpha = np.random.default_rng(5), 0.2
    p, truth = calibrated(rng, 12)
    tests = np.stack([calibrated(rng, 3)[0] for _ in range(4)])
    folds = np.arange(12) % 4
    found = conformal_p_values(tests, p, truth, folds=folds)
    for x in range(3):
        for k in range(4):
            count = sum(1 - p[i, truth[i]] >= 1 - tests[folds[i], x, k] for i in range(12))
            assert found[x, k] == pytest.approx((1 + count) / 13)
    one = conformal_p_values(tests[:1], p, truth, folds=np.zeros(12, dtype=int))
    np.testing.assert_array_equal(one, conformal_p_values(tests[0], p, truth))

    # Nearest-mean classifiers, refitted per fold: about 1 − α, and 1 − 2α at least.
    covered = [_cross_conformal_coverage(rng, alpha) for _ in range(N_SIMULATIONS)]
    assert 1 - alpha - 0.03 < np.mean(covered) < 1 - alpha + 0.08


def _cross_conformal_coverage(rng, alpha, n=40, n_folds=4):
    truth = np.arange(n + 20) % 4
    x = np.eye(4)[truth] * 1.5 + rng.normal(size=(n + 20, 4))
    folds = rng.permutation(n) % n_folds

    def fitted(rows):
        means = np.stack([x[rows][truth[rows] == k].mean(axis=0) for k in range(4)])
        return lambda z: _softmax(-0.5 * ((z[:, None] - means) ** 2).sum(axis=2))

    out, tests = np.empty((n, 4)), []
    for f in range(n_folds):
        model = fitted(np.flatnonzero(folds != f))
        out[folds == f] = model(x[:n][folds == f])
        tests.append(model(x[n:]))
    sets = conformal_sets(np.stack(tests), out, truth[:n], alpha, folds=folds)
    return sets.members[np.arange(20), truth[n:]].mean()


def _softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.35])
def test_sets_are_those_of_mapie(alpha):
    classification = pytest.importorskip("mapie.classification")
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(6)
    truth = np.arange(240) % 4
    x = np.eye(4)[truth] + rng.normal(size=(240, 4))
    model = LogisticRegression().fit(x[:80], truth[:80])
    other = classification.SplitConformalClassifier(model, confidence_level=1 - alpha, prefit=True)
    _, expected = other.conformalize(x[80:160], truth[80:160]).predict_set(x[160:])
    scores = model.predict_proba(x)
    sets = conformal_sets(scores[160:], scores[80:160], truth[80:160], alpha)
    np.testing.assert_array_equal(sets.members, expected[:, :, 0])
    assert len(set(sets.sizes.tolist())) > 1


def test_report():
    rng = np.random.default_rng(7)
    scores, truth = _networks(rng, 60)
    names = np.array(RULES)[truth]
    sets = conformal_sets(scores[40:], scores[:40], names[:40], 0.4, rules=RULES)
    report = conformal_report(sets, names[40:]).set_index("rule")
    covered = np.array([sets.members[i, truth[40 + i]] for i in range(20)])
    assert report.loc["all", "coverage"] == pytest.approx(covered.mean())
    assert report.loc["all", "mean_size"] == pytest.approx(sets.members.sum() / 20)
    assert report.loc["all", "empty"] == np.mean(~sets.members.any(axis=1))
    assert report.loc["all", "singleton"] == np.mean(sets.members.sum(axis=1) == 1)
    assert report.loc["fa", "coverage"] == pytest.approx(covered[names[40:] == "fa"].mean())
    assert (report["n"].drop("all").sum(), report.loc["all", "n"]) == (20, 20)
    halved = conformal_report(sets, truth[40:], networks=np.arange(20) // 2).set_index("rule")
    assert halved.loc["all", "networks"] == 10
    width = report["high"] - report["low"]
    assert halved.loc["all", "high"] - halved.loc["all", "low"] > width["all"]


@pytest.mark.parametrize("alpha", [0.2, 0.1, 0.07, 0.05, 0.01])
def test_networks_needed(alpha):
    """With so many some set can leave out a rule, with one fewer none can."""
    n = networks_needed(alpha)
    assert n >= 1 / alpha - 1 - 1e-9
    assert n - 1 < 1 / alpha - 1
    scores, truth = np.tile([0.9, 0.1], (n, 1)), np.zeros(n, dtype=int)
    sets = conformal_sets([[0.9, 0.1]], scores, truth, alpha)
    assert sets.members.tolist() == [[True, False]]
    with pytest.raises(IdentificationError, match=f"at least {n} for alpha = .*got {n - 1}"):
        conformal_sets([[0.9, 0.1]], scores[1:], truth[1:], alpha)


def test_bad_input():
    p, truth = calibrated(np.random.default_rng(8), 20)
    truth = np.arange(20) % 4
    with pytest.raises(IdentificationError, match=r"of rule 0 must be at least 9 .* got 5"):
        conformal_sets(p, p, truth, 0.1, per_rule=True)
    with pytest.raises(IdentificationError, match="rule 3 must have a calibration network"):
        conformal_p_values(p, p, truth % 3, per_rule=True)
    with pytest.raises(IdentificationError, match=r"alpha must lie between 0 and 1, got 1.5"):
        conformal_sets(p, p, truth, 1.5)
    with pytest.raises(IdentificationError, match=r"must have shape \(network, 4 rules\)"):
        conformal_p_values(p[:, :2], p, truth)
    with pytest.raises(IdentificationError, match=r"folds must be all of 0…1, got \[0, 1, 2\]"):
        conformal_p_values(np.stack([p, p]), p, truth, folds=np.arange(20) % 3)
    with pytest.raises(IdentificationError, match=r"\(fold, network, rule\) and folds one fold"):
        conformal_p_values(p, p, truth, folds=np.arange(20) % 3)
    with pytest.raises(IdentificationError, match="truth must be one of 0, 1, 2, 3; got 'fa'"):
        conformal_report(conformal_sets(p, p, truth, 0.1), ["fa"] * 20)
