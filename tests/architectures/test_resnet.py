"""The residual networks against their definition."""

import numpy as np
import pytest
import torch
from torch import nn

from goaldriven.architectures import build
from goaldriven.heads import Readout
from goaldriven.specs.architectures import ResNet

from . import numpy_layers


def make(name, shape=(3, 32, 32), width=1.0):
    generator = torch.Generator().manual_seed(0)
    return build(ResNet(name=name, width=width), shape, Readout(10), generator)


NAMES = ["resnet10", "resnet10_v2", "resnet18", "resnet18_v2"]


@pytest.mark.parametrize(("name", "n"), [("resnet10", 308_826), ("resnet10_v2", 308_378)])
def test_parameter_counts(name, n):
    """By hand, kernels 432 + 4608 + 14336 + 57344 + 229376, readout 1290, the rest batch norm:
    twice (16 + 32 + 3·32 + 3·64 + 3·128) in version 1, twice (2·16 + 16+32 + 32+64 + 64+128 + 128)
    in version 2."""
    kernels = 432 + 4608 + 14336 + 57344 + 229376 + 1290
    norms = {"resnet10": 16 + 32 + 96 + 192 + 384, "resnet10_v2": 32 + 48 + 96 + 192 + 128}
    assert kernels + 2 * norms[name] == n
    assert sum(p.numel() for p in make(name).parameters()) == n


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_of_18_layers_at_32_pixels():
    """The 3×3-stem ResNet-18 of CIFAR-10 has 11,173,962 parameters with identity shortcuts in
    stage 1; the published projection there adds 64² + 2·64. Version 2 has two batch norms fewer per
    stage transition (none on the shortcuts, bn0 before instead of bn2 behind), counted below."""
    published = 11_173_962 + 64 * 64 + 2 * 64
    assert count(make("resnet18")) == published
    channels = [64, 128, 256, 512]
    norms_v1 = 64 + sum(2 * 2 * c for c in channels) + sum(channels)
    into = [64, 64, 128, 256]  # what enters each stage's first block
    norms_v2 = sum(into) + sum(c for c in channels) + sum(2 * c for c in channels) + 512
    assert count(make("resnet18_v2")) == published - 2 * norms_v1 + 2 * norms_v2


@pytest.mark.parametrize("side", [128, 224])
def test_parameter_counts_of_18_layers_with_the_imagenet_stem(side):
    """The published ResNet-18 for ImageNet has 11,689,512 (He et al. 2016a, with identities)."""
    generator = torch.Generator().manual_seed(0)
    model = build(ResNet(name="resnet18"), (3, side, side), Readout(1000), generator)
    assert count(model) == 11_689_512 + 64 * 64 + 2 * 64
    assert model.conv0.stride == (2, 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((3, 224, 224), (56, 28, 14, 7)),
        ((3, 127, 300), (127, 64, 32, 16)),
        ((1, 8, 8), (8, 4, 2, 1)),
    ],
)
def test_shapes_through_the_stages(name, shape, sides):
    """Stage by stage the published map sizes; the large stem needs both sides to be large."""
    model = make(name, shape, width=1e-6).eval()
    seen = []
    for stage in range(1, 5):
        hook = lambda _m, _i, output: seen.append(tuple(output.shape))  # noqa: E731
        model.get_submodule(f"stage{stage}").register_forward_hook(hook)
    with torch.no_grad():
        model(torch.zeros(2, *shape))
    assert [s[2] for s in seen] == list(sides)
    assert [s[:2] for s in seen] == [(2, 1)] * 4


class Reference:
    """Both versions in NumPy, straight from He et al. 2016a and b."""

    def __init__(self, model):
        self.state = {k: v.double().numpy() for k, v in model.state_dict().items()}
        self.activity = {}

    def conv(self, x, path, stride=1):
        self.activity[path] = numpy_layers.conv(x, self.state[f"{path}.weight"], stride=stride)
        return self.activity[path]

    def norm(self, x, path):
        names = ("running_mean", "running_var", "weight", "bias")
        return numpy_layers.batch_norm(x, *(self.state[f"{path}.{name}"] for name in names))

    def block_v1(self, x, path, stride):
        y = self.conv(x, f"{path}.conv1", stride)
        y = self.conv(numpy_layers.relu(self.norm(y, f"{path}.bn1")), f"{path}.conv2")
        if f"{path}.shortcut.weight" in self.state:
            x = self.norm(self.conv(x, f"{path}.shortcut", stride), f"{path}.shortcut_bn")
        return numpy_layers.relu(self.norm(y, f"{path}.bn2") + x)

    def block_v2(self, x, path, stride):
        a = numpy_layers.relu(self.norm(x, f"{path}.bn0"))
        y = self.conv(a, f"{path}.conv1", stride)
        y = self.conv(numpy_layers.relu(self.norm(y, f"{path}.bn1")), f"{path}.conv2")
        projects = f"{path}.shortcut.weight" in self.state
        return y + (self.conv(a, f"{path}.shortcut", stride) if projects else x)

    def run(self, x, version):
        stem = self.state["conv0.weight"].shape[-1]
        x = self.conv(x, "conv0", 2 if stem == 7 else 1)
        if version == 1:
            x = numpy_layers.relu(self.norm(x, "bn0"))
        if stem == 7:
            x = numpy_layers.max_pool(x)
        for i in range(1, 5):
            block = self.block_v1 if version == 1 else self.block_v2
            stride = 1 if i == 1 else 2
            if f"stage{i}.conv1.weight" in self.state:
                x = block(x, f"stage{i}", stride)
            else:
                x = block(x, f"stage{i}.block1", stride)
                x = block(x, f"stage{i}.block2", 1)
        if version == 2:
            x = numpy_layers.relu(self.norm(x, "bn_last"))
        features = x.mean((2, 3))
        self.activity["dense"] = features @ self.state["dense.weight"].T + self.state["dense.bias"]
        return features


