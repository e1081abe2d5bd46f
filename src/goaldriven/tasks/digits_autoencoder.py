"""The digits without labels: an autoencoder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from goaldriven.heads import Reconstruction
from goaldriven.modes import evaluating
from goaldriven.specs.tasks import DigitsAutoencoder
from goaldriven.tasks.base import Batch, Evaluation, epoch_order
from goaldriven.tasks.digits import INPUT_SHAPE, read_digits


@dataclass(frozen=True)
class DigitsAutoencoderTask:
    """Each digit must be reconstructed; the objective is the mean of (x̂ − x)² over pixels.

    Images are in units of the training pixels' standard deviation, so that 1 is the loss of a
    network that gives 0. The metric is the fraction of the validation images' variance explained,

        R² = max(0, 1 − Σ (x̂ − x)² / Σ (x − x̄)²) ,

    with x̄ the mean training image, which is what a network can give that knows nothing of x.
    """

    spec: DigitsAutoencoder
    train: Tensor  # (n, 1, 8, 8)
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return INPUT_SHAPE

    @property
    def head(self) -> Reconstruction:
        return Reconstruction(math.prod(INPUT_SHAPE), self.spec.bottleneck)

    @property
    def n_train(self) -> int:
        return len(self.train)

    @property
    def n_validation(self) -> int:
        return len(self.validation)

    @property
    def metric_name(self) -> str:
        return "variance explained"

    @property
    def chance(self) -> float:
        return 0.0

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        labels = self.train_labels
        order = epoch_order(self.n_train, batch_size, generator, labels.device, self.spec.name)
        return (Batch(self.train[chosen], labels[chosen]) for chosen in order)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """The objective of each stimulus, (n,)."""
        target = batch.stimuli.flatten(1)
        return functional.mse_loss(model(batch.stimuli), target, reduction="none").mean(1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return functional.mse_loss(model(batch.stimuli), batch.stimuli.flatten(1))

    def validation_batches(self, batch_size: int) -> Iterator[Tensor]:
        return iter(self.validation.split(batch_size))

    def validation_objective_batches(self, batch_size: int) -> Iterator[Batch]:
        labels = self.validation_labels.split(batch_size)
        return map(Batch, self.validation_batches(batch_size), labels)

    def validation_loss(self, model: nn.Module, batch_size: int) -> float:
        return self.evaluate(model, batch_size).loss

    def metric(self, model: nn.Module, batch_size: int) -> float:
        return self.evaluate(model, batch_size).metric

    def evaluate(self, model: nn.Module, batch_size: int) -> Evaluation:
        """Both from one pass; the metric is NaN where an output is not finite."""
        error = 0.0
        with evaluating(model), torch.no_grad():
            for batch in self.validation_objective_batches(batch_size):
                error += float(self.losses(model, batch).double().sum())
        loss = error / self.n_validation
        explained = max(0.0, 1 - loss / self._variance()) if math.isfinite(loss) else math.nan
        return Evaluation(loss, explained)

    def _variance(self) -> float:
        """Mean squared distance of the validation pixels from the mean training image."""
        return float((self.validation - self.train.mean(0)).double().square().mean())


def load_digits_autoencoder(spec: DigitsAutoencoder, device: torch.device) -> DigitsAutoencoderTask:
    """The digits of `read_digits`, standardised by the training pixels, without augmentation."""
    images = read_digits(spec, device)
    return DigitsAutoencoderTask(
        spec=spec,
        train=images.standardise(images.train),
        train_labels=images.train_labels,
        validation=images.standardise(images.validation),
        validation_labels=images.validation_labels,
    )
