"""Layers of every kind that rules attach to, as (a function making one, the shape of its input)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

Case = tuple[Callable[[], nn.Module], tuple[int, ...]]

LAYERS: dict[str, Case] = {
    "linear": (lambda: nn.Linear(7, 5), (6, 7)),
    "linear, no bias": (lambda: nn.Linear(7, 5, bias=False), (6, 7)),
    "linear, unbatched": (lambda: nn.Linear(7, 5), (7,)),
    "linear, four axes": (lambda: nn.Linear(7, 5), (3, 2, 4, 7)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (5, 4, 9)),
    "conv1d, dilated and strided": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2),
        (5, 4, 11),
    ),
    "conv1d, unbatched": (lambda: nn.Conv1d(4, 6, 3, bias=False), (4, 9)),
    "conv1d, even kernel, same": (lambda: nn.Conv1d(4, 6, 4, padding="same"), (5, 4, 9)),
    "conv1d, circular": (lambda: nn.Conv1d(4, 6, 5, padding=2, padding_mode="circular"), (5, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), (5, 4, 6, 7)),
    "conv2d, no bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), (5, 4, 6, 7)),
    "conv2d, strided": (lambda: nn.Conv2d(4, 6, 3, stride=(2, 3), padding=(1, 2)), (5, 4, 8, 9)),
    "conv2d, dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=(1, 2), padding=2), (5, 4, 7, 8)),
    "conv2d, grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (5, 4, 6, 7)),
    "conv2d, depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (5, 4, 6, 7)),
    "conv2d, all options": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2),
        (5, 4, 9, 8),
    ),
    "conv2d, unbatched": (lambda: nn.Conv2d(4, 6, 3, padding=1), (4, 6, 7)),
    "conv2d, same": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same"), (5, 4, 6, 7)),
    "conv2d, even kernel, same": (lambda: nn.Conv2d(4, 6, (4, 3), padding="same"), (5, 4, 6, 7)),
    "conv2d, valid": (lambda: nn.Conv2d(4, 6, 3, padding="valid"), (5, 4, 6, 7)),
    "conv2d, circular": (
        lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular"),
        (5, 4, 6, 7),
    ),
    "conv2d, reflect, strided": (
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=2, padding_mode="reflect"),
        (5, 4, 6, 7),
    ),
    "conv2d, replicate, same": (
        lambda: nn.Conv2d(4, 6, (4, 3), padding="same", padding_mode="replicate"),
        (5, 4, 6, 7),
    ),
    "conv2d, few channels": (lambda: nn.Conv2d(2, 6, (3, 5), padding=(1, 2)), (65, 2, 16, 16)),
}


@pytest.fixture(autouse=True)
def _quiet_and_repeatable():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are too small for more to help
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same'")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer_and_input(request) -> tuple[nn.Module, torch.Tensor]:
    """A layer in double precision, biases not 0, and an input with a mean other than 0."""
    make, shape = request.param
    layer = make().double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer, torch.randn(shape, dtype=torch.float64) + 0.3
