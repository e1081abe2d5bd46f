"""Networks in float64, one process' or one rank's: `python double_networks.py RANK FILE CASES OUT`.

Equal but for rounding should then be equal to fifteen digits.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed

from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import RuntimeOptions
from goaldriven.training import build
from goaldriven.training.loop import train_epoch
from goaldriven.training.ranks import ALONE, Ranks

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


def main(rank, store, cases, out):
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    ranks = Ranks(distributed.group.WORLD, rank, 2)
    found = {
        f"{name}|{key}": tensor
        for name, case in json.loads(Path(cases).read_text()).items()
        for key, tensor in trained(case, ranks).items()
    }
    torch.save(found, Path(out) / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the interpreter's teardown can abort on gloo's threads, after all is written
