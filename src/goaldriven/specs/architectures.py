"""Architectures as data; `goaldriven.architectures` builds them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat

from goaldriven.specs.base import NamedSpec, name_only


class KNet(NamedSpec):
    """Krizhevsky's shallow networks for 32×32 images (4 or 5 layers, with or without LRN).

    ``width`` multiplies every channel count (rounded, at least 1); 1 is the published network.
    """

    name: Literal["knet4", "knet4_lrn", "knet5", "knet5_lrn"]
    width: PositiveFloat = 1.0


class ResNet10(NamedSpec):
    """A 10-layer residual network with batch norm (v1 post-activation, v2 pre-activation).

    One basic block per stage; 16, 32, 64 and 128 channels at ``width`` 1.
    """

    name: Literal["resnet10", "resnet10_v2"]
    width: PositiveFloat = 1.0


ArchitectureSpec = Annotated[
    Annotated[KNet | ResNet10, Field(discriminator="name")], BeforeValidator(name_only)
]

ARCHITECTURES: dict[str, type[KNet] | type[ResNet10]] = {
    "knet4": KNet,
    "knet4_lrn": KNet,
    "knet5": KNet,
    "knet5_lrn": KNet,
    "resnet10": ResNet10,
    "resnet10_v2": ResNet10,
}

ARCHITECTURE_SUMMARIES: dict[str, str] = {
    "knet4": "3 convolutions + readout, after Krizhevsky (2012)",
    "knet4_lrn": "knet4 with local response normalisation after the first two layers",
    "knet5": "knet4 with a fourth convolution of 128 channels",
    "knet5_lrn": "knet5 with local response normalisation after the first two layers",
    "resnet10": "10-layer residual network with batch norm, post-activation (v1)",
    "resnet10_v2": "10-layer residual network with batch norm, pre-activation (v2)",
}
