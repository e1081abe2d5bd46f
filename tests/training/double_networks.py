"""Networks in float64, one process' or one rank's.

Equal but for rounding should then be equal to fifteen digits.
"""

import dataclasses

import torch

from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import RuntimeOptions
from goaldriven.training import build
from goaldriven.training.loop import train_epoch
from goaldriven.training.ranks import ALONE

SMALL = {
    "task": {"name": "digits", "train_limit": 64, "validation_limit": 16},
    "batch_size": 32,
    "epochs": 2,
    "record_every": 1,
}


def double(spec, runtime=None, ranks=ALONE):
    network = build(spec, "cpu", runtime or RuntimeOptions(), ranks)
    network.model.double()
    task = network.task
    in_double = dataclasses.replace(
        task,
        draw=lambda chosen, generator: task.draw(chosen, generator).double(),
        validation_stimuli=task.validation_stimuli.double(),
    )
    return dataclasses.replace(network, task=in_double)


def tensors(network):
    """Forward and backward weights, buffers."""
    found = {n: t.clone() for n, t in network.model.state_dict().items()}
    backward = network.credit.backward_weights
    return found | {f"backward {n}": b.clone() for n, b in backward.items()}


def trained(case, ranks=ALONE):
    """What there is after two epochs, with the training losses."""
    given = dict(case)
    runtime = RuntimeOptions(**given.pop("runtime", {}))
    network = double(NetworkSpec(**SMALL | given), runtime, ranks)
    losses = [train_epoch(network, epoch) for epoch in range(2)]
    return tensors(network) | {"losses": torch.tensor(losses, dtype=torch.float64)}
