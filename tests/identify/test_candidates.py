"""Classifiers are what they say: compared with plain scikit-learn, and with the published grids."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC

from goaldriven.errors import IdentificationError
from goaldriven.identify import CLASSIFIERS, features, layout_of
from goaldriven.identify.candidates import (
    Convolution,
    Forest,
    Gaussian,
    Linear,
    describe,
    probabilities,
    without_axes,
)
from goaldriven.identify.classifiers import GRIDS, grid_of
from goaldriven.identify.conv1d import Conv1D

from .made_up import FEW, make_examples


@pytest.fixture(scope="module")
def data():
    examples = make_examples(24, rule_effect=0.4, n_epochs=8)
    x, y = features(examples, FEW), examples["rule"].values
    x[:, 3:] *= 10.0 ** np.linspace(-3, 3, x.shape[1] - 3)
    return x[:54], y[:54], x[54:], y[54:], layout_of(examples, FEW)


def zscored(train, test):
    mean, std = train[:, 3:].mean(axis=0), np.maximum(train[:, 3:].std(axis=0), 1e-5)
    return [np.hstack([x[:, :3], (x[:, 3:] - mean) / std]) for x in (train, test)]


@pytest.mark.parametrize("C", [0.01, 1.0])
def test_logistic_is_scikit_learns_on_scaled_features(data, C):
    """Solving on all principal axes and writing the readout in features changes nothing."""
    x, y, x_test, _, layout = data
    ours = Linear("logistic", C, tolerance=1e-10).pipeline(layout, 0).fit(x, y)
    a, b = zscored(x, x_test)
    plain = LogisticRegression(C=C, tol=1e-10, max_iter=10000).fit(a, y)
    np.testing.assert_allclose(
        probabilities(ours, x_test), plain.predict_proba(b), rtol=1e-4, atol=1e-6
    )


def test_svm_is_scikit_learns_on_scaled_features(data):
    x, y, x_test, _, layout = data
    ours = Linear("svm", 0.01, tolerance=1e-10).pipeline(layout, 0).fit(x, y)
    a, b = zscored(x, x_test)
    plain = LinearSVC(C=0.01, tol=1e-10, max_iter=100000).fit(a, y)
    np.testing.assert_allclose(
        ours.decision_function(x_test), plain.decision_function(b), rtol=1e-4, atol=1e-5
    )


def test_pca_is_of_the_trajectories_with_the_position_in_front(data):
    x, y, x_test, _, layout = data
    ours = Linear("svm", 0.1, n_components=7, tolerance=1e-10).pipeline(layout, 0).fit(x, y)
    a, b = zscored(x, x_test)
    pca = PCA(7).fit(a[:, 3:])
    a, b = (np.hstack([z[:, :3], pca.transform(z[:, 3:])]) for z in (a, b))
    plain = LinearSVC(C=0.1, tol=1e-10, max_iter=100000).fit(a, y)
    np.testing.assert_allclose(
        ours.decision_function(x_test), plain.decision_function(b), rtol=1e-4, atol=1e-5
    )


def test_kernel_svm_is_scikit_learns_on_scaled_features(data):
    x, y, x_test, _, layout = data
    ours = Gaussian(10.0, 2.0).pipeline(layout, 0).fit(x, y)
    a, b = zscored(x, x_test)
    n = a.shape[1]
    plain = SVC(C=10.0, gamma=2.0 / n).fit(a, y)
    np.testing.assert_allclose(
        ours.decision_function(x_test), plain.decision_function(b), rtol=1e-3, atol=1e-4
    )
    p = probabilities(ours, x_test)
    assert (ours.classes_[p.argmax(axis=1)] == ours.predict(x_test)).all()


@pytest.mark.parametrize("n_components", [None, 5])
@pytest.mark.parametrize("kind", ["svm", "logistic"])
@pytest.mark.parametrize("scaling", ["ranks", "zscore"])
def test_readout_without_axes_is_the_same(data, kind, n_components, scaling):
    x, y, x_test, _, layout = data
    pipeline = Linear(kind, 0.1, n_components, scaling).pipeline(layout, 0).fit(x, y)
    expected = pipeline.decision_function(x_test)
    short = without_axes(pipeline)
    assert list(short.named_steps) == ["scale", "classify"]
    np.testing.assert_allclose(short.decision_function(x_test), expected, rtol=1e-9, atol=1e-9)
    assert without_axes(short) is short


def test_probabilities_are_squashed_one_vs_rest_scores(data):
    """σ(d) per rule, divided by their sum; the largest is the predicted rule."""
    x, y, x_test, _, layout = data
    svm = Linear("svm", 1.0).pipeline(layout, 0).fit(x, y)
    squashed = 1 / (1 + np.exp(-svm.decision_function(x_test)))
    p = probabilities(svm, x_test)
    np.testing.assert_allclose(p, squashed / squashed.sum(axis=1, keepdims=True), rtol=1e-12)
    assert (svm.classes_[p.argmax(axis=1)] == svm.predict(x_test)).all()


def test_probabilities_of_two_rules(data):
    x, y, x_test, _, layout = data
    two = np.isin(y, ("fa", "ia"))
    svm = Linear("svm", 1.0).pipeline(layout, 0).fit(x[two], y[two])
    p = probabilities(svm, x_test)
    assert p.shape == (len(x_test), 2)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-svm.decision_function(x_test))))
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_extreme_scores_stay_probabilities():
    class Far:
        def decision_function(self, x):
            return np.array([[-1e5, -2e5, -3e5], [1e5, 0.0, -1e5]])

    p = probabilities(Far(), None)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def settings(name: str) -> list[dict]:
    return [json.loads(describe(c)) for c in grid_of(name, "paper").candidates]


def test_published_grid_of_the_forest():
    found = {(s["n_estimators"], s["max_features"]) for s in settings("random_forest")}
    assert found == {
        (n, f) for n in (20, 50, 100, 500, 1000) for f in ("sqrt", "log2", None)
    }  # fmt: skip
    assert len(settings("random_forest")) == 15


def test_published_grid_of_the_svm():
    found = Counter((s["C"], s["n_components"]) for s in settings("svm"))
    components = (None, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 600)
    assert found == Counter(
        (C, n) for C in (1.0, 50.0, 500.0, 5e3, 5e4, 5e5, 5e6) for n in components
    )
    assert {s["scaling"] for s in settings("svm")} == {"zscore"}


def test_published_grid_of_the_convolution():
    found = settings("conv1d")
    assert len(found) == 5 * 3 * 2 * 3 * 2 * 2 * 2
    kernels = {Conv1D(21, kernel_share=s["kernel_share"]).kernel_size for s in found}
    assert kernels == {1, 2, 6, 11, 21}
    assert {s["stride"] for s in found} == {1, 2, 4}
    assert {s["filters"] for s in found} == {20, 40}
    assert {s["pooling"] for s in found} == {None, "max", "mean"}
    assert {s["learning_rate"] for s in found} == {1e-3, 1e-4}
    assert {s["batch_size"] for s in found} == {512, 1024}
    assert {s["weight_decay"] for s in found} == {1e-4, 0.0}
    assert {s["epochs"] for s in found} == {400}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_entry_fits_and_predicts(data, name, grid):
    """The first candidate of every grid does better than chance on what it was fitted on."""
    x, y, _, _, layout = data
    entry = CLASSIFIERS[name]
    assert entry.name == name
    assert grid_of(name, grid).views == {"quick": "dynamics", "paper": "published"}[grid]
    pipeline = grid_of(name, grid).candidates[0].pipeline(layout, 0)
    assert isinstance(pipeline, Pipeline)
    assert (pipeline.fit(x, y).predict(x) == y).mean() > 0.5
    assert entry.forest == hasattr(pipeline.steps[-1][1], "estimators_")


def test_trials_are_cheaper_and_otherwise_the_same():
    assert Forest(100, "sqrt", trial_estimators=15).trial() == Forest(
        15, "sqrt", trial_estimators=15
    )
    assert Forest(100, None).trial() == Forest(100, None)
    one = Convolution(0.5, 1, 20, None, 1e-2, 512, 0.0, epochs=40, trial_epochs=15)
    assert (one.trial().epochs, one.trial().kernel_share) == (15, 0.5)
    assert Linear("svm", 1.0).trial() == Linear("svm", 1.0)


def test_unknown_names():
    with pytest.raises(IdentificationError, match=r"got 'forest'"):
        grid_of("forest", "quick")
    with pytest.raises(IdentificationError, match="grid must be one of paper, quick; got 'papr'"):
        grid_of("svm", "papr")
