"""The Conv1D MLP against PyTorch's own modules."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven.identify.conv1d import Conv1D

N_TIMES, N_CHANNELS = 9, 4


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=40)
    trajectories = rng.normal(size=(40, N_CHANNELS, N_TIMES)) + 0.5 * y[:, None, None]
    position = np.eye(3)[rng.integers(3, size=40)]
    return np.hstack([position, trajectories.reshape(40, -1)]), np.array(["a", "b", "c"])[y]


class Reference(nn.Module):
    """The same network from torch.nn, with the weights of a fitted `Conv1D`."""

    def __init__(self, fitted: Conv1D) -> None:
        super().__init__()
        kernel = torch.from_numpy(fitted.kernel_.copy())
        kernel = kernel.reshape(fitted.filters, 3 + N_CHANNELS, fitted.kernel_size)
        self.conv = nn.Conv1d(3 + N_CHANNELS, fitted.filters, fitted.kernel_size, fitted.stride)
        self.readout = nn.Linear(fitted.readout_.shape[1], len(fitted.classes_))
        self.pooling = fitted.pooling
        with torch.no_grad():
            self.conv.weight.copy_(kernel)
            self.conv.bias.copy_(torch.from_numpy(fitted.bias_))
            self.readout.weight.copy_(torch.from_numpy(fitted.readout_))
            self.readout.bias.copy_(torch.from_numpy(fitted.offset_))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        position = x[:, :3, None].expand(-1, -1, N_TIMES)
        hidden = torch.cat([position, x[:, 3:].reshape(-1, N_CHANNELS, N_TIMES)], dim=1)
        hidden = torch.relu(self.conv(hidden))  # (example, filter, output time)
        if self.pooling == "max":
            hidden = hidden.max(dim=2).values
        elif self.pooling == "mean":
            hidden = hidden.mean(dim=2)
        else:
            hidden = hidden.transpose(1, 2).flatten(1)
        return self.readout(hidden)


@pytest.mark.parametrize("pooling", [None, "max", "mean"])
@pytest.mark.parametrize(("share", "stride"), [(0.05, 1), (0.3, 2), (0.5, 4), (1.0, 1)])
def test_forward_is_torchs(data, pooling, share, stride):
    x, y = data
    net = Conv1D(N_TIMES, share, stride, filters=5, pooling=pooling, epochs=3).fit(x, y)
    with torch.no_grad():
        expected = torch.softmax(Reference(net)(torch.tensor(x, dtype=torch.float32)), dim=1)
    np.testing.assert_allclose(net.predict_proba(x), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("pooling", [None, "max"])
def test_fitting_is_adam_on_the_cross_entropy(data, pooling, weight_decay):
    """Five epochs of full batches end where torch.nn with torch.optim.Adam does."""
    x, y = data
    common = {"kernel_share": 0.3, "stride": 2, "filters": 5, "pooling": pooling,
              "learning_rate": 0.01, "weight_decay": weight_decay, "seed": 4}  # fmt: skip
    model = Reference(Conv1D(N_TIMES, epochs=0, **common).fit(x, y))
    fitted = Conv1D(N_TIMES, epochs=5, **common).fit(x, y)
    # Adam's own weight_decay adds λ·w to the gradient: the gradient of λ/2·w².
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=weight_decay)
    inputs, targets = (
        torch.tensor(x, dtype=torch.float32),
        torch.tensor(np.unique(y, return_inverse=True)[1]),
    )
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    expected = model.conv.weight.detach().numpy().reshape(5, -1)
    np.testing.assert_allclose(fitted.kernel_, expected, atol=1e-5)
    np.testing.assert_allclose(fitted.readout_, model.readout.weight.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(fitted.offset_, model.readout.bias.detach().numpy(), atol=1e-5)


def test_initial_weights_are_glorot_uniform():
    rng = np.random.default_rng(0)
    x = np.hstack([np.zeros((6, 3)), rng.normal(size=(6, 50 * N_TIMES))])
    net = Conv1D(N_TIMES, 1.0, filters=40, epochs=0).fit(x, np.arange(6))
    bound = math.sqrt(6 / (53 * N_TIMES + 40 * N_TIMES))  # fan in + fan out, taps counted
    assert np.abs(net.kernel_).max() == pytest.approx(bound, rel=1e-2)
    assert net.kernel_.std() == pytest.approx(bound / math.sqrt(3), rel=2e-2)
    assert not net.bias_.any()
    assert not net.offset_.any()
    assert np.abs(net.readout_).max() <= math.sqrt(6 / (40 + 6))


def test_small_batches_leave_out_the_rest_and_learn(data):
    x, y = data
    net = Conv1D(N_TIMES, 0.5, batch_size=16, epochs=60, learning_rate=0.01).fit(x, y)
    assert (net.predict(x) == y).mean() == 1


def test_same_seed_same_bits_and_threads_are_left_alone(data):
    x, y = data
    before = torch.get_num_threads()
    one, two, other = (
        Conv1D(N_TIMES, 0.3, epochs=3, batch_size=16, seed=s).fit(x, y) for s in (1, 1, 2)
    )
    assert torch.get_num_threads() == before
    assert one.kernel_.tobytes() == two.kernel_.tobytes()
    assert one.kernel_.tobytes() != other.kernel_.tobytes()


def test_global_random_state_is_left_alone(data):
    state = torch.get_rng_state()
    Conv1D(N_TIMES, 0.3, epochs=2, batch_size=16).fit(*data)
    assert torch.equal(torch.get_rng_state(), state)


def test_applying_what_was_fitted_needs_no_torch(data):
    x, y = data
    net = Conv1D(N_TIMES, 0.3, filters=2, epochs=2).fit(x, y)
    fitted = {k: v.tolist() for k, v in vars(net).items() if k.endswith("_")}
    code = (
        "import sys, json, numpy as np\n"
        "from goaldriven.identify.conv1d import Conv1D\n"
        "import goaldriven.identify\n"
        "fitted, x = json.load(sys.stdin)\n"
        f"net = Conv1D({N_TIMES}, 0.3, filters=2)\n"
        "vars(net).update({k: np.array(v) for k, v in fitted.items()})\n"
        "print(json.dumps([net.predict_proba(np.array(x)).tolist(), 'torch' in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([fitted, x.tolist()]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    p, torch_was_loaded = json.loads(run.stdout)
    np.testing.assert_allclose(p, net.predict_proba(x), atol=1e-6)
    assert torch_was_loaded is False


def test_kernel_is_never_longer_than_the_trajectory_nor_empty():
    assert [Conv1D(n, kernel_share=s).kernel_size for n, s in [(21, 1e-9), (1, 0.5), (4, 1.0)]] == [
        1, 1, 4,
    ]  # fmt: skip
