"""Several processes that train one network together, each on its part of every batch.

The batches are those of one process: every rank draws the same order, and takes its rows. Gradients
are means over ranks, and the rules see to the rest (`goaldriven.rules.ranks`), so that the network
is that of one process, to rounding.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from goaldriven.errors import SpecError, StudyError
from goaldriven.rules.ranks import Group, average_over_ranks
from goaldriven.tasks import Task
from goaldriven.tasks.base import Batch

T = TypeVar("T")

_PATIENCE = timedelta(hours=12)
"""How long a rank waits for the others: the first one records alone."""


@dataclass(frozen=True)
class Ranks:
    """This process' place among those that train a network together; by default it is alone."""

    group: Group = None
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that records and writes."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its mean over ranks."""
        average_over_ranks(tensors, self.group)

    def told(self, value: T) -> T:
        """What the first rank's ``value`` is, on all ranks."""
        if self.group is None:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def part_size(self, batch_size: int) -> int:
        """Stimuli per rank of a batch.

        Raises
        ------
        SpecError : the batch does not divide evenly.
        """
        if batch_size % self.size:
            raise SpecError(
                f"batch_size must be a multiple of the {self.size} ranks, got {batch_size}"
            )
        return batch_size // self.size


ALONE = Ranks()


def train_batches(
    task: Task, batch_size: int, generator: torch.Generator, ranks: Ranks
) -> Iterator[Batch]:
    """One epoch of this rank's parts of the batches that one process would have.

    Tasks whose ``train_batches`` takes ``part`` read this rank's part alone; of the others' batches
    the rest is dropped.
    """
    if ranks.size == 1:
        return task.train_batches(batch_size, generator)
    n = ranks.part_size(batch_size)
    if "part" in inspect.signature(task.train_batches).parameters:
        part = (ranks.rank, ranks.size)
        return task.train_batches(batch_size, generator, part=part)  # type: ignore[call-arg]
    start = ranks.rank * n
    return (rows(batch, start, start + n) for batch in task.train_batches(batch_size, generator))


def rows(batch: Batch, start: int, stop: int) -> Batch:
    """Some stimuli of a batch, with all their views."""
    n = len(batch)
    views = batch.stimuli.unflatten(0, (-1, n))[:, start:stop]
    return replace(batch, stimuli=views.flatten(0, 1), labels=batch.labels[start:stop])


def launch(devices: int, nodes: int, device: str, threads: int = 1) -> tuple[Ranks, str]:
    """Start the ranks, or join those that ``torchrun`` or Slurm started; by Lightning Fabric.

    On one machine this process becomes the first rank and starts the command that it was started
    by ``devices − 1`` times more, up to here. They end with it.

    Parameters
    ----------
    devices, nodes : ranks per machine, and machines.
    device : kind of torch device, ``"cpu"`` or ``"cuda"``.
    threads : torch threads of each rank.

    Returns
    -------
    This rank's place, and its torch device.

    Raises
    ------
    StudyError : Lightning Fabric is not installed, or so many devices are not there.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError:
        raise StudyError(
            "devices and nodes above 1 need Lightning Fabric: pip install 'goaldriven[distributed]'"
        ) from None
    kind = torch.device(device).type
    backend = "nccl" if kind == "cuda" else "gloo"
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=devices,
            num_nodes=nodes,
            strategy=DDPStrategy(process_group_backend=backend, timeout=_PATIENCE),
        )
        fabric.launch()
        atexit.register(_end, getattr(fabric.strategy.launcher, "procs", ()))
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise StudyError(
            f"devices must be {devices} of kind {kind} on each of {nodes} nodes, got: {error}"
        ) from error
    torch.set_num_threads(threads)
    if fabric.world_size == 1:
        return ALONE, str(fabric.device)
    group = distributed.group.WORLD
    return Ranks(group, fabric.global_rank, fabric.world_size), str(fabric.device)


def _end(processes: Iterable[Any]) -> None:
    """See that no rank waits for a first one that is gone."""
    for process in processes:
        with contextlib.suppress(Exception):
            process.wait(timeout=10)
        if process.poll() is None:
            process.terminate()
