"""ImageNet without labels: SimCLR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from goaldriven.heads import Contrastive
from goaldriven.modes import evaluating
from goaldriven.specs.tasks import ImageNetSimCLR
from goaldriven.tasks.base import Batch, Evaluation
from goaldriven.tasks.checks import balanced_order
from goaldriven.tasks.colour import import_kornia
from goaldriven.tasks.image_stores import Wanted, open_images
from goaldriven.tasks.images import import_datasets
from goaldriven.tasks.loader import Wanted as WantedBatch
from goaldriven.tasks.ntxent import nt_xent
from goaldriven.tasks.preparations import SIMCLR, Photographs, simclr_finish
from goaldriven.tasks.ranks import join_views, several_ranks
from goaldriven.tasks.readout import linear_readout_accuracy
from goaldriven.tasks.streamed import epoch_parts, in_order, load_labelled

_VALIDATION_VIEWS_SEED = 20200213  # any fixed number


@dataclass(frozen=True, eq=False)
class ImageNetSimCLRTask:
    """Two random views of each image must be told from all others of the batch (`nt_xent`).

    The metric is the validation accuracy of a linear readout fitted on the features (eval mode) of
    ``readout_limit`` unaugmented training images, the classes as even as can be. The validation
    loss uses one fixed pair of views per image; as an NT-Xent it depends on how many images are in
    a batch. Models must have ``features``.
    """

    spec: ImageNetSimCLR
    train_views: Photographs
    train: Photographs
    validation_views: Photographs
    validation: Photographs
    device: torch.device

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (3, self.spec.image_size, self.spec.image_size)

    @property
    def head(self) -> Contrastive:
        return Contrastive(self.spec.projection)

    @property
    def n_train(self) -> int:
        return len(self.train.labels)

    @property
    def n_validation(self) -> int:
        return len(self.validation.labels)

    @property
    def metric_name(self) -> str:
        return "linear readout accuracy"

    @property
    def chance(self) -> float:
        return 1 / self.spec.n_classes

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """One epoch; ``part`` (i, n) reads only the i-th of n equal parts of every batch."""
        wanted = epoch_parts(self.n_train, batch_size, generator, self.spec.name, part)
        return self._view_batches(self.train_views, wanted)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """NT-Xent of this process' stimuli; training with ``across_ranks``, of all processes'."""
        projections = model(batch.stimuli)
        if self.spec.across_ranks and model.training and several_ranks():
            projections = join_views(projections)
        return nt_xent(projections, self.spec.temperature, added=self.spec.orders == "added")

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar `loss`: every view is told apart from all others of the batch."""
        return self.loss(model, batch)

    def validation_batches(self, batch_size: int) -> Iterator[Tensor]:
        wanted = in_order(self.n_validation, batch_size)
        return (stimuli for stimuli, _ in self._single(self.validation, wanted))

    def validation_objective_batches(self, batch_size: int) -> Iterator[Batch]:
        wanted = tuple(
            WantedBatch(w.indices, tuple((_VALIDATION_VIEWS_SEED, int(i)) for i in w.indices))
            for w in in_order(self.n_validation, batch_size)
        )
        return self._view_batches(self.validation_views, wanted)

    def validation_loss(self, model: nn.Module, batch_size: int) -> float:
        """Mean over batches, each weighted by its number of stimuli."""
        total = 0.0
        with evaluating(model), torch.no_grad():
            for batch in self.validation_objective_batches(batch_size):
                total += len(batch) * float(self.loss(model, batch))
        return total / self.n_validation

    def metric(self, model: nn.Module, batch_size: int) -> float:
        fitted = balanced_order(self.train.labels)[: self.spec.readout_limit]
        starts = range(0, len(fitted), batch_size)
        train = tuple(WantedBatch(fitted[i : i + batch_size]) for i in starts)
        with evaluating(model), torch.no_grad():
            features = self._features(model, self.train, train)
            held_out = self._features(
                model, self.validation, in_order(self.n_validation, batch_size)
            )
        return linear_readout_accuracy(*features, *held_out, self.spec.n_classes)

    def evaluate(self, model: nn.Module, batch_size: int) -> Evaluation:
        return Evaluation(self.validation_loss(model, batch_size), self.metric(model, batch_size))

    def _features(
        self, model: nn.Module, samples: Photographs, wanted: tuple[WantedBatch, ...]
    ) -> tuple[Tensor, Tensor]:
        features: Callable[[Tensor], Tensor] = model.features  # type: ignore[assignment]
        pairs = [(features(x), labels) for x, labels in self._single(samples, wanted)]
        values, labels = zip(*pairs, strict=True)
        return torch.cat(values), torch.cat(labels)

    def _single(
        self, samples: Photographs, wanted: tuple[WantedBatch, ...]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for batch, labels in load_labelled(samples, wanted, self.device):
            yield simclr_finish(batch.values, None), labels

    def _view_batches(
        self, samples: Photographs, wanted: tuple[WantedBatch, ...]
    ) -> Iterator[Batch]:
        finish = partial(simclr_finish, strength=self.spec.strength)
        for batch, labels in load_labelled(samples, wanted, self.device):
            assert batch.draws is not None  # views are always augmented; narrows the type
            draws = batch.draws.unflatten(1, (2, -1))
            # (n, 2, …) → first views of all, then second views
            views = finish(
                batch.values.transpose(0, 1).flatten(0, 1), draws.transpose(0, 1).flatten(0, 1)
            )
            yield Batch(views, labels)


def load_imagenet_simclr(spec: ImageNetSimCLR, device: torch.device) -> ImageNetSimCLRTask:
    """ImageNet under SimCLR; crops are read at full resolution, colours and blur are the device's.

    ``spec.source``: see `open_images`. Labels serve the readout only.

    Raises
    ------
    DataError : the source cannot be used; the message says what is wrong with it. A single image
        that cannot be decoded is found, and named, when it is read.

    Source: Chen et al. 2020; lr-identify ``contrastive_loss.py`` and ``simclr_model.py``.
    """
    import_datasets(spec.name)
    import_kornia(spec.name)
    wanted = Wanted(spec.name, spec.n_classes, spec.train_limit, spec.validation_limit)
    train, validation = open_images(spec.source, wanted)
    single = partial(Photographs, preparation=SIMCLR, size=spec.image_size)
    return ImageNetSimCLRTask(
        spec=spec,
        train_views=single(train, views=2),
        train=single(train),
        validation_views=single(validation, views=2),
        validation=single(validation),
        device=device,
    )