SHAPES = [(3, 32, 32), (1, 8, 8), (2, 9, 13), (1, 128, 131)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_forward_pass_equals_numpy(name, shape):
    width = {"resnet10": 0.5, "resnet18": 1 / 16}[name.removesuffix("_v2")]
    model = make(name, shape, width if min(shape[1:]) < 128 else width / 4).double().eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    x = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    seen = {}
    for layer in model.layers:
        assert layer.output == layer.name, "the activity is the convolution's own output"
        hook = lambda _m, _i, output, path=layer.output: seen.update({path: output})  # noqa: E731
        model.get_submodule(layer.output).register_forward_hook(hook)
    with torch.no_grad():
        model(x)
        features = model.features(x)
    expected = Reference(model)
    np.testing.assert_allclose(
        features, expected.run(x.numpy(), 2 if name.endswith("v2") else 1), atol=1e-10
    )
    assert seen.keys() == expected.activity.keys()
    for path, activity in expected.activity.items():
        np.testing.assert_allclose(seen[path], activity, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet10", "resnet10_v2"])
def test_layers_in_published_order(name):
    layers = make(name).layers
    stages = [f"stage{i}.{part}" for i in (2, 3, 4) for part in ("shortcut", "conv1", "conv2")]
    assert [layer.name for layer in layers] == [
        "conv0", "stage1.conv1", "stage1.conv2", *stages, "dense",
    ]  # fmt: skip
    assert [layer.position for layer in layers] == ["early"] * 4 + ["middle"] * 4 + ["deep"] * 5
    rectified = {layer.name for layer in layers if layer.rectified}
    first = {f"stage{i}.conv1" for i in range(1, 5)}
    assert rectified == (first if name.endswith("v2") else first | {"conv0"})


@pytest.mark.parametrize("name", ["resnet18", "resnet18_v2"])
def test_layers_of_18_in_published_order(name):
    """The published list: conv0, per block conv1 and conv2, the first of a stage a shortcut too,
    dense: 22 layers."""
    layers = make(name, width=1 / 64).layers
    expected = ["conv0"]
    for stage in range(1, 5):
        expected += [f"stage{stage}.block1.{part}" for part in ("shortcut", "conv1", "conv2")]
        expected += [f"stage{stage}.block2.{part}" for part in ("conv1", "conv2")]
    assert [layer.name for layer in layers] == [*expected, "dense"]
    assert [layer.position for layer in layers] == ["early"] * 7 + ["middle"] * 7 + ["deep"] * 8
    rectified = {layer.name for layer in layers if layer.rectified}
    first = {name for name in expected if name.endswith("conv1")}
    assert rectified == (first if name.endswith("v2") else first | {"conv0"})


def test_version_1_blocks_start_as_their_shortcuts():
    model = make("resnet10").eval()
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(model.stage1(x), x.relu())
    expected = model.stage2.shortcut_bn(model.stage2.shortcut(x)).relu()
    torch.testing.assert_close(model.stage2(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_published_initialisation(name):
    model = make(name, width=2.0 if name.startswith("resnet10") else 0.5)
    for layer in model.layers[:-1]:
        weight = model.get_submodule(layer.name).weight
        std = np.sqrt(1 / weight[0].numel())
        assert weight.std().item() == pytest.approx(std, rel=5 / np.sqrt(2 * weight.numel()))
        cut = 2 * std / 0.8796256610342398  # the normal is cut off at two of its own deviations
        assert weight.abs().max().item() <= cut * (1 + 1e-6)
        if weight.numel() > 10_000:
            assert weight.abs().max().item() > 0.98 * cut
    dense = model.dense.weight
    std = np.sqrt(2 / sum(dense.shape)) if name.endswith("v2") else 0.01
    assert dense.std().item() == pytest.approx(std, rel=5 / np.sqrt(2 * dense.numel()))
    if name.endswith("v2"):
        assert 0.98 < dense.abs().max().item() / (np.sqrt(3) * std) <= 1 + 1e-6, "uniform"
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    zero = [m for m in norms if (m.weight == 0).all()]
    blocks = 4 if name.startswith("resnet10") else 8
    assert len(zero) == (0 if name.endswith("v2") else blocks)
    assert all((m.weight == 1).all() for m in norms if not any(m is z for z in zero))
