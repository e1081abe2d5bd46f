"""AlexNet, with and without local response normalisation."""

from __future__ import annotations

import torch
from torch import nn

from goaldriven.architectures.dropout import Dropout
from goaldriven.architectures.initializers import CutNormal, Initializer, glorot_uniform
from goaldriven.architectures.knet import SamePool
from goaldriven.architectures.network import Network, Observed, assemble, conv, dense, scaled
from goaldriven.architectures.normalization import LocalResponseNorm
from goaldriven.architectures.resnet import LARGE_INPUT
from goaldriven.heads import Head
from goaldriven.specs.architectures import AlexNet

# (channels at width 1, kernel, whether LRN may follow, whether a pool follows)
CONVOLUTIONS = (
    (96, 11, True, True),
    (256, 5, True, True),
    (384, 3, False, False),
    (384, 4, False, False),
    (256, 3, False, True),
)
FC_UNITS = 4096
_DENSE = CutNormal(0.01)
_FC_BIAS = 0.1
_SMALL_KERNEL = 5  # conv1 on inputs below LARGE_INPUT, of stride 1


def build_alexnet(
    spec: AlexNet, input_shape: tuple[int, int, int], head: Head, generator: torch.Generator
) -> Network:
    """AlexNet on one path, with or without local response normalisation (LRN).

    ::

        conv1 11×11×96, stride 4, VALID → ReLU [→ LRN] → max pool
        conv2 5×5×256 → ReLU [→ LRN] → max pool
        conv3 3×3×384 → ReLU
        conv4 4×4×384 → ReLU
        conv5 3×3×256 → ReLU → max pool
        fc6 4096 → ReLU → dropout ½,  fc7 4096 → ReLU → dropout ½,  fc8 dense

    conv2 to conv5 keep the size (TensorFlow's SAME: the even kernel of conv4, 4×4 in the published
    code, pads one before and two after); pools are `SamePool`. The LRN variant has depth radius 5,
    bias 1, α 10⁻⁴, β 0.75. Convolutions are Glorot-uniform with zero bias; dense kernels are
    normal with deviation 0.01, cut off at two deviations; fc6 and fc7 start with a bias of 0.1, fc8
    with 0. ``spec.width`` multiplies all channels and the units of fc6 and fc7. The masks of fc6
    and fc7 are the same at every step: the published code seeds both operations with 0.

    **Inputs whose shorter side is below 128** get an adapted network (ours): conv1 is 5×5 of
    stride 1 with SAME padding; all else is the same.

    Layers: conv1–conv5, fc6–fc8; the activity of all but fc8 is their ReLU's output. Under the
    projection head, fc8 is replaced, as published. At 3×224×224 with 1,000 classes it has
    77,042,024 parameters.

    Source: Krizhevsky et al. 2012; lr-identify ``alexnet.py``.
    """
    norm, large = spec.name.endswith("_lrn"), min(input_shape[1:]) >= LARGE_INPUT
    trunk: dict[str, nn.Module] = {}
    layers: list[Observed] = []
    n_in, *sides = input_shape
    for number, (channels, size, normed, pooled) in enumerate(CONVOLUTIONS, start=1):
        n_out = scaled(channels, spec.width)
        first = number == 1
        kernel_size = _SMALL_KERNEL if first and not large else size
        stride = 4 if first and large else 1
        initializer = glorot_uniform(n_in * kernel_size**2, n_out * kernel_size**2)
        trunk[f"conv{number}"] = conv(
            n_in, n_out, kernel_size, initializer, generator, stride=stride,
            padding="valid" if first and large else "same",
        )  # fmt: skip
        trunk[f"relu{number}"] = nn.ReLU()
        if norm and normed:
            trunk[f"lrn{number}"] = LocalResponseNorm(n_out, depth_radius=5, alpha=1e-4)
        if first and large:
            sides = [(side - kernel_size) // stride + 1 for side in sides]
        if pooled:
            trunk[f"pool{number}"] = SamePool("max")
            sides = [-(-side // 2) for side in sides]
        layers.append(Observed(f"conv{number}", f"relu{number}", rectified=True))
        n_in = n_out
    trunk["flatten"] = nn.Flatten()
    n_features = n_in * sides[0] * sides[1]
    for number in (6, 7):
        units = scaled(FC_UNITS, spec.width)
        trunk |= _fully_connected(number, n_features, units, _DENSE, generator)
        layers.append(Observed(f"fc{number}", f"relu{number}", rectified=True))
        n_features = units
    return assemble(trunk, layers, head, ("fc8", _DENSE), n_features, generator)


def _fully_connected(
    number: int, n_in: int, n_out: int, initializer: Initializer, generator: torch.Generator
) -> dict[str, nn.Module]:
    layer = dense(n_in, n_out, initializer, generator)
    nn.init.constant_(layer.bias, _FC_BIAS)
    return {f"fc{number}": layer, f"relu{number}": nn.ReLU(), f"dropout{number}": Dropout()}
