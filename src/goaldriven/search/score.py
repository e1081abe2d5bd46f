"""The score of one network: train it, then measure its performance on what the search scores on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from goaldriven.search.held_out import scored_task
from goaldriven.specs import NetworkSpec
from goaldriven.specs.search import ScoreOn
from goaldriven.training.loop import train_epoch
from goaldriven.training.network import build
from goaldriven.training.record import RECORD_BATCH


def score_network(
    network: NetworkSpec,
    score_on: ScoreOn,
    progress: Callable[[], None] = lambda: None,
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> float:
    """The task's metric after the last epoch; 0 for a network that diverged or is worse than 0.

    Parameters
    ----------
    network : what to train; ``record_every`` is not used.
    score_on : the stimuli that the metric is of.
    progress : called after every epoch.
    device : a torch device.
    threads : torch threads meanwhile; None leaves them as they are.

    Raises
    ------
    DataError : the task's data cannot be used.
    SpecError : the task cannot be scored on a part of its training stimuli.
    """
    task = scored_task(network.task, score_on, device)
    with _torch_threads(threads):
        trained = dataclasses.replace(build(network, device), task=task)
        for epoch in range(network.epochs):
            if not math.isfinite(train_epoch(trained, epoch)):
                return 0.0
            progress()
        metric = task.metric(trained.model, RECORD_BATCH)
    return max(metric, 0.0) if math.isfinite(metric) else 0.0


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
