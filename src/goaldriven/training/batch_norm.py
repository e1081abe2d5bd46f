"""Batch norm over the joined batch of several ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from goaldriven.training.ranks import Ranks


class _Joined(Function):
    """(x − μ)/√(σ² + ε) · γ + β with mean and variance of all ranks' stimuli: y, μ, σ².

    One message forwards and one backwards. Of R ranks with as many stimuli each, with means μ_r and
    variances σ_r²,

    ::

        μ  = mean μ_r,    σ² = mean σ_r² + mean (μ_r − μ)²
        ∂x = γ/s · (∂y − mean ∂y − x̂ · mean(∂y x̂)),    s = √(σ² + ε), x̂ = (x − μ)/s

    with means over all stimuli and pixels of all ranks in the last line. The gradients of γ and β
    are of this rank's stimuli alone, as those of every other parameter.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        epsilon: float,
        ranks: Ranks,
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        own = torch.stack(torch.var_mean(x, axes, correction=0))  # (variance or mean, channel)
        all_ranks = [torch.empty_like(own) for _ in range(ranks.size)]
        distributed.all_gather(all_ranks, own, group=ranks.group)
        variances, means = torch.stack(all_ranks).unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        y = functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, epsilon)
        ctx.save_for_backward(x, scale, mean, variance)
        ctx.epsilon, ctx.ranks, ctx.shifted = epsilon, ranks, shift is not None
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, *_: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        x, scale, mean, variance = ctx.saved_tensors
        # As if mean and variance were constant: γ/s · ∂y, Σ ∂y x̂ and Σ ∂y.
        constant, of_scale, of_shift = torch.ops.aten.native_batch_norm_backward(
            gradient, x, scale, mean, variance, None, None, False, ctx.epsilon, (True, True, True)
        )
        sums = torch.stack((of_scale, of_shift))
        joined = sums.clone()
        distributed.all_reduce(joined, group=ctx.ranks.group)
        along, level = joined / (x.numel() // x.shape[1] * ctx.ranks.size)
        inverse = (variance + ctx.epsilon).rsqrt()
        factor = inverse if scale is None else inverse * scale
        slope = -factor * inverse * along
        offset = -factor * level - slope * mean
        shape = (1, -1, *[1] * (x.dim() - 2))
        of_x = constant.addcmul_(x, slope.view(shape)).add_(offset.view(shape))
        return (
            of_x,
            None if scale is None else of_scale,
            of_shift if ctx.shifted else None,
            None,
            None,
        )


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
        y, mean, variance = _Joined.apply(x, module.weight, module.bias, module.eps, self.ranks)
        self._track(mean, variance, x.numel() // x.shape[1] * self.ranks.size)
        normalised: Tensor = y.to(given.dtype)
        return normalised

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
