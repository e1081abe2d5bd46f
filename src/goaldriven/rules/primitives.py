"""Local alignment losses of one layer: their values and closed-form gradients in B.

=====  ==========================  ==============================
name   value (mean over batch)     gradient in B
=====  ==========================  ==============================
decay  ½ Σ B²                      B
amp    −(1/n) Σ f ∘ g              −(1/n) weight_gradient(v, f)
null   (1/2n) Σ r²                 (1/n) weight_gradient(r, f)
=====  ==========================  ==============================

with the forward path's output f, the backward path's input v and output g = P_B v, and the
reconstruction r = P_Bᵀ f; sums run over features, and space is not averaged. f is a constant for B.

A gradient is a tensor of B's shape or an `Outer`, a weight gradient not yet taken. `total_gradient`
adds Outers with the same output side before it takes theirs, so that they cost one together.

**Layer-wise operations cost nothing more** as long as they are linear in g. With M centring over
features and C centring over the batch, both symmetric projections, and κ_n the normalisation of
sample n of f:

    weight_gradient(C v, C κ M f) = Σ_n weight_gradient(κ_n (C v)_n, f_n − mean_n 1)

whose output side is f as it stands, less a constant per sample. A constant output needs one output
channel of one sample, Σ_n mean_n κ_n (C v)_n. The gradient of ½‖C N M r‖² in r is a tensor with f
for its output side, whatever the operations on r.

What the alignment loss of a layer costs, in units of one projection, reconstruction or weight
gradient, given the layer's own forward pass (amp alone needs no reconstruction, and no null loss
remains if r is normalised but not centred over the batch: its norm is then 1):

- no operations, or any but the following:       one reconstruction, one weight gradient
- backward ReLU or backward normalisation:       one projection and one weight gradient more
- input noise:                                   one projection more (P_W of the noise)

Sources: thesis Table 5.1; Kunin et al. 2020, Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from goaldriven.rules.linear_maps import per_sample, rows, weighted_sum
from goaldriven.rules.operations import (
    Paths,
    backward_input,
    backward_output,
    backward_projection,
    batch_mean,
    feature_mean,
    forward_output,
    inverse_norm,
)


@dataclass(frozen=True, eq=False)
class Outer:
    """factor · (1/n) Σ_n weight_gradient(scale_n (input_n − mean), output_n − level_n 1).

    Attributes
    ----------
    input : (n, *input).
    output : (n, *output).
    factor : a number.
    centred : whether the mean over the batch is subtracted from the input.
    scale : (n,), None for 1.
    level : (n,), None for 0.
    scratch : whether ``input`` may be overwritten.
    """

    input: Tensor
    output: Tensor
    factor: float = 1.0
    centred: bool = False
    scale: Tensor | None = None
    level: Tensor | None = None
    scratch: bool = False

    def input_side(self) -> Tensor:
        """scale_n (input_n − mean), a new tensor unless it is ``input`` as it stands."""
        side = self.input - batch_mean(self.input) if self.centred else self.input
        return side if self.scale is None else side * per_sample(self.scale, side)

    def level_input(self) -> Tensor | None:
        """Σ_n level_n scale_n (input_n − mean), of shape (1, *input)."""
        if self.level is None:
            return None
        weights = self.level if self.scale is None else self.level * self.scale
        # Centring is symmetric: it may be done on the weights.
        return weighted_sum(self.input, weights - weights.mean() if self.centred else weights)


Gradient = Tensor | Outer | None
"""None stands for 0."""


class Primitive(NamedTuple):
    """A local loss: its value and its gradient in B, both functions of one layer's paths."""

    value: Callable[[Paths], Tensor]
    gradient: Callable[[Paths], Gradient]


def total_gradient(weights: Mapping[str, float], paths: Paths) -> Tensor | None:
    """Σ weight · ∂primitive/∂B over the named primitives.

    Returns
    -------
    A new tensor of B's shape; None for 0.
    """
    terms = [(w, PRIMITIVES[name].gradient(paths)) for name, w in weights.items() if w != 0]
    total: Tensor | None = None
    for weight, tensor in ((w, g) for w, g in terms if isinstance(g, Tensor)):
        total = _plus(total, weight * tensor)
    outers = [(w * g.factor, g) for w, g in terms if isinstance(g, Outer)]
    for output in {id(g.output): g.output for _, g in outers}.values():
        sharing = [(w, g) for w, g in outers if g.output is output]
        total = _plus(total, _shared_weight_gradient(sharing, paths))
    return total


def total_value(weights: Mapping[str, float], paths: Paths) -> Tensor:
    """Σ weight · primitive, a scalar. Each primitive's own projections are carried out."""
    values = [w * PRIMITIVES[name].value(paths) for name, w in weights.items()]
    return torch.stack(values).sum()


def _plus(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)


