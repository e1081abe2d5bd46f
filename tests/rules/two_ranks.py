"""One of two processes that train one model over gloo: `python two_ranks.py RANK FILE RULE OUT`."""

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
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)]
    return nn.Sequential(*layers).double()


def stimuli():
    x = torch.randn(2 * HALF, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    return x, torch.arange(2 * HALF) % 4


def train(model, wrapped, rule, x, y):
    """The trained backward weights, and the forward ones."""
    credit, optimizer = rule.attach(wrapped, batch_size=2 * HALF), rule.optimizer(model)
    for step in range(STEPS):
        credit.set_progress(step / STEPS)
        optimizer.zero_grad(set_to_none=True)
        credit.backward(lambda: functional.cross_entropy(wrapped(x), y))
        optimizer.step()
        credit.step()
    return dict(credit.backward_weights) | dict(model.named_parameters())


def main(rank, store, rule, out):
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = make_model()
    if rank == 1:  # must not matter: the first rank's weights are everyone's
        for parameter in model.parameters():
            parameter.data.mul_(2.0)
    mine = slice(rank * HALF, (rank + 1) * HALF)
    x, y = (tensor[mine] for tensor in stimuli())
    given = json.loads(rule)
    trained = train(model, DistributedDataParallel(model), rules.make(**given), x, y)
    torch.save({name: t.detach() for name, t in trained.items()}, Path(out) / f"{rank}.pt")
    distributed.barrier()  # neither rank may close the connection the other still reads
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the interpreter's teardown can abort on gloo's threads, after all is written
