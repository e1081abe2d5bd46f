"""What every task offers to the training loop and the recorder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from goaldriven.errors import SpecError
from goaldriven.heads import Head
from goaldriven.specs import TaskSpec


@dataclass(frozen=True)
class Batch:
    """What one evaluation of the objective needs.

    Attributes
    ----------
    stimuli : (n, channels, height, width); two views of n stimuli, (2n, …), for SimCLR: the first
        views of all, then the second views in the same order.
    labels : (n,), the class of each stimulus; SimCLR's objective does not look at it.
    """

    stimuli: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of stimuli n, whatever the number of views."""
        return self.labels.shape[0]


@dataclass(frozen=True)
class Evaluation:
    """Validation objective and performance of a model."""

    loss: float
    metric: float


class Task(Protocol):
    """A data stream with its objective; `goaldriven.tasks.load` makes one from its specification.

    ``input_shape`` is (channels, height, width) of a stimulus, ``head`` what the objective needs on
    top of a network, ``metric_name`` the name of ``metric`` and ``chance`` its level for guesses.
    """

    @property
    def spec(self) -> TaskSpec: ...
    @property
    def input_shape(self) -> tuple[int, int, int]: ...
    @property
    def head(self) -> Head: ...
    @property
    def n_train(self) -> int: ...
    @property
    def n_validation(self) -> int: ...
    @property
    def metric_name(self) -> str: ...
    @property
    def chance(self) -> float: ...

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch: shuffled, augmented, the last incomplete batch dropped.

        ``generator`` (on the CPU) sets the order and the augmentation; nothing else is random.

        Raises
        ------
        SpecError : ``batch_size`` is not between 1 and the number of training stimuli.
        """
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The objective, a scalar: mean over the batch."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """The objective of each stimulus, (n,), of which `loss` is the mean.

        A scalar, `loss`, where the objective has no parts that belong to one stimulus.
        """
        ...

    def validation_batches(self, batch_size: int) -> Iterator[Tensor]:
        """The validation stimuli, unaugmented, in fixed order, the last batch maybe smaller."""
        ...

    def validation_objective_batches(self, batch_size: int) -> Iterator[Batch]:
        """Batches for `loss` on the validation set, the same at every call."""
        ...

    def validation_loss(self, model: nn.Module, batch_size: int) -> float:
        """Mean objective over the validation stimuli, in eval mode."""
        ...

    def metric(self, model: nn.Module, batch_size: int) -> float:
        """Performance on the validation stimuli, in eval mode; NaN for a network that diverged."""
        ...

    def evaluate(self, model: nn.Module, batch_size: int) -> Evaluation:
        """``validation_loss`` and ``metric`` together, which may be cheaper than one by one."""
        ...


def epoch_order(
    n: int, batch_size: int, generator: torch.Generator, device: torch.device, task: str
) -> tuple[Tensor, ...]:
    """Indices of the full batches of one shuffled epoch.

    Raises
    ------
    SpecError : ``batch_size`` is not between 1 and ``n``.
    """
    if not 1 <= batch_size <= n:
        raise SpecError(
            f"batch_size must be between 1 and the {n} training stimuli of task {task}, "
            f"got {batch_size}"
        )
    order = torch.randperm(n, generator=generator).to(device)
    return order[: n - n % batch_size].split(batch_size)
