"""Fully connected networks."""

from __future__ import annotations

import math

import torch
from torch import nn

from goaldriven.architectures.initializers import lecun_normal
from goaldriven.architectures.network import Network, Observed, assemble, dense, scaled
from goaldriven.heads import Head
from goaldriven.specs.architectures import MLP


def build_mlp(
    spec: MLP, input_shape: tuple[int, int, int], head: Head, generator: torch.Generator
) -> Network:
    """Dense tanh layers of ``spec.hidden`` times ``spec.width`` units, then a dense readout.

    ::

        flatten → fc1 → tanh → fc2 → tanh … → readout

    Kernels are drawn from N(0, 1/fan_in), biases are 0. Layers: fc1, fc2, …; a hidden layer's
    activity is its tanh's output. Under an autoencoder's head (`heads.Reconstruction`) the network
    is input-hidden…-bottleneck-hidden-input: with the default 50 units and the digits'
    bottleneck of 2, 64-50-2-50-64, after the 784-200-2-200-784 of Lansdell, Prakash & Kording 2019.
    """
    n_in = math.prod(input_shape)
    trunk: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    layers: list[Observed] = []
    for number, units in enumerate(spec.hidden, start=1):
        n_out = scaled(units, spec.width)
        name, tanh = f"fc{number}", f"tanh{number}"
        trunk |= {name: dense(n_in, n_out, lecun_normal(n_in), generator), tanh: nn.Tanh()}
        layers.append(Observed(name, tanh, rectified=False))
        n_in = n_out
    readout = (f"fc{len(spec.hidden) + 1}", lecun_normal(n_in))
    return assemble(trunk, layers, head, readout, n_in, generator)
