"""Chance, and the uncertainty of accuracies, against simulated studies."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestCentroid

from goaldriven.identify.chance import chance
from goaldriven.identify.experiments.results import interval
from goaldriven.identify.splits import by_network
from goaldriven.identify.uncertainty import corrected_sem

from .made_up import make_examples


def test_chance_is_what_no_feature_is_needed_for():
    rare = ["a"] * 36 + ["b", "c", "d"] * 4
    assert chance(rare, rare) == 0.75, "naming the commonest"
    even = ["a", "b", "c", "d"] * 4
    assert chance(even, ["a"] * 3 + ["b"]) == 0.25, "not by what is commonest in the test"
    assert chance(["a"] * 5 + ["b"] * 4, ["b"] * 5 + ["a"] * 4) == pytest.approx(
        5 / 9 * 4 / 9 + 4 / 9 * 5 / 9
    ), "guessing, where the commonest is the rarer one to be tested"


@pytest.fixture(scope="module")
def null_studies():
    """Accuracies of a classifier of noise: (study, split), and every network's own, by study."""
    examples = make_examples(48, n_layers=1)
    rules, networks = examples["rule"].values, examples["network"].values
    accuracies, verdicts = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(len(rules), 6))
        rows, of_splits = [], []
        for number, split in enumerate(by_network(examples, 10, seed=seed)):
            fitted = NearestCentroid().fit(x[split.train], rules[split.train])
            right = fitted.predict(x[split.test]) == rules[split.test]
            of_splits.append(right.mean())
            rows.append(pd.DataFrame({
                "network": networks[split.test], "rule": rules[split.test], "split": number,
                "correct": right.astype(int), "layers": 1, "layers_correct": right.astype(int),
            }))  # fmt: skip
        accuracies.append(of_splits)
        verdicts.append(pd.concat(rows))
    return np.array(accuracies), verdicts


def test_the_standard_error_is_how_far_studies_scatter(null_studies):
    """s/√n is half of it."""
    accuracies, _ = null_studies
    scatter = accuracies.mean(1).std(ddof=1)
    errors = [corrected_sem(pd.Series(one), 1 / 3) for one in accuracies]
    plain = accuracies.std(axis=1, ddof=1) / np.sqrt(10)
    assert np.mean(errors) == pytest.approx(scatter, rel=0.2)
    assert plain.mean() < 0.65 * scatter


def test_the_interval_holds_chance_as_often_as_it_says(null_studies):
    _, verdicts = null_studies
    ends = np.array([interval(one, "network_accuracy") for one in verdicts])
    covered = np.mean((ends[:, 0] <= 0.25) & (ends[:, 1] >= 0.25))
    assert 0.89 <= covered <= 1.0


def test_the_interval_does_not_collapse_where_all_is_right():
    rows = [{"network": str(i), "rule": "ab"[i % 2], "correct": 1, "layers": 4,
             "layers_correct": 4, "split": 0} for i in range(30)]  # fmt: skip
    low, high = interval(pd.DataFrame(rows), "layer_accuracy")
    assert high == 1.0
    n = 30 * 0.75  # a quarter tested: another training part would make another classifier
    assert low == pytest.approx(1 / (1 + 1.959964**2 / n), rel=1e-6), "Wilson's of all right"
