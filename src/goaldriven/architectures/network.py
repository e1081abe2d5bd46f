"""The module every builder returns, and the weighted layers it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from goaldriven.architectures.initializers import Initializer, Normal, lecun_normal
from goaldriven.heads import Contrastive, Head, Reconstruction
from goaldriven.layers import LayerInfo, layer_position

# The published code's deviation for the projection head's kernels (and for ResNets' readout).
HEAD_STD = 0.01
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1  # weight of the new batch; a decay of 0.9 in TensorFlow's terms


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
Norm = TypeVar("Norm", nn.BatchNorm1d, nn.BatchNorm2d)


class Observed(NamedTuple):
    """A layer as its builder knows it: `LayerInfo` without the position."""

    name: str
    output: str
    rectified: bool


class Network(nn.Module):
    """Modules applied in order: the trunk up to the flat features, then the head.

    Attributes
    ----------
    layers : the observed layers (those with weights), in order.
    channels_last : whether CPUs are given stimuli with the channels innermost in memory.
    """

    channels_last = True

    def __init__(
        self,
        trunk: Mapping[str, nn.Module],
        head: Mapping[str, nn.Module],
        layers: Sequence[LayerInfo],
    ) -> None:
        super().__init__()
        for name, module in [*trunk.items(), *head.items()]:
            self.add_module(name, module)
        self._trunk, self._head = tuple(trunk), tuple(head)
        self.layers = tuple(layers)

    def features(self, x: Tensor) -> Tensor:
        """The flat representation under the head: (n, channels, height, width) → (n, features)."""
        if x.device.type == "cpu" and self.channels_last:
            # Convolutions on CPUs are up to twice as fast in this layout.
            x = x.to(memory_format=torch.channels_last)
        return self._apply_in_order(self._trunk, x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, outputs) under a readout, projections (n, projection) under SimCLR's head.

        Under an autoencoder's head reconstructions (n, outputs).
        """
        return self._apply_in_order(self._head, self.features(x))

    def _apply_in_order(self, names: Sequence[str], x: Tensor) -> Tensor:
        for name in names:
            x = self.get_submodule(name)(x)
        return x


def assemble(
    trunk: Mapping[str, nn.Module],
    observed: Sequence[Observed],
    head: Head,
    readout: tuple[str, Initializer],
    n_features: int,
    generator: torch.Generator,
) -> Network:
    """Put ``head`` on ``trunk`` and give every layer its position.

    The position of a layer is reckoned on the full list with the readout, also where the projection
    head replaces it; the projection head's layers are always deep. Source: lr-identify
    ``group_layers``. An autoencoder's layers count one by one.
    """
    if isinstance(head, Reconstruction):
        modules, ends = _reconstruction_head(n_features, head, generator)
        return Network(trunk, modules, _positioned([*observed, *ends]))
    name, initializer = readout
    layers = _positioned([*observed, Observed(name, name, rectified=False)])
    if isinstance(head, Contrastive):
        modules, head_layers = _projection_head(n_features, head.projection, generator)
        return Network(trunk, modules, [*layers[:-1], *head_layers])
    modules = {name: dense(n_features, head.n_outputs, initializer, generator)}
    return Network(trunk, modules, layers)


def _positioned(layers: Sequence[Observed]) -> list[LayerInfo]:
    return [
        LayerInfo(layer.name, layer.output, layer_position(i, len(layers)), layer.rectified)
        for i, layer in enumerate(layers)
    ]


def _reconstruction_head(
    n_features: int, head: Reconstruction, generator: torch.Generator
) -> tuple[dict[str, nn.Module], list[Observed]]:
    narrow, wide = lecun_normal(n_features), lecun_normal(head.bottleneck)
    modules: dict[str, nn.Module] = {
        "bottleneck": dense(n_features, head.bottleneck, narrow, generator),
        "decoder": dense(head.bottleneck, n_features, wide, generator),
        "decoder_tanh": nn.Tanh(),
        "reconstruction": dense(n_features, head.n_outputs, narrow, generator),
    }
    return modules, [
        Observed("bottleneck", "bottleneck", rectified=False),
        Observed("decoder", "decoder_tanh", rectified=False),
        Observed("reconstruction", "reconstruction", rectified=False),
    ]


def _projection_head(
    n_features: int, projection: int, generator: torch.Generator
) -> tuple[dict[str, nn.Module], list[LayerInfo]]:
    initializer = Normal(HEAD_STD)
    unshifted = batch_norm(nn.BatchNorm1d, projection)
    unshifted.register_parameter("bias", None)  # the published last batch norm has no shift
    modules: dict[str, nn.Module] = {
        "nl_0": dense(n_features, n_features, initializer, generator, bias=False),
        "nl_0_bn": batch_norm(nn.BatchNorm1d, n_features),
        "nl_0_relu": nn.ReLU(),
        "nl_1": dense(n_features, projection, initializer, generator, bias=False),
        "nl_1_bn": unshifted,
    }
    # Alignment losses do not rectify nl_0 either: the published layer itself has no activation.
    return modules, [
        LayerInfo("nl_0", "nl_0", "deep", rectified=False),
        LayerInfo("nl_1", "nl_1", "deep", rectified=False),
    ]


def dense(
    n_in: int,
    n_out: int,
    initializer: Initializer,
    generator: torch.Generator,
    *,
    bias: bool = True,
) -> nn.Linear:
    """A linear layer filled by ``initializer``, zero bias; leaves the global generator alone."""
    layer = skip_init(nn.Linear, n_in, n_out, bias=bias)
    return _filled(layer, initializer, generator)


def conv(
    n_in: int,
    n_out: int,
    kernel_size: int,
    initializer: Initializer,
    generator: torch.Generator,
    *,
    stride: int = 1,
    padding: str | int | None = None,
    bias: bool = True,
) -> nn.Conv2d:
    """A convolution filled by ``initializer``, zero bias; padded by half its (odd) kernel if None.

    ``padding`` is ``"same"`` or ``"valid"`` besides; "same" puts the odd zero of an even kernel
    behind, as TensorFlow does.
    """
    chosen = (
        kernel_size // 2 if padding is None or (padding == "same" and kernel_size % 2) else padding
    )
    layer = skip_init(nn.Conv2d, n_in, n_out, kernel_size, stride=stride, padding=chosen, bias=bias)
    return _filled(layer, initializer, generator)


def _filled(layer: Layer, initializer: Initializer, generator: torch.Generator) -> Layer:
    initializer(layer.weight, generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    # Learning rules draw the backward weights with the very object that filled the forward ones.
    layer.initializer = initializer  # type: ignore[assignment]
    return layer


def batch_norm(kind: type[Norm], channels: int, momentum: float = BATCH_NORM_MOMENTUM) -> Norm:
    """Batch norm with ε 1e-5 and, unless told otherwise, the published decay 0.9."""
    return kind(channels, eps=BATCH_NORM_EPSILON, momentum=momentum)


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded half up, at least 1."""
    return max(1, int(channels * width + 0.5))
