"""How many networks to stack: a few steps of each size tell."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from goaldriven import tasks
from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import DEFAULT
from goaldriven.tasks.base import Batch
from goaldriven.training.loop import train_epoch
from goaldriven.training.network import Network, build
from goaldriven.training.numerics import products
from goaldriven.training.stack import Stack

_STEPS, _REPETITIONS = 4, 3
_WORTH = 1.05  # a stack must be faster than single training by this factor
_SHARE = 0.6  # of the memory that is free, over all jobs


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Attributes
    ----------
    size : the stack size that trains networks fastest; 1 where none is faster than one by one.
    seconds : size → seconds of a step per network; 1 is single training.
    bytes_per_network : memory that one more network in a stack takes.
    """

    size: int
    seconds: dict[int, float]
    bytes_per_network: int

    @property
    def text(self) -> str:
        """For people."""
        times = ", ".join(f"{size}: {1e3 * s:.2f}" for size, s in self.seconds.items())
        return (
            f"stacks tried (networks: ms per network and step): {times}; "
            f"{self.bytes_per_network / 2**20:.1f} MiB per network"
        )


class _Few:
    """A task of a few batches; all else is the task's own."""

    def __init__(self, task: tasks.Task, batch_size: int) -> None:
        self._task = task
        self.n_train = min(task.n_train, _STEPS * batch_size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        batches = self._task.train_batches(batch_size, generator)
        return itertools.islice(batches, self.n_train // batch_size)


@products(DEFAULT)
def best_size(
    specs: Sequence[NetworkSpec], *, device: str = "cpu", threads: int = 1, jobs: int = 1
) -> Trial:
    """Try stacks of 2, 4, 8, … of ``specs``, until they no longer gain or memory would not do.

    In float32, whatever the precision of the run.

    Parameters
    ----------
    specs : networks that can share a stack; no larger stack than of all of them is tried.
    jobs : processes that will train at the same time, and share the memory.

    Raises
    ------
    DataError : the task's data cannot be used.
    """
    torch.set_num_threads(threads)
    task = tasks.load(specs[0].task, device=device)
    few: Any = _Few(task, specs[0].batch_size)

    def make(spec: NetworkSpec) -> Network:
        return replace(build(spec, device, task=task), task=few)

    single = make(specs[0])
    size_of_one = _bytes(single)
    room = _SHARE * _free(device) / max(jobs, 1)
    steps = max(1, few.n_train // specs[0].batch_size) * single.credit.passes_per_epoch
    seconds = {1: _seconds(lambda: train_epoch(single, 0), device) / steps}
    for size in _sizes(len(specs), int(room // max(size_of_one, 1))):
        try:
            stack = Stack(list(map(make, specs[:size])), make)
            taken = _seconds(partial(stack.train_epoch, 0), device)
        except torch.OutOfMemoryError:
            break
        seconds[size] = taken / steps / size
        if seconds[size] > 0.97 * min(list(seconds.values())[:-1]):
            break
    fastest = min(seconds, key=lambda size: seconds[size])
    size = fastest if seconds[1] > _WORTH * seconds[fastest] else 1
    return Trial(size, seconds, size_of_one)


def _sizes(n: int, room: int) -> Iterator[int]:
    """2, 4, 8, … and n, none above n or what there is room for."""
    most = min(n, room)
    powers = [2**i for i in range(1, 1 + int(math.log2(max(most, 1))))]
    return iter(sorted({*powers, *([most] if most > 1 else [])}))


def _seconds(epoch: Callable[[], object], device: str) -> float:
    """The shortest of a few epochs, after one to warm up.

    With one thread on a CPU, seconds of the CPU, which other processes do not stretch.
    """
    alone = torch.device(device).type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    taken = []
    for _ in range(_REPETITIONS + 1):
        _synchronise(device)
        start = clock()
        epoch()
        _synchronise(device)
        taken.append(clock() - start)
    return min(taken[1:])


def _synchronise(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _bytes(network: Network) -> int:
    """What one network holds at the end of a forward pass, with gradients and momenta.

    Activities are those that the graph has saved; their gradients may be as many again.
    """
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = next(iter(network.task.train_batches(network.spec.batch_size, torch.Generator())))
    network.model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network.task.loss(network.model, batch)
    weights = sum(p.numel() * p.element_size() for p in network.model.parameters())
    return 2 * sum(saved.values()) + 6 * weights


def _free(device: str) -> int:
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**32
