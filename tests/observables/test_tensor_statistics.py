"""Every statistic of a tensor against NumPy and SciPy, and its invariances and degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goaldriven.errors import DataError
from goaldriven.observables import (
    activation_statistics,
    device,
    published_weight_norms,
    weight_statistics,
)
from goaldriven.observables.selection import nearest_rank
from goaldriven.observables.statistics import read_activity, standard_deviation
from goaldriven.specs.statistics import STATISTICS

from .numpy_statistics import COLUMNS, FUNCTIONS, SUMMARIES, reference

PERCENTILES = [i for i, (_, s) in enumerate(COLUMNS) if s in ("median", "third_quartile")]
SKEWS = [i for i, (_, s) in enumerate(COLUMNS) if s == "skew"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def heavy(*shape: int) -> torch.Tensor:
    """Student's t with two degrees of freedom: infinite variance."""
    values = np.random.default_rng(0).standard_t(2, size=shape)
    return torch.tensor(values, dtype=torch.float32)


DATA = {
    "few units": normal(6, 7),
    "image": normal(5, 3, 8, 8),
    "partitioned": normal(4, 5000),
    "several blocks": normal(3, 9001),
    "several chunks": normal(70, 1999),
    "rectified": normal(6, 900).relu(),
    "many ties": (3 * normal(4, 3000)).round(),
    "large mean": 1000 + normal(5, 3000),
    "very large mean": 1e6 + normal(5, 3000),
    "negative mean": normal(5, 3000) - 50,
    "small mean": normal(40, 2000) * 3 - normal(40, 2000).mean(1, keepdim=True) * 3,
    "two values": 5 + 0.001 * torch.sign(normal(5, 600)),
    "heavy tails": heavy(8, 2000),
    "lognormal": torch.exp(2 * normal(8, 2000)),
    "tiny": 1e-9 * normal(4, 700),
    "near underflow": 1e-30 * normal(4, 700),
    "huge": 1e9 * normal(4, 700),
    "rows of all scales": normal(80, 600) * 10.0 ** torch.linspace(-15, 8, 80)[:, None],
    "alternating scales": torch.where(torch.arange(4000) % 2 == 0, 1e-9, 1.0) * normal(3, 4000),
    "one outlier": torch.cat([1e-4 * normal(3, 2000), torch.full((3, 1), 1e5)], dim=1),
    "double": normal(4, 700).double() + 1e4,
}


def assert_close(got: np.ndarray, want: np.ndarray, rtol: float) -> None:
    absolute = rtol * np.isin(np.arange(21), SKEWS)
    assert np.all(np.abs(got - want) <= rtol * np.abs(want) + absolute), np.abs(got / want - 1)


@pytest.mark.parametrize("name", DATA)
def test_statistics_equal_numpy_and_scipy(name: str) -> None:
    y = DATA[name]
    got = activation_statistics(y)
    want = np.array([reference(row) for row in y.numpy()])
    assert got.shape == (len(y), 21)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got[:, PERCENTILES], want[:, PERCENTILES])
    assert_close(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    "n", [1, 2, 3, 4, 5, 6, 63, 64, 511, 512, 513, 514, 4095, 4096, 4097, 8193]
)
def test_statistics_at_every_kind_of_length(n: int) -> None:
    y = normal(9, n, seed=n)
    got, want = activation_statistics(y), np.array([reference(row) for row in y.numpy()])
    np.testing.assert_array_equal(got[:, PERCENTILES], want[:, PERCENTILES])
    constant = n == 1
    if constant:
        assert np.isnan(got[:, SKEWS]).all()
        got, want = got[:, [0, 1, 4]], want[:, [0, 1, 4]]
        np.testing.assert_allclose(got, want, rtol=1e-12)
    else:
        signed_only = np.isfinite(want)  # two values may have equal magnitude
        np.testing.assert_array_equal(np.isfinite(got), signed_only)
        assert_close(np.where(signed_only, got, 0), np.where(signed_only, want, 0), rtol=1e-5)


@pytest.mark.parametrize(
    "name", [n for n, s in STATISTICS.items() if s.measure != "activity_change"]
)
def test_each_named_statistic_stands_where_the_table_says(name: str) -> None:
    statistic = STATISTICS[name]
    y = normal(1, 8, 3, 3, 3).abs() ** 1.5 - 0.3
    column = list(STATISTICS).index(name)
    if statistic.measure == "weight":
        got = weight_statistics(y[0])[column]
    else:
        got = activation_statistics(y)[0, column - 21]
    z = FUNCTIONS[statistic.function](y.numpy().astype(np.float64))
    assert got == pytest.approx(SUMMARIES[statistic.summary](z), rel=1e-5)


def test_percentile_ranks_are_numpys_nearest() -> None:
    for n in range(1, 300):
        for percent in (50, 75):
            want = np.percentile(np.arange(n), percent, method="nearest")
            assert nearest_rank(n, percent) == want


