"""Classification with cross-entropy: the objective of digits, words and photographs alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from goaldriven.heads import Readout
from goaldriven.modes import evaluating
from goaldriven.specs import TaskSpec
from goaldriven.tasks.base import Batch, Evaluation, epoch_order


def unchanged(stimuli: Tensor) -> Tensor:
    """For tasks whose stimuli are stored ready for use."""
    return stimuli


@dataclass(frozen=True)
class SupervisedTask:
    """n-way classification; the objective is −(1/n) Σ_i log softmax(z_i)[y_i] (natural log).

    Attributes
    ----------
    draw : indices, generator → augmented training stimuli, float32, ready for the network.
    prepare : stored validation stimuli → the same without augmentation.
    """

    spec: TaskSpec
    input_shape: tuple[int, int, int]
    n_classes: int
    train_labels: Tensor
    validation_stimuli: Tensor
    validation_labels: Tensor
    draw: Callable[[Tensor, torch.Generator], Tensor]
    prepare: Callable[[Tensor], Tensor] = unchanged

    @property
    def head(self) -> Readout:
        return Readout(self.n_classes)

    @property
    def n_train(self) -> int:
        return len(self.train_labels)

    @property
    def n_validation(self) -> int:
        return len(self.validation_labels)

    @property
    def metric_name(self) -> str:
        return "accuracy"

    @property
    def chance(self) -> float:
        return 1 / self.n_classes

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        labels = self.train_labels
        order = epoch_order(self.n_train, batch_size, generator, labels.device, self.spec.name)
        return (Batch(self.draw(chosen, generator), labels[chosen]) for chosen in order)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(model(batch.stimuli), batch.labels)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(model(batch.stimuli), batch.labels, reduction="none")

    def validation_batches(self, batch_size: int) -> Iterator[Tensor]:
        return map(self.prepare, self.validation_stimuli.split(batch_size))

    def validation_objective_batches(self, batch_size: int) -> Iterator[Batch]:
        labels = self.validation_labels.split(batch_size)
        return map(Batch, self.validation_batches(batch_size), labels)

    def validation_loss(self, model: nn.Module, batch_size: int) -> float:
        return self.evaluate(model, batch_size).loss

    def metric(self, model: nn.Module, batch_size: int) -> float:
        return self.evaluate(model, batch_size).metric

    def evaluate(self, model: nn.Module, batch_size: int) -> Evaluation:
        """Both from one pass; the metric is NaN where an output is not finite."""
        return evaluate_classifier(model, self.validation_objective_batches(batch_size))


def evaluate_classifier(model: nn.Module, batches: Iterable[Batch]) -> Evaluation:
    """Mean cross-entropy and accuracy over all stimuli, in eval mode, from one pass.

    The accuracy is NaN where an output is not finite.
    """
    losses, correct, n, finite = 0.0, 0, 0, True
    with evaluating(model), torch.no_grad():
        for batch in batches:
            outputs = model(batch.stimuli)
            loss = functional.cross_entropy(outputs, batch.labels, reduction="none")
            losses += float(loss.double().sum())
            correct += int((outputs.argmax(1) == batch.labels).sum())
            finite &= bool(outputs.isfinite().all())
            n += len(batch)
    return Evaluation(losses / n, correct / n if finite else float("nan"))
