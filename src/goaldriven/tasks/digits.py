"""scikit-learn's handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from goaldriven.specs.tasks import Digits, DigitsAutoencoder, DigitsSimCLR
from goaldriven.tasks.checks import check_data, keep
from goaldriven.tasks.supervised import SupervisedTask

N_CLASSES = 10
INPUT_SHAPE = (1, 8, 8)
_N_VALIDATION = 450
_WHITE = 16.0  # the largest pixel value


@dataclass(frozen=True)
class DigitImages:
    """Images in [0, 1] with their labels; ``mean`` and ``std`` are the training pixels'."""

    train: Tensor  # (n, 1, 8, 8)
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    mean: float
    std: float

    def standardise(self, images: Tensor) -> Tensor:
        """Images in units of the training pixels' standard deviation from their mean."""
        return (images - self.mean) / self.std


def read_digits(
    spec: Digits | DigitsSimCLR | DigitsAutoencoder, device: torch.device
) -> DigitImages:
    """The 1,797 images, split once and for all: 1,347 to train on, 450 to validate, stratified.

    Source: test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak
    1998), as scikit-learn carries it.
    """
    images, labels = load_digits(return_X_y=True)
    pixels = (images / _WHITE).astype(np.float32).reshape(-1, *INPUT_SHAPE)
    train, validation = train_test_split(
        np.arange(len(labels)), test_size=_N_VALIDATION, stratify=labels, random_state=0
    )
    train = train[keep(spec.name, "training", labels[train], spec.train_limit)]
    validation = validation[
        keep(spec.name, "validation", labels[validation], spec.validation_limit)
    ]
    check_data(spec.name, "training", pixels[train], labels[train], N_CLASSES)
    check_data(spec.name, "validation", pixels[validation], labels[validation], N_CLASSES)

    def tensor(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return DigitImages(
        tensor(pixels[train]),
        tensor(labels[train]),
        tensor(pixels[validation]),
        tensor(labels[validation]),
        mean=float(pixels[train].mean(dtype=np.float64)),
        std=float(pixels[train].std(dtype=np.float64)),
    )


def load_digits_task(spec: Digits, device: torch.device) -> SupervisedTask:
    """Ten-way digit recognition, standardised by the training pixels, without augmentation."""
    images = read_digits(spec, device)
    train = images.standardise(images.train)

    def draw(chosen: Tensor, generator: torch.Generator) -> Tensor:
        return train[chosen]

    return SupervisedTask(
        spec=spec,
        input_shape=INPUT_SHAPE,
        n_classes=N_CLASSES,
        train_labels=images.train_labels,
        validation_stimuli=images.standardise(images.validation),
        validation_labels=images.validation_labels,
        draw=draw,
    )
