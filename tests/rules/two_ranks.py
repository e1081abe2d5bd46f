"""One of two processes that train models over gloo: `python two_ranks.py RANK FILE RULES OUT`."""

import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from goaldriven import rules

STEPS, HALF = 4, 6


def make_model():
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 4)]
    return nn.Sequential(*layers).double()


def stimuli():
    x = torch.randn(2 * HALF, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    return x, torch.arange(2 * HALF) % 4


def train(model, wrapped, rule, x, y, scalar=False):
    """The trained backward weights, and the forward ones."""
    credit, optimizer = rule.attach(wrapped, batch_size=2 * HALF), rule.optimizer(model)
    reduction = "none" if credit.per_stimulus and not scalar else "mean"
    for step in range(STEPS):
        credit.set_progress(step)
        optimizer.zero_grad(set_to_none=True)
        credit.backward(lambda: functional.cross_entropy(wrapped(x), y, reduction=reduction))
        optimizer.step()
        credit.step()
    return dict(credit.backward_weights) | dict(model.named_parameters())


def train_part(rank, rule):
    """By this rank, on its half of the stimuli."""
    model = make_model()
    if rank == 1:  # must not matter: the first rank's weights are everyone's
        for parameter in model.parameters():
            parameter.data.mul_(2.0)
    mine = slice(rank * HALF, (rank + 1) * HALF)
    x, y = (tensor[mine] for tensor in stimuli())
    given, scalar = rule
    return train(model, DistributedDataParallel(model), rules.make(**given), x, y, scalar)


def main(rank, store, given, out):
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    trained = {
        f"{name}|{key}": tensor.detach()
        for name, rule in json.loads(given).items()
        for key, tensor in train_part(rank, rule).items()
    }
    torch.save(trained, Path(out) / f"{rank}.pt")
    distributed.barrier()  # neither rank may close the connection the other still reads
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the interpreter's teardown can abort on gloo's threads, after all is written
