"""Residual networks of basic blocks with batch norm, in two versions and several depths."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

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
from goaldriven.specs.architectures import ResNet

STRIDES = (1, 2, 2, 2)
LARGE_INPUT = 128  # inputs whose shorter side is at least this get the ImageNet stem


@dataclass(frozen=True)
class Plan:
    """What tells one residual network from another.

    Attributes
    ----------
    blocks : per stage.
    channels : per stage, at width 1.
    projects_first : whether the first stage's first block has a projection shortcut, though it
        need not change the shape.
    """

    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    projects_first: bool


PLANS = {
    "resnet10": Plan((1, 1, 1, 1), (16, 32, 64, 128), projects_first=False),
    "resnet18": Plan((2, 2, 2, 2), (64, 128, 256, 512), projects_first=True),
}


class PostActivationBlock(nn.Module):
    """Basic block, version 1: relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    The shortcut is a 1×1 convolution with batch norm where the block projects, else the identity.
    bn2's scale starts at 0, so the block starts as its shortcut.
    Source: He et al. 2016a; zero scale: Goyal et al. 2017.
    """

    def __init__(
        self, n_in: int, n_out: int, stride: int, projects: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.projects = projects
        if projects:
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
        shortcut = self.shortcut_bn(self.shortcut(x)) if self.projects else x
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)) + shortcut)


class PreActivationBlock(nn.Module):
    """Basic block, version 2: conv2(relu(bn1(conv1(a)))) + shortcut, with a = relu(bn0(x)).

    The shortcut is a 1×1 convolution of a where the block projects, else x itself.
    Source: He et al. 2016b.
    """

    def __init__(
        self, n_in: int, n_out: int, stride: int, projects: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.projects = projects
        self.bn0 = batch_norm(nn.BatchNorm2d, n_in)
        self.relu0 = nn.ReLU()
        if projects:
            self.shortcut = _conv(n_in, n_out, 1, stride, generator)
        self.conv1 = _conv(n_in, n_out, 3, stride, generator)
        self.bn1 = batch_norm(nn.BatchNorm2d, n_out)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(n_out, n_out, 3, 1, generator)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu0(self.bn0(x))
        shortcut = self.shortcut(activated) if self.projects else x
        return self.conv2(self.relu1(self.bn1(self.conv1(activated)))) + shortcut


Block = PostActivationBlock | PreActivationBlock


def build_resnet(
    spec: ResNet, input_shape: tuple[int, int, int], head: Head, generator: torch.Generator
) -> Network:
    """A residual network of basic blocks: stem, four stages, global average, dense.

    ============ ================== ======================
    name         blocks per stage   channels at width 1
    ============ ================== ======================
    resnet10     1, 1, 1, 1         16, 32, 64, 128
    resnet18     2, 2, 2, 2         64, 128, 256, 512
    ============ ================== ======================

    The stages' strides are 1, 2, 2, 2. The stem (conv0) follows the input: 3×3 without a pool for
    small images; 7×7 of stride 2 and a 3×3 max pool of stride 2, as published for ImageNet, where
    the shorter side is at least 128. Version 1 has batch norm and ReLU after each convolution,
    version 2 (``_v2``) before, and once more before the average. A block's shortcut is a projection
    (1×1 convolution) where it changes the shape, and in resnet18, as published, at the first block
    of stage 1 too; else the identity.

    Convolutions have no bias and are drawn from a truncated normal of variance 1/fan_in, the
    readout from N(0, 0.01²). Batch norm: decay 0.9, ε 1e-5. (The published version 2 decays by
    0.997, too slow for data sets of a few dozen batches an epoch.)

    Layers, in the published order: conv0; per block its shortcut (where it projects), conv1, conv2;
    dense. They are named after their stage, ``stage2.conv1``, or where it has more blocks than one
    after their block, ``stage2.block1.conv1``. A layer's activity is its convolution's own output,
    as published: batch norm and ReLU are not part of it. ``rectified``, where the published
    networks allow a ReLU in the alignment losses: conv1 of each block, and conv0 in version 1.

    Source: He et al. 2016a, 2016b; lr-identify ``resnet_model_v1.py``, ``resnet_model_v2.py``.
    resnet10 and the stem for small images are ours.
    """
    v1 = not spec.name.endswith("_v2")
    plan = PLANS[spec.name.removesuffix("_v2")]
    channels = [scaled(c, spec.width) for c in plan.channels]
    n_in = channels[0]
    trunk = _stem(input_shape, n_in, v1, generator)
    layers = [Observed("conv0", "conv0", rectified=v1)]
    stages = zip(plan.blocks, channels, STRIDES, strict=True)
    for number, (n_blocks, n_out, stride) in enumerate(stages, start=1):
        projects = stride != 1 or n_in != n_out or plan.projects_first
        blocks = _blocks(v1, n_blocks, n_in, n_out, stride, projects, generator)
        stage = f"stage{number}"
        if n_blocks == 1:
            trunk[stage] = blocks[0]
            paths = {stage: blocks[0]}
        else:
            named = {f"block{i}": block for i, block in enumerate(blocks, start=1)}
            trunk[stage] = nn.Sequential(OrderedDict[str, nn.Module](named))
            paths = {f"{stage}.{name}": block for name, block in named.items()}
        layers += [layer for path, block in paths.items() for layer in _observed(path, block)]
        n_in = n_out
    if not v1:
        trunk |= {"bn_last": batch_norm(nn.BatchNorm2d, n_in), "relu_last": nn.ReLU()}
    trunk |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return assemble(trunk, layers, head, ("dense", Normal(HEAD_STD)), n_in, generator)


def _stem(
    input_shape: tuple[int, int, int], n_out: int, v1: bool, generator: torch.Generator
) -> dict[str, nn.Module]:
    large = min(input_shape[1:]) >= LARGE_INPUT
    size, stride = (7, 2) if large else (3, 1)
    stem: dict[str, nn.Module] = {"conv0": _conv(input_shape[0], n_out, size, stride, generator)}
    if v1:
        stem |= {"bn0": batch_norm(nn.BatchNorm2d, n_out), "relu0": nn.ReLU()}
    if large:
        stem["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
    return stem


def _blocks(
    v1: bool,
    count: int,
    n_in: int,
    n_out: int,
    stride: int,
    projects: bool,
    generator: torch.Generator,
) -> list[Block]:
    """The blocks of one stage; the first takes the change of shape."""
    make = PostActivationBlock if v1 else PreActivationBlock
    first = make(n_in, n_out, stride, projects, generator)
    return [first, *(make(n_out, n_out, 1, False, generator) for _ in range(count - 1))]


def _observed(path: str, block: Block) -> list[Observed]:
    names = (["shortcut"] if block.projects else []) + ["conv1", "conv2"]
    return [Observed(f"{path}.{n}", f"{path}.{n}", rectified=n == "conv1") for n in names]


def _conv(n_in: int, n_out: int, size: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    initializer = variance_scaling(n_in * size**2)
    return conv(n_in, n_out, size, initializer, generator, stride=stride, bias=False)
