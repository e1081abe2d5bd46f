"""Residual networks with batch norm, in two versions and several depths."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goaldriven.architectures.initializers import (
    Initializer,
    Normal,
    glorot_uniform,
    variance_scaling,
)
from goaldriven.architectures.network import (
    BATCH_NORM_MOMENTUM,
    HEAD_STD,
    Network,
    Observed,
    assemble,
    batch_norm,
    conv,
    scaled,
)
from goaldriven.heads import Head, Readout
from goaldriven.specs.architectures import ResNet

STRIDES = (1, 2, 2, 2)
LARGE_INPUT = 128  # inputs whose shorter side is at least this get the ImageNet stem
V2_MOMENTUM = 0.003  # of the published version 2, a decay of 0.997, on inputs of that size


EXPANSION = 4  # channels that leave a bottleneck, over those inside it


@dataclass(frozen=True)
class Plan:
    """What tells one residual network from another.

    Attributes
    ----------
    blocks : per stage.
    channels : inside the blocks of each stage, at width 1.
    bottleneck : whether the blocks are bottlenecks, else basic.
    projects_first : whether the first stage's first block has a projection shortcut, though it
        need not change the shape.
    """

    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = False
    projects_first: bool = True


PLANS = {
    "resnet10": Plan((1, 1, 1, 1), (16, 32, 64, 128), projects_first=False),
    "resnet18": Plan((2, 2, 2, 2)),
    "resnet34": Plan((3, 4, 6, 3)),
    "resnet50": Plan((3, 4, 6, 3), bottleneck=True),
    "resnet101": Plan((3, 4, 23, 3), bottleneck=True),
    "resnet152": Plan((3, 8, 36, 3), bottleneck=True),
}


@dataclass(frozen=True)
class Shape:
    """What one block is told: its channels, inside and out, its stride and its shortcut.

    Attributes
    ----------
    kernels : (size, channels out, stride) of each convolution in turn.
    projects : whether its shortcut is a 1×1 convolution, of ``stride``; else the identity.
    momentum : of its batch norms.
    """

    n_in: int
    kernels: tuple[tuple[int, int, int], ...]
    stride: int
    projects: bool
    momentum: float

    @property
    def n_out(self) -> int:
        return self.kernels[-1][1]


class PostActivationBlock(nn.Module):
    """Block of version 1: relu(bnₖ(convₖ(… relu(bn1(conv1(x))))) + shortcut(x)).

    Two 3×3 convolutions (basic) or three of 1×1, 3×3 and 1×1 (bottleneck). The shortcut is a 1×1
    convolution with batch norm where the block projects, else the identity. The last batch norm's
    scale starts at 0, so the block starts as its shortcut.
    Source: He et al. 2016a; zero scale: Goyal et al. 2017.
    """

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.projects, self.depth = shape.projects, len(shape.kernels)
        if shape.projects:
            self.shortcut = _conv(shape.n_in, shape.n_out, 1, shape.stride, generator)
            self.shortcut_bn = batch_norm(nn.BatchNorm2d, shape.n_out, shape.momentum)
        n_in = shape.n_in
        for i, (size, n_out, stride) in enumerate(shape.kernels, start=1):
            self.add_module(f"conv{i}", _conv(n_in, n_out, size, stride, generator))
            norm = batch_norm(nn.BatchNorm2d, n_out, shape.momentum)
            self.add_module(f"bn{i}", norm)
            self.add_module(f"relu{i}", nn.ReLU())
            n_in = n_out
        nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut_bn(self.shortcut(x)) if self.projects else x
        for i in range(1, self.depth + 1):
            for name in (f"conv{i}", f"bn{i}"):
                x = self.get_submodule(name)(x)
            x = self.get_submodule(f"relu{i}")(x if i < self.depth else x + shortcut)
        return x


class PreActivationBlock(nn.Module):
    """Block of version 2: convₖ(… relu(bn1(conv1(a)))) + shortcut, with a = relu(bn0(x)).

    Its convolutions are those of version 1. The shortcut is a 1×1 convolution of a where the block
    projects, else x itself. Source: He et al. 2016b.
    """

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.projects, self.depth = shape.projects, len(shape.kernels)
        n_in = shape.n_in
        if shape.projects:
            self.shortcut = _conv(n_in, shape.n_out, 1, shape.stride, generator)
        for i, (size, n_out, stride) in enumerate(shape.kernels):
            self.add_module(f"bn{i}", batch_norm(nn.BatchNorm2d, n_in, shape.momentum))
            self.add_module(f"relu{i}", nn.ReLU())
            self.add_module(f"conv{i + 1}", _conv(n_in, n_out, size, stride, generator))
            n_in = n_out

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.get_submodule("relu0")(self.get_submodule("bn0")(x))
        shortcut = self.shortcut(activated) if self.projects else x
        x = self.get_submodule("conv1")(activated)
        for i in range(1, self.depth):
            for name in (f"bn{i}", f"relu{i}", f"conv{i + 1}"):
                x = self.get_submodule(name)(x)
        return x + shortcut


Block = PostActivationBlock | PreActivationBlock


def build_resnet(
    spec: ResNet, input_shape: tuple[int, int, int], head: Head, generator: torch.Generator
) -> Network:
    """A residual network: stem, four stages, global average, dense.

    ============ =================== ========================= =============
    name         blocks per stage    channels in a block       block
    ============ =================== ========================= =============
    resnet10     1, 1, 1, 1          16, 32, 64, 128           basic
    resnet18     2, 2, 2, 2          64, 128, 256, 512         basic
    resnet34     3, 4, 6, 3          64, 128, 256, 512         basic
    resnet50     3, 4, 6, 3          64, 128, 256, 512         bottleneck
    resnet101    3, 4, 23, 3         64, 128, 256, 512         bottleneck
    resnet152    3, 8, 36, 3         64, 128, 256, 512         bottleneck
    ============ =================== ========================= =============

    Basic blocks are two 3×3 convolutions, the first with the stage's stride; bottlenecks 1×1, 3×3
    (with the stride) and 1×1 to four times the channels. The stages' strides are 1, 2, 2, 2. The
    stem (conv0) follows the input: 3×3 without a pool for small images; 7×7 of stride 2 and a 3×3
    max pool of stride 2, as published for ImageNet, where the shorter side is at least 128. (That
    pool pads one pixel on each side, as in PyTorch's networks; the published TensorFlow code pads
    an even map at its end alone.) Version 1 has batch norm and ReLU after each convolution, version
    2 (``_v2``) before, and once more before the average. A block's shortcut is a projection (1×1
    convolution) where it changes the shape, and in all but resnet10, as published, at the first
    block of stage 1 too; else the identity.

    Convolutions have no bias and are drawn from a truncated normal of variance 1/fan_in, the
    readout from N(0, 0.01²), in version 2 Glorot-uniform. Batch norm: ε 1e-5, decay 0.9, in version
    2 with the ImageNet stem the published 0.997 (on small images 0.9 too: 0.997 is too slow for a
    few dozen batches an epoch).

    Layers, in the published order: conv0; per block its shortcut (where it projects), conv1, conv2
    and in bottlenecks conv3; dense. They are named after their stage, ``stage2.conv1``, or where it
    has more blocks than one after their block, ``stage2.block1.conv1``. A layer's activity is its
    convolution's own output, as published: batch norm and ReLU are not part of it. ``rectified``,
    where the published networks allow a ReLU in the alignment losses: all but a block's last
    convolution and its shortcut, and conv0 in version 1.

    Source: He et al. 2016a, 2016b; lr-identify ``resnet_model_v1.py``, ``resnet_model_v2.py``.
    resnet10 and the stem for small images are ours.
    """
    v1 = not spec.name.endswith("_v2")
    plan = PLANS[spec.name.removesuffix("_v2")]
    large = min(input_shape[1:]) >= LARGE_INPUT
    momentum = BATCH_NORM_MOMENTUM if v1 or not large else V2_MOMENTUM
    n_in = scaled(plan.channels[0], spec.width)
    trunk = _stem(input_shape[0], n_in, v1, large, generator)
    layers = [Observed("conv0", "conv0", rectified=v1)]
    stages = zip(plan.blocks, plan.channels, STRIDES, strict=True)
    for number, (n_blocks, channels, stride) in enumerate(stages, start=1):
        inside = scaled(channels, spec.width)
        n_out = scaled(channels * EXPANSION, spec.width) if plan.bottleneck else inside
        first = _shape(plan, n_in, inside, n_out, stride, momentum)
        later = _shape(plan, n_out, inside, n_out, 1, momentum, never_projects=True)
        make = PostActivationBlock if v1 else PreActivationBlock
        blocks = [make(shape, generator) for shape in [first] + [later] * (n_blocks - 1)]
        trunk[f"stage{number}"], of_stage = _stage(f"stage{number}", blocks)
        layers += of_stage
        n_in = n_out
    if not v1:
        trunk |= {"bn_last": batch_norm(nn.BatchNorm2d, n_in, momentum), "relu_last": nn.ReLU()}
    trunk |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    readout: Initializer = Normal(HEAD_STD)
    if not v1 and isinstance(head, Readout):
        readout = glorot_uniform(n_in, head.n_outputs)
    return assemble(trunk, layers, head, ("dense", readout), n_in, generator)


def _stage(name: str, blocks: Sequence[Block]) -> tuple[nn.Module, list[Observed]]:
    """A stage's module, its only block where it has one, and the layers with weights in it."""
    if len(blocks) == 1:
        return blocks[0], _observed(name, blocks[0])
    named = {f"block{i}": block for i, block in enumerate(blocks, start=1)}
    layers = [one for inner, block in named.items() for one in _observed(f"{name}.{inner}", block)]
    return nn.Sequential(OrderedDict[str, nn.Module](named)), layers


