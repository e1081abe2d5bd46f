"""From an architecture's specification to a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from goaldriven.architectures.alexnet import build_alexnet
from goaldriven.architectures.knet import build_knet
from goaldriven.architectures.mlp import build_mlp
from goaldriven.architectures.network import Network
from goaldriven.architectures.resnet import build_resnet
from goaldriven.errors import SpecError
from goaldriven.heads import Head
from goaldriven.specs.architectures import ArchitectureSpec

Builder = Callable[[Any, tuple[int, int, int], Head, torch.Generator], Network]

BUILDERS: dict[str, Builder] = {
    "knet4": build_knet,
    "knet4_lrn": build_knet,
    "knet5": build_knet,
    "knet5_lrn": build_knet,
    "alexnet": build_alexnet,
    "alexnet_lrn": build_alexnet,
    **{f"resnet{depth}": build_resnet for depth in (10, 18, 34, 50, 101, 152)},
    **{f"resnet{depth}_v2": build_resnet for depth in (10, 18, 34, 50, 101, 152)},
    "mlp": build_mlp,
}


def build(
    spec: ArchitectureSpec,
    input_shape: tuple[int, int, int],
    head: Head,
    generator: torch.Generator,
) -> Network:
    """A freshly initialised network for stimuli of ``input_shape`` under ``head``.

    Every weight is drawn from ``generator`` (on the CPU), the trunk's before the head's, and from
    nothing else: the global generator is neither read nor moved.

    Parameters
    ----------
    input_shape : (channels, height, width) of one stimulus.

    Returns
    -------
    A module whose ``forward`` gives logits, projections or reconstructions, ``features`` the flat
    representation under the head, and ``layers`` the observed layers. Each weighted module has an
    ``initializer(tensor, generator)`` that fills a tensor as its forward kernel was filled.

    Raises
    ------
    SpecError : ``input_shape`` is not three positive integers.

    Examples
    --------
    >>> from goaldriven.heads import Readout
    >>> from goaldriven.specs.architectures import KNet
    >>> net = build(KNet(name="knet4"), (1, 8, 8), Readout(10), torch.Generator().manual_seed(0))
    >>> [(layer.name, layer.position) for layer in net.layers]
    [('conv1', 'early'), ('conv2', 'middle'), ('conv3', 'deep'), ('fc4', 'deep')]
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise SpecError(
            "input_shape must be (channels, height, width), each at least 1, "
            f"got {tuple(input_shape)}"
        )
    return BUILDERS[spec.name](spec, input_shape, head, generator)
