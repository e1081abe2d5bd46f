"""What several ranks gain, and what checkpoints cost, as ratios within one run.

    python benchmarks/scaling.py [--repetitions 5] [--batch-size 128] [--networks knet4 resnet10]
        [--rules sgdm fa ia np] [--size 8] [--only ranks]

**Ranks**: stimuli per second of two gloo processes that train one network together, over those of
one process on the same batches; both with one torch thread per process, in turns, wall-clock time.
The ideal is 2 on two free cores; on cores that others use it is less. Besides, of the slower rank
where there are two:

- CPU: CPU time of both ranks together over that of one process, ideal 1;
- bound: CPU time of one process over that of one rank's computing thread: the speed that two free
  cores and messages without latency would give;
- other threads: share of a rank's CPU time outside its computing thread (gloo's);
- messages per step; median milliseconds of one; that of an empty one, sent back to back;
- in messages, off core: shares of the time that a rank spends in messages, and neither in messages
  nor computing, which is when others have its core.

``--size`` enlarges the digits to so many pixels a side.

**Checkpoints**: CPU seconds of writing one and of going on from it, over those of one epoch.

Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.functional import interpolate

from goaldriven import tasks
from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import CheckpointEvery
from goaldriven.training import build
from goaldriven.training.loop import train_epoch
from goaldriven.training.ranks import ALONE, Ranks
from goaldriven.training.record import Recorder
from goaldriven.training.resume import Checkpoints, Standing

RULES = ("sgdm", "fa", "ia", "np")


def spec_of(network: str, rule: str, batch_size: int) -> NetworkSpec:
    task = {"name": "digits", "train_limit": 8 * batch_size}
    fields = {"task": task, "architecture": network, "rule": rule, "batch_size": batch_size}
    return NetworkSpec(**fields)


@dataclass(frozen=True)
class Cost:
    """What an epoch took one process: medians of seconds, the first epoch left out."""

    wall: float
    cpu: float  # of all threads
    own_cpu: float  # of the computing thread
    messages: float = 0.0  # per step
    message_ms: float = 0.0  # median
    empty_ms: float = 0.0  # median
    in_messages: float = 0.0  # share of ``wall``
    off_core: float = 0.0  # share of ``wall``


class Watch:
    """Wall-clock and CPU seconds of every message that is sent by `torch.distributed`."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float]] = []
        for name in ("all_reduce", "all_gather"):
            setattr(distributed, name, self._timed(getattr(distributed, name)))

    def _timed(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter(), time.thread_time()
            result = send(*args, **kwargs)
            self.taken.append((time.perf_counter() - start[0], time.thread_time() - start[1]))
            return result

        return timed


def enlarged(task: Any, size: int) -> Any:
    """The digits with ``size`` pixels a side."""
    if size == task.input_shape[-1]:
        return task
    return replace(
        task,
        draw=lambda chosen, generator: interpolate(task.draw(chosen, generator), size=size),
        validation_stimuli=interpolate(task.validation_stimuli, size=size),
        input_shape=(1, size, size),
    )


def cost(
    spec: NetworkSpec, ranks: Ranks, repetitions: int, size: int, watch: Watch | None = None
) -> Cost:
    torch.set_num_threads(1)
    task = enlarged(tasks.load(spec.task, device="cpu"), size)
    network = build(spec, ranks=ranks, task=task)
    taken, sent, sending = [], [], []
    for epoch in range(repetitions + 1):
        before = len(watch.taken) if watch else 0
        start = time.perf_counter(), time.process_time(), time.thread_time()
        train_epoch(network, epoch)
        end = time.perf_counter(), time.process_time(), time.thread_time()
        taken.append([b - a for a, b in zip(start, end, strict=True)])
        messages = watch.taken[before:] if watch else []
        sending.append([sum(column) for column in zip(*messages, strict=True)] or [0.0, 0.0])
        sent.append(messages)
    wall, cpu, own = (statistics.median(column) for column in zip(*taken[1:], strict=True))
    if watch is None:
        return Cost(wall, cpu, own)
    total = sum(row[0] for row in taken[1:])
    computing = sum(row[2] for row in taken[1:]) - sum(row[1] for row in sending[1:])
    inside = sum(row[0] for row in sending[1:])
    steps = network.task.n_train // spec.batch_size * network.credit.passes_per_epoch
    each = [seconds for messages in sent[1:] for seconds, _ in messages]
    return Cost(
        wall,
        cpu,
        own,
        # One more is the loss of the epoch.
        messages=(len(each) / repetitions - 1) / steps,
        message_ms=1e3 * statistics.median(each),
        empty_ms=1e3 * seconds_of_empty_message(ranks),
        in_messages=inside / total,
        off_core=1 - (inside + computing) / total,
    )


def seconds_of_empty_message(ranks: Ranks, repetitions: int = 200) -> float:
    taken = []
    for _ in range(repetitions):
        number = torch.zeros(1)
        start = time.perf_counter()
        distributed.all_reduce(number, group=ranks.group)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def one_rank(
    rank: int,
    store: str,
    repetitions: int,
    size: int,
    given: multiprocessing.Queue,
    found: multiprocessing.Queue,
) -> None:
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    ranks = Ranks(distributed.group.WORLD, rank, 2)
    watch = Watch()
    while (spec := given.get()) is not None:
        found.put(cost(spec, ranks, repetitions, size, watch))
    distributed.barrier()


def on_two_ranks(specs: list[NetworkSpec], repetitions: int, size: int) -> Iterator[list[Cost]]:
    """Of one network after the other, each when it is asked for, what both ranks needed."""
    context = multiprocessing.get_context("spawn")
    queues = [(context.Queue(), context.Queue()) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        processes = [
            context.Process(target=one_rank, args=(rank, store, repetitions, size, *pair))
            for rank, pair in enumerate(queues)
        ]
        for process in processes:
            process.start()
        for spec in specs:
            for given, _ in queues:
                given.put(spec)
            yield [found.get() for _, found in queues]
        for given, _ in queues:
            given.put(None)
        for process in processes:
            process.join()


def row_of_ranks(alone: Cost, ranks: list[Cost]) -> str:
    slow = max(ranks, key=lambda rank: rank.wall)
    cells = (
        f"{alone.wall / slow.wall:.2f}",
        f"{sum(rank.cpu for rank in ranks) / alone.cpu:.2f}",
        f"{alone.own_cpu / max(rank.own_cpu for rank in ranks):.2f}",
        f"{1 - slow.own_cpu / slow.cpu:.0%}",
        f"{slow.messages:.1f}",
        f"{slow.message_ms:.2f}",
        f"{slow.empty_ms:.2f}",
        f"{slow.in_messages:.0%}",
        f"{slow.off_core:.0%}",
    )
    return " | ".join(cells)


def checkpoint_costs(spec: NetworkSpec, repetitions: int) -> tuple[float, float, float, float]:
    """CPU seconds of an epoch, of writing a checkpoint and of going on from one; megabytes."""
    network = build(spec)
    recorder = Recorder(network)
    records = {0: recorder.measure(float("nan"))}
    standing = Standing(1, 1.0, records, 0.0, 0.0)
    size = network.task.input_shape[-1]
    epoch = cost(spec, ALONE, repetitions, size).cpu
    writing, reading = [], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), CheckpointEvery(epochs=1))
        for _ in range(repetitions):
            start = time.process_time()
            checkpoints.save(network, recorder, standing)
            between = time.process_time()
            ((path, state),) = list(checkpoints.latest(spec, ALONE))
            checkpoints.load(path, state, network, recorder)
            writing.append(between - start)
            reading.append(time.process_time() - between)
        megabytes = path.stat().st_size / 1e6
    return epoch, statistics.median(writing), statistics.median(reading), megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--networks", nargs="+", default=["knet4", "resnet10"])
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--only", choices=("ranks", "checkpoints"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.only != "checkpoints":
        print_ranks(given)
    if given.only != "ranks":
        print_checkpoints(given)


