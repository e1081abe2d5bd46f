"""AlexNet against its definition."""

import numpy as np
import pytest
import torch

from goaldriven.architectures import build
from goaldriven.architectures.dropout import Dropout
from goaldriven.heads import Contrastive, Readout
from goaldriven.specs.architectures import AlexNet

from . import numpy_layers


def make(name="alexnet", shape=(3, 224, 224), width=1.0, head=None):
    generator = torch.Generator().manual_seed(0)
    return build(AlexNet(name=name, width=width), shape, head or Readout(1000), generator)


def test_parameter_counts_by_hand():
    """conv1 VALID at 224: 54 → SAME pools 27, 14, 7, so fc6 sees 7·7·256 units."""
    kernels = {
        "conv1": 11 * 11 * 3 * 96, "conv2": 5 * 5 * 96 * 256, "conv3": 3 * 3 * 256 * 384,
        "conv4": 4 * 4 * 384 * 384, "conv5": 3 * 3 * 384 * 256, "fc6": 7 * 7 * 256 * 4096,
        "fc7": 4096 * 4096, "fc8": 4096 * 1000,
    }  # fmt: skip
    biases = 96 + 256 + 384 + 384 + 256 + 4096 + 4096 + 1000
    model = make()
    assert {n: model.get_submodule(n).weight.numel() for n in kernels} == kernels
    assert sum(p.numel() for p in model.parameters()) == sum(kernels.values()) + biases
    assert sum(kernels.values()) + biases == 77_042_024


def test_layers_and_positions():
    layers = make(width=1 / 64).layers
    assert [layer.name for layer in layers] == [
        "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8",
    ]  # fmt: skip
    assert [layer.position for layer in layers] == ["early"] * 2 + ["middle"] * 2 + ["deep"] * 4
    assert [layer.rectified for layer in layers] == [True] * 7 + [False]
    headed = make(width=1 / 64, head=Contrastive(8)).layers
    assert [layer.name for layer in headed[-3:]] == ["fc7", "nl_0", "nl_1"]


def test_published_initialisation():
    model = make(width=0.25)
    for i, (n_in, n_out, k) in enumerate(
        [(3, 24, 11), (24, 64, 5), (64, 96, 3), (96, 96, 4), (96, 64, 3)], start=1
    ):
        weight = model.get_submodule(f"conv{i}").weight
        limit = np.sqrt(6 / (k * k * (n_in + n_out)))
        assert limit * 0.999 < weight.abs().max().item() <= limit
        assert weight.var().item() == pytest.approx(limit**2 / 3, rel=0.05)
    for name in ("fc6", "fc7", "fc8"):
        weight = model.get_submodule(name).weight
        assert weight.abs().max().item() <= 0.02  # cut off at two deviations
        assert weight.std().item() == pytest.approx(0.0087962566, rel=0.02)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_lrn"])
@pytest.mark.parametrize("side", [139, 20])
def test_forward_follows_the_definition(name, side):
    """In NumPy: VALID first convolution, SAME 4×4 (one before, two after), SAME pools."""
    model = make(name, (3, side, side), width=1 / 16).double().eval()
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    state = {k: v.numpy() for k, v in model.state_dict().items() if v.dim()}
    h = x.numpy()
    for i in range(1, 6):
        kernel, bias = state[f"conv{i}.weight"], state[f"conv{i}.bias"]
        k = kernel.shape[-1]
        stride = 4 if i == 1 and side >= 128 else 1
        before = 0 if stride == 4 else (k - 1) // 2
        after = 0 if stride == 4 else k - 1 - before
        padded = np.pad(h, ((0, 0), (0, 0), (before, after), (before, after)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
        windows = windows[:, :, ::stride, ::stride]
        h = np.einsum("nchwij,ocij->nohw", windows, kernel) + bias[:, None, None]
        h = numpy_layers.relu(h)
        if name.endswith("lrn") and i <= 2:
            h = numpy_layers.lrn(h, radius=5, alpha=1e-4)
        if i in (1, 2, 5):
            h = numpy_layers.same_pool(h, np.max)
    h = h.reshape(2, -1)
    for i in (6, 7):
        h = numpy_layers.relu(h @ state[f"fc{i}.weight"].T + state[f"fc{i}.bias"])
    expected = h @ state["fc8.weight"].T + state["fc8.bias"]
    np.testing.assert_allclose(model(x).detach().numpy(), expected, atol=1e-12)


class TestDropout:
    def test_rate_and_scale(self):
        layer, x = Dropout(0.25), torch.ones(100, 1000)
        y = layer(x)
        kept = y != 0
        assert torch.equal(y[kept], torch.full_like(y[kept], 1 / 0.75))
        assert kept.double().mean().item() == pytest.approx(0.75, abs=5 * (0.1875 / 1e5) ** 0.5)

    def test_nothing_happens_in_eval_mode(self):
        x = torch.randn(4, 8)
        layer = Dropout().eval()
        assert torch.equal(layer(x), x)
        assert layer.passes == 0

    def test_masks_differ_between_passes_and_not_between_twins(self):
        x = torch.ones(1, 64)
        one, two = Dropout(), Dropout()
        first = one(x)
        assert torch.equal(first, two(x))
        assert not torch.equal(first, one(x))

    def test_ranks_take_their_rows_of_the_joined_mask(self):
        x = torch.ones(6, 32)
        joined = Dropout()(x)
        for rank, rows in enumerate(joined.split(2)):
            layer = Dropout()
            layer.part = (rank, 3)
            assert torch.equal(layer(x[:2]), rows)

    def test_goes_on_where_it_was_stored(self):
        x, layer = torch.ones(1, 64), Dropout()
        layer(x)
        other = Dropout()
        other.load_state_dict(layer.state_dict())
        assert torch.equal(layer(x), other(x))

    def test_leaves_the_global_generator_alone(self):
        before = torch.get_rng_state()
        Dropout()(torch.ones(8))
        assert torch.equal(before, torch.get_rng_state())

    def test_gradient_passes_where_units_were_kept(self):
        x = torch.ones(50, requires_grad=True)
        y = Dropout()(x)
        y.sum().backward()
        assert torch.equal(x.grad, y.detach())