def _stem(
    n_in: int, n_out: int, v1: bool, large: bool, generator: torch.Generator
) -> dict[str, nn.Module]:
    size, stride = (7, 2) if large else (3, 1)
    stem: dict[str, nn.Module] = {"conv0": _conv(n_in, n_out, size, stride, generator)}
    if v1:
        stem |= {"bn0": batch_norm(nn.BatchNorm2d, n_out), "relu0": nn.ReLU()}
    if large:
        stem["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
    return stem


def _shape(
    plan: Plan,
    n_in: int,
    inside: int,
    n_out: int,
    stride: int,
    momentum: float,
    never_projects: bool = False,
) -> Shape:
    kernels: tuple[tuple[int, int, int], ...]
    if plan.bottleneck:
        kernels = ((1, inside, 1), (3, inside, stride), (1, n_out, 1))
    else:
        kernels = ((3, n_out, stride), (3, n_out, 1))
    projects = not never_projects and (stride != 1 or n_in != n_out or plan.projects_first)
    return Shape(n_in, kernels, stride, projects, momentum)


def _observed(path: str, block: Block) -> list[Observed]:
    names = (["shortcut"] if block.projects else []) + [f"conv{i + 1}" for i in range(block.depth)]
    plain = ("shortcut", f"conv{block.depth}")
    return [Observed(f"{path}.{n}", f"{path}.{n}", rectified=n not in plain) for n in names]


def _conv(n_in: int, n_out: int, size: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    initializer = variance_scaling(n_in * size**2)
    return conv(n_in, n_out, size, initializer, generator, stride=stride, bias=False)