def print_ranks(given: argparse.Namespace) -> None:
    columns = (
        "speed of two ranks over one | CPU | bound | other threads | messages per step | ms each"
        " | ms empty | in messages | off core"
    )
    print(f"| network | rule | {columns} |")
    print("|---|---|" + "---:|" * 9)
    pairs = [(network, rule) for network in given.networks for rule in given.rules]
    specs = [spec_of(network, rule, given.batch_size) for network, rule in pairs]
    both = on_two_ranks(specs, given.repetitions, given.size)
    for (network, rule), spec, ranks in zip(pairs, specs, both, strict=True):
        alone = cost(spec, ALONE, given.repetitions, given.size)
        row = row_of_ranks(alone, ranks)
        print(f"| {network} | {rule} | {row} |", flush=True)


def print_checkpoints(given: argparse.Namespace) -> None:
    print("\n| network | rule | writing / epoch | going on / epoch | epoch, CPU s | MB |")
    print("|---|---|---:|---:|---:|---:|")
    for network in given.networks:
        for rule in given.rules:
            epoch, writing, reading, size = checkpoint_costs(
                spec_of(network, rule, given.batch_size), given.repetitions
            )
            row = f"| {network} | {rule} | {writing / epoch:.3f} | {reading / epoch:.3f} "
            print(f"{row}| {epoch:.2f} | {size:.1f} |", flush=True)


if __name__ == "__main__":
    main()
