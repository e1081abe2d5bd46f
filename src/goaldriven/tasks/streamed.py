"""Classification of stimuli that stay on disk until they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from goaldriven.heads import Readout
from goaldriven.specs import TaskSpec
from goaldriven.tasks.base import Batch, Evaluation, epoch_order
from goaldriven.tasks.loader import Loaded, Samples, Wanted, load_batches, loader_workers
from goaldriven.tasks.supervised import evaluate_classifier

Finish = Callable[[Tensor, Tensor | None], Tensor]
"""Values as read and, in training, their draws → stimuli ready for the network."""


@dataclass(frozen=True, eq=False)
class StreamedTask:
    """n-way classification as in `SupervisedTask`, of stimuli read while the network trains.

    Attributes
    ----------
    train, validation : what is on disk.
    finish : what is left to do on the device.
    """

    spec: TaskSpec
    input_shape: tuple[int, int, int]
    n_classes: int
    train: Samples
    validation: Samples
    finish: Finish
    device: torch.device

    @property
    def head(self) -> Readout:
        return Readout(self.n_classes)

    @property
    def n_train(self) -> int:
        return len(self.train.labels)

    @property
    def n_validation(self) -> int:
        return len(self.validation.labels)

    @property
    def metric_name(self) -> str:
        return "accuracy"

    @property
    def chance(self) -> float:
        return 1 / self.n_classes

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """One epoch; ``part`` (i, n) reads only the i-th of n equal parts of every batch."""
        wanted = epoch_parts(self.n_train, batch_size, generator, self.spec.name, part)
        return self._batches(self.train, wanted)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(model(batch.stimuli), batch.labels)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(model(batch.stimuli), batch.labels, reduction="none")

    def validation_batches(self, batch_size: int) -> Iterator[Tensor]:
        return (batch.stimuli for batch in self.validation_objective_batches(batch_size))

    def validation_objective_batches(self, batch_size: int) -> Iterator[Batch]:
        return self._batches(self.validation, in_order(self.n_validation, batch_size))

    def validation_loss(self, model: nn.Module, batch_size: int) -> float:
        return self.evaluate(model, batch_size).loss

    def metric(self, model: nn.Module, batch_size: int) -> float:
        return self.evaluate(model, batch_size).metric

    def evaluate(self, model: nn.Module, batch_size: int) -> Evaluation:
        batches = self.validation_objective_batches(batch_size)
        return evaluate_classifier(model, batches)

    def _batches(self, samples: Samples, wanted: tuple[Wanted, ...]) -> Iterator[Batch]:
        for batch, labels in load_labelled(samples, wanted, self.device):
            yield Batch(self.finish(batch.values, batch.draws), labels)


def load_labelled(
    samples: Samples, wanted: tuple[Wanted, ...], device: torch.device
) -> Iterator[tuple[Loaded, Tensor]]:
    """The batches with their labels, both on the device; see `load_batches`."""
    loaded = load_batches(samples, wanted, device, loader_workers())
    for which, batch in zip(wanted, loaded, strict=True):
        yield batch, torch.from_numpy(samples.labels[which.indices]).to(device)


def epoch_parts(
    n: int, batch_size: int, generator: torch.Generator, task: str, part: tuple[int, int]
) -> tuple[Wanted, ...]:
    """One shuffled epoch as requests, each stimulus with the seed of its place in the epoch.

    Everything random of the epoch is drawn here: the generator stands the same afterwards, however
    far ahead of the training stimuli are read.

    Raises
    ------
    SpecError : ``batch_size`` is not between 1 and ``n``.
    """
    order = epoch_order(n, batch_size, generator, torch.device("cpu"), task)
    seed = int(torch.randint(2**62, (), generator=generator))
    which, parts = part
    mine = range(which * batch_size // parts, (which + 1) * batch_size // parts)
    return tuple(
        Wanted(
            indices.numpy()[mine.start : mine.stop],
            tuple((seed, step * batch_size + place) for place in mine),
        )
        for step, indices in enumerate(order)
    )


def in_order(n: int, batch_size: int) -> tuple[Wanted, ...]:
    """All stimuli unaugmented, the last batch maybe smaller."""
    return tuple(Wanted(np.arange(i, min(i + batch_size, n))) for i in range(0, n, batch_size))
