"""The linear part of a layer: its projection, the adjoint, and the gradient of its kernel.

A layer with kernel K maps x to P_K x (bias and non-linearity left out). Everything that learning
rules do with kernels is made of three maps, each linear in both arguments:

- *project*: P_K x, from input to output;
- *reconstruct*: P_Kᵀ y, from output back to input (the adjoint of `project`);
- *weight gradient*: the tensor G of the kernel's shape with ⟨G, K⟩ = ⟨P_K x, y⟩ for all K.

Inputs and outputs carry the batch axis first. Backward kernels have the shape of forward ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

_convolution_backward = torch.ops.aten.convolution_backward.default

# Reconstructions onto few channels leave most vector lanes of a CPU empty: `_reconstruct_2x2`.
_FEW_CHANNELS = 4
_WORTHWHILE_PIXELS = 16_384


class LinearMap(Protocol):
    """What alignment losses need to know of a layer."""

    def batched(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's input and output with a batch axis, which unbatched calls lack."""

    def project(self, x: Tensor, kernel: Tensor) -> Tensor:
        """P_K x."""

    def reconstruct(self, y: Tensor, kernel: Tensor, x: Tensor) -> Tensor:
        """P_Kᵀ y, a new tensor of the shape of ``x`` (whose values are not used)."""

    def weight_gradient(self, x: Tensor, y: Tensor, kernel: Tensor) -> Tensor:
        """G with ⟨G, K⟩ = ⟨P_K x, y⟩, of the shape of ``kernel`` (whose values are not used)."""

    def uniform_weight_gradient(self, x: Tensor, y: Tensor, kernel: Tensor) -> Tensor:
        """``weight_gradient(x, 1, kernel)`` for one sample x and the all-ones output like ``y``.

        Every output channel gets the same gradient, so one channel is computed.
        """

    def along_outputs(self, bias: Tensor) -> Tensor:
        """``bias`` shaped to be added to outputs."""


@dataclass(frozen=True)
class Dense:
    """y = x Kᵀ with K of shape (outputs, inputs); axes between the first and the last are space."""

    def batched(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x[None], y[None]) if x.dim() == 1 else (x, y)

    def project(self, x: Tensor, kernel: Tensor) -> Tensor:
        return x.matmul(kernel.t())

    def reconstruct(self, y: Tensor, kernel: Tensor, x: Tensor) -> Tensor:
        return y.matmul(kernel)

    def weight_gradient(self, x: Tensor, y: Tensor, kernel: Tensor) -> Tensor:
        n_out, n_in = kernel.shape
        return y.reshape(-1, n_out).t().mm(x.reshape(-1, n_in))

    def uniform_weight_gradient(self, x: Tensor, y: Tensor, kernel: Tensor) -> Tensor:
        return x.reshape(-1, kernel.shape[1]).sum(0).expand_as(kernel)

    def along_outputs(self, bias: Tensor) -> Tensor:
        return bias


