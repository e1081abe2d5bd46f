"""How networks are computed: settings that are no part of what a network is.

They change its numbers by rounding at most, but for what their descriptions say; trajectories keep
them in their attributes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from goaldriven.errors import SpecError
from goaldriven.specs.base import RootSpec

Precision = Literal["float32", "tf32", "bf16"]


class RuntimeOptions(RootSpec):
    """Precision, memory layout, compilation and micro-batches of training steps.

    Attributes
    ----------
    precision : ``float32``, ``tf32`` (products of float32 numbers on the tensor cores of NVIDIA's
        GPUs, ten bits of mantissa) or ``bf16`` (autocast to bfloat16 in the forward pass). Weights,
        optimizers, backward weights and alignment losses stay float32; records are float32.
    channels_last : weights and stimuli have their channels innermost in memory.
    compile : training steps call the model compiled by ``torch.compile``.
    micro_batch : stimuli per forward and backward pass, of which gradients are accumulated to those
        of the batch; per rank where several train together. It divides the batch. Batch norm,
        batch centring and contrastive objectives then see micro-batches, and noise is drawn
        micro-batch by micro-batch.
    batch_norm : where several ranks train together, whether batch norm has the statistics of the
        ``joined`` batch, as one process has, or of each rank's part (``per_rank``).
    """

    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    micro_batch: PositiveInt | None = None
    batch_norm: Literal["joined", "per_rank"] = "joined"


DEFAULT = RuntimeOptions()


class CheckpointEvery(RootSpec):
    """How often a network in training is stored, to go on from there when it is interrupted.

    At the end of an epoch: of every ``epochs``-th, or of the first after so many ``minutes``.
    ``keep``: whether the last ones stay when the network is finished.
    """

    epochs: PositiveInt | None = None
    minutes: PositiveFloat | None = None
    keep: bool = False

    @model_validator(mode="after")
    def _one(self) -> CheckpointEvery:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError(
                f"checkpoints must be every so many epochs or minutes, one of them, got epochs "
                f"{self.epochs} and minutes {self.minutes}"
            )
        return self


def parse_every(text: str, keep: bool = False) -> CheckpointEvery:
    """``5`` → every 5 epochs; ``30min`` → every 30 minutes.

    Raises
    ------
    SpecError : it is neither.

    >>> parse_every("5").epochs, parse_every("1.5min").minutes
    (5, 1.5)
    """
    number = text.removesuffix("min")
    try:
        if number == text:
            return CheckpointEvery(epochs=int(number), keep=keep)
        return CheckpointEvery(minutes=float(number), keep=keep)
    except (ValueError, SpecError):
        raise SpecError(
            f"checkpoint-every must be a number of epochs (5) or minutes (30min), got {text!r}"
        ) from None
