"""Krizhevsky's shallow networks for 32×32 images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from goaldriven.architectures.initializers import Normal, he_normal
from goaldriven.architectures.network import Network, Observed, assemble, conv, scaled
from goaldriven.architectures.normalization import LocalResponseNorm
from goaldriven.heads import Head
from goaldriven.specs.architectures import KNet

CHANNELS = (32, 32, 64, 128)
PUBLISHED_INPUT = (3, 32, 32)  # other inputs get variance-scaled initialisation
SMALL_INPUT = 16  # inputs whose shorter side is below this get 3×3 kernels
_FIRST_STD, _STD = 1e-4, 0.01  # published deviations: conv1, every other layer


class SamePool(nn.Module):
    """Pooling over 3×3 windows with stride 2 and TensorFlow's SAME padding.

    n → ⌈n/2⌉ per axis. An even axis is padded by one at its end, an odd one by one at both ends;
    padding never wins a maximum and never counts in an average.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        padding = (x.shape[-2] % 2, x.shape[-1] % 2)  # ceil_mode supplies the end of an even axis
        if self.kind == "max":
            return functional.max_pool2d(x, 3, 2, padding, ceil_mode=True)
        return functional.avg_pool2d(x, 3, 2, padding, ceil_mode=True, count_include_pad=False)

    def extra_repr(self) -> str:
        return self.kind


def build_knet(
    spec: KNet, input_shape: tuple[int, int, int], head: Head, generator: torch.Generator
) -> Network:
    """KNet4 or KNet5, with or without local response normalisation (LRN).

    ::

        conv1 5×5×32 → max pool [→ ReLU → LRN]
        conv2 5×5×32 → ReLU → average pool [→ LRN]
        conv3 5×5×64 → ReLU → average pool
        conv4 5×5×128 → ReLU → average pool        (KNet5)
        dense

    The steps in brackets belong to the LRN variants: without LRN the published network has **no
    ReLU after conv1** (conv1 is marked ``rectified`` all the same, as published: the alignment
    losses may put a ReLU there). Convolutions keep the size; pools are `SamePool`. LRN has depth
    radius 3, bias 1, α 5·10⁻⁵, β 0.75. Kernels are normal with standard deviation 10⁻⁴ in conv1 and
    0.01 in all others, biases 0. ``spec.width`` multiplies all channels.

    **Inputs other than the published 3×32×32** get an adapted network. Convolutions are drawn from
    N(0, 2/fan_in) (He et al. 2015): a conv1 of 10⁻⁴ lets next to nothing through, and data sets of
    a few hundred steps end before the network has left that plateau (on the spoken digits, SGD with
    momentum was still at chance after 100 epochs, against 0.90 correct so). Where the shorter side
    is below 16 (8×8 digits), kernels are 3×3 besides. All else is the same, the readout's small
    deviation too: feedback alignment needs a readout that starts small.

    Layers: conv1, conv2, conv3(, conv4), then fc4 (or fc5). conv1 has no non-linearity of its own,
    so its activity is its output; that of the other convolutions is their ReLU's output.

    Source: Krizhevsky 2012 (cuda-convnet's CIFAR-10 layers); lr-identify ``knet.py``.
    """
    n_convs, norm = (4 if spec.name.startswith("knet5") else 3), spec.name.endswith("_lrn")
    size = 3 if min(input_shape[1:]) < SMALL_INPUT else 5
    published = tuple(input_shape) == PUBLISHED_INPUT
    trunk: dict[str, nn.Module] = {}
    layers: list[Observed] = []
    n_in, height, width = input_shape
    for number in range(1, n_convs + 1):
        n_out = scaled(CHANNELS[number - 1], spec.width)
        fixed = Normal(_FIRST_STD if number == 1 else _STD)
        initializer = fixed if published else he_normal(n_in * size**2)
        kernel = conv(n_in, n_out, size, initializer, generator)
        stage, layer = _stage(number, kernel, norm)
        trunk |= stage
        layers.append(layer)
        n_in, height, width = n_out, -(-height // 2), -(-width // 2)
    trunk["flatten"] = nn.Flatten()
    n_features = n_in * height * width
    readout = (f"fc{n_convs + 1}", Normal(_STD))
    return assemble(trunk, layers, head, readout, n_features, generator)


def _stage(
    number: int, convolution: nn.Conv2d, norm: bool
) -> tuple[dict[str, nn.Module], Observed]:
    """One convolution with what follows it up to the next."""
    kernel, relu = f"conv{number}", f"relu{number}"
    stage: dict[str, nn.Module] = {kernel: convolution}
    if number == 1:
        stage["pool1"] = SamePool("max")
        if norm:
            stage[relu] = nn.ReLU()
    else:
        stage[relu] = nn.ReLU()
        stage[f"pool{number}"] = SamePool("average")
    if norm and number <= 2:
        stage[f"lrn{number}"] = LocalResponseNorm(convolution.out_channels)
    return stage, Observed(kernel, kernel if number == 1 else relu, rectified=True)
