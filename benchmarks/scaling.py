"""What several ranks gain, and what checkpoints cost, as ratios within one run.

    python benchmarks/scaling.py [--repetitions 5] [--batch-size 128] [--networks knet4 resnet10]

**Ranks**: stimuli per second of two gloo processes that train one network together, over those of
one process on the same batches; both with one torch thread per process, in turns, wall-clock time.
The ideal is 2 on two free cores; on cores that others use it is less, and the CPU time of a step is
printed besides: that of both ranks together over that of one process, ideal 1.

**Checkpoints**: CPU seconds of writing one and of going on from it, over those of one epoch.

Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed

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


def seconds_per_epoch(spec: NetworkSpec, ranks: Ranks, repetitions: int) -> tuple[float, float]:
    """Medians of wall-clock and CPU seconds, the first epoch left out."""
    torch.set_num_threads(1)
    network = build(spec, ranks=ranks)
    taken = []
    for epoch in range(repetitions + 1):
        start = time.perf_counter(), time.process_time()
        train_epoch(network, epoch)
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = zip(*taken[1:], strict=True)
    return statistics.median(wall), statistics.median(cpu)


def one_rank(
    rank: int, store: str, spec: NetworkSpec, repetitions: int, queue: multiprocessing.Queue
) -> None:
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    ranks = Ranks(distributed.group.WORLD, rank, 2)
    queue.put(seconds_per_epoch(spec, ranks, repetitions))
    distributed.barrier()


def on_two_ranks(spec: NetworkSpec, repetitions: int) -> tuple[float, float]:
    """The slower rank's wall-clock seconds, and both ranks' CPU seconds."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        processes = [
            context.Process(target=one_rank, args=(rank, store, spec, repetitions, queue))
            for rank in range(2)
        ]
        for process in processes:
            process.start()
        found = [queue.get() for _ in processes]
        for process in processes:
            process.join()
    return max(wall for wall, _ in found), sum(cpu for _, cpu in found)


def checkpoint_costs(spec: NetworkSpec, repetitions: int) -> tuple[float, float, float, float]:
    """CPU seconds of an epoch, of writing a checkpoint and of going on from one; megabytes."""
    network = build(spec)
    recorder = Recorder(network)
    records = {0: recorder.measure(float("nan"))}
    standing = Standing(1, 1.0, records, 0.0, 0.0)
    _, epoch = seconds_per_epoch(spec, ALONE, repetitions)
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
        size = path.stat().st_size / 1e6
    return epoch, statistics.median(writing), statistics.median(reading), size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--networks", nargs="+", default=["knet4", "resnet10"])
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | rule | speed of two ranks over one | CPU time of two over one |")
    print("|---|---|---:|---:|")
    for network in given.networks:
        for rule in given.rules:
            spec = spec_of(network, rule, given.batch_size)
            wall, cpu = seconds_per_epoch(spec, ALONE, given.repetitions)
            both_wall, both_cpu = on_two_ranks(spec, given.repetitions)
            row = f"| {network} | {rule} | {wall / both_wall:.2f} | {both_cpu / cpu:.2f} |"
            print(row, flush=True)
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
