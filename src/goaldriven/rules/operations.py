"""Layer-wise operations: what happens to a layer's paths while its alignment loss is computed.

One layer has a forward path f = P_W u and a backward path g = P_B v. In this order:

1. u is the layer's input, or noise in its place; centred over features, then normalised, by the
   *input* operations; v is u, centred over the batch if so asked.
2. The layer's own bias is added to f, to g, where asked; then ReLU, likewise.
3. The reconstruction r = P_Bᵀ f is taken of this activated f.
4. f and r are centred over features, normalised over features, centred over the batch; g is
   centred over features, normalised.

Centring over features subtracts each sample's mean over all its features (space and channels).
Normalising does that, then divides by the L2 norm; a sample whose norm is below 10⁻⁶ becomes 0.

Centrings are orthogonal projections and commute with everything linear on the other axis. So none
of them needs to be carried out on f: see `goaldriven.rules.primitives`.

Sources: thesis Table 5.5; Kunin et al. 2020's published code (Neural-Alignment ``alignment.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from goaldriven.rules.linear_maps import (
    LinearMap,
    per_sample,
    rows,
    weighted_sum,
)
from goaldriven.rules.ranks import Group, mean_over_ranks
from goaldriven.specs.credit import LayerwiseOperations

_SMALLEST_NORM = 1e-6
_CACHED = 2**18  # elements


@dataclass(frozen=True)
class Paths:
    """What the primitives of one layer are made of, batch axis first.

    Attributes
    ----------
    linear_map : projection, reconstruction and weight gradient of the layer.
    kernel : B.
    weight : W.
    bias : the layer's bias, None where it has none.
    operations : the layer-wise operations; ReLUs only where the layer is rectified.
    u : input of the forward path, (n, *input).
    make_f : computes `f`.
    group : the ranks whose stimuli are one batch with these.
    """

    linear_map: LinearMap
    kernel: Tensor
    weight: Tensor
    bias: Tensor | None
    operations: LayerwiseOperations
    u: Tensor
    make_f: Callable[[], Tensor]
    group: Group = None

    @cached_property
    def f(self) -> Tensor:
        """Output of the forward path with bias and ReLU as asked, (n, *output). Not to be changed.

        Made when it is first asked for: not every loss needs it.
        """
        return self.make_f()

    @property
    def batch_size(self) -> int:
        return self.u.shape[0]


def make_paths(
    linear_map: LinearMap,
    kernel: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    operations: LayerwiseOperations,
    x: Tensor,
    y: Tensor,
    noise: Tensor | None = None,
    group: Group = None,
) -> Paths:
    """The paths of a layer whose forward pass turned ``x`` into ``y`` = P_W x + bias.

    f comes from y without another projection, also where the input is centred or normalised:
    P_W((x − μ)/ρ) = (y − bias − μ P_W 1)/ρ for each sample's own μ and ρ, and P_W 1 is one tensor
    for all samples. With ``noise`` in the input's place there is one projection.
    """
    u, mean, scale = _forward_input(operations, x if noise is None else noise)

    def make_f() -> Tensor:
        shift = None if bias is None else linear_map.along_outputs(bias)
        if noise is not None:
            f, has_bias = linear_map.project(u, weight), False
        elif mean is None:
            f, has_bias = y, True
        else:
            of_ones = linear_map.project(torch.ones_like(x[:1]), weight)
            f = y if shift is None else y - shift
            f, has_bias = torch.addcmul(f, per_sample(mean, f), of_ones, value=-1.0), False
            if scale is not None:
                f.mul_(per_sample(scale, f))
        if shift is not None and has_bias != operations.forward_bias:
            f = f - shift if has_bias else f.add_(shift)
        if operations.forward_relu:
            f = f.relu() if f is y else f.relu_()
        return f

    return Paths(linear_map, kernel, weight, bias, operations, u, make_f, group)


def _forward_input(
    operations: LayerwiseOperations, given: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """u, with the mean subtracted from and the scale multiplied to each sample, (n,) or None."""
    if not (operations.input_feature_centring or operations.input_feature_normalisation):
        return given, None, None
    mean = feature_mean(given)
    u = given - per_sample(mean, given)
    if not operations.input_feature_normalisation:
        return u, mean, None
    scale = inverse_norm(u)
    return u.mul_(per_sample(scale, u)), mean, scale


def feature_mean(x: Tensor) -> Tensor:
    """Each sample's mean over its features, (n,)."""
    return rows(x).mean(1)


def batch_mean(x: Tensor, group: Group = None) -> Tensor:
    """Each feature's mean over the batch, that of all ranks of ``group``, (1, …)."""
    n = x.shape[0]
    return mean_over_ranks(weighted_sum(x, x.new_full((n,), 1.0 / n)), group)


def inverse_norm(z: Tensor, mean: Tensor | None = None) -> Tensor:
    """One over each sample's L2 norm, less its ``mean``, (n,); 0 where the norm is below 10⁻⁶.

    A few samples at a time: their differences from the mean then stay in the cache.
    """
    samples = rows(z)
    if mean is None:
        norm = torch.linalg.vector_norm(samples, dim=1)
    else:
        size = max(1, _CACHED // samples.shape[1])
        parts = zip(samples.split(size), mean[:, None].split(size), strict=True)
        norm = torch.cat([torch.linalg.vector_norm(part - m, dim=1) for part, m in parts])
    return torch.where(norm > _SMALLEST_NORM, norm.reciprocal(), 0.0)


def forward_output(paths: Paths, z: Tensor) -> Tensor:
    """f or r after its operations (step 4), a new tensor unless there are none."""
    operations = paths.operations
    if operations.forward_feature_centring or operations.forward_feature_normalisation:
        z = z - per_sample(feature_mean(z), z)
    if operations.forward_feature_normalisation:
        z = z * per_sample(inverse_norm(z), z)
    return z - batch_mean(z, paths.group) if operations.forward_batch_centring else z


def backward_input(paths: Paths) -> Tensor:
    """v: u, or u centred over the batch."""
    if not paths.operations.input_batch_centring:
        return paths.u
    return paths.u - batch_mean(paths.u, paths.group)


def backward_projection(paths: Paths, v: Tensor) -> Tensor:
    """g with bias and ReLU as asked: one projection, a new tensor."""
    g = paths.linear_map.project(v, paths.kernel)
    if paths.operations.backward_bias and paths.bias is not None:
        g += paths.linear_map.along_outputs(paths.bias)
    return g.relu_() if paths.operations.backward_relu else g


def backward_output(paths: Paths, g: Tensor) -> Tensor:
    """g after its operations (step 4), a new tensor unless there are none."""
    operations = paths.operations
    if operations.backward_feature_centring or operations.backward_feature_normalisation:
        g = g - per_sample(feature_mean(g), g)
    if operations.backward_feature_normalisation:
        g = g * per_sample(inverse_norm(g), g)
    return g
