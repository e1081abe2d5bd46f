"""From a task's specification to the task."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from goaldriven.specs import TaskSpec
from goaldriven.tasks.base import Task
from goaldriven.tasks.digits import load_digits_task
from goaldriven.tasks.digits_autoencoder import load_digits_autoencoder
from goaldriven.tasks.imagenet import load_imagenet
from goaldriven.tasks.imagenet_simclr import load_imagenet_simclr
from goaldriven.tasks.photographs import load_cifar10, load_fashion_mnist
from goaldriven.tasks.simclr import load_digits_simclr
from goaldriven.tasks.spoken_digits import load_spoken_digits
from goaldriven.tasks.word_speaker_noise import load_word_speaker_noise

LOADERS: dict[str, Callable[[Any, torch.device], Task]] = {
    "digits": load_digits_task,
    "digits_simclr": load_digits_simclr,
    "digits_autoencoder": load_digits_autoencoder,
    "spoken_digits": load_spoken_digits,
    "cifar10": load_cifar10,
    "fashion_mnist": load_fashion_mnist,
    "imagenet": load_imagenet,
    "imagenet_simclr": load_imagenet_simclr,
    "word_speaker_noise": load_word_speaker_noise,
}


def load(spec: TaskSpec, device: str | torch.device = "cpu") -> Task:
    """The task that ``spec`` describes, its stimuli on ``device``.

    Small data sets reside there; ImageNet and recordings of words are read from disk as they are
    needed, by as many threads as `goaldriven.tasks.loader.loader_workers` says.

    The last few tasks are kept, so that the networks of a study that one process trains share
    their data; a source that changes on disk meanwhile is not read again.

    Raises
    ------
    DataError : the data are missing, damaged or not what the task needs, or fewer than a limit.

    Examples
    --------
    >>> from goaldriven.specs.tasks import Digits
    >>> task = load(Digits())
    >>> task.input_shape, task.n_train, task.n_validation
    ((1, 8, 8), 1347, 450)
    """
    return _load(spec, torch.device(device))


@lru_cache(maxsize=8)
def _load(spec: TaskSpec, device: torch.device) -> Task:
    return LOADERS[spec.name](spec, device)
