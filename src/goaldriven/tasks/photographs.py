"""CIFAR-10 and Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goaldriven.errors import DataError
from goaldriven.specs.tasks import Cifar10, FashionMNIST
from goaldriven.tasks.checks import check_data, keep
from goaldriven.tasks.idx import read_idx
from goaldriven.tasks.images import ImageSplit, Wanted, local_folder, read_splits
from goaldriven.tasks.shifts import shift_and_flip
from goaldriven.tasks.supervised import SupervisedTask

N_CLASSES = 10
_IDX_PREFIXES = {"training": "train", "validation": "t10k"}

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def load_cifar10(spec: Cifar10, device: torch.device) -> SupervisedTask:
    """CIFAR-10 with the published augmentation: `shift_and_flip`.

    Pixels are kept as bytes and standardised per channel, by the mean and standard deviation of
    the training pixels, after augmentation. ``spec.source``: see `read_splits`.

    Raises
    ------
    DataError : the source cannot be used; the message says what is wrong with it.

    Source: Krizhevsky 2009; augmentation as in thesis section 6.3.8.
    """
    wanted = Wanted("cifar10", (3, 32, 32), N_CLASSES, spec.train_limit, spec.validation_limit)
    train, validation = read_splits(spec.source, wanted)
    return _task(spec, wanted.shape, train, validation, shift_and_flip, device)


def load_fashion_mnist(spec: FashionMNIST, device: torch.device) -> SupervisedTask:
    """Fashion-MNIST, standardised by the training pixels, without augmentation.

    ``spec.source`` is a folder with the four IDX files of the original distribution, plain or
    gzipped, or else as in `read_splits`.

    Raises
    ------
    DataError : the source cannot be used; the message says what is wrong with it.

    Source: Xiao, Rasul and Vollgraf 2017.
    """
    wanted = Wanted(
        "fashion_mnist", (1, 28, 28), N_CLASSES, spec.train_limit, spec.validation_limit
    )
    folder = local_folder(wanted.task, spec.source)
    if folder is not None and any(folder.glob("*-ubyte*")):
        train, validation = (_read_idx_split(folder, split, wanted) for split in _IDX_PREFIXES)
    else:
        train, validation = read_splits(spec.source, wanted)
    return _task(spec, wanted.shape, train, validation, _no_augmentation, device)


def _no_augmentation(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def _read_idx_split(folder: Path, split: str, wanted: Wanted) -> ImageSplit:
    prefix = _IDX_PREFIXES[split]
    images = read_idx(_idx_file(folder, f"{prefix}-images-idx3-ubyte"), 3)
    labels = read_idx(_idx_file(folder, f"{prefix}-labels-idx1-ubyte"), 1)
    if images.shape[1:] != wanted.shape[1:]:
        raise DataError(
            f"task {wanted.task}: {split} images must be {wanted.shape[1]} × {wanted.shape[2]} "
            f"pixels, got {images.shape[1]} × {images.shape[2]}"
        )
    check_data(wanted.task, split, images, labels, wanted.n_classes)
    chosen = keep(wanted.task, split, labels, wanted.limit(split))
    return ImageSplit(images[chosen, None], labels[chosen].astype(np.int64))


def _idx_file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise DataError(f"folder {str(folder)!r} must hold {name} or {name}.gz, got neither")


def _task(
    spec: Cifar10 | FashionMNIST,
    shape: tuple[int, int, int],
    train: ImageSplit,
    validation: ImageSplit,
    augment: Augmentation,
    device: torch.device,
) -> SupervisedTask:
    standardise = _standardiser(train, device)
    pixels = torch.from_numpy(train.pixels).to(device)

    def draw(chosen: Tensor, generator: torch.Generator) -> Tensor:
        return standardise(augment(pixels[chosen].float(), generator))

    def prepare(images: Tensor) -> Tensor:
        return standardise(images.float())

    return SupervisedTask(
        spec=spec,
        input_shape=shape,
        n_classes=N_CLASSES,
        train_labels=torch.from_numpy(train.labels).to(device),
        validation_stimuli=torch.from_numpy(validation.pixels).to(device),
        validation_labels=torch.from_numpy(validation.labels).to(device),
        draw=draw,
        prepare=prepare,
    )


def _standardiser(train: ImageSplit, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Subtract each channel's mean over the training pixels and divide by its deviation."""
    values = np.arange(256)
    scales, offsets = [], []
    for channel in range(train.pixels.shape[1]):
        # From the histogram: exact, and without a floating-point copy of all pixels.
        count = np.bincount(train.pixels[:, channel].ravel(), minlength=256)
        mean = (count @ values) / count.sum()
        std = float(np.sqrt((count @ (values - mean) ** 2) / count.sum())) or 1.0
        scales.append(1 / std)
        offsets.append(-mean / std)
    scale, offset = (
        torch.tensor(v, dtype=torch.float32, device=device).view(-1, 1, 1)
        for v in (scales, offsets)
    )
    return lambda images: torch.addcmul(offset, images, scale)
