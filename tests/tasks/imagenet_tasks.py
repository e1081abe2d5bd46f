"""ImageNet tasks of a few small images, and all that they hold."""

import torch

from goaldriven.specs.tasks import ImageNet
from goaldriven.tasks.imagenet import load_imagenet
from goaldriven.tasks.imagenet_simclr import load_imagenet_simclr

CPU = torch.device("cpu")
SMALL = {"image_size": 12, "n_classes": 10}


def task(source, spec=ImageNet, **settings):
    loader = load_imagenet if spec is ImageNet else load_imagenet_simclr
    return loader(spec(source=str(source), **SMALL | settings), CPU)


def everything(made, seed=0):
    epoch = made.train_batches(15, torch.Generator().manual_seed(seed))
    batches = [*epoch, *made.validation_objective_batches(10)]
    tensors = [t for b in batches for t in (b.stimuli, b.labels)]
    return [*tensors, *made.validation_batches(7)]


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
