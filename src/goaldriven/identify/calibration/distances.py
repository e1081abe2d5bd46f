"""How far a network lies from the training networks, in the features that classifiers see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.calibration.checks import (
    Indices,
    Matrix,
    Vector,
    at_least,
    finite_rows,
    network_labels,
)
from goaldriven.identify.calibration.networks import average_over_layers, first_of_each
from goaldriven.identify.scaling import ZScore

Scaler = Callable[[], Any]  # an unfitted transformer with fit and transform


def nearest_neighbour_distance(
    features: ArrayLike, reference: ArrayLike, rules: ArrayLike | None = None, k: int = 5
) -> Vector:
    """Euclidean distance of each row to its k-th nearest row of the reference.

    ``rules`` are not used. The reference must not hold the rows themselves.

    Raises
    ------
    IdentificationError : fewer than k reference rows, or features that are not finite.

    Source: Sun et al., 2022, ICML.
    """
    x, train = _rows(features, "features"), _rows(reference, "reference")
    if not 1 <= k <= len(train):
        raise IdentificationError(f"k must lie in 1…{len(train)} (reference rows), got {k}")
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train)
    return np.asarray(neighbours.kneighbors(x)[0][:, -1], dtype=np.float64)


def mahalanobis_distance(features: ArrayLike, reference: ArrayLike, rules: ArrayLike) -> Vector:
    """Mahalanobis distance of each row to the nearest rule's mean.

    d = min over rules r of √((x − μ_r)ᵀ Σ⁻¹ (x − μ_r)), μ_r the mean of the reference rows of rule
    r and Σ the covariance around these means, shared by the rules and shrunk (Ledoit & Wolf), since
    features are often more than rows. It assumes one cloud per rule: layers of different depth or
    architectures make several, and then neighbours describe better what is known.

    Raises
    ------
    IdentificationError : features that are not finite, or not one rule per reference row.

    Source: Lee et al., 2018, NeurIPS; Ledoit & Wolf, 2004, J. Multivar. Anal. 88, 365.
    """
    x, train = _rows(features, "features"), _rows(reference, "reference")
    labels = np.asarray(rules)
    if labels.shape != (len(train),):
        raise IdentificationError(
            f"rules must have one rule per reference row, {len(train)}, got shape {labels.shape}"
        )
    names, member = np.unique(labels, return_inverse=True)
    means = np.array([train[member == r].mean(axis=0) for r in range(len(names))])
    shrunk = LedoitWolf(assume_centered=True).fit(train - means[member.reshape(-1)])
    # With Σ = LLᵀ the distance is the Euclidean one after x → L⁻¹x.
    lower = np.linalg.cholesky(shrunk.covariance_)
    whitened = np.linalg.solve(lower, x.T).T
    centres = np.linalg.solve(lower, means.T).T
    return np.sqrt(((whitened[:, None] - centres) ** 2).sum(axis=2).min(axis=1))


DISTANCES: dict[str, Callable[[Matrix, Matrix, NDArray[Any]], Vector]] = {
    "neighbours": nearest_neighbour_distance,
    "mahalanobis": mahalanobis_distance,
}


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances of networks, means over their layers, in the order of their first rows.

    Attributes
    ----------
    train, test : (network,); those of the training networks are out-of-fold.
    train_networks, test_networks : names.
    """

    train: Vector
    test: Vector
    train_networks: NDArray[Any]
    test_networks: NDArray[Any]


def feature_distances(
    train_features: ArrayLike,
    train_rules: ArrayLike,
    train_networks: ArrayLike,
    test_features: ArrayLike,
    test_networks: ArrayLike,
    *,
    kind: str = "neighbours",
    n_folds: int = 5,
    seed: int = 0,
    scaler: Scaler = ZScore,
) -> Distances:
    """Distance of each network from training networks that it is not one of.

    Test networks are compared with the whole training part. Each training network is compared with
    the other folds of the training part, scaled anew, so that its distance is that of a new
    network: against slightly fewer rows, hence if anything too large, and too few networks are
    called unknown rather than too many.

    Parameters
    ----------
    train_features, test_features : (example, feature), as `goaldriven.identify.features` gives
        them: the layer's position in front.
    train_rules, train_networks, test_networks : of each example.
    kind : ``"neighbours"`` or ``"mahalanobis"``.
    n_folds, seed : folds of training networks, balanced over the rules.
    scaler : makes the transformer of features that is fitted on what is compared with.

    Raises
    ------
    IdentificationError : an unknown kind, fewer networks of a rule than folds, a network in both
        parts, or features that are not finite.
    """
    if kind not in DISTANCES:
        raise IdentificationError(unknown("kind", kind, DISTANCES))
    x, new = _rows(train_features, "train_features"), _rows(test_features, "test_features")
    labels, new_labels = (
        network_labels(train_networks, len(x)),
        network_labels(test_networks, len(new)),
    )
    both = np.intersect1d(labels, new_labels)
    if len(both):
        raise IdentificationError(
            f"networks must be either of the training or of the tested part, got {both[0]} in both"
        )
    rules = np.asarray(train_rules)
    out_of_fold = np.empty(len(x))
    for rest, held in network_folds(labels, rules, n_folds, seed):
        out_of_fold[held] = _scaled_distance(kind, x[held], x[rest], rules[rest], scaler)
    names, train = average_over_layers(out_of_fold, labels)
    new_names, test = average_over_layers(_scaled_distance(kind, new, x, rules, scaler), new_labels)
    return Distances(train, test, names, new_names)


def network_folds(
    networks: ArrayLike, rules: ArrayLike, n_folds: int = 5, seed: int = 0
) -> list[tuple[Indices, Indices]]:
    """Folds (rest, held out) of examples that keep networks whole, balanced over the rules.

    Raises
    ------
    IdentificationError : fewer than two folds, fewer networks of a rule than folds, or a network
        of two rules.
    """
    given = np.asarray(rules)
    labels = network_labels(networks, len(given))
    at_least(n_folds, 2, "n_folds")
    names, counts = np.unique(first_of_each(given, labels), return_counts=True)
    if counts.min() < n_folds:
        raise IdentificationError(
            f"networks of rule {names[counts.argmin()]} must be at least {n_folds}, one per fold, "
            f"got {counts.min()}"
        )
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    return [(rest, held) for rest, held in splitter.split(labels, given, labels)]


def _scaled_distance(
    kind: str, x: Matrix, reference: Matrix, rules: NDArray[Any], scaler: Scaler
) -> Vector:
    fitted = scaler().fit(reference)
    return DISTANCES[kind](fitted.transform(x), fitted.transform(reference), rules)


def _rows(features: ArrayLike, name: str) -> Matrix:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise IdentificationError(f"{name} must have shape (row, feature), got {rows.shape}")
    finite_rows(rows, name)
    return rows
