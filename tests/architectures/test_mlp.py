"""Fully connected networks, and the autoencoder's head on every architecture."""

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven.architectures import build
from goaldriven.errors import SpecError
from goaldriven.heads import Readout, Reconstruction
from goaldriven.layers import layer_position
from goaldriven.specs import ARCHITECTURES, NetworkSpec
from goaldriven.specs.architectures import MLP

READOUT = Readout(10)


def make(spec, head=READOUT, shape=(1, 8, 8)):
    return build(spec, shape, head, torch.Generator().manual_seed(0))


def test_layers_and_shapes():
    model = make(MLP(hidden=(50, 20)), shape=(3, 4, 5))
    assert [(layer.name, layer.output, layer.position) for layer in model.layers] == [
        ("fc1", "tanh1", "early"), ("fc2", "tanh2", "middle"), ("fc3", "fc3", "deep"),
    ]  # fmt: skip
    shapes = [tuple(model.get_submodule(layer.name).weight.shape) for layer in model.layers]
    assert shapes == [(50, 60), (20, 50), (10, 20)]
    assert not any(layer.rectified for layer in model.layers)


def test_forward_against_numpy():
    model = make(MLP(hidden=(7, 5))).double()
    x = torch.randn(4, 1, 8, 8).double()
    h = x.numpy().reshape(4, 64)
    for name in ("fc1", "fc2", "fc3"):
        layer = model.get_submodule(name)
        nn.init.normal_(layer.bias)
        h = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if name != "fc3":
            h = np.tanh(h)
    np.testing.assert_allclose(model(x).detach().numpy(), h, rtol=1e-12)


def test_autoencoder_against_numpy():
    """64-50-2-50-64, tanh but for the bottleneck and the output."""
    model = make(MLP(), Reconstruction(64, bottleneck=2)).double()
    x = torch.randn(4, 1, 8, 8).double()
    h, sizes = x.numpy().reshape(4, 64), [64]
    for name in ("fc1", "bottleneck", "decoder", "reconstruction"):
        layer = model.get_submodule(name)
        nn.init.normal_(layer.bias)
        h = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        h = np.tanh(h) if name in ("fc1", "decoder") else h
        sizes.append(h.shape[1])
    assert sizes == [64, 50, 2, 50, 64]
    np.testing.assert_allclose(model(x).detach().numpy(), h, rtol=1e-12)


def test_kernels_keep_the_variance():
    """N(0, 1/fan_in): outputs of a linear layer vary as its inputs."""
    model = make(MLP(hidden=(2000, 3000)), Reconstruction(64, bottleneck=1500))
    for layer in model.layers:
        weight = model.get_submodule(layer.name).weight
        n = weight.numel()
        assert weight.square().mean().item() * weight.shape[1] == pytest.approx(
            1.0, abs=5 * np.sqrt(2 / n)
        )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_takes_an_autoencoders_head(name):
    spec = ARCHITECTURES[name](name=name, width=0.25)
    model, plain = make(spec, Reconstruction(64, bottleneck=3)), make(spec)
    features = plain.features(torch.zeros(2, 1, 8, 8)).shape[1]
    heads = {n: tuple(model.get_submodule(n).weight.shape) for n in
             ("bottleneck", "decoder", "reconstruction")}  # fmt: skip
    assert heads == {
        "bottleneck": (3, features), "decoder": (features, 3), "reconstruction": (64, features),
    }  # fmt: skip
    assert model.eval()(torch.randn(5, 1, 8, 8)).shape == (5, 64)
    names = [layer.name for layer in model.layers]
    assert names == [layer.name for layer in plain.layers][:-1] + list(heads)
    assert [layer.position for layer in model.layers] == [
        layer_position(i, len(names)) for i in range(len(names))
    ]
    for a, b in zip(model.layers, plain.layers[:-1], strict=False):
        assert torch.equal(
            model.get_submodule(a.name).weight, plain.get_submodule(b.name).weight
        ), "the encoder is the network's own"


def test_hidden_layers_are_chosen_in_specs():
    spec = NetworkSpec(task="digits", architecture={"name": "mlp", "hidden": [9]}, rule="adam")
    assert spec.architecture == MLP(hidden=(9,))
    with pytest.raises(SpecError, match=r"architecture.hidden must have at least 1 entry, got"):
        NetworkSpec(task="digits", architecture={"name": "mlp", "hidden": []}, rule="adam")
