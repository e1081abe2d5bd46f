"""Architectures as data; `goaldriven.architectures` builds them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from goaldriven.specs.base import NamedSpec, name_only


class KNet(NamedSpec):
    """Krizhevsky's shallow networks for 32×32 images (4 or 5 layers, with or without LRN).

    ``width`` multiplies every channel count (rounded, at least 1); 1 is the published network.
    """

    name: Literal["knet4", "knet4_lrn", "knet5", "knet5_lrn"]
    width: PositiveFloat = 1.0


class AlexNet(NamedSpec):
    """AlexNet on one path, with or without LRN; ``width`` multiplies channels and dense units."""

    name: Literal["alexnet", "alexnet_lrn"]
    width: PositiveFloat = 1.0


class ResNet(NamedSpec):
    """A residual network with batch norm (v1 post-activation, v2 pre-activation).

    ``resnet10`` has one basic block per stage and 16, 32, 64 and 128 channels at ``width`` 1; the
    deeper ones are those published, of basic blocks (18, 34) or bottlenecks (50, 101, 152).
    """

    name: Literal[
        "resnet10",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnet10_v2",
        "resnet18_v2",
        "resnet34_v2",
        "resnet50_v2",
        "resnet101_v2",
        "resnet152_v2",
    ]
    width: PositiveFloat = 1.0


class MLP(NamedSpec):
    """A fully connected network of tanh layers.

    ``hidden``: units of each layer; ``width`` multiplies them all (rounded, at least 1).
    """

    name: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (50,)
    width: PositiveFloat = 1.0


ArchitectureSpec = Annotated[
    Annotated[KNet | AlexNet | ResNet | MLP, Field(discriminator="name")],
    BeforeValidator(name_only),
]

ARCHITECTURES: dict[str, type[KNet] | type[AlexNet] | type[ResNet] | type[MLP]] = {
    "knet4": KNet,
    "knet4_lrn": KNet,
    "knet5": KNet,
    "knet5_lrn": KNet,
    "alexnet": AlexNet,
    "alexnet_lrn": AlexNet,
    "resnet10": ResNet,
    "resnet10_v2": ResNet,
    "resnet18": ResNet,
    "resnet18_v2": ResNet,
    "resnet34": ResNet,
    "resnet34_v2": ResNet,
    "resnet50": ResNet,
    "resnet50_v2": ResNet,
    "resnet101": ResNet,
    "resnet101_v2": ResNet,
    "resnet152": ResNet,
    "resnet152_v2": ResNet,
    "mlp": MLP,
}

ARCHITECTURE_SUMMARIES: dict[str, str] = {
    "knet4": "3 convolutions + readout, after Krizhevsky (2012)",
    "knet4_lrn": "knet4 with local response normalisation after the first two layers",
    "knet5": "knet4 with a fourth convolution of 128 channels",
    "knet5_lrn": "knet5 with local response normalisation after the first two layers",
    "alexnet": "5 convolutions and 3 dense layers, Krizhevsky et al. (2012)",
    "alexnet_lrn": "alexnet with local response normalisation after the first two layers",
    "resnet10": "10-layer residual network with batch norm, post-activation (v1)",
    "resnet10_v2": "10-layer residual network with batch norm, pre-activation (v2)",
    "resnet18": "18-layer residual network with batch norm, post-activation (v1), He et al. (2016)",
    "resnet18_v2": "18-layer residual network with batch norm, pre-activation (v2)",
    "resnet34": "34-layer residual network, post-activation (v1)",
    "resnet34_v2": "34-layer residual network, pre-activation (v2)",
    "resnet50": "50-layer residual network of bottlenecks, post-activation (v1)",
    "resnet50_v2": "50-layer residual network of bottlenecks, pre-activation (v2)",
    "resnet101": "101-layer residual network of bottlenecks, post-activation (v1)",
    "resnet101_v2": "101-layer residual network of bottlenecks, pre-activation (v2)",
    "resnet152": "152-layer residual network of bottlenecks, post-activation (v1)",
    "resnet152_v2": "152-layer residual network of bottlenecks, pre-activation (v2)",
    "mlp": "fully connected tanh layers, one of 50 units by default",
}
