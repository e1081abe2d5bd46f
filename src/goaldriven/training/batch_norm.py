"""Batch norm over the joined batch of several ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm

from goaldriven.training.ranks import Ranks


class _SumOverRanks(Function):
    """Σ over ranks; the gradient of a rank's part is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: distributed.ProcessGroup) -> Tensor:
        ctx.group = group
        total = part.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=ctx.group)
        return total, None


class JoinedBatchNorm:
    """What takes the place of a batch norm's ``forward``.

    In training mode mean and variance are those of all ranks' stimuli, which are as many on each,
    with float32 sums at least; in eval mode it is PyTorch's own. (PyTorch's ``SyncBatchNorm`` does
    the same on GPUs only.) Compiled models run it outside the graph.
    """

    def __init__(self, module: _BatchNorm, ranks: Ranks) -> None:
        self.module, self.ranks = module, ranks

    def __call__(self, x: Tensor) -> Tensor:
        module = self.module
        if not module.training:
            result: Tensor = type(module).forward(module, x)
            return result
        return self._joined(x)

    @torch.compiler.disable
    def _joined(self, given: Tensor) -> Tensor:
        module = self.module
        x = given if given.dtype == torch.float64 else given.float()
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = x.numel() // x.shape[1] * self.ranks.size
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean = self._sum(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = self._sum(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach(), count)
        scale = (variance + module.eps).rsqrt()
        if module.weight is not None:
            scale = scale * module.weight
        y = centred * scale.view(shape)
        if module.bias is not None:
            y = y + module.bias.view(shape)
        return y.to(given.dtype)

    def _sum(self, part: Tensor) -> Tensor:
        total: Tensor = _SumOverRanks.apply(part, self.ranks.group)
        return total

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        module = self.module
        if module.running_mean is None or module.running_var is None:
            return
        if module.num_batches_tracked is not None:
            module.num_batches_tracked.add_(1)
        weight = module.momentum
        if weight is None:  # a cumulative mean
            weight = 1.0 / float(module.num_batches_tracked)  # type: ignore[arg-type]
        module.running_mean.lerp_(mean.to(module.running_mean), weight)
        unbiased = variance * (count / (count - 1))
        module.running_var.lerp_(unbiased.to(module.running_var), weight)


def join_batch_norm(model: nn.Module, ranks: Ranks) -> None:
    """Give all batch norms of a model the statistics of the joined batch."""
    if ranks.size == 1:
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = JoinedBatchNorm(module, ranks)  # type: ignore[method-assign,assignment]
