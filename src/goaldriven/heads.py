"""What stands on top of a network: the one thing tasks and architectures must agree on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Readout:
    """A dense layer from the features to ``n_outputs`` logits."""

    n_outputs: int


@dataclass(frozen=True)
class Contrastive:
    """SimCLR's projection head in place of the readout.

    Two dense layers, ``nl_0`` (features → features, batch norm, ReLU) and ``nl_1``
    (features → ``projection``, batch norm), neither with a bias. Source: Chen et al. 2020 and its
    published code; lr-identify ``simclr_model.py``.
    """

    projection: int


@dataclass(frozen=True)
class Reconstruction:
    """The second half of an autoencoder in place of the readout.

    Three dense layers: ``bottleneck`` (features → ``bottleneck`` units, linear), ``decoder`` (back
    to as many tanh units as there are features) and ``reconstruction`` (``n_outputs``, linear). On
    a network with 200 features that is the 784-200-2-200-784 of the published code of Lansdell,
    Prakash & Kording 2019, but for its rectified output.
    """

    n_outputs: int
    bottleneck: int


Head = Readout | Contrastive | Reconstruction
