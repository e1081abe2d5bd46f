"""Importances: sums of scikit-learn's, and permutation by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from goaldriven.identify import features, layout_of
from goaldriven.identify.candidates import Gaussian, Linear
from goaldriven.identify.importance import (
    GROUPINGS,
    by_epoch,
    by_statistic,
    gini_importances,
    permutation_importances,
)

from .made_up import FEW, make_examples


@pytest.fixture(scope="module")
def data():
    examples = make_examples(24, rule_effect=2.0, planted=FEW[2:3])
    return (
        features(examples, FEW, "dynamics"),
        examples["rule"].values,
        layout_of(examples, FEW, "dynamics"),
    )


def test_gini_is_summed_over_a_statistics_features(data):
    x, y, layout = data
    forest = RandomForestClassifier(30, random_state=0).fit(x, y)
    per_tree = gini_importances(Pipeline([("classify", forest)]), layout)
    assert per_tree.shape == (30, 1 + len(FEW))
    np.testing.assert_allclose(per_tree.sum(axis=1), 1)
    names = [n.split("@")[0].split(".")[0] for n in layout.names]
    for group, value in zip(layout.groups, per_tree.mean(axis=0), strict=True):
        of_group = [
            n.startswith("position_") if group == "layer_position" else n == group for n in names
        ]
        assert value == pytest.approx(forest.feature_importances_[of_group].sum())
    assert layout.groups[per_tree.mean(axis=0).argmax()] == FEW[2]


@pytest.mark.parametrize("kind", ["forest", "svm", "kernel", "pca"])
def test_permutation_by_brute_force(data, kind):
    """Exchange one statistic's columns between rows, one statistic after the other, and predict."""
    x, y, layout = data
    if kind == "forest":
        pipeline = Pipeline([("classify", RandomForestClassifier(10, random_state=0))])
    elif kind == "kernel":
        pipeline = Gaussian(10.0, 1.0, "ranks").pipeline(layout, 0)
    else:
        pipeline = Linear("svm", 0.1, 4 if kind == "pca" else None, "ranks").pipeline(layout, 0)
    pipeline.fit(x, y)
    lost = permutation_importances(pipeline, x, y, layout, 2, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    whole = pipeline.score(x, y)
    for repeat in range(2):
        for group in range(len(layout.groups)):
            columns = layout.group_of_feature == group
            mixed = x.copy()
            mixed[:, columns] = x[np.ix_(rng.permutation(len(x)), columns)]
            assert lost[repeat, group] == pytest.approx(whole - pipeline.score(mixed, y))


def test_permutation_finds_the_planted_statistic(data):
    x, y, layout = data
    half = np.arange(len(x)) % 2 == 0
    pipeline = Linear("logistic", 1.0, scaling="ranks").pipeline(layout, 0).fit(x[half], y[half])
    lost = permutation_importances(
        pipeline, x[~half], y[~half], layout, 20, np.random.default_rng(0)
    ).mean(axis=0)
    assert layout.groups[lost.argmax()] == FEW[2]
    assert lost.max() > 0.25
    assert np.abs(np.delete(lost, lost.argmax())).max() < 0.1


def test_groups_hold_every_column_once(data):
    _, _, layout = data
    for grouping in GROUPINGS.values():
        columns = np.concatenate(list(grouping(layout).values()))
        assert np.sort(columns).tolist() == list(range(layout.n_features))
    assert tuple(by_statistic(layout)) == layout.groups
    for epoch, columns in by_epoch(layout).items():
        names = {layout.names[i].split("@")[-1] for i in columns}
        assert names == {epoch} or epoch == "layer_position"


def test_gini_by_epoch_is_summed_over_statistics(data):
    x, y, layout = data
    forest = RandomForestClassifier(30, random_state=0).fit(x, y)
    per_tree = gini_importances(Pipeline([("classify", forest)]), layout, by_epoch(layout))
    assert per_tree.shape == (30, 1 + len(layout.epochs))
    for epoch, value in zip(layout.epochs, per_tree.mean(axis=0)[1:], strict=True):
        columns = [name.endswith(f"@{epoch}") for name in layout.names]
        assert value == pytest.approx(forest.feature_importances_[columns].sum())


@pytest.mark.parametrize("n_components", [None, 4])
def test_permutation_of_any_columns_by_brute_force(data, n_components):
    """By epoch, and groups that hold columns of layer position and trajectories alike."""
    x, y, layout = data
    pipeline = Linear("svm", 0.1, n_components, "ranks").pipeline(layout, 0).fit(x, y)
    scattered = np.random.default_rng(0).permutation(layout.n_features)
    groups = {**by_epoch(layout), "some": scattered[:40], "others": scattered[40:]}
    lost = permutation_importances(pipeline, x, y, layout, 1, np.random.default_rng(3), groups)
    rng = np.random.default_rng(3)
    for columns, value in zip(groups.values(), lost[0], strict=True):
        mixed = x.copy()
        mixed[:, columns] = x[np.ix_(rng.permutation(len(x)), columns)]
        assert value == pytest.approx(pipeline.score(x, y) - pipeline.score(mixed, y))
