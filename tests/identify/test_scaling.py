"""Transformations against scikit-learn's and against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from goaldriven.identify.scaling import FirstAxes, PrincipalAxes, Ranks, TooFewAxes, ZScore


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    position = np.eye(3)[rng.integers(3, size=60)]
    numbers = rng.normal(size=(60, 8)) * 10.0 ** np.arange(-8, 8, 2)
    numbers[:, 5] = np.round(numbers[:, 5] / 1e2)  # ties
    numbers[:30, 6] = 7.0  # half of them tied
    numbers[:, 7] = 3.0  # all tied
    return np.hstack([position, numbers])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_zscore_is_standard_scaling_with_a_floor(x):
    train, test = x[:40], x[40:]
    z = ZScore().fit(train).transform(test)
    wide = [i for i in range(3, 11) if train[:, i].std() > 1e-5]
    assert len(wide) == 5  # the first two spread less than the floor, the last not at all
    expected = StandardScaler().fit(train).transform(test)
    np.testing.assert_allclose(z[:, wide], expected[:, wide], rtol=1e-9)
    np.testing.assert_allclose(z[:, 3], (test[:, 3] - train[:, 3].mean()) / 1e-5)
    np.testing.assert_array_equal(z[:, :3], test[:, :3])


def test_ranks_are_quantile_transformation(x):
    """scikit-learn's QuantileTransformer, uniform, from the same number of quantiles."""
    train, test = x[:40], np.vstack([x[40:], x[:40], 2 * x[40:]])
    r = Ranks(n_knots=17).fit(train).transform(test)
    reference = QuantileTransformer(n_quantiles=17, subsample=None).fit(train[:, 3:])
    expected = 2 * np.sqrt(3) * (reference.transform(test[:, 3:]) - 0.5)
    # Where every training value is the same, scikit-learn puts larger ones at 1 and smaller at 0.
    np.testing.assert_allclose(r[:, 3:10], expected[:, :7], atol=1e-9)
    np.testing.assert_array_equal(r[:, :3], test[:, :3])


def test_ranks_by_hand():
    train = np.column_stack([np.zeros((5, 3)), [0.0, 1.0, 2.0, 10.0, 100.0]])
    scale = Ranks(n_knots=5).fit(train)
    values = [-5, 0, 0.5, 2, 6, 100, 1e9]
    places = [0, 0, 0.125, 0.5, 0.625, 1, 1]
    x = np.column_stack([np.zeros((7, 3)), values])
    np.testing.assert_allclose(
        scale.transform(x)[:, 3], 2 * np.sqrt(3) * (np.array(places) - 0.5), atol=1e-15
    )


def test_ranks_of_a_constant_are_in_the_middle():
    constant = np.full((9, 4), 3.0)
    scale = Ranks().fit(constant)
    assert scale.transform(constant)[:, 3].tolist() == [0.0] * 9
    assert np.allclose(scale.transform(constant - 1)[:, 3], -np.sqrt(3))
    assert np.allclose(scale.transform(constant + 1)[:, 3], np.sqrt(3))


def test_ranks_have_unit_variance(rng):
    x = np.hstack([np.zeros((20000, 3)), 100 * rng.random((20000, 2))])
    r = Ranks().fit(x).transform(x)[:, 3:]
    np.testing.assert_allclose(r.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(r.std(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize("shape", [(30, 50), (50, 12)], ids=["wide", "tall"])
def test_principal_axes_are_those_of_pca(rng, shape):
    n, p = shape
    numbers = rng.normal(size=(n, 6)) @ rng.normal(size=(6, p)) + 0.1 * rng.normal(size=(n, p))
    x = np.hstack([np.eye(3)[rng.integers(3, size=n)], numbers + 5])
    test = np.hstack([np.zeros((4, 3)), rng.normal(size=(4, p))])
    axes = PrincipalAxes().fit(x)
    k = len(axes.axes_)
    assert k == min(n - 1, p)
    np.testing.assert_allclose(axes.axes_ @ axes.axes_.T, np.eye(k), atol=1e-9)
    reference = PCA(k).fit(numbers + 5)
    expected = reference.transform(test[:, 3:])
    np.testing.assert_allclose(np.abs(axes.transform(test)[:, 3:]), np.abs(expected), atol=1e-8)
    np.testing.assert_array_equal(axes.transform(x)[:, :3], x[:, :3])


def test_all_axes_keep_distances(rng):
    x = np.hstack([np.zeros((20, 3)), rng.normal(size=(20, 90))])
    y = PrincipalAxes().fit(x).transform(x)
    assert y.shape == (20, 3 + 19)
    for i, j in [(0, 1), (4, 17)]:
        assert np.linalg.norm(y[i] - y[j]) == pytest.approx(np.linalg.norm(x[i] - x[j]))


def test_no_variance_has_no_axes():
    x = np.ones((5, 6))
    assert PrincipalAxes().fit(x).transform(x).shape == (5, 3)


def test_first_axes(rng):
    x = rng.normal(size=(5, 9))
    np.testing.assert_array_equal(FirstAxes(2).fit(x).transform(x), x[:, :5])
    np.testing.assert_array_equal(FirstAxes().fit(x).transform(x), x)
    with pytest.raises(TooFewAxes, match=r"at most the 6 principal axes.*got 7"):
        FirstAxes(7).fit(x)
