"""Several processes that train one model together, each on its part of every batch.

A rule does on them what it would do in one process on the joined batch, to rounding: what is random
is drawn for the joined batch, by generators that are equal on all ranks, and each rank takes its
own stimuli's part; means over the batch are means over all ranks' stimuli. All ranks have as many
stimuli.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed

Group = distributed.ProcessGroup | None
"""The ranks; None for this process alone."""


def place(group: Group) -> tuple[int, int]:
    """(this rank, number of ranks)."""
    if group is None:
        return 0, 1
    return distributed.get_rank(group), distributed.get_world_size(group)


def average_over_ranks(tensors: Iterable[Tensor], group: Group) -> None:
    """Replace every tensor by its mean over the ranks of ``group``, in one message a precision."""
    if group is None:
        return
    by_kind: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        by_kind.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in by_kind.values():
        flat = torch.cat([tensor.flatten() for tensor in alike])
        distributed.all_reduce(flat, group=group)
        flat.div_(distributed.get_world_size(group))
        for tensor, part in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def mean_over_ranks(tensor: Tensor, group: Group) -> Tensor:
    """The mean over ranks; a tensor of its own where there are several."""
    if group is None:
        return tensor
    mean = tensor.clone()
    average_over_ranks([mean], group)
    return mean


def joined_change(change: Tensor, group: Group) -> Tensor:
    """What noise on every stimulus did to the sum over ranks of their mean losses.

    For ΔL (), whose noise is that of all ranks' stimuli. With changes (n,) of each stimulus' own
    loss, which no other stimulus' noise has touched, they stay as they are.

    The sum, since estimates are averaged over ranks afterwards: Σ_r (Σ_r' ΔL_r') ξ_r / R is the
    estimate ΔL ξ of the joined batch, with ΔL the mean of all ranks' and ξ the noise of all.
    """
    if group is None or change.dim():
        return change
    total = change.clone()
    distributed.all_reduce(total, group=group)
    return total


def own_part(drawn: Tensor, group: Group) -> Tensor:
    """This rank's rows of what was drawn for the joined batch."""
    rank, size = place(group)
    return drawn.unflatten(0, (size, -1))[rank]
