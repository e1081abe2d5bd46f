"""One of two processes that compute NT-Xent together: `python simclr_ranks.py RANK FILE OUT`."""

import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from goaldriven.specs.tasks import ImageNetSimCLR
from goaldriven.tasks.base import Batch
from goaldriven.tasks.imagenet_simclr import ImageNetSimCLRTask
from goaldriven.tasks.ranks import join

PER_RANK, FEATURES = 5, 6


def make_task(across_ranks):
    """The objective alone; there are no images."""
    spec = ImageNetSimCLR(temperature=0.3, across_ranks=across_ranks)
    return ImageNetSimCLRTask(spec, *[None] * 4, torch.device("cpu"))


def make_model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def views():
    """Two views of every rank's stimuli, (2, ranks · per rank, features)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2 * PER_RANK, FEATURES, dtype=torch.float64, generator=generator)


def batch_of(part):
    return Batch(part.flatten(0, 1), torch.zeros(part.shape[1], dtype=torch.int64))


def loss_and_gradients(model, batch, across_ranks):
    model.zero_grad()
    loss = make_task(across_ranks).loss(model, batch)
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad.clone() for n, p in model.named_parameters()}


def main(rank, store, out):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    batch = batch_of(views()[:, rank * PER_RANK : (rank + 1) * PER_RANK])
    model = DistributedDataParallel(make_model())
    results = {f"joined {n}": t for n, t in loss_and_gradients(model, batch, True).items()}
    results |= {f"apart {n}": t for n, t in loss_and_gradients(model, batch, False).items()}
    model.eval()  # a record is taken by one rank alone: it must not wait for the others
    with torch.no_grad():
        if rank == 0:
            results["recorded"] = make_task(True).loss(model.module, batch)
    part = torch.full((3,), float(rank + 1), dtype=torch.float64, requires_grad=True)
    joined = join(part)
    (joined * torch.tensor([[1.0], [10.0]]) * (rank + 1)).sum().backward()
    results |= {"stacked": joined.detach(), "summed": part.grad}
    torch.save(results, Path(out) / f"{rank}.pt")
    distributed.barrier()  # neither rank may close the connection the other still reads
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the interpreter's teardown can abort on gloo's threads, after all is written
