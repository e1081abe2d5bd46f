"""The linear readout against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from goaldriven.tasks.readout import linear_readout_accuracy


def data(n=300, n_features=20, n_classes=4, seed=0):
    x, y = make_classification(
        n, n_features, n_informative=6, n_redundant=0, n_classes=n_classes, random_state=seed
    )
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("n_features", [8, 20, 250])
def test_equals_scikit_learn(penalty, n_features):
    x, y = data(n_features=n_features)
    x = x * torch.logspace(-4, 4, n_features) + 7  # standardisation must undo this
    ours = linear_readout_accuracy(x[:200], y[:200], x[200:], y[200:], 4, penalty)
    theirs = make_pipeline(StandardScaler(), RidgeClassifier(alpha=penalty))
    theirs.fit(x[:200].numpy(), y[:200].numpy())
    assert ours == theirs.score(x[200:].numpy(), y[200:].numpy())
    assert 0.3 < ours < 1 or n_features > 200


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_constant_features_are_ignored(constant):
    x, y = data()
    dead = torch.full((300, 2), constant, dtype=torch.float32)
    with_dead = torch.cat([x.float(), dead], dim=1)
    args = [(f[:200], y[:200], f[200:], y[200:], 4) for f in (x.float(), with_dead)]
    assert linear_readout_accuracy(*args[0]) == linear_readout_accuracy(*args[1])
    only = linear_readout_accuracy(dead[:200], y[:200], dead[200:], y[200:], 4)
    majority = torch.bincount(y[:200]).argmax()
    assert only == pytest.approx((y[200:] == majority).double().mean().item())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("which", [0, 250])
def test_features_that_are_not_finite_give_nan(bad, which):
    x, y = data()
    x[which, 3] = bad
    assert np.isnan(linear_readout_accuracy(x[:200], y[:200], x[200:], y[200:], 4))


def test_huge_features_are_no_trouble():
    x, y = data()
    big = (x * 1e30).float()
    plain = linear_readout_accuracy(x[:200], y[:200], x[200:], y[200:], 4)
    assert linear_readout_accuracy(big[:200], y[:200], big[200:], y[200:], 4) == plain


def test_inputs_are_left_alone():
    x, y = data()
    copy = x.clone()
    linear_readout_accuracy(x, y, x, y, 4)
    assert torch.equal(x, copy)
