"""Stimuli read, decoded and augmented ahead of the training, by threads.

Threads rather than processes: decoding and resizing leave the interpreter's lock, nothing has to
be pickled or shared, and a study's workers, which may not have children, can use them. Randomness
belongs to the stimulus' place in the epoch, so the number of threads changes nothing but the time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goaldriven.errors import SpecError

WORKERS_VARIABLE = "GOALDRIVEN_LOADER_WORKERS"
"""Environment variable: threads that read stimuli; a setting of the run, not of the network."""

AHEAD = 2
"""Batches being read while one is in use."""

_MOST_WORKERS = 16  # unless more are asked for
_CHUNK = 8  # stimuli that a thread takes at once


class Samples(Protocol):
    """Stimuli on disk, read one by one, at random, by several threads at once."""

    @property
    def labels(self) -> NDArray[np.int64]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def n_draws(self) -> int:
        """Uniform numbers of a training stimulus that are left for the device to use."""
        ...

    def fill(
        self, index: int, rng: np.random.Generator | None, out: NDArray[Any]
    ) -> NDArray[np.float64] | None:
        """Write stimulus ``index`` to ``out``; augmented where there is ``rng``.

        Returns the stimulus' draws, (n_draws,) in [0, 1), with ``rng``, else None.

        Raises
        ------
        DataError : naming the file or row that cannot be used.
        """
        ...


@dataclass(frozen=True)
class Wanted:
    """One batch: which stimuli, and for augmented ones the seed of each."""

    indices: NDArray[np.int64]
    seeds: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Loaded:
    """One batch as it was read: values (n, …) on the device, draws (n, k) on the CPU."""

    values: Tensor
    draws: Tensor | None


def loader_workers() -> int:
    """Threads that read stimuli: ``GOALDRIVEN_LOADER_WORKERS``, else one per usable processor, at
    most 16.

    0 reads each batch when it is asked for.

    Raises
    ------
    SpecError : the variable is not a whole number from 0 on.
    """
    given = os.environ.get(WORKERS_VARIABLE)
    if given is None:
        return min(_MOST_WORKERS, _processors())
    if not given.isdecimal():
        raise SpecError(f"{WORKERS_VARIABLE} must be a whole number from 0 on, got {given!r}")
    return int(given)


def _processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_batches(
    samples: Samples, batches: Iterable[Wanted], device: torch.device, workers: int
) -> Iterator[Loaded]:
    """The batches in their order, read by ``workers`` threads up to two batches ahead.

    Memory is pinned and moved to a GPU asynchronously. The results do not depend on ``workers``.

    Raises
    ------
    DataError : a stimulus cannot be read; raised when its batch is due.
    """
    if workers == 0:
        for wanted in batches:
            buffers = _Buffers.make(samples, wanted, device)
            buffers.fill(samples, wanted, slice(0, len(wanted.indices)))
            yield buffers.on(device)
        return
    remaining = iter(batches)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    pending: deque[tuple[_Buffers, list[Future[None]]]] = deque()
    try:
        while True:
            while len(pending) <= AHEAD and (following := next(remaining, None)) is not None:
                pending.append(_submit(pool, samples, following, device))
            if not pending:
                return
            buffers, futures = pending.popleft()
            for future in futures:
                future.result()
            yield buffers.on(device)
    finally:  # also when the consumer stops early
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Buffers:
    values: Tensor
    draws: Tensor | None

    @classmethod
    def make(cls, samples: Samples, wanted: Wanted, device: torch.device) -> _Buffers:
        n, pinned = len(wanted.indices), device.type == "cuda"
        dtype = torch.from_numpy(np.empty(0, samples.dtype)).dtype
        values = torch.empty((n, *samples.shape), dtype=dtype, pin_memory=pinned)
        return cls(
            values,
            None
            if wanted.seeds is None
            else torch.empty((n, samples.n_draws), dtype=torch.float32),
        )

    def fill(self, samples: Samples, wanted: Wanted, part: slice) -> None:
        values = self.values.numpy()
        for row in range(*part.indices(len(wanted.indices))):
            rng = None if wanted.seeds is None else np.random.default_rng(wanted.seeds[row])
            draws = samples.fill(int(wanted.indices[row]), rng, values[row])
            if self.draws is not None and draws is not None:
                self.draws[row] = torch.from_numpy(draws)

    def on(self, device: torch.device) -> Loaded:
        return Loaded(self.values.to(device, non_blocking=True), self.draws)


def _submit(
    pool: ThreadPoolExecutor, samples: Samples, wanted: Wanted, device: torch.device
) -> tuple[_Buffers, list[Future[None]]]:
    buffers = _Buffers.make(samples, wanted, device)
    parts = (slice(i, i + _CHUNK) for i in range(0, len(wanted.indices), _CHUNK))
    return buffers, [pool.submit(buffers.fill, samples, wanted, part) for part in parts]
