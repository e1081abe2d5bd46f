"""The digits without labels: SimCLR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goaldriven.heads import Contrastive
from goaldriven.modes import evaluating
from goaldriven.specs.tasks import DigitsSimCLR
from goaldriven.tasks.base import Batch, Evaluation, epoch_order
from goaldriven.tasks.digits import INPUT_SHAPE, N_CLASSES, DigitImages, read_digits
from goaldriven.tasks.ntxent import nt_xent
from goaldriven.tasks.readout import linear_readout_accuracy
from goaldriven.tasks.views import random_views

_VALIDATION_VIEWS_SEED = 20200213  # any fixed number


@dataclass(frozen=True)
class DigitsSimCLRTask:
    """Two random views of each digit must be told from all others of the batch (`nt_xent`).

    The metric is the validation accuracy of a linear readout fitted on the features (eval mode) of
    the unaugmented training images, see `linear_readout_accuracy`. The validation loss uses one
    fixed pair of views per image; as an NT-Xent, it depends on how many images are in a batch.
    Models must have ``features``.
    """

    spec: DigitsSimCLR
    images: DigitImages
    train: Tensor
    validation: Tensor
    validation_views: Tensor  # (2, n, 1, 8, 8)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return INPUT_SHAPE

    @property
    def head(self) -> Contrastive:
        return Contrastive(self.spec.projection)

    @property
    def n_train(self) -> int:
        return len(self.train)

    @property
    def n_validation(self) -> int:
        return len(self.validation)

    @property
    def metric_name(self) -> str:
        return "linear readout accuracy"

    @property
    def chance(self) -> float:
        return 1 / N_CLASSES

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        images, labels = self.images.train, self.images.train_labels
        order = epoch_order(self.n_train, batch_size, generator, labels.device, self.spec.name)

        def draw(chosen: Tensor) -> Batch:
            views = random_views(images[chosen].repeat(2, 1, 1, 1), generator)
            return Batch(self.images.standardise(views), labels[chosen])

        return map(draw, order)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nt_xent(model(batch.stimuli), self.spec.temperature)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar `loss`: every view is told apart from all others of the batch."""
        return self.loss(model, batch)

    def validation_batches(self, batch_size: int) -> Iterator[Tensor]:
        return iter(self.validation.split(batch_size))

    def validation_objective_batches(self, batch_size: int) -> Iterator[Batch]:
        views = self.validation_views.split(batch_size, dim=1)
        labels = self.images.validation_labels.split(batch_size)
        return (Batch(v.flatten(0, 1), y) for v, y in zip(views, labels, strict=True))

    def validation_loss(self, model: nn.Module, batch_size: int) -> float:
        """Mean over batches, each weighted by its number of stimuli."""
        total = 0.0
        with evaluating(model), torch.no_grad():
            for batch in self.validation_objective_batches(batch_size):
                total += len(batch) * float(self.loss(model, batch))
        return total / self.n_validation

    def metric(self, model: nn.Module, batch_size: int) -> float:
        features: Callable[[Tensor], Tensor] = model.features  # type: ignore[assignment]
        with evaluating(model), torch.no_grad():
            train, validation = (
                torch.cat([features(part) for part in stimuli.split(batch_size)])
                for stimuli in (self.train, self.validation)
            )
        train_labels, validation_labels = self.images.train_labels, self.images.validation_labels
        return linear_readout_accuracy(
            train, train_labels, validation, validation_labels, N_CLASSES
        )

    def evaluate(self, model: nn.Module, batch_size: int) -> Evaluation:
        return Evaluation(self.validation_loss(model, batch_size), self.metric(model, batch_size))


def load_digits_simclr(spec: DigitsSimCLR, device: torch.device) -> DigitsSimCLRTask:
    """The digits of `read_digits` under SimCLR; views are drawn before standardisation."""
    images = read_digits(spec, device)
    generator = torch.Generator().manual_seed(_VALIDATION_VIEWS_SEED)
    views = [random_views(images.validation, generator) for _ in range(2)]
    return DigitsSimCLRTask(
        spec=spec,
        images=images,
        train=images.standardise(images.train),
        validation=images.standardise(images.validation),
        validation_views=images.standardise(torch.stack(views)),
    )
