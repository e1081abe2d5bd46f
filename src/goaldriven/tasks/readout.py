"""A linear readout of frozen features: how well an unsupervised network separates the classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def linear_readout_accuracy(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    n_classes: int,
    penalty: float = 1.0,
) -> float:
    """Accuracy on test features of a ridge classifier fitted on training features.

    Features are standardised by the training ones (constant features become 0), then

        W = argmin_W ‖Y − 1 ȳᵀ − Z W‖² + λ‖W‖² ,   class = argmax(z W + ȳ) ,

    with Y = ±1 targets per class: a closed form, so that the readout is exact, deterministic and
    quick enough to be taken at every record.

    Parameters
    ----------
    features, test_features : (n, f) and (m, f); features that are not finite give NaN.
    penalty : λ.

    Source: least-squares classifier; the same as scikit-learn's ``RidgeClassifier`` after
    ``StandardScaler``.
    """
    if not (features.isfinite().all() and test_features.isfinite().all()):
        return float("nan")
    train, test = features.double(), test_features.double()
    mean, std = train.mean(0), train.std(0, correction=0)
    # Rounding leaves a constant feature a tiny deviation, which must not be blown up to 1.
    std = torch.where(std > 1e-9 * train.abs().amax(0), std, torch.inf)
    train, test = (train - mean) / std, (test - mean) / std
    targets = 2.0 * functional.one_hot(labels, n_classes).double() - 1.0
    offset = targets.mean(0)
    gram = train.T @ train
    gram.diagonal().add_(penalty)
    weights = torch.cholesky_solve(train.T @ (targets - offset), torch.linalg.cholesky(gram))
    predicted = (test @ weights + offset).argmax(1)
    return float((predicted == test_labels).double().mean())
