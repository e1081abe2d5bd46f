"""Primitives of alignment losses of one layer: their values and closed-form gradients in B.

=======  ==========================  ==============================
name     value (mean over batch)     gradient in B
=======  ==========================  ==============================
amp      −(1/n) Σ f ∘ g              −(1/n) weight_gradient(v, f)
null     (1/2n) Σ r²                 (1/n) weight_gradient(r, f)
sparse   (1/2n) Σ g²                 (1/n) weight_gradient(v, g)
decay    ½ Σ B²                      B
self     −Σ B ∘ W                    −W
angle    Σ B ∘ ∇W                    ∇W
=======  ==========================  ==============================

with the forward path's output f, the backward path's input v and output g = P_B v, the
reconstruction r = P_Bᵀ f, and the pseudogradient ∇W; sums run over features, and space is not
averaged. f, W and ∇W are constants for B.

A gradient of the first three is a tensor of B's shape or an `Outer`, a weight gradient not yet
taken. `total_gradient` adds Outers with the same output side before it takes theirs, so that they
cost one together; amp and sparse share their input side and cost one together, too.

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

- amp and null, any operations but the following: one reconstruction, one weight gradient
- backward ReLU or backward normalisation:        one projection and one weight gradient more
- amp and sparse:                                 one projection, one weight gradient
                                                  (f is not needed unless operations tell it from
                                                  a projection of the same input)
- input noise:                                    one projection more (P_W of the noise)
- decay, self, angle:                             nothing

Sources: thesis Table 5.1 and section 5.11.3; Kunin et al. 2020, Table 1.
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
from goaldriven.rules.ranks import Group, average_over_ranks
from goaldriven.specs.credit import LayerwiseOperations


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
    scratch : whether ``input`` may be overwritten; it then has no level.
    group : the ranks over whose stimuli the mean is.
    """

    input: Tensor
    output: Tensor
    factor: float = 1.0
    centred: bool = False
    scale: Tensor | None = None
    level: Tensor | None = None
    scratch: bool = False
    group: Group = None

    def input_side(self) -> Tensor:
        """scale_n (input_n − mean), a new tensor unless it is ``input`` as it stands."""
        side = self.input - batch_mean(self.input, self.group) if self.centred else self.input
        return side if self.scale is None else side * per_sample(self.scale, side)

    def level_weights(self) -> Tensor:
        """level_n scale_n, (n,): what weighs the inputs in the level's part."""
        assert self.level is not None  # narrows the type: asked for only then
        return self.level if self.scale is None else self.level * self.scale


Gradient = Outer | None
"""None stands for 0."""


class ActivationPrimitive(NamedTuple):
    """A loss of one layer's activations: its value and its gradient in B, of the layer's paths."""

    value: Callable[[Paths], Tensor]
    gradient: Callable[[Paths], Gradient]


