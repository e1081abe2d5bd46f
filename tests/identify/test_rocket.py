"""ROCKET kernels against their published definition, by loops and by their distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from goaldriven.identify.candidates import Kernels
from goaldriven.identify.features import Layout
from goaldriven.identify.rocket import RandomKernels


def made(n_examples: int, n_channels: int, n_times: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(n_examples, n_channels, n_times)).cumsum(axis=2)
    position = np.eye(3)[rng.integers(3, size=n_examples)]
    return np.hstack([position, series.reshape(n_examples, -1)])


def by_loops(kernels: RandomKernels, row: np.ndarray) -> tuple[list[float], list[float]]:
    """Shares and maxima of one example: every kernel, response time, channel and tap in turn."""
    series = row[3:].reshape(-1, kernels.n_times)
    shares, maxima, channel, weight = [], [], 0, 0
    for k in range(kernels.n_kernels):
        length, seen = kernels.length_[k], kernels.n_seen_[k]
        d, p = kernels.dilation_[k], kernels.padding_[k]
        responses = []
        for o in range(-p, kernels.n_times + p - (length - 1) * d):
            response = kernels.bias_[k]
            for c in range(seen):
                for j in range(length):
                    if 0 <= o + j * d < kernels.n_times:
                        w = kernels.weight_[weight + c * length + j]
                        response += w * series[kernels.channel_[channel + c], o + j * d]
            responses.append(response)
        channel, weight = channel + seen, weight + seen * length
        shares.append(float(np.mean(np.array(responses) > 0)))
        maxima.append(max(responses))
    assert (channel, weight) == (len(kernels.channel_), len(kernels.weight_))
    return shares, maxima


@pytest.mark.parametrize(
    ("n_channels", "n_times"), [(5, 21), (1, 30), (3, 10), (4, 7), (2, 4), (2, 1)]
)
def test_responses_are_convolutions(n_channels, n_times):
    x = made(4, n_channels, n_times)
    kernels = RandomKernels(n_times, 70, seed=1).fit(x)  # more than are convolved at once
    before = x.copy()
    found = kernels.transform(x)
    assert found.shape == (4, 3 + 2 * 70)
    np.testing.assert_array_equal(found[:, :3], x[:, :3])
    np.testing.assert_array_equal(x, before)
    for row, features in zip(x, found, strict=True):
        shares, maxima = by_loops(kernels, row)
        np.testing.assert_allclose(features[3:73], shares, atol=1e-12)
        np.testing.assert_allclose(features[73:], maxima, rtol=1e-9, atol=1e-9)


def test_a_kernel_by_hand():
    """x(o+2) − x(o) + ½ of the ramp 0, 1, 2, 4: 2½, 3½ without padding."""
    kernels = RandomKernels(4, 1)
    kernels.length_, kernels.dilation_, kernels.padding_ = (np.array([n]) for n in (2, 2, 0))
    kernels.bias_, kernels.n_seen_ = np.array([0.5]), np.array([1])
    kernels.channel_, kernels.weight_ = np.array([0]), np.array([-1.0, 1.0])
    x = np.array([[1.0, 0, 0, 0, 1, 2, 4], [0, 0, 1, 5, 3, 4, 2]])
    # The second: 4 − 5 + ½ and 2 − 3 + ½.
    np.testing.assert_allclose(kernels.transform(x)[:, 3:], [[1.0, 3.5], [0.0, -0.5]])
    kernels.padding_ = np.array([1])
    # With a zero on either side: 1 − 0, 2 − 0, 4 − 1, 0 − 2, all + ½.
    np.testing.assert_allclose(kernels.transform(x[:1])[:, 3:], [[0.75, 3.5]])


def test_kernels_are_drawn_as_published():
    n, n_times, n_channels = 6000, 50, 40
    kernels = RandomKernels(n_times, n).fit(np.zeros((1, 3 + n_channels * n_times)))
    values, counts = np.unique(kernels.length_, return_counts=True)
    assert values.tolist() == [7, 9, 11]
    assert np.abs(counts / n - 1 / 3).max() < 3 * math.sqrt(2 / 9 / n)
    for length in values:
        of_length = kernels.length_ == length
        most = math.log2((n_times - 1) / (length - 1))  # u is uniform up to this
        for dilation in range(1, int(2**most) + 1):
            u = [min(math.log2(d), most) for d in (dilation, dilation + 1)]
            share = (u[1] - u[0]) / most
            error = 4 * math.sqrt(share * (1 - share) / of_length.sum())
            assert np.mean(kernels.dilation_[of_length] == dilation) == pytest.approx(
                share, abs=error
            )
        log_most = math.log2(length + 1)  # channels: fewer than the 40 there are
        for seen in range(1, length + 2):
            v = [min(math.log2(s), log_most) for s in (seen, seen + 1)]
            share = (v[1] - v[0]) / log_most
            error = 4 * math.sqrt(share * (1 - share) / of_length.sum()) + 1e-12
            assert np.mean(kernels.n_seen_[of_length] == seen) == pytest.approx(share, abs=error)
    padded = kernels.padding_ > 0
    assert np.mean(padded) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(n))
    span = (kernels.length_ - 1) * kernels.dilation_
    np.testing.assert_array_equal(kernels.padding_[padded], span[padded] // 2)
    assert (span <= n_times - 1).all()
    assert np.abs(kernels.bias_).max() <= 1
    assert kernels.bias_.std() == pytest.approx(1 / math.sqrt(3), rel=0.03)


def test_weights_are_normal_without_their_mean():
    kernels = RandomKernels(21, 3000).fit(np.zeros((1, 3 + 21)))  # one channel
    starts = np.concatenate([[0], np.cumsum(kernels.length_)[:-1]])
    sums = np.add.reduceat(kernels.weight_, starts)
    np.testing.assert_allclose(sums, 0, atol=1e-12)
    # Σ w² of L normal numbers about their mean: χ² with L − 1 degrees of freedom.
    squares = np.add.reduceat(kernels.weight_**2, starts) / (kernels.length_ - 1)
    assert squares.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / 6 / 3000))


def test_channels_of_a_kernel_differ_and_all_are_seen():
    kernels = RandomKernels(21, 500).fit(np.zeros((1, 3 + 6 * 21)))
    ends = np.cumsum(kernels.n_seen_)
    for seen in np.split(kernels.channel_, ends[:-1]):
        assert len(set(seen.tolist())) == len(seen)
    assert set(kernels.channel_.tolist()) == set(range(6))


def test_same_seed_same_bits():
    x = made(5, 3, 21)
    one, two, other = (RandomKernels(21, 40, seed=s).fit(x).transform(x) for s in (1, 1, 2))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != other.tobytes()


def test_readout_is_ridge_on_standardised_features():
    x, y = made(60, 3, 12), np.array(["a", "b", "c"])[np.arange(60) % 3]
    x[:, 3:] += (np.arange(60) % 3)[:, None]
    layout = Layout(("weight_raw_mean", "weight_abs_mean", "weight_sq_mean"), tuple(range(12)))
    ours = Kernels(50, 10.0, "none").pipeline(layout, 4).fit(x[:40], y[:40])
    found = RandomKernels(12, 50, 4).fit(x).transform(x)
    scaler = StandardScaler().fit(found[:40])
    plain = RidgeClassifier(10.0).fit(scaler.transform(found[:40]), y[:40])
    np.testing.assert_allclose(
        ours.decision_function(x[40:]), plain.decision_function(scaler.transform(found[40:]))
    )
