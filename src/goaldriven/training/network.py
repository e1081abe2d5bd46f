"""A network ready to train: model, task, attached rule, optimizer, sources of randomness."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from goaldriven import architectures, rules, tasks
from goaldriven.layers import LayerInfo
from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import DEFAULT, RuntimeOptions
from goaldriven.training.batch_norm import join_batch_norm
from goaldriven.training.numerics import check_micro_batch
from goaldriven.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Network:
    """One network with everything its training needs.

    ``data_generator`` drives the order and augmentation of the stimuli; the initial weights were
    drawn from other generators, so neither seed touches what the other sets.

    ``ranks`` are the processes that train this network together; ``compiled`` is the model as
    `torch.compile` made it, where that is asked for.
    """

    spec: NetworkSpec
    task: tasks.Task
    model: torch.nn.Module
    credit: rules.CreditAssignment
    optimizer: torch.optim.Optimizer
    data_generator: torch.Generator
    runtime: RuntimeOptions = DEFAULT
    ranks: Ranks = ALONE
    compiled: torch.nn.Module | None = None

    @property
    def called(self) -> torch.nn.Module:
        """What training steps call."""
        return self.model if self.compiled is None else self.compiled


def stream(purpose: str, seed: int | str, device: str = "cpu") -> torch.Generator:
    """An independent random stream for one purpose.

    The purpose is hashed in, so that equal seeds of different purposes share no numbers.
    """
    digest = hashlib.sha256(f"goaldriven/{purpose}/{seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def build(
    spec: NetworkSpec,
    device: str = "cpu",
    runtime: RuntimeOptions = DEFAULT,
    ranks: Ranks = ALONE,
    task: tasks.Task | None = None,
) -> Network:
    """The initial network that ``spec`` describes.

    Forward and backward weights come from two streams of the model seed: networks that differ
    only in the learning rule start from the same forward weights. Noise that is drawn at every step
    comes from streams of the device.

    Parameters
    ----------
    task : the loaded task of ``spec``, where it is there already.

    Raises
    ------
    SpecError : the batch does not divide among ranks and micro-batches.
    DataError : the task's data cannot be used.
    """
    check_micro_batch(runtime, ranks.part_size(spec.batch_size))
    if task is None:
        task = tasks.load(spec.task, device=device)
    model = architectures.build(
        spec.architecture,
        task.input_shape,
        task.head,
        stream("forward weights", spec.model_seed),
    ).to(device)
    if runtime.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if runtime.batch_norm == "joined":
        join_batch_norm(model, ranks)
    _take_part(model, ranks)
    rule = rules.LearningRule(spec.rule)
    credit = rule.attach(
        model,
        generator=stream("backward weights", spec.model_seed),
        noise_generator=stream("alignment noise", spec.network_id, device),
        batch_size=spec.batch_size,
        group=ranks.group,
    )
    optimizer = rule.optimizer(
        model,
        batch_size=spec.batch_size,
        noise_generator=stream("update noise", spec.network_id, device),
    )
    data = stream("data", spec.data_seed)
    compiled = torch.compile(model) if runtime.compile else None
    return Network(spec, task, model, credit, optimizer, data, runtime, ranks, compiled)  # type: ignore[arg-type]


def _take_part(model: torch.nn.Module, ranks: Ranks) -> None:
    """Tell modules that draw for every stimulus (dropout) which part of the batch is this rank's.

    Such modules have an attribute ``part``, (rank, ranks).
    """
    for module in model.modules():
        if ranks.size > 1 and "part" in vars(module):
            module.part = (ranks.rank, ranks.size)  # type: ignore[assignment]


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
