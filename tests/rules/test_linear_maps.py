import pytest
import torch
from torch import nn

from goaldriven.rules import linear_maps
from goaldriven.rules.linear_maps import Convolution, Dense, per_sample, rows, weighted_sum

from .slow_alignment import apply


def map_of(layer):
    return Dense() if isinstance(layer, nn.Linear) else Convolution.of(layer)


def test_the_three_maps_are_each_others_adjoints(layer_and_input):
    """⟨P_K x, y⟩ = ⟨x, P_Kᵀ y⟩ = ⟨weight gradient, K⟩ for any x, y, K; P is PyTorch's."""
    layer, x = layer_and_input
    linear_map, kernel = map_of(layer), torch.randn_like(layer.weight)
    x, _ = linear_map.batched(x, x)
    projected = linear_map.project(x, kernel)
    torch.testing.assert_close(projected, apply(layer, x, kernel), rtol=1e-12, atol=1e-12)
    y = torch.randn_like(projected)
    product = (projected * y).sum()
    reconstructed = linear_map.reconstruct(y, kernel, torch.empty_like(x))
    assert reconstructed.shape == x.shape
    torch.testing.assert_close((reconstructed * x).sum(), product, rtol=1e-11, atol=0)
    gradient = linear_map.weight_gradient(x, y, kernel)
    torch.testing.assert_close((gradient * kernel).sum(), product, rtol=1e-11, atol=0)


def test_uniform_weight_gradient_is_that_of_an_all_ones_output(layer_and_input):
    layer, x = layer_and_input
    linear_map = map_of(layer)
    x, _ = linear_map.batched(x, x)
    y = linear_map.project(x, layer.weight.detach())
    uniform = linear_map.uniform_weight_gradient(x[:1], y, layer.weight.detach())
    expected = linear_map.weight_gradient(x[:1], torch.ones_like(y[:1]), layer.weight.detach())
    torch.testing.assert_close(uniform, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (5, 2), ((3, 5), (0, 4)), (1, 0), (2, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_reconstruction_by_tiles_is_the_reconstruction(
    channels, size, padding, layout, monkeypatch
):
    layer = nn.Conv2d(channels, 6, size, padding=padding).double()
    x = torch.randn(3, channels, 8, 6, dtype=torch.float64).to(memory_format=layout)
    linear_map, kernel = Convolution.of(layer), layer.weight.detach()
    y = torch.randn_like(linear_map.project(x, kernel))
    monkeypatch.setattr(linear_maps, "_WORTHWHILE_PIXELS", 10**9)
    assert not linear_map._suits_2x2(x, kernel)
    direct = linear_map.reconstruct(y, kernel, x)
    monkeypatch.setattr(linear_maps, "_WORTHWHILE_PIXELS", 0)
    assert linear_map._suits_2x2(x, kernel)
    tiled = linear_map.reconstruct(y, kernel, x)
    torch.testing.assert_close(tiled, direct, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "z",
    [
        torch.randn(4, 3),
        torch.randn(4, 3, 5),
        torch.randn(4, 3, 5, 2),
        torch.randn(4, 3, 5, 2).to(memory_format=torch.channels_last),
        torch.randn(4, 5, 3).transpose(1, 2),
        torch.randn(5, 4, 3).transpose(0, 1),
        torch.randn(4, 1, 5, 2).to(memory_format=torch.channels_last),
    ],
    ids=lambda z: f"{tuple(z.shape)}, strides {z.stride()}",
)
def test_reductions_hold_in_every_memory_layout(z):
    axes = tuple(range(1, z.dim()))
    torch.testing.assert_close(rows(z).mean(1), z.mean(axes))
    torch.testing.assert_close(rows(z).norm(dim=1), z.square().sum(axes).sqrt())
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    expected = (z * per_sample(weights, z)).sum(0, keepdim=True)
    torch.testing.assert_close(weighted_sum(z, weights), expected)
    # Rows of a tensor and of its sums are in the same order: their products are inner products.
    inner = rows(z) @ rows(weighted_sum(z, weights))[0]
    torch.testing.assert_close(inner, (z * expected).sum(axes))
