"""Precision, memory layout and micro-batches of training steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from goaldriven.errors import SpecError
from goaldriven.specs.runtime import RuntimeOptions
from goaldriven.tasks.base import Batch
from goaldriven.training.ranks import rows


@contextmanager
def products(options: RuntimeOptions) -> Iterator[None]:
    """Inside, products of float32 numbers on NVIDIA's GPUs are rounded as the options say.

    PyTorch's own default rounds those of convolutions to TF32. The settings are the process', and
    are as before outside.
    """
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = options.precision == "tf32"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def autocast(options: RuntimeOptions, device: torch.device) -> Any:
    """The context of a forward pass."""
    if options.precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def laid_out(batch: Batch, options: RuntimeOptions) -> Batch:
    """A batch in the memory layout that the options ask for."""
    if not options.channels_last or batch.stimuli.dim() != 4:
        return batch
    return replace(batch, stimuli=batch.stimuli.to(memory_format=torch.channels_last))


def check_micro_batch(options: RuntimeOptions, part: int) -> None:
    """Refuse micro-batches that do not divide the stimuli of a rank.

    Raises
    ------
    SpecError : naming both.
    """
    size = options.micro_batch
    if size is not None and part % size:
        raise SpecError(
            f"micro_batch must divide the {part} stimuli that a rank has of each batch, got {size}"
        )


def micro_batches(batch: Batch, options: RuntimeOptions) -> Sequence[Batch]:
    """The parts that a batch is worked through in, of equal size."""
    size = options.micro_batch
    if size is None or size >= len(batch):
        return (batch,)
    return [rows(batch, i, i + size) for i in range(0, len(batch), size)]


def divide(gradients: Sequence[Tensor], parts: int) -> None:
    """Sums over micro-batches of mean losses' gradients → the batch's."""
    if parts > 1:
        for gradient in gradients:
            gradient.div_(parts)
