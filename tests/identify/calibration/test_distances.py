"""Distances against sums written out; training networks are compared with other networks."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import DISTANCES, feature_distances, network_folds
from goaldriven.identify.calibration.distances import (
    mahalanobis_distance,
    nearest_neighbour_distance,
)
from goaldriven.identify.scaling import ZScore


def _examples(rng, n_networks, n_layers=3, n_features=5, rules=("adam", "fa", "ia")):
    """Features (position in front), rule and network of each example."""
    k = np.arange(n_networks) % len(rules)
    own = 3 * np.eye(n_features)[k] + 0.7 * rng.normal(size=(n_networks, n_features))
    x = own[:, None] + 0.5 * rng.normal(size=(n_networks, n_layers, n_features))
    position = np.tile(np.eye(3)[np.arange(n_layers) % 3], (n_networks, 1))
    features = np.hstack([position, x.reshape(-1, n_features)])
    networks = np.repeat([f"n{i:03d}" for i in range(n_networks)], n_layers)
    return features, np.repeat(np.array(rules)[k], n_layers), networks


@pytest.mark.parametrize("k", [1, 4])
def test_neighbours(k):
    rng = np.random.default_rng(0)
    x, reference = rng.normal(size=(7, 3)), rng.normal(size=(20, 3))
    every = np.sqrt(((x[:, None] - reference) ** 2).sum(axis=2))
    expected = np.sort(every, axis=1)[:, k - 1]
    np.testing.assert_allclose(nearest_neighbour_distance(x, reference, k=k), expected)
    with pytest.raises(IdentificationError, match=r"k must lie in 1…20 \(reference rows\), got 21"):
        nearest_neighbour_distance(x, reference, k=21)


def test_mahalanobis_of_known_gaussians():
    """Many rows: Σ and the means are the true ones, whatever the units of the features."""
    rng = np.random.default_rng(1)
    mix = np.array([[2.0, 0, 0], [1, 1, 0], [0, 0.5, 0.5]])
    rules = np.arange(60_000) % 2
    means = np.array([[0.0, 0, 0], [10, 0, 0]])
    reference = means[rules] + rng.normal(size=(60_000, 3)) @ mix.T
    x = rng.normal(size=(50, 3)) * 5
    inverse = np.linalg.inv(mix @ mix.T)
    squares = [np.einsum("id,de,ie->i", x - m, inverse, x - m) for m in means]
    expected = np.sqrt(np.minimum(*squares))
    np.testing.assert_allclose(mahalanobis_distance(x, reference, rules), expected, rtol=0.03)


def test_mahalanobis_with_more_features_than_rows():
    rng = np.random.default_rng(2)
    reference, rules = rng.normal(size=(20, 60)), np.arange(20) % 2
    distance = mahalanobis_distance(
        np.vstack([reference[:1], reference[:1] + 50]), reference, rules
    )
    assert np.isfinite(distance).all()
    assert distance[1] > 10 * distance[0]


@pytest.mark.parametrize("kind", DISTANCES)
def test_training_networks_are_compared_with_other_networks(kind):
    rng = np.random.default_rng(3)
    x, rules, networks = _examples(rng, 24)
    new, _, new_networks = _examples(rng, 6)
    new_networks = np.char.add("t", new_networks)
    found = feature_distances(x, rules, networks, new, new_networks, kind=kind, n_folds=4, seed=5)
    assert found.train_networks.tolist() == sorted(set(networks.tolist()))
    expected = {}
    for rest, held in network_folds(networks, rules, 4, 5):
        assert not set(networks[rest]) & set(networks[held])
        scale = ZScore().fit(x[rest])
        distance = DISTANCES[kind](scale.transform(x[held]), scale.transform(x[rest]), rules[rest])
        for name in set(networks[held].tolist()):
            expected[name] = distance[networks[held] == name].mean()
    np.testing.assert_allclose(found.train, [expected[n] for n in found.train_networks])
    scale = ZScore().fit(x)
    distance = DISTANCES[kind](scale.transform(new), scale.transform(x), rules)
    np.testing.assert_allclose(found.test, distance.reshape(6, 3).mean(axis=1))


def test_bad_input():
    rng = np.random.default_rng(4)
    x, rules, networks = _examples(rng, 12)
    new, new_networks = x[:3], np.array(["t"] * 3)
    with pytest.raises(IdentificationError, match="kind must be one of mahalanobis, neighbours"):
        feature_distances(x, rules, networks, new, new_networks, kind="knn")
    with pytest.raises(IdentificationError, match=r"rule adam must be at least 5, .* got 4"):
        feature_distances(x, rules, networks, new, new_networks)
    with pytest.raises(IdentificationError, match="got n000 in both"):
        feature_distances(x, rules, networks, new, networks[:3], n_folds=2)
    with pytest.raises(IdentificationError, match="test_features must be finite"):
        feature_distances(x, rules, networks, new * np.nan, new_networks, n_folds=2)
    with pytest.raises(IdentificationError, match="rules must have one rule per reference row"):
        mahalanobis_distance(x, x, rules[:4])
