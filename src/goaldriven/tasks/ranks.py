"""Batches joined across the processes that train one network together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, part.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total[distributed.get_rank()]


def several_ranks() -> bool:
    """Whether more than one process trains this network."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def join(part: Tensor) -> Tensor:
    """Every rank's tensor, stacked in the order of ranks: (n, …) → (ranks, n, …).

    Its backward pass sums the gradients that all ranks have for this rank's part. With an objective
    L of the joined batch that every rank computes, each part thus gets ranks · ∂L/∂part, and the
    mean over ranks of the parameters' gradients, as data-parallel training takes it, is that of L.

    All ranks must call it, with the same shapes.
    """
    joined: Tensor = _Join.apply(part)
    return joined


def join_views(projections: Tensor) -> Tensor:
    """Projections (2n, f) of n stimuli's views → (2·ranks·n, f), first views of all first."""
    first_and_second = projections.unflatten(0, (2, -1))  # (2, n, f)
    return join(first_and_second).transpose(0, 1).flatten(0, 2)