def _shared_weight_gradient(terms: list[tuple[float, Outer]], paths: Paths) -> Tensor:
    """Σ w · Outer over terms with one output, by one weight gradient."""
    n, layer, kernel, output = paths.batch_size, paths.linear_map, paths.kernel, terms[0][1].output
    levels = [(weight, term.level_input()) for weight, term in terms]
    total, unit = _gathered_inputs(terms)  # overwrites inputs
    gradient = layer.weight_gradient(total, output, kernel).mul_(unit / n)
    for weight, level in levels:
        if level is not None:
            uniform = layer.uniform_weight_gradient(level, output, kernel)
            gradient.sub_(uniform, alpha=weight / n)
    return gradient


def _gathered_inputs(terms: list[tuple[float, Outer]]) -> tuple[Tensor, float]:
    """(T, u) with u · T = Σ w · input side.

    Fewest passes over memory: the sum is gathered in an input that may be overwritten, if there is
    any, in units of its own weight; and centred once, if all its terms are to be.
    """
    terms = sorted(terms, key=lambda term: not term[1].scratch)
    together = all(term.centred and term.scale is None for _, term in terms)
    unit, first = terms[0]
    total = first.input if together else first.input_side()
    if total is first.input and not first.scratch and (together or len(terms) > 1):
        total = total.clone()
    for weight, term in terms[1:]:
        total.add_(term.input if together else term.input_side(), alpha=weight / unit)
    return (total.sub_(batch_mean(total)) if together else total), unit


def _decay_value(paths: Paths) -> Tensor:
    return paths.kernel.square().sum() / 2


def _decay_gradient(paths: Paths) -> Gradient:
    return paths.kernel


def _amp_value(paths: Paths) -> Tensor:
    g = backward_output(paths, backward_projection(paths, backward_input(paths)))
    return -(forward_output(paths, paths.f) * g).sum() / paths.batch_size


def _amp_gradient(paths: Paths) -> Gradient:
    operations = paths.operations
    if operations.backward_relu or operations.backward_feature_normalisation:
        return _amp_gradient_of_nonlinear(paths)
    level = scale = None
    if operations.forward_feature_normalisation:
        level = feature_mean(paths.f)
        scale = inverse_norm(paths.f, level)
    elif operations.forward_feature_centring or operations.backward_feature_centring:
        level = feature_mean(paths.f)
    centred = operations.forward_batch_centring or operations.input_batch_centring
    return Outer(paths.u, paths.f, -1.0, centred, scale, level)


def _amp_gradient_of_nonlinear(paths: Paths) -> Outer:
    """The output side is ∂⟨f, g⟩/∂(P_B v) through the normalisation and the ReLU of g."""
    operations = paths.operations
    v = backward_input(paths)
    g = backward_projection(paths, v)
    error = forward_output(paths, paths.f)
    if operations.backward_feature_normalisation:
        error = _through_normalisation(g, error)
    elif operations.backward_feature_centring:
        error = error - per_sample(feature_mean(error), error)
    if operations.backward_relu:
        error = error * (g > 0)
    return Outer(v, error, -1.0)


def _through_normalisation(z: Tensor, error: Tensor) -> Tensor:
    """The error at z, given that at q = M z/‖M z‖: (M e − q⟨q, e⟩)/‖M z‖ for each sample."""
    q = z - per_sample(feature_mean(z), z)
    scale = inverse_norm(q)
    q.mul_(per_sample(scale, q))
    error = error - per_sample(feature_mean(error), error)
    along = rows(q * error).sum(1)
    error.addcmul_(q, per_sample(along, q), value=-1.0)
    return error.mul_(per_sample(scale, error))


def _null_value(paths: Paths) -> Tensor:
    r = paths.linear_map.reconstruct(paths.f, paths.kernel, paths.u)
    return forward_output(paths, r).square().sum() / (2 * paths.batch_size)


def _null_gradient(paths: Paths) -> Gradient:
    operations = paths.operations
    normalised = operations.forward_feature_normalisation
    if normalised and not operations.forward_batch_centring:
        return None  # r has norm 1 whatever B
    r = paths.linear_map.reconstruct(paths.f, paths.kernel, paths.u)
    if normalised or operations.forward_feature_centring:
        r.sub_(per_sample(feature_mean(r), r))
    if normalised:
        _centre_normalised(r)
        return Outer(r, paths.f, scratch=True)
    return Outer(r, paths.f, centred=operations.forward_batch_centring, scratch=True)


def _centre_normalised(r: Tensor) -> None:
    """Replace feature-centred r, in place, by the gradient in r of ½ Σ_n ‖q_n − q̄‖².

    With q_n = r_n/‖r_n‖ and q̄ its mean over the batch, that is (q_n⟨q_n, q̄⟩ − q̄)/‖r_n‖.
    """
    scale = inverse_norm(r)
    q = r.mul_(per_sample(scale, r))
    mean = batch_mean(q)
    along = torch.mv(rows(q), rows(mean)[0])
    q.mul_(per_sample(scale * along, q)).addcmul_(mean, per_sample(scale, q), value=-1.0)


PRIMITIVES: dict[str, Primitive] = {
    "decay": Primitive(_decay_value, _decay_gradient),
    "amp": Primitive(_amp_value, _amp_gradient),
    "null": Primitive(_null_value, _null_gradient),
}
