"""A part of the training stimuli set aside in place of the validation stimuli."""

from __future__ import annotations

import dataclasses
from functools import lru_cache, singledispatch

import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from goaldriven import tasks
from goaldriven.errors import SpecError
from goaldriven.specs import TaskSpec
from goaldriven.specs.search import ScoreOn, TrainingSplit
from goaldriven.tasks import Task
from goaldriven.tasks.digits_autoencoder import DigitsAutoencoderTask
from goaldriven.tasks.simclr import DigitsSimCLRTask
from goaldriven.tasks.supervised import SupervisedTask
from goaldriven.tasks.views import random_views

_VIEWS_SEED = 20200213  # any fixed number


@lru_cache(maxsize=8)
def scored_task(spec: TaskSpec, score_on: ScoreOn, device: str = "cpu") -> Task:
    """The task to train and to score on.

    With a `TrainingSplit`, ``fraction`` of the training stimuli, stratified by label, take the
    place of the validation stimuli and are not trained on; the task's own validation stimuli are
    in no part of what is returned.

    Raises
    ------
    DataError : the task's data cannot be used.
    SpecError : the task has no such split, or too few stimuli of a class for it.
    """
    task = tasks.load(spec, device=device)
    return _hold_out(task, score_on) if isinstance(score_on, TrainingSplit) else task


def split_indices(labels: Tensor, split: TrainingSplit, task: str) -> tuple[Tensor, Tensor]:
    """Indices of the training stimuli that are kept and of those that are held out.

    Raises
    ------
    SpecError : a class has too few stimuli to be on both sides.
    """
    try:
        kept, held = train_test_split(
            torch.arange(len(labels)),
            test_size=split.fraction,
            stratify=labels.cpu(),
            random_state=split.seed,
        )
    except ValueError as error:
        raise SpecError(
            f"score_on: fraction must leave stimuli of every class of task {task} on both sides, "
            f"got {split.fraction:g} of {len(labels)} training stimuli ({error})"
        ) from None
    return kept.to(labels.device), held.to(labels.device)


@singledispatch
def _hold_out(task: Task, split: TrainingSplit) -> Task:
    raise SpecError(
        f"score_on must be validation for task {task.spec.name}, whose training stimuli cannot be "
        "split, got training_split"
    )


@_hold_out.register
def _supervised(task: SupervisedTask, split: TrainingSplit) -> SupervisedTask:
    """Held-out stimuli are seen as training shows them, each batch augmented in one fixed way."""
    labels, draw = task.train_labels, task.draw
    kept, held = split_indices(labels, split, task.spec.name)

    def draw_kept(chosen: Tensor, generator: torch.Generator) -> Tensor:
        return draw(kept[chosen], generator)

    def draw_held_out(stimuli: Tensor) -> Tensor:
        return draw(stimuli, torch.Generator().manual_seed(int(stimuli[0])))

    return dataclasses.replace(
        task,
        train_labels=labels[kept],
        validation_stimuli=held,
        validation_labels=labels[held],
        draw=draw_kept,
        prepare=draw_held_out,
    )


@_hold_out.register
def _autoencoder(task: DigitsAutoencoderTask, split: TrainingSplit) -> DigitsAutoencoderTask:
    kept, held = split_indices(task.train_labels, split, task.spec.name)
    return dataclasses.replace(
        task,
        train=task.train[kept],
        train_labels=task.train_labels[kept],
        validation=task.train[held],
        validation_labels=task.train_labels[held],
    )


@_hold_out.register
def _simclr(task: DigitsSimCLRTask, split: TrainingSplit) -> DigitsSimCLRTask:
    images = task.images
    kept, held = split_indices(images.train_labels, split, task.spec.name)
    generator = torch.Generator().manual_seed(_VIEWS_SEED)
    views = [random_views(images.train[held], generator) for _ in range(2)]
    return dataclasses.replace(
        task,
        images=dataclasses.replace(
            images,
            train=images.train[kept],
            train_labels=images.train_labels[kept],
            validation=images.train[held],
            validation_labels=images.train_labels[held],
        ),
        train=task.train[kept],
        validation=task.train[held],
        validation_views=images.standardise(torch.stack(views)),
    )
