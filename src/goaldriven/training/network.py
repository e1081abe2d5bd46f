"""A network ready to train: model, task, attached rule, optimizer, sources of randomness."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from goaldriven import architectures, rules, tasks
from goaldriven.layers import LayerInfo
from goaldriven.specs import NetworkSpec


@dataclass(frozen=True)
class Network:
    """One network with everything its training needs.

    ``data_generator`` drives the order and augmentation of the stimuli; the initial weights were
    drawn from other generators, so neither seed touches what the other sets.
    """

    spec: NetworkSpec
    task: tasks.Task
    model: torch.nn.Module
    credit: rules.CreditAssignment
    optimizer: torch.optim.Optimizer
    data_generator: torch.Generator


def stream(purpose: str, seed: int | str) -> torch.Generator:
    """An independent random stream for one purpose.

    The purpose is hashed in, so that equal seeds of different purposes share no numbers.
    """
    digest = hashlib.sha256(f"goaldriven/{purpose}/{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def build(spec: NetworkSpec, device: str = "cpu", task: tasks.Task | None = None) -> Network:
    """The initial network that ``spec`` describes.

    Forward and backward weights come from two streams of the model seed: networks that differ
    only in the learning rule start from the same forward weights.

    Parameters
    ----------
    task : the loaded task of ``spec``, where it is there already.
    """
    if task is None:
        task = tasks.load(spec.task, device=device)
    model = architectures.build(
        spec.architecture,
        task.input_shape,
        task.head,
        stream("forward weights", spec.model_seed),
    ).to(device)
    rule = rules.LearningRule(spec.rule)
    credit = rule.attach(
        model,
        generator=stream("backward weights", spec.model_seed),
        noise_generator=stream("alignment noise", spec.network_id),
        batch_size=spec.batch_size,
    )
    optimizer = rule.optimizer(
        model,
        batch_size=spec.batch_size,
        noise_generator=stream("update noise", spec.network_id),
    )
    data = stream("data", spec.data_seed)
    return Network(spec, task, model, credit, optimizer, data)


def layers_of(network: Network) -> tuple[LayerInfo, ...]:
    """The network's observed layers, in the order of the hierarchy."""
    layers = network.model.layers
    assert isinstance(layers, tuple)  # every built model carries them; narrows the type
    return layers


def kernel(model: torch.nn.Module, layer: LayerInfo) -> torch.Tensor:
    """The forward kernel of a layer."""
    weight = model.get_submodule(layer.name).weight
    assert isinstance(weight, torch.Tensor)  # narrows the type
    return weight
