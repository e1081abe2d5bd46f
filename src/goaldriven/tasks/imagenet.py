"""ImageNet."""

from __future__ import annotations

import torch

from goaldriven.specs.tasks import ImageNet
from goaldriven.tasks.colour import import_kornia
from goaldriven.tasks.image_stores import Wanted, open_images
from goaldriven.tasks.images import import_datasets
from goaldriven.tasks.preparations import PREPARATIONS, Photographs
from goaldriven.tasks.streamed import StreamedTask


def load_imagenet(spec: ImageNet, device: torch.device) -> StreamedTask:
    """ImageNet under the published preprocessing, read while the network trains.

    ``resnet``: `goaldriven.tasks.preparations.resnet_augment`, standardised by ImageNet's mean and
    deviation; ``inception``: `inception_augment`, with changes of brightness and saturation, on
    [−1, 1]. ``spec.source``: see `open_images`.

    Raises
    ------
    DataError : the source cannot be used; the message says what is wrong with it. A single image
        that cannot be decoded is found, and named, when it is read.

    Source: the networks' own ``tfutils/imagenet_data.py`` (neuroailab/tfutils) for ResNet
    preprocessing; TensorFlow's ``inception_preprocessing.py`` (slim, fast mode) for Inception's.
    """
    preparation = PREPARATIONS[spec.preprocessing]
    import_datasets(spec.name)  # pillow as well: said now rather than in the first batch
    if preparation.n_draws:
        import_kornia(spec.name)
    wanted = Wanted(spec.name, spec.n_classes, spec.train_limit, spec.validation_limit)
    train, validation = open_images(spec.source, wanted)
    return StreamedTask(
        spec=spec,
        input_shape=(3, spec.image_size, spec.image_size),
        n_classes=spec.n_classes,
        train=Photographs(train, preparation, spec.image_size),
        validation=Photographs(validation, preparation, spec.image_size),
        finish=preparation.finish,
        device=device,
    )