def test_median_of_an_even_number_takes_the_even_rank_where_tensorflow_takes_the_odd() -> None:
    values = torch.arange(10.0)[None]
    median = activation_statistics(values)[0, 2]
    descending = np.rint(9 * 0.5)  # tf.contrib's percentile: ties to even, counted from the top
    assert median == 4
    assert 9 - descending == 5


@pytest.mark.parametrize("shape", [(5, 40), (3, 700), (70, 1999), (2, 5000)])
@pytest.mark.parametrize("offset", [-0.5, 0.0, 2.0])
def test_promising_nonnegative_values_changes_nothing(
    shape: tuple[int, int], offset: float
) -> None:
    y = (normal(*shape) + offset).relu()
    general, shortcut = activation_statistics(y), activation_statistics(y, nonnegative=True)
    np.testing.assert_array_equal(general[:, PERCENTILES], shortcut[:, PERCENTILES])
    np.testing.assert_allclose(general, shortcut, rtol=1e-6, equal_nan=True)
    np.testing.assert_array_equal(shortcut[:, :7], shortcut[:, 7:14])


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("nonnegative", [False, True])
def test_torch_path_for_accelerators_gives_the_same(name: str, nonnegative: bool) -> None:
    y = DATA[name].flatten(1)
    y = y.abs() if nonnegative else y
    share = normal(y.shape[1]).double()
    here, there = (
        read_activity(y, nonnegative, share),
        device.summarize(y, nonnegative, share),
    )
    np.testing.assert_array_equal(here[0][:, PERCENTILES].T.reshape(3, 2, -1).swapaxes(0, 1),
                                  there.percentiles)  # fmt: skip
    want = np.array([reference(row) for row in y.numpy()])
    for row, column in enumerate([1, None, 4]):
        if column is not None:
            got = there.moments[0 if row == 0 else 2]
            np.testing.assert_allclose(got, want[:, [column, column + 7, column + 14]].T, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(there.moments.square_sum), want[:, [0, 7, 14]].T, rtol=1e-9)
    kurtosis = there.moments.fourth / there.moments.variance**2
    np.testing.assert_allclose(kurtosis, want[:, [6, 13, 20]].T, rtol=1e-7)
    exact = (y.double() > 0).double() @ share
    np.testing.assert_allclose(there.shared, exact, rtol=1e-12)
    np.testing.assert_allclose(here[1], exact, atol=1e-6 * share.abs().sum().item())


@pytest.mark.parametrize("size", [1, 7, 33, 64])
def test_a_row_does_not_depend_on_its_company(size: int) -> None:
    y = DATA["several chunks"]
    merged = np.concatenate([activation_statistics(part) for part in y.split(size)])
    np.testing.assert_array_equal(merged, activation_statistics(y))
    # Nor beyond rounding where its company is of another scale.
    mixed = torch.cat([y, 1e4 * normal(3, 1999), 30 + normal(3, 1999), torch.zeros(1, 1999)])
    np.testing.assert_allclose(activation_statistics(mixed)[:70], merged, rtol=1e-5, atol=1e-6)


def test_scaling_law() -> None:
    y = normal(6, 3, 9, 9)
    one, four = activation_statistics(y), activation_statistics(4 * y)
    powers = {"norm": 1, "mean": 1, "median": 1, "third_quartile": 1, "var": 2}
    for column, (function, summary) in enumerate(COLUMNS):
        degree = powers.get(summary, 0) * (2 if function == "sq" else 1)
        np.testing.assert_array_equal(four[:, column], 4.0**degree * one[:, column])


def test_sign_flip_leaves_abs_and_sq_and_mirrors_raw() -> None:
    y = normal(6, 3, 9, 9)
    one, flipped = activation_statistics(y), activation_statistics(-y)
    np.testing.assert_array_equal(one[:, 7:], flipped[:, 7:])
    np.testing.assert_allclose(one[:, [0, 4, 6]], flipped[:, [0, 4, 6]], rtol=1e-6)
    np.testing.assert_allclose(one[:, 1], -flipped[:, 1], rtol=1e-5)


