"""What a plan must know of a task: its stimuli's shape and number, and the head it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from goaldriven import tasks
from goaldriven.errors import DataError, unknown
from goaldriven.heads import Contrastive, Head, Readout
from goaldriven.specs import TaskSpec


@dataclass(frozen=True)
class TaskFacts:
    """A task without its data.

    Attributes
    ----------
    input_shape : (channels, height, width) of a stimulus.
    n_train, n_validation : stimuli.
    n_readout : training stimuli that a metric is fitted on at every record; 0 for none.
    source : where the numbers are from, ``data`` or ``table``.
    """

    input_shape: tuple[int, int, int]
    head: Head
    n_train: int
    n_validation: int
    n_readout: int = 0
    source: str = "data"

    @property
    def views(self) -> int:
        """How often a stimulus passes through the network in a training step."""
        return 2 if isinstance(self.head, Contrastive) else 1


def _cifar10(spec: Any) -> TaskFacts:
    return TaskFacts((3, 32, 32), Readout(10), 50_000, 10_000)


def _fashion_mnist(spec: Any) -> TaskFacts:
    return TaskFacts((1, 28, 28), Readout(10), 60_000, 10_000)


def _imagenet(spec: Any) -> TaskFacts:
    return TaskFacts(_square(spec), Readout(spec.n_classes), 1_281_167, 50_000)


def _imagenet_simclr(spec: Any) -> TaskFacts:
    head = Contrastive(spec.projection)
    return TaskFacts(_square(spec), head, 1_281_167, 50_000, spec.readout_limit)


def _word_speaker_noise(spec: Any) -> TaskFacts:
    """Word-speaker-noise of Kell et al. 2018: 794 ways, cochleagrams of 203 × 400."""
    front = spec.cochleagram
    channels = front.sample_factor * (front.n_filters + 1) - 1
    frames = round(front.seconds * front.envelope_rate)
    return TaskFacts((1, channels, frames), Readout(spec.n_classes or 794), 5_810_600, 369_864)


PUBLISHED: dict[str, Callable[[Any], TaskFacts]] = {
    "cifar10": _cifar10,
    "fashion_mnist": _fashion_mnist,
    "imagenet": _imagenet,
    "imagenet_simclr": _imagenet_simclr,
    "word_speaker_noise": _word_speaker_noise,
}
"""Published sets, for plans made where the data are not. Their sizes: Krizhevsky 2009, Xiao et al.
2017, Russakovsky et al. 2015 (ILSVRC 2012), Nayebi et al. 2020."""


@lru_cache(maxsize=64)
def task_facts(spec: TaskSpec) -> TaskFacts:
    """The facts of a task: of its data where they are in a folder or embedded, else published.

    Nothing is downloaded.

    Raises
    ------
    DataError : the data cannot be used, or are not there and not in the table.
    """
    source = getattr(spec, "source", None)
    if source is None or Path(source).expanduser().is_dir():
        return _of_data(spec)
    if spec.name not in PUBLISHED:
        raise DataError(
            f"task {spec.name}: source must be a folder that is there, or the task one whose size "
            f"is known, got {source!r}; " + unknown("task", spec.name, PUBLISHED)
        )
    facts = PUBLISHED[spec.name](spec)
    n_train = min(facts.n_train, spec.train_limit or facts.n_train)
    return replace(
        facts,
        n_train=n_train,
        n_validation=min(facts.n_validation, spec.validation_limit or facts.n_validation),
        n_readout=min(facts.n_readout, n_train),
        source="table",
    )


def _of_data(spec: TaskSpec) -> TaskFacts:
    task = tasks.load(spec)
    readout = task.n_train if isinstance(task.head, Contrastive) else 0
    readout = min(readout, getattr(spec, "readout_limit", None) or readout)
    return TaskFacts(task.input_shape, task.head, task.n_train, task.n_validation, readout)


def _square(spec: Any) -> tuple[int, int, int]:
    return (3, spec.image_size, spec.image_size)
