"""Clocks and interleaving, shared by the benchmarks."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

Step = Callable[[], object]


def clock_for(device: str, threads: int) -> Callable[[], float]:
    """Seconds: the process' CPU time with one thread, which other processes do not stretch."""
    if device == "cpu":
        return time.process_time if threads == 1 else time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def interleave(
    steps: Sequence[Step], repetitions: int, clock: Callable[[], float], unmeasured: int = 2
) -> list[list[float]]:
    """Seconds of each step in each repetition, in an order that rotates."""
    seconds: list[list[float]] = [[] for _ in steps]
    for repetition in range(repetitions + unmeasured):
        for i in range(len(steps)):
            which = (i + repetition) % len(steps)
            start = clock()
            steps[which]()
            if repetition >= unmeasured:
                seconds[which].append(clock() - start)
    return seconds


def reset_peak_memory(device: str) -> int:
    """Forget the peak so far; returns the bytes held now."""
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_memory(device: str) -> int:
    """Bytes: the largest resident size since the reset (Linux), on a GPU the largest allocation."""
    return _resident("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])


def in_own_process(function: Callable[..., float], *arguments: object) -> float:
    """What ``function`` returns in a fresh process, whose peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_put, args=(queue, function, arguments))
    process.start()
    value: float = queue.get()
    process.join()
    return value


def _put(queue: multiprocessing.Queue, function: Callable[..., float], arguments: tuple) -> None:
    queue.put(function(*arguments))