def test_order_of_units_and_memory_layout_do_not_matter() -> None:
    y = normal(4, 6, 10, 10)
    want = activation_statistics(y)
    last = activation_statistics(y.to(memory_format=torch.channels_last))
    np.testing.assert_allclose(last, want, rtol=1e-5)
    np.testing.assert_array_equal(activation_statistics(y.double().float()), want)
    strided = torch.stack([y, y], dim=-1)[..., 0]
    np.testing.assert_array_equal(activation_statistics(strided), want)
    shuffled = y.flatten(1)[:, torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    np.testing.assert_allclose(activation_statistics(shuffled), want, rtol=1e-5)


def test_lower_precisions_are_widened_first() -> None:
    y = normal(3, 50).bfloat16()
    np.testing.assert_array_equal(activation_statistics(y), activation_statistics(y.float()))


def test_inputs_are_not_changed() -> None:
    y = normal(3, 2000).requires_grad_()
    before = y.detach().clone()
    activation_statistics(y)
    weight_statistics(y)
    assert torch.equal(y, before)


def test_constant_rows_have_no_variance_and_no_shape() -> None:
    y = torch.stack([torch.full((700,), v) for v in (0.1, 0.0, -3.3, 1e-20, 1e20)])
    got = activation_statistics(y)
    values = y[:, 0].double().numpy()
    np.testing.assert_array_equal(got[:, [1, 2, 3]], np.stack([values] * 3, axis=1))
    np.testing.assert_array_equal(got[:, [4, 11, 18]], 0)
    np.testing.assert_allclose(got[:, 0], np.abs(values) * np.sqrt(700), rtol=1e-6)
    assert np.isnan(got[:, [5, 6, 12, 13, 19, 20]]).all()


def test_equal_magnitudes_are_constant_for_abs_and_sq_only() -> None:
    y = torch.where(torch.arange(600) % 3 == 0, -0.7, 0.7)[None]
    got = activation_statistics(y)[0]
    assert np.isfinite(got[:7]).all()
    assert got[11] == got[18] == 0
    assert np.isnan(got[[12, 13, 19, 20]]).all()


@pytest.mark.parametrize("n", [8, 700, 5000])
def test_nan_makes_its_own_row_nan_and_no_other(n: int) -> None:
    y = normal(5, n)
    want = activation_statistics(y)
    y[2, 3] = torch.nan
    got = activation_statistics(y)
    assert np.isnan(got[2]).all()
    np.testing.assert_array_equal(np.delete(got, 2, axis=0), np.delete(want, 2, axis=0))
    torch_path = device.summarize(y, False)
    assert np.isnan(torch_path.percentiles[..., 2]).all()
    assert np.isnan(np.array(torch_path.moments)[..., 2]).all()
    assert np.isfinite(np.delete(torch_path.percentiles, 2, axis=2)).all()


@pytest.mark.parametrize("n", [8, 700, 5000])
def test_infinity_stays_infinite(n: int) -> None:
    y = normal(3, n)
    y[1, 0] = torch.inf
    got = activation_statistics(y)[1]
    assert np.isposinf(got[[0, 1, 7, 8, 14, 15]]).all()
    assert np.isnan(got[[4, 5, 6, 11, 12, 13]]).all()
    want = np.percentile(y[1].double().numpy(), [50, 75], method="nearest")
    np.testing.assert_array_equal(got[[2, 3]], want)


def test_weights_are_one_sample_of_all_entries() -> None:
    weight = normal(16, 8, 5, 5)
    np.testing.assert_allclose(weight_statistics(weight), reference(weight.numpy()), rtol=1e-5)
    assert weight_statistics(weight)[0] == pytest.approx(torch.linalg.norm(weight).item())


@pytest.mark.parametrize("shape", [(5, 7), (6, 3, 4), (6, 3, 4, 2)])
def test_published_weight_norm_averages_slices_of_the_published_layout(shape: tuple) -> None:
    weight = normal(*shape).numpy().astype(np.float64)
    published = np.moveaxis(weight, (0, 1), (-1, -2))  # [*kernel, in, out] or [in, out]
    want = [
        np.linalg.norm(function(published).reshape(len(published), -1), axis=1).mean()
        for function in FUNCTIONS.values()
    ]
    got = published_weight_norms(torch.tensor(weight, dtype=torch.float32))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got[0] < weight_statistics(torch.tensor(weight))[0]


def test_published_weight_norm_of_one_slice_is_the_frobenius_norm() -> None:
    weight = normal(4, 3, 1, 5)
    frobenius = weight_statistics(weight)
    np.testing.assert_allclose(published_weight_norms(weight), frobenius[[0, 7, 14]], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_standard_deviation_is_numpys(scale: float) -> None:
    z = scale * (normal(7, 11, 13) + 3)
    assert standard_deviation(z) == pytest.approx(z.numpy().astype(float).std(), rel=1e-12)
    assert standard_deviation(torch.full((5, 7), 0.1 * scale)) == 0.0


def test_no_stimuli_give_no_rows() -> None:
    assert activation_statistics(torch.empty(0, 4)).shape == (0, 21)


@pytest.mark.parametrize("shape", [(), (3, 0), (3, 2, 0)])
def test_activations_need_units(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"'y' must be \[batch, units, …\] with units, got shape"):
        activation_statistics(torch.empty(shape))


def test_weights_need_entries() -> None:
    with pytest.raises(DataError, match=r"'weight' must have entries, got shape \(0, 3\)"):
        weight_statistics(torch.empty(0, 3))
    with pytest.raises(DataError, match=r"'weight' must have at least 2 dimensions"):
        published_weight_norms(torch.ones(3))
