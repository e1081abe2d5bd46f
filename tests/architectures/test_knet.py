"""Krizhevsky's networks against the published description and NumPy."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from goaldriven.architectures import build
from goaldriven.architectures.knet import SamePool
from goaldriven.architectures.normalization import LocalResponseNorm
from goaldriven.heads import Readout
from goaldriven.specs.architectures import KNet

from . import numpy_layers

NAMES = ["knet4", "knet4_lrn", "knet5", "knet5_lrn"]


def make(name, shape=(3, 32, 32), width=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return build(KNet(name=name, width=width), shape, Readout(10), generator)


@pytest.mark.parametrize(("name", "n_parameters"), [("knet4", 89_578), ("knet5", 289_386)])
@pytest.mark.parametrize("suffix", ["", "_lrn"])
def test_parameter_counts_as_published(name, suffix, n_parameters):
    """By hand: 5·5·3·32+32, 5·5·32·32+32, 5·5·32·64+64 and 4·4·64·10+10; KNet5 has
    5·5·64·128+128 and 2·2·128·10+10 in place of the last."""
    assert sum(p.numel() for p in make(name + suffix).parameters()) == n_parameters


def forward(model, x, name):
    """The network as the docstring draws it, in NumPy."""
    norm = name.endswith("_lrn")
    weights = {k: v.double().numpy() for k, v in model.state_dict().items()}
    activity = {}
    for i in range(1, 5 if "5" in name else 4):
        x = numpy_layers.conv(x, weights[f"conv{i}.weight"], weights[f"conv{i}.bias"])
        if i == 1:
            activity["conv1"] = x
            x = numpy_layers.same_pool(x, np.max)
            x = numpy_layers.lrn(numpy_layers.relu(x)) if norm else x
        else:
            x = activity[f"relu{i}"] = numpy_layers.relu(x)
            x = numpy_layers.same_pool(x, np.mean)
            x = numpy_layers.lrn(x) if norm and i == 2 else x
    fc = "fc5" if "5" in name else "fc4"
    activity[fc] = x.reshape(len(x), -1) @ weights[f"{fc}.weight"].T + weights[f"{fc}.bias"]
    return activity


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 13, 18)])
@pytest.mark.parametrize("name", NAMES)
def test_forward_pass_equals_numpy(name, shape):
    model = make(name, shape).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # larger than at the start, so that every term counts
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    x = 3 * torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    seen = {}
    for layer in model.layers:
        hook = lambda _m, _i, output, path=layer.output: seen.update({path: output})  # noqa: E731
        model.get_submodule(layer.output).register_forward_hook(hook)
    with torch.no_grad():
        model(x)
    expected = forward(model, x.numpy(), name)
    assert seen.keys() == expected.keys()
    for path, activity in expected.items():
        scale = np.abs(activity).max()
        np.testing.assert_allclose(seen[path].numpy(), activity, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_layers_as_published(name):
    layers = make(name).layers
    convs = 4 if "5" in name else 3
    assert [layer.name for layer in layers] == [
        *(f"conv{i}" for i in range(1, convs + 1)), f"fc{convs + 1}"
    ]  # fmt: skip
    assert [layer.output for layer in layers] == [
        "conv1", *(f"relu{i}" for i in range(2, convs + 1)), f"fc{convs + 1}"
    ]  # fmt: skip
    expected = {4: ["early", "middle", "deep", "deep"],
                5: ["early", "middle", "deep", "deep", "deep"]}  # fmt: skip
    assert [layer.position for layer in layers] == expected[convs + 1]
    assert [layer.rectified for layer in layers] == [True] * convs + [False]


def activity_shapes(model, shape):
    shapes = {}
    for layer in model.layers:
        hook = lambda _m, _i, o, name=layer.name: shapes.update({name: tuple(o.shape[1:])})  # noqa: E731
        model.get_submodule(layer.output).register_forward_hook(hook)
    model(torch.zeros(1, *shape))
    return shapes


def test_activity_shapes():
    assert activity_shapes(make("knet5"), (3, 32, 32)) == {
        "conv1": (32, 32, 32), "conv2": (32, 16, 16), "conv3": (64, 8, 8), "conv4": (128, 4, 4),
        "fc5": (10,),
    }  # fmt: skip
    assert activity_shapes(make("knet4_lrn", (1, 8, 8), width=0.5), (1, 8, 8)) == {
        "conv1": (16, 8, 8), "conv2": (16, 4, 4), "conv3": (32, 2, 2), "fc4": (10,),
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_published_deviations_at_the_published_input(name):
    model = make(name, width=2.0)
    for layer in model.layers:
        weight = model.get_submodule(layer.name).weight
        std = 1e-4 if layer.name == "conv1" else 0.01
        assert weight.shape[2:] in {(5, 5), ()}
        assert weight.std().item() == pytest.approx(std, rel=5 / np.sqrt(2 * weight.numel()))


@pytest.mark.parametrize(("shape", "size"), [((1, 8, 8), 3), ((3, 15, 40), 3), ((1, 32, 32), 5)])
def test_other_inputs_get_variance_scaling(shape, size):
    model = make("knet4", shape, width=2.0)
    for layer in model.layers:
        weight = model.get_submodule(layer.name).weight
        std = 0.01 if layer.name == "fc4" else np.sqrt(2 / weight[0].numel())
        assert weight.shape[2:] in {(size, size), ()}
        assert weight.std().item() == pytest.approx(std, rel=5 / np.sqrt(2 * weight.numel()))


@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("width", [1, 2, 5, 8])
@pytest.mark.parametrize(("kind", "reduce"), [("max", np.max), ("average", np.mean)])
def test_pooling_is_tensorflows_same(height, width, kind, reduce):
    x = torch.randn(2, 3, height, width, dtype=torch.float64) - 5  # padding must not win a maximum
    expected = numpy_layers.same_pool(x.numpy(), reduce)
    np.testing.assert_allclose(SamePool(kind)(x).numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("channels", [1, 3, 7, 32])
def test_local_response_norm(channels):
    x = 50 * torch.randn(2, channels, 4, 5, dtype=torch.float64)
    y = LocalResponseNorm(channels).double()(x)
    np.testing.assert_allclose(y.numpy(), numpy_layers.lrn(x.numpy()), rtol=1e-13)
    torchs = functional.local_response_norm(x, size=7, alpha=7 * 5e-5, beta=0.75, k=1.0)
    torch.testing.assert_close(y, torchs)


def test_local_response_norm_gradient():
    x = (10 * torch.randn(1, 5, 2, 2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(LocalResponseNorm(5, alpha=0.1).double(), (x,))


def test_local_response_norm_adds_nothing_to_the_state():
    assert not any("lrn" in key for key in make("knet4_lrn").state_dict())
