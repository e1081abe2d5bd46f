"""Alignment losses step by step with autograd, independent of the package's closed forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from goaldriven.specs.credit import LayerwiseOperations


def apply(module: nn.Module, x: Tensor, kernel: Tensor) -> Tensor:
    """The module's linear part with another kernel, by the public functional interface."""
    if isinstance(module, nn.Linear):
        return functional.linear(x, kernel)
    convolve = functional.conv2d if isinstance(module, nn.Conv2d) else functional.conv1d
    padding = module.padding
    if module.padding_mode != "zeros":
        before_after = []
        for size, dilation, given in zip(
            reversed(module.kernel_size),
            reversed(module.dilation),
            reversed(padding if not isinstance(padding, str) else (0,) * len(module.kernel_size)),
            strict=True,
        ):
            total = dilation * (size - 1) if padding == "same" else 2 * given
            before_after += [total // 2, total - total // 2]
        x, padding = functional.pad(x, before_after, mode=module.padding_mode), 0
    return convolve(x, kernel, None, module.stride, padding, module.dilation, module.groups)


def adjoint(module: nn.Module, y: Tensor, kernel: Tensor, like: Tensor) -> Tensor:
    """The transposed map, as the derivative of ⟨apply(x), y⟩ in x; itself differentiable."""
    x = torch.zeros_like(like, requires_grad=True)
    return torch.autograd.grad(apply(module, x, kernel), x, y, create_graph=True)[0]


def _features(z: Tensor) -> tuple[int, ...]:
    return tuple(range(1, z.dim()))


def _centre_features(z: Tensor) -> Tensor:
    return z - z.mean(dim=_features(z), keepdim=True)


def _normalise_features(z: Tensor) -> Tensor:
    z = _centre_features(z)
    return z / z.square().sum(dim=_features(z), keepdim=True).sqrt()


def _centre_batch(z: Tensor) -> Tensor:
    return z - z.mean(dim=0, keepdim=True)


def loss(
    module: nn.Module,
    x: Tensor,
    backward_weight: Tensor,
    operations: LayerwiseOperations,
    amp: float = 0.0,
    decay: float = 0.0,
    null: float = 0.0,
    sparse: float = 0.0,
    self: float = 0.0,
) -> Tensor:
    """R = Σ weight · primitive with every operation carried out, in the published order."""
    weight = module.weight.detach()
    bias = None if module.bias is None else module.bias.detach()
    if bias is not None and not isinstance(module, nn.Linear):
        bias = bias.reshape(-1, *[1] * len(module.kernel_size))
    u = x.detach()
    if operations.input_feature_centring:
        u = _centre_features(u)
    if operations.input_feature_normalisation:
        u = _normalise_features(u)
    v = _centre_batch(u) if operations.input_batch_centring else u
    f, g = apply(module, u, weight), apply(module, v, backward_weight)
    if operations.forward_bias and bias is not None:
        f = f + bias
    if operations.backward_bias and bias is not None:
        g = g + bias
    f = f.relu() if operations.forward_relu else f
    g = g.relu() if operations.backward_relu else g
    r = adjoint(module, f, backward_weight, x)
    if operations.forward_feature_centring:
        f, r = _centre_features(f), _centre_features(r)
    if operations.forward_feature_normalisation:
        f, r = _normalise_features(f), _normalise_features(r)
    if operations.forward_batch_centring:
        f, r = _centre_batch(f), _centre_batch(r)
    if operations.backward_feature_centring:
        g = _centre_features(g)
    if operations.backward_feature_normalisation:
        g = _normalise_features(g)
    n = len(x)
    return (
        -amp * (f * g).sum() / n
        + decay * backward_weight.square().sum() / 2
        + null * r.square().sum() / (2 * n)
        + sparse * g.square().sum() / (2 * n)
        - self * (backward_weight * weight).sum()
    )


def gradient(
    module: nn.Module,
    x: Tensor,
    backward_weight: Tensor,
    operations: LayerwiseOperations,
    **weights: float,
) -> Tensor:
    """∂R/∂B by autograd; ``weights`` of the primitives."""
    leaf = backward_weight.detach().clone().requires_grad_()
    value = loss(module, x, leaf, operations, **weights)
    return torch.autograd.grad(value, leaf)[0]
