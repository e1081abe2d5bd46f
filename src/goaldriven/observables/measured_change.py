"""The activity change of a layer over subsets of its inputs and outputs, all from one derivative.

For the inputs I and outputs O that are read, per stimulus,

    g = (1/|O|) Σ_{j∈O} Σ_{i∈I} ∂y_j/∂a_i.

Σ_{i∈I} ∂z_j/∂a_i is the layer applied to the indicator of I, whatever the stimulus; the
non-linearity's derivative is common to all subsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goaldriven.observables.chains import Chain
from goaldriven.observables.change import (
    CHUNK,
    activity_change_through_feedback,
    as_weighted,
    linear_part,
    response_to_ones,
)
from goaldriven.observables.layout import unit_row, unit_rows
from goaldriven.observables.statistics import standard_deviation

TANGENT_PARTS = 8
"""Parts a batch is cut into where tangents are as large as activations."""


@dataclass(frozen=True, eq=False)
class Subset:
    """Indicators of the inputs and outputs read, [*input shape] and [*output shape]; None: all."""

    inputs: Tensor | None
    outputs: Tensor | None
    n_inputs: int
    n_outputs: int


class TrueChange:
    """Activity change through the forward weights for each of ``subsets``."""

    def __init__(
        self,
        module: nn.Module,
        chain: Chain,
        input_shape: Sequence[int],
        subsets: Sequence[Subset],
    ) -> None:
        self._chain, self._subsets = chain, subsets
        responses = [response_to_ones(module, input_shape, s.inputs) for s in subsets]
        if chain.affine_until_relu:
            responses = [chain.affine_tangent(response) for response in responses]
        self._responses = responses
        self._tangents: Tensor | None = None
        self._weights: Tensor | None = None

    def on_weighted(self, z: Tensor) -> None:
        """Take what depends on z before anything overwrites it."""
        if self._chain.affine_until_relu or not self._subsets:
            return
        parts = z.split(-(-len(z) // TANGENT_PARTS) or 1)
        self._tangents = torch.stack([self._tangent(k, parts) for k in range(len(self._subsets))])

    def _tangent(self, k: int, parts: Sequence[Tensor]) -> Tensor:
        """g of each stimulus for one subset, by forward-mode differentiation: float64 [batch]."""
        subset, sums = self._subsets[k], []
        for part in parts:
            tangent = self._chain.tangent(part, self._responses[k])
            if subset.outputs is None:
                sums.append(tangent.flatten(1).mean(dim=1, dtype=torch.float64))
                continue
            tangent = torch.where(subset.outputs, tangent, 0.0)
            sums.append(tangent.flatten(1).sum(dim=1, dtype=torch.float64) / subset.n_outputs)
        return torch.cat(sums)

    def on_output(self, y: Tensor) -> Tensor:
        """g of each subset and stimulus, float64 [subset, batch]."""
        if not self._subsets:
            return torch.empty(0, len(y), dtype=torch.float64, device=y.device)
        if self._tangents is not None:
            return self._tangents
        if self._weights is None:
            shares = [_share(r, s) for r, s in zip(self._responses, self._subsets, strict=True)]
            self._weights = torch.stack([unit_row(share, like=y) for share in shares])
        if not self._chain.rectified:
            return self._weights.sum(dim=1, keepdim=True).expand(-1, len(y))
        rows = unit_rows(y.detach())
        parts = rows.split(max(1, CHUNK // rows.shape[1]))
        return torch.cat([(part > 0).double() @ self._weights.T for part in parts]).T


def _share(response: Tensor, subset: Subset) -> Tensor:
    share = response.double() / subset.n_outputs
    return share if subset.outputs is None else torch.where(subset.outputs, share, 0.0)


class FeedbackChange:
    """Activity change through the layer's backward pass for each of ``subsets``."""

    def __init__(self, module: nn.Module, chain: Chain, subsets: Sequence[Subset]) -> None:
        self._module, self._chain, self._subsets = module, chain, subsets

    def on_weighted(self, a: Tensor) -> Tensor | None:
        """g of each subset and stimulus, float64 [subset, batch]."""
        if not self._subsets:
            return None
        return torch.stack(
            [
                activity_change_through_feedback(
                    self._module, a, self._chain, inputs=s.inputs, outputs=s.outputs
                )
                for s in self._subsets
            ]
        )


def row_sum_deviations(
    module: nn.Module,
    chain: Chain,
    a: Tensor,
    subsets: Sequence[Subset],
    *,
    through_feedback: bool = False,
) -> list[float]:
    """Standard deviation over stimuli and inputs of r_i = Σ_{j∈O} ∂y_j/∂a_i, for each subset's O.

    Through the forward weights, or else through the layer's backward pass; ``a`` is the layer's
    input [batch, *input shape].
    """
    layer = as_weighted(module)
    a = a.detach().clone().requires_grad_()
    deviations = []
    with torch.enable_grad():
        if through_feedback:
            y = chain(module(a))
        else:
            z = linear_part(layer, layer.weight.detach(), a, getattr(layer, "groups", 1))
            bias = None if layer.bias is None else layer.bias.detach()
            if bias is not None:
                z = z + (bias if isinstance(layer, nn.Linear) else _per_channel(bias, z))
            y = chain(z)
        for subset in subsets:
            seed = torch.ones_like(y) if subset.outputs is None else subset.outputs.to(y)
            (r,) = torch.autograd.grad(y, a, seed.expand_as(y).contiguous(), retain_graph=True)
            deviations.append(standard_deviation(r))
    return deviations


def _per_channel(bias: Tensor, z: Tensor) -> Tensor:
    return bias.reshape(-1, *(1,) * (z.ndim - 2))
