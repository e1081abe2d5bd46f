"""Activations as one row of units per stimulus, without a copy where memory allows."""

from __future__ import annotations

from torch import Tensor


def channels_last(y: Tensor) -> bool:
    """Whether [batch, channel, *space] lies in memory as [batch, *space, channel]."""
    return y.ndim > 2 and not y.is_contiguous() and y.movedim(1, -1).is_contiguous()


def unit_rows(y: Tensor) -> Tensor:
    """[batch, *units] → [batch, n], the units in the order in which they lie in memory."""
    return y.movedim(1, -1).flatten(1) if channels_last(y) else y.flatten(1)


def unit_row(values: Tensor, like: Tensor) -> Tensor:
    """[*units] → [n], in the order in which `unit_rows` puts the units of ``like``."""
    return values.movedim(0, -1).flatten() if channels_last(like) else values.flatten()
