"""What a rank sends in single steps of training: every collective that PyTorch dispatches."""

from __future__ import annotations

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from goaldriven.specs import NetworkSpec
from goaldriven.training import build
from goaldriven.training.loop import backward
from goaldriven.training.ranks import Ranks, train_batches

SENT = ("allgather_", "allreduce_", "broadcast_")
STEPS = 2  # one that aligns and one that learns the task, where they alternate


class Counted(TorchDispatchMode):
    """Counts collectives by name, whichever function of `torch.distributed` they come from."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            name = func.name().removeprefix("c10d::")
            assert name in SENT, name
            self.sent[name] += 1
        return func(*args, **(kwargs or {}))


def trained(case, ranks: Ranks):
    """``step i`` → how many of each of SENT; nothing is sent by the file that counts."""
    task = {"name": "digits", "train_limit": 64, "validation_limit": 16}
    network = build(NetworkSpec(task=task, batch_size=32, **case), ranks=ranks)
    network.called.train()
    batches = train_batches(network.task, 32, network.data_generator, ranks)
    found = {}
    for step, batch in zip(range(STEPS), batches, strict=True):
        network.credit.set_progress(0.0)
        network.optimizer.zero_grad(set_to_none=True)
        with Counted() as counted:
            backward(network, batch)
            network.optimizer.step()
            network.credit.step()
        found[f"step {step}"] = torch.tensor([counted.sent[name] for name in SENT])
    return found
