"""Layer-wise activity change: how much a layer's outputs change when all its inputs grow together.

For inputs a_i and outputs y_j of a layer, per stimulus,

    g = (1/N_out) Σ_i Σ_j ∂y_j/∂a_i.

Σ_i ∂y_j/∂a_i is the derivative along the all-ones direction. For an affine layer with forward
weights W it is W applied to a tensor of ones, the same for every stimulus; a non-linearity after it
multiplies it, stimulus by stimulus, with its own derivative. No backward pass is involved, hence no
backward weight. Source: Nayebi et al. 2020, "Identifying learning rules from neural network
observables"; lr-identify ``tensorflow/Metrics/functions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goaldriven.errors import DataError
from goaldriven.observables.layout import unit_row, unit_rows

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d

CHUNK = 1 << 16
"""Gains converted to float64 at a time."""


def activity_change(
    module: nn.Module,
    input_shape: Sequence[int],
    gain: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    outputs: Tensor | None = None,
) -> Tensor:
    """Activity change per stimulus through the forward weights, float64 [batch].

        g = (1/N_out) Σ_j f′_j Σ_i ∂z_j/∂a_i,   z = W a + b,  y = f(z)

    Parameters
    ----------
    module : the layer: Linear, Conv1d or Conv2d with any options. Only its ``weight`` is read, so
        whatever a learning rule has attached to it plays no part.
    input_shape : shape of one stimulus' input to the layer, without the batch axis.
    gain : f′ at each output, [batch, *output shape], e.g. ``y > 0`` after a ReLU; None for a layer
        without a non-linearity, whose activity change [1] is the same for every stimulus.
    inputs, outputs : boolean indicators, [*input_shape] and [*output shape], of the units that are
        recorded; the sums run over these and N_out counts these. None for all.

    Raises
    ------
    DataError : not such a layer, or ``gain`` or an indicator of another shape.
    """
    return average_response(response_to_ones(module, input_shape, inputs), gain, outputs)


@torch.no_grad()
def response_to_ones(
    module: nn.Module, input_shape: Sequence[int], inputs: Tensor | None = None
) -> Tensor:
    """Σ_i ∂z_j/∂a_i over all inputs, or the indicated ones: float64 [*output shape].

    At the border of a zero-padded convolution it is smaller than inside, as fewer inputs reach it.
    """
    layer, shape = as_weighted(module), tuple(input_shape)
    _check_input_shape(layer, shape)
    weight = layer.weight.detach().double()
    if inputs is not None:
        if tuple(inputs.shape) != shape:
            raise DataError(f"'inputs' must have shape {shape}, got {tuple(inputs.shape)}")
        return linear_part(layer, weight, inputs.to(weight)[None], getattr(layer, "groups", 1))[0]
    # All channels of the input are the same, so one channel with the weights' sum does for them.
    alike = (*shape[:-1], 1) if isinstance(layer, nn.Linear) else (1, *shape[1:])
    return linear_part(layer, weight.sum(dim=1, keepdim=True), weight.new_ones(1, *alike), 1)[0]


def average_response(
    response: Tensor, gain: Tensor | None = None, outputs: Tensor | None = None
) -> Tensor:
    """(1/N_out) Σ_j gain_j · response_j per stimulus: float64 [batch], or [1] without gain.

    ``response`` and ``outputs`` are [*output shape], ``gain`` [batch, *output shape].
    """
    shape = tuple(response.shape)
    share = response.double() / response.numel()
    if outputs is not None:
        if tuple(outputs.shape) != shape:
            raise DataError(f"'outputs' must have shape {shape}, got {tuple(outputs.shape)}")
        if not outputs.any():
            raise DataError("'outputs' must hold at least one unit, got none")
        share = torch.where(outputs.to(share.device), response.double() / outputs.sum(), 0.0)
    if gain is None:
        return share.sum().reshape(1)
    if tuple(gain.shape[1:]) != shape:
        wanted = ", ".join(map(str, ("batch", *shape)))
        raise DataError(f"'gain' must have shape ({wanted}), got {tuple(gain.shape)}")
    return _weighted_sums(gain, share)


def _weighted_sums(y: Tensor, share: Tensor) -> Tensor:
    """Σ_j y_j share_j of each stimulus in float64, a part of the batch at a time."""
    rows, share = unit_rows(y.detach()), unit_row(share, like=y)
    parts = rows.split(max(1, CHUNK // rows.shape[1]))
    return torch.cat([part.double() @ share for part in parts])


def activity_change_through_feedback(
    module: nn.Module,
    activity: Tensor,
    nonlinearity: Callable[[Tensor], Tensor] | None = None,
    *,
    inputs: Tensor | None = None,
    outputs: Tensor | None = None,
) -> Tensor:
    """Activity change per stimulus as backpropagated through the layer, float64 [batch].

    The published variant: one backward pass of Σ_j y_j, summed over inputs and divided by N_out.
    Where a learning rule has given the layer a backward pass of its own, that pass carries the
    *backward* weights B in place of Wᵀ, and so does the result; it equals `activity_change` where
    B = Wᵀ. Not the default anywhere. Source: lr-identify ``functions.py`` and ``layers.py``.

    Parameters
    ----------
    module : the layer, called as it stands, with all its hooks.
    activity : the layer's input [batch, *input shape]; not changed.
    nonlinearity : what follows the layer, elementwise, e.g. ``torch.relu``.
    inputs, outputs : as in `activity_change`.
    """
    a = activity.detach().clone().requires_grad_()
    with torch.enable_grad():
        y = module(a)
        if nonlinearity is not None:
            y = nonlinearity(y)
        seed = torch.ones_like(y) if outputs is None else outputs.to(y).expand_as(y)
        (gradient,) = torch.autograd.grad(y, a, seed.clone())
    n_out = y[0].numel() if outputs is None else int(outputs.sum())
    if inputs is not None:
        gradient = torch.where(inputs.to(gradient.device), gradient, 0.0)
    return gradient.flatten(1).sum(dim=1, dtype=torch.float64) / n_out


def as_weighted(module: nn.Module) -> Weighted:
    """The module, if it is a layer whose activity change is defined.

    Raises
    ------
    DataError : it is not a Linear, Conv1d or Conv2d.
    """
    if not isinstance(module, Weighted):
        kind = type(module).__name__
        raise DataError(f"'module' must be a Linear, Conv1d or Conv2d layer, got {kind}")
    return module


def _check_input_shape(layer: Weighted, shape: tuple[int, ...]) -> None:
    if isinstance(layer, nn.Linear):
        fits, wanted = shape[-1:] == (layer.in_features,), f"(…, {layer.in_features})"
    else:
        axes = len(layer.kernel_size)
        fits = len(shape) == 1 + axes and shape[0] == layer.in_channels
        wanted = f"({layer.in_channels}, {', '.join('…' * axes)})"
    if not fits:
        raise DataError(f"'input_shape' must be {wanted}, got {shape}")


def linear_part(module: Weighted, weight: Tensor, x: Tensor, groups: int) -> Tensor:
    """The layer without its bias, by the functional operation: no hook and no override is run."""
    if isinstance(module, nn.Linear):
        return F.linear(x, weight)
    padding: str | tuple[int, ...] = module.padding
    if module.padding_mode != "zeros":
        x, padding = F.pad(x, _border(module), mode=module.padding_mode), (0,) * (x.ndim - 2)
    convolve: Callable[..., Tensor] = F.conv1d if isinstance(module, nn.Conv1d) else F.conv2d
    return convolve(x, weight, None, module.stride, padding, module.dilation, groups)


def _border(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Padding before and after each spatial axis, last axis first, as ``F.pad`` wants it."""
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        sides = [(t // 2, t - t // 2) for t in total]
    elif module.padding == "valid":
        sides = [(0, 0)] * len(module.kernel_size)
    else:
        sides = [(int(p), int(p)) for p in module.padding]
    return [side for pair in reversed(sides) for side in pair]