@dataclass(frozen=True)
class Convolution:
    """A convolution over one or two spatial axes, inputs (n, channels, *space).

    ``edges`` are paddings done before the convolution proper, in the order of
    `torch.nn.functional.pad` and by its ``mode``; empty where the convolution's own zero padding
    is enough.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    edges: tuple[int, ...]
    mode: str

    @classmethod
    def of(cls, module: nn.Conv1d | nn.Conv2d) -> Convolution:
        """The map of a convolutional module.

        The reversed, doubled list ``module._reversed_padding_repeated_twice`` is not used, since it
        is private; it is worked out here.
        """
        edges = _edges(module)
        symmetric = all(before == after for before, after in edges)
        own = module.padding_mode == "zeros" and symmetric
        return cls(
            stride=module.stride,
            padding=tuple(before if own else 0 for before, _ in edges),
            dilation=module.dilation,
            groups=module.groups,
            edges=() if own else tuple(e for pair in reversed(edges) for e in pair),
            mode="constant" if module.padding_mode == "zeros" else module.padding_mode,
        )

    def batched(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x[None], y[None]) if x.dim() == len(self.stride) + 1 else (x, y)

    def padded(self, x: Tensor) -> Tensor:
        """The input as the convolution proper sees it."""
        return functional.pad(x, self.edges, mode=self.mode) if self.edges else x

    def project(self, x: Tensor, kernel: Tensor) -> Tensor:
        return torch.convolution(
            self.padded(x),
            kernel,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0] * len(self.stride),
            self.groups,
        )

    def reconstruct(self, y: Tensor, kernel: Tensor, x: Tensor) -> Tensor:
        if self._suits_2x2(x, kernel):
            return _reconstruct_2x2(y, kernel, self.padding)
        if not self.edges:
            return self._backward(y, x, kernel, (True, False, False))[0]
        onto_padded = self._backward(y, self.padded(x), kernel, (True, False, False))[0]
        return self._unpadded(onto_padded, x)

    def _unpadded(self, onto_padded: Tensor, x: Tensor) -> Tensor:
        """The adjoint of the padding of ``x``; where that is with zeros, cropping."""
        if self.mode == "constant":
            return functional.pad(onto_padded, [-edge for edge in self.edges])
        # Padding is linear: its derivative anywhere is its adjoint.
        _, adjoint, *_ = torch.func.vjp(self.padded, torch.zeros_like(x))
        onto_x: Tensor = adjoint(onto_padded)[0]
        return onto_x

    def weight_gradient(self, x: Tensor, y: Tensor, kernel: Tensor) -> Tensor:
        return self._backward(y, self.padded(x), kernel, (False, True, False))[1]

    def uniform_weight_gradient(self, x: Tensor, y: Tensor, kernel: Tensor) -> Tensor:
        ones = y.new_ones((1, self.groups, *y.shape[2:]))
        one_channel = self.weight_gradient(x, ones, kernel[: self.groups])
        return one_channel.repeat_interleave(kernel.shape[0] // self.groups, dim=0)

    def along_outputs(self, bias: Tensor) -> Tensor:
        return bias.view(-1, *[1] * len(self.stride))

    def _backward(
        self, y: Tensor, padded: Tensor, kernel: Tensor, mask: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _convolution_backward(
            y,
            padded,
            kernel,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            [0] * len(self.stride),
            self.groups,
            mask,
        )

    def _suits_2x2(self, x: Tensor, kernel: Tensor) -> bool:
        """Whether `_reconstruct_2x2` applies and is the faster way."""
        return (
            x.dim() == 4
            and x.shape[1] <= _FEW_CHANNELS
            and x.device.type == "cpu"
            and not self.edges
            and self.groups == 1
            and self.stride == (1, 1)
            and self.dilation == (1, 1)
            and x.shape[2] % 2 == x.shape[3] % 2 == 0
            and x.shape[0] * x.shape[2] * x.shape[3] >= _WORTHWHILE_PIXELS
            and all(p < size for p, size in zip(self.padding, kernel.shape[2:], strict=True))
        )


def _edges(module: nn.Conv1d | nn.Conv2d) -> list[tuple[int, int]]:
    """Padding before and after each spatial axis; 'same' puts an odd one after."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(p), int(p)) for p in module.padding]


def _reconstruct_2x2(y: Tensor, kernel: Tensor, padding: tuple[int, ...]) -> Tensor:
    """The adjoint of a stride-1 convolution, by one of stride 2 for whole 2×2 tiles.

    With one to four input channels the direct way computes one to four channels in vector lanes
    made for sixteen. Here the four pixels of a tile are four times the channels, of one convolution
    whose kernel holds the flipped K at four offsets; 2 to 2.5 times as fast for 3 or 5 pixel wide
    kernels. Inputs must have even height and width, and padding must be less than the kernel.
    """
    n_out, n_in, height, width = kernel.shape
    flipped = kernel.flip(2, 3).transpose(0, 1)
    tiles = kernel.new_zeros((n_in, 2, 2, n_out, height + 1, width + 1))
    for i in range(2):
        for j in range(2):
            tiles[:, i, j, :, i : i + height, j : j + width] = flipped
    edges = (height - 1 - padding[0], width - 1 - padding[1])
    pixels = torch.conv2d(y, tiles.flatten(0, 2), stride=2, padding=edges)
    return functional.pixel_shuffle(pixels, 2)


def channels_last(x: Tensor) -> bool:
    """Whether ``x`` lies densely in memory with the channels (axis 1) innermost."""
    return x.dim() > 2 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def rows(x: Tensor) -> Tensor:
    """(n, …) → (n, features): the features of each sample, in the order they lie in memory.

    A view where that is possible, also of channels-last tensors. Enough for what does not depend on
    the order of features: their mean and norm.
    """
    return x.movedim(1, -1).flatten(1) if channels_last(x) else x.flatten(1)


def weighted_sum(x: Tensor, weights: Tensor) -> Tensor:
    """Σ_n weights_n x_n, of shape (1, …). Reduces over the batch as a matrix product: faster."""
    total = torch.mv(rows(x).t(), weights)
    if channels_last(x):
        return total.view(1, *x.shape[2:], x.shape[1]).movedim(-1, 1)
    return total.view(1, *x.shape[1:])


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(n,) shaped to multiply or shift the samples of ``like``."""
    return values.view(-1, *[1] * (like.dim() - 1))