class KernelPrimitive(NamedTuple):
    """A loss of one layer's kernels: value and gradient, of (B, W, ∇W), tensors of one shape."""

    value: Callable[[Tensor, Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor]


def total_gradient(weights: Mapping[str, float], paths: Paths) -> Tensor | None:
    """Σ weight · ∂primitive/∂B over the named primitives of activations.

    Returns
    -------
    A new tensor of B's shape; None for 0.
    """
    weights = {name: weight for name, weight in weights.items() if weight}
    terms: list[tuple[float, Gradient]] = []
    if "sparse" in weights or _nonlinear(paths):
        pair = _projection_gradient(paths, weights.pop("amp", 0.0), weights.pop("sparse", 0.0))
        terms.append((1.0, pair))
    terms += [(w, ACTIVATION_PRIMITIVES[name].gradient(paths)) for name, w in weights.items()]
    total: Tensor | None = None
    outers = [(w * g.factor, g) for w, g in terms if g is not None]
    for output in {id(g.output): g.output for _, g in outers}.values():
        sharing = [(w, g) for w, g in outers if g.output is output]
        total = _plus(total, _shared_weight_gradient(sharing, paths))
    return total


def total_value(weights: Mapping[str, float], paths: Paths) -> Tensor:
    """Σ weight · primitive of activations, a scalar. Every primitive's projections are its own."""
    values = [w * ACTIVATION_PRIMITIVES[name].value(paths) for name, w in weights.items()]
    return torch.stack(values).sum()


def _plus(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)


def _shared_weight_gradient(terms: list[tuple[float, Outer]], paths: Paths) -> Tensor:
    """Σ w · Outer over terms with one output, by one weight gradient.

    With level inputs Σ_n level_n scale_n (input_n − mean), of shape (1, *input). Subtracting the
    mean is symmetric: it may be done on the weights. Where there are ranks, all means over the
    batch go in one message.
    """
    n, layer, kernel, output = paths.batch_size, paths.linear_map, paths.kernel, terms[0][1].output
    leveled = [(weight, term) for weight, term in terms if term.level is not None]
    of_levels = [term.level_weights() for _, term in leveled]
    together = all(term.centred and term.scale is None for _, term in terms)
    total, unit = _gathered_inputs(terms, centred=not together)  # overwrites what is scratch
    means = [weights.mean() for weights in of_levels]
    if together:
        means.append(batch_mean(total))
    if any(term.centred for _, term in leveled) or together:
        average_over_ranks(means, paths.group)
    if together:
        total.sub_(means[-1])
    gradient = layer.weight_gradient(total, output, kernel).mul_(unit / n)
    for (weight, term), weights, mean in zip(leveled, of_levels, means, strict=False):
        level = weighted_sum(term.input, weights - mean if term.centred else weights)
        uniform = layer.uniform_weight_gradient(level, output, kernel)
        gradient.sub_(uniform, alpha=weight / n)
    return gradient


def _gathered_inputs(terms: list[tuple[float, Outer]], centred: bool) -> tuple[Tensor, float]:
    """(T, u) with u · T = Σ w · input side, or Σ w · input unless ``centred``; T may be changed.

    Fewest passes over memory: the sum is gathered in an input that may be overwritten, if there is
    any, in units of its own weight; it is centred once afterwards, if all its terms are to be.
    """
    terms = sorted(terms, key=lambda term: not term[1].scratch)
    unit, first = terms[0]
    total = first.input_side() if centred else first.input
    if total is first.input and not first.scratch and (not centred or len(terms) > 1):
        total = total.clone()
    for weight, term in terms[1:]:
        total.add_(term.input_side() if centred else term.input, alpha=weight / unit)
    return total, unit


def _amp_value(paths: Paths) -> Tensor:
    g = backward_output(paths, backward_projection(paths, backward_input(paths)))
    return -(forward_output(paths, paths.f) * g).sum() / paths.batch_size


def _nonlinear(paths: Paths) -> bool:
    """Whether g = P_B v enters the loss non-linearly, so that it has to be computed."""
    return paths.operations.backward_relu or paths.operations.backward_feature_normalisation


def _amp_gradient(paths: Paths) -> Gradient:
    if _nonlinear(paths):
        return _projection_gradient(paths, 1.0, 0.0)
    operations = paths.operations
    level = scale = None
    if operations.forward_feature_normalisation:
        level = feature_mean(paths.f)
        scale = inverse_norm(paths.f, level)
    elif operations.forward_feature_centring or operations.backward_feature_centring:
        level = feature_mean(paths.f)
    centred = operations.forward_batch_centring or operations.input_batch_centring
    return Outer(paths.u, paths.f, -1.0, centred, scale, level, group=paths.group)


def _sparse_value(paths: Paths) -> Tensor:
    g = backward_output(paths, backward_projection(paths, backward_input(paths)))
    return g.square().sum() / (2 * paths.batch_size)


def _sparse_gradient(paths: Paths) -> Gradient:
    return _projection_gradient(paths, 0.0, 1.0)


def _projection_gradient(paths: Paths, amp: float, sparse: float) -> Gradient:
    """amp and sparse together: their error at P_B v, through the operations on g, against v.

    At g after its operations the error is sparse · g − amp · f. A normalised g has norm 1 whatever
    B is, and its sparse loss no gradient.
    """
    operations = paths.operations
    sparse = 0.0 if operations.backward_feature_normalisation else sparse
    if not (amp or sparse):
        return None
    if _one_projection(operations):
        return _difference_gradient(paths, amp, sparse)
    v = backward_input(paths)
    g = backward_projection(paths, v)
    error = _output_error(paths, g, amp, sparse)
    if operations.backward_feature_normalisation:
        error = _through_normalisation(g, error)
    elif operations.backward_feature_centring:
        error = error - per_sample(feature_mean(error), error)
    if operations.backward_relu:
        error = error * (g > 0)
    return Outer(v, error)


def _one_projection(operations: LayerwiseOperations) -> bool:
    """Whether f and g are projections of one input, but for the bias."""
    chosen = {name for name, on in operations.model_dump().items() if on}
    return chosen <= {
        "forward_bias",
        "backward_bias",
        "input_feature_centring",
        "input_feature_normalisation",
    }


def _difference_gradient(paths: Paths, amp: float, sparse: float) -> Outer:
    """The error sparse · P_B u − amp · P_W u is one projection, by sparse · B − amp · W."""
    kernel = torch.sub(sparse * paths.kernel, paths.weight, alpha=amp)
    error = paths.linear_map.project(paths.u, kernel)
    operations = paths.operations
    biases = sparse * operations.backward_bias - amp * operations.forward_bias
    if biases and paths.bias is not None:
        error.add_(paths.linear_map.along_outputs(paths.bias), alpha=biases)
    return Outer(paths.u, error)


def _output_error(paths: Paths, g: Tensor, amp: float, sparse: float) -> Tensor:
    """sparse · g − amp · f, both after their operations; a new tensor."""
    if not amp:
        return sparse * backward_output(paths, g)
    f = forward_output(paths, paths.f)
    if not sparse:
        return -amp * f
    return torch.sub(sparse * backward_output(paths, g), f, alpha=amp)


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
        _centre_normalised(r, paths.group)
        return Outer(r, paths.f, scratch=True)
    centred = operations.forward_batch_centring
    return Outer(r, paths.f, centred=centred, scratch=True, group=paths.group)


def _centre_normalised(r: Tensor, group: Group) -> None:
    """Replace feature-centred r, in place, by the gradient in r of ½ Σ_n ‖q_n − q̄‖².

    With q_n = r_n/‖r_n‖ and q̄ its mean over the batch, that is (q_n⟨q_n, q̄⟩ − q̄)/‖r_n‖.
    """
    scale = inverse_norm(r)
    q = r.mul_(per_sample(scale, r))
    mean = batch_mean(q, group)
    along = torch.mv(rows(q), rows(mean)[0])
    q.mul_(per_sample(scale * along, q)).addcmul_(mean, per_sample(scale, q), value=-1.0)


ACTIVATION_PRIMITIVES: dict[str, ActivationPrimitive] = {
    "amp": ActivationPrimitive(_amp_value, _amp_gradient),
    "null": ActivationPrimitive(_null_value, _null_gradient),
    "sparse": ActivationPrimitive(_sparse_value, _sparse_gradient),
}

KERNEL_PRIMITIVES: dict[str, KernelPrimitive] = {
    "decay": KernelPrimitive(lambda b, w, dw: b.square().sum() / 2, lambda b, w, dw: b),
    "self": KernelPrimitive(lambda b, w, dw: -(b * w).sum(), lambda b, w, dw: -w),
    "angle": KernelPrimitive(lambda b, w, dw: (b * dw).sum(), lambda b, w, dw: dw),
}
