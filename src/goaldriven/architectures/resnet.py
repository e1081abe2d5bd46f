"""A ten-layer residual network with batch norm, in two versions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goaldriven.architectures.initializers import Normal, variance_scaling
from goaldriven.architectures.network import (
    HEAD_STD,
    Network,
    Observed,
    assemble,
    batch_norm,
    conv,
    scaled,
)
from goaldriven.heads import Head
from goaldriven.specs.architectures import ResNet10

CHANNELS = (16, 32, 64, 128)
STRIDES = (1, 2, 2, 2)


class PostActivationBlock(nn.Module):
    """Basic block, version 1: relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    The shortcut is a 1×1 convolution with batch norm where the block changes the shape, else the
    identity. bn2's scale starts at 0, so the block starts as its shortcut.
    Source: He et al. 2016a; zero scale: Goyal et al. 2017.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, generator: torch.Generator) -> None:
        super().__init__()
        self.changes_shape = stride != 1 or n_in != n_out
        if self.changes_shape:
            self.shortcut = _conv(n_in, n_out, 1, stride, generator)
            self.shortcut_bn = batch_norm(nn.BatchNorm2d, n_out)
        self.conv1 = _conv(n_in, n_out, 3, stride, generator)
        self.bn1 = batch_norm(nn.BatchNorm2d, n_out)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(n_out, n_out, 3, 1, generator)
        self.bn2 = batch_norm(nn.BatchNorm2d, n_out)
        self.relu2 = nn.ReLU()
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut_bn(self.shortcut(x)) if self.changes_shape else x
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)) + shortcut)


class PreActivationBlock(nn.Module):
    """Basic block, version 2: conv2(relu(bn1(conv1(a)))) + shortcut, with a = relu(bn0(x)).

    The shortcut is a 1×1 convolution of a where the block changes the shape, else x itself.
    Source: He et al. 2016b.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, generator: torch.Generator) -> None:
        super().__init__()
        self.changes_shape = stride != 1 or n_in != n_out
        self.bn0 = batch_norm(nn.BatchNorm2d, n_in)
        self.relu0 = nn.ReLU()
        if self.changes_shape:
            self.shortcut = _conv(n_in, n_out, 1, stride, generator)
        self.conv1 = _conv(n_in, n_out, 3, stride, generator)
        self.bn1 = batch_norm(nn.BatchNorm2d, n_out)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(n_out, n_out, 3, 1, generator)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu0(self.bn0(x))
        shortcut = self.shortcut(activated) if self.changes_shape else x
        return self.conv2(self.relu1(self.bn1(self.conv1(activated)))) + shortcut


def build_resnet10(
    spec: ResNet10, input_shape: tuple[int, int, int], head: Head, generator: torch.Generator
) -> Network:
    """A residual network of ten layers, for small images.

    conv0 3×3, four stages of one basic block each (16, 32, 64 and 128 channels times
    ``spec.width``; strides 1, 2, 2, 2), global average, dense. No pool after the stem, which suits
    images of 32×32 and less. Version 1 has batch norm and ReLU after each convolution, version 2
    before, and once more before the average.

    Convolutions have no bias and are drawn from a truncated normal of variance 1/fan_in, the
    readout from N(0, 0.01²). Batch norm: decay 0.9, ε 1e-5. (The published version 2 decays by
    0.997, too slow for data sets of a few dozen batches an epoch.)

    Layers, in the published order: conv0; per stage its shortcut (where there is one), conv1,
    conv2; dense. A layer's activity is its convolution's own output, as published: batch norm and
    ReLU are not part of it. ``rectified``, where the published networks allow a ReLU in the
    alignment losses: conv1 of each block, and conv0 in version 1.

    Source: He et al. 2016a, 2016b; lr-identify ``resnet_model_v1.py``, ``resnet_model_v2.py``. The
    depth, the stem and the identity shortcut in stage 1 (published: a projection) are ours.
    """
    v1 = spec.name == "resnet10"
    channels = [scaled(c, spec.width) for c in CHANNELS]
    n_in = channels[0]
    trunk: dict[str, nn.Module] = {"conv0": _conv(input_shape[0], n_in, 3, 1, generator)}
    if v1:
        trunk |= {"bn0": batch_norm(nn.BatchNorm2d, n_in), "relu0": nn.ReLU()}
    layers = [Observed("conv0", "conv0", rectified=v1)]
    for stage, (n_out, stride) in enumerate(zip(channels, STRIDES, strict=True), start=1):
        block = (PostActivationBlock if v1 else PreActivationBlock)(n_in, n_out, stride, generator)
        trunk[f"stage{stage}"] = block
        names = (["shortcut"] if block.changes_shape else []) + ["conv1", "conv2"]
        paths = [f"stage{stage}.{name}" for name in names]
        layers += [Observed(p, p, rectified=p.endswith("conv1")) for p in paths]
        n_in = n_out
    if not v1:
        trunk |= {"bn_last": batch_norm(nn.BatchNorm2d, n_in), "relu_last": nn.ReLU()}
    trunk |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return assemble(trunk, layers, head, ("dense", Normal(HEAD_STD)), n_in, generator)


def _conv(n_in: int, n_out: int, size: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    initializer = variance_scaling(n_in * size**2)
    return conv(n_in, n_out, size, initializer, generator, stride=stride, bias=False)
