"""A small residual network with batch norm, in PyTorch and, by hand, in NumPy.

::

    h0 = maxpool2(relu(stem(x)))                                       conv 3×3, bias
    h1 = relu(bn2(conv2(relu(bn1(conv1(h0))))) + h0)                   identity skip
    h2 = relu(bn2(conv2(relu(bn1(conv1(h1))))) + shortcut(h1))         stride 2, 1×1 shortcut, bias
    y  = fc(mean(h2)),  loss = mean cross-entropy

The NumPy side knows nothing of PyTorch: loops over kernel positions, batch norm's derivative
written out. ``carry`` says what goes from a layer's output back to its input, ``replace`` what is
put in the place of the whole gradient at a tensor that enters layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Array = np.ndarray
EPSILON = 1e-5
LAYERS = ("stem", "one.conv1", "one.conv2", "two.shortcut", "two.conv1", "two.conv2", "fc")
READERS = {
    "h0": "one.conv1",
    "a1": "one.conv2",
    "h1": "two.shortcut",  # which is called before conv1
    "a2": "two.conv2",
    "f": "fc",
}
"""Tensor that enters layers → the layer that reads it first."""


def _call(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return block(x)


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        if stride != 1:
            self.shortcut = nn.Conv2d(n_in, n_out, 1, stride)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.shortcut(x) if hasattr(self, "shortcut") else x
        a = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        h = self.bn2(self.conv2(a))
        h += skip
        return h.relu_()


class Residual(nn.Module):
    """The network, with random normalisation and biases; ``around`` calls a block."""

    def __init__(self, around: Callable[..., torch.Tensor] | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.one, self.two = Block(4, 4, 1), Block(4, 6, 2)
        self.fc = nn.Linear(6, 3)
        self.around = around or _call
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = functional.max_pool2d(functional.relu_(self.stem(x)), 2)
        h = self.around(self.two, self.around(self.one, h))
        return self.fc(h.mean((2, 3)))


def network(around: Callable[..., torch.Tensor] | None = None) -> Residual:
    """The same network at every call, in double precision."""
    torch.manual_seed(3)
    return Residual(around).double()


def batch(seed: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 2, 10, 10, dtype=torch.float64, generator=generator)
    return x, torch.randint(3, (5,), generator=generator)


def torch_gradients(model: nn.Module, seed: int = 4) -> dict[str, Array]:
    """Of the loss of one batch, by parameter."""
    x, labels = batch(seed)
    model.zero_grad()
    functional.cross_entropy(model(x), labels).backward()
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}


def assert_gradients(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-9, atol=1e-11, err_msg=name)


Carry = Callable[[str, Array, Callable[[Array], Array]], Array]
Replace = Callable[[str, Array, Array], Array]


def exact(layer: str, weight: Array, adjoint: Callable[[Array], Array]) -> Array:
    """Backpropagation: the adjoint with the forward weights."""
    return adjoint(weight)


def unreplaced(tensor: str, gradient: Array, error: Array) -> Array:
    return gradient


def numpy_gradients(
    model: Residual, carry: Carry = exact, replace: Replace = unreplaced, seed: int = 4
) -> dict[str, Array]:
    """The same gradients by hand.

    carry(layer, W, adjoint) → the gradient at the layer's input, adjoint(K) being that through a
    kernel K; replace(tensor, gradient, e) → the gradient that goes on, e that at the output.
    """
    p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    x, labels = (t.numpy() for t in batch(seed))
    s = conv(x, p["stem.weight"], p["stem.bias"], 1, 1)
    h0, pool_back = max_pool(relu(s))
    one, one_forward = block_forward(p, "one.", h0, 1)
    two, two_forward = block_forward(p, "two.", one, 2)
    f = two.mean((2, 3))
    y = f @ p["fc.weight"].T + p["fc.bias"]

    g: dict[str, Array] = {}
    e = softmax(y)
    e[np.arange(len(labels)), labels] -= 1
    e /= len(labels)
    g["fc.weight"], g["fc.bias"] = e.T @ f, e.sum(0)
    df = replace("f", carry("fc", p["fc.weight"], lambda k: e @ k), e)
    d2 = np.broadcast_to(df[:, :, None, None], two.shape) / (two.shape[2] * two.shape[3])

    def through(name: str, tensors: tuple[str, str], forward, dy: Array, stride: int) -> Array:
        return block_backward(p, g, name, tensors, forward, dy, stride, carry, replace, e)

    d1 = through("two.", ("h1", "a2"), two_forward, d2, 2)
    d0 = through("one.", ("h0", "a1"), one_forward, d1, 1)
    ds = pool_back(d0) * (s > 0)
    g["stem.weight"], g["stem.bias"] = kernel_gradient(x, ds, 3, 1, 1), ds.sum((0, 2, 3))
    return g


def block_forward(p, name, x, stride):
    z1 = conv(x, p[name + "conv1.weight"], None, stride, 1)
    b1, back1 = batch_norm(z1, p[name + "bn1.weight"], p[name + "bn1.bias"])
    a = relu(b1)
    z2 = conv(a, p[name + "conv2.weight"], None, 1, 1)
    b2, back2 = batch_norm(z2, p[name + "bn2.weight"], p[name + "bn2.bias"])
    skip = x
    if name + "shortcut.weight" in p:
        skip = conv(x, p[name + "shortcut.weight"], p[name + "shortcut.bias"], stride, 0)
    return relu(b2 + skip), (x, b1, back1, a, back2, b2 + skip)


def block_backward(p, g, name, tensors, forward, dy, stride, carry, replace, e):
    x, b1, back1, a, back2, total = forward
    dtotal = dy * (total > 0)
    dz2, g[name + "bn2.weight"], g[name + "bn2.bias"] = back2(dtotal)
    w = p[name + "conv2.weight"]
    g[name + "conv2.weight"] = kernel_gradient(a, dz2, 3, 1, 1)
    da = carry(name + "conv2", w, lambda k: input_gradient(dz2, k, a.shape, 1, 1))
    da = replace(tensors[1], da, e)
    dz1, g[name + "bn1.weight"], g[name + "bn1.bias"] = back1(da * (b1 > 0))
    w = p[name + "conv1.weight"]
    g[name + "conv1.weight"] = kernel_gradient(x, dz1, 3, stride, 1)
    dx = carry(name + "conv1", w, lambda k: input_gradient(dz1, k, x.shape, stride, 1))
    if name + "shortcut.weight" in p:
        w = p[name + "shortcut.weight"]
        g[name + "shortcut.weight"] = kernel_gradient(x, dtotal, 1, stride, 0)
        g[name + "shortcut.bias"] = dtotal.sum((0, 2, 3))
        dx = dx + carry(
            name + "shortcut", w, lambda k: input_gradient(dtotal, k, x.shape, stride, 0)
        )
    else:
        dx = dx + dtotal
    return replace(tensors[0], dx, e)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softmax(y: Array) -> Array:
    powers = np.exp(y - y.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def windows(padded: Array, i: int, j: int, height: int, width: int, stride: int) -> Array:
    """The inputs that meet kernel position (i, j), a view (n, channels, height, width)."""
    return padded[:, :, i : i + stride * height : stride, j : j + stride * width : stride][
        :, :, :height, :width
    ]


def conv(x: Array, w: Array, b: Array | None, stride: int, padding: int) -> Array:
    size = w.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = ((n - size) // stride + 1 for n in padded.shape[2:])
    y = np.zeros((len(x), len(w), height, width))
    for i in range(size):
        for j in range(size):
            inputs = windows(padded, i, j, height, width, stride)
            y += np.einsum("nchw,oc->nohw", inputs, w[:, :, i, j])
    return y if b is None else y + b[:, None, None]


def kernel_gradient(x: Array, dy: Array, size: int, stride: int, padding: int) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    gradient = np.zeros((dy.shape[1], x.shape[1], size, size))
    for i in range(size):
        for j in range(size):
            inputs = windows(padded, i, j, *dy.shape[2:], stride)
            gradient[:, :, i, j] = np.einsum("nohw,nchw->oc", dy, inputs)
    return gradient


def input_gradient(dy: Array, w: Array, shape, stride: int, padding: int) -> Array:
    n, channels, height, width = shape
    padded = np.zeros((n, channels, height + 2 * padding, width + 2 * padding))
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            inputs = windows(padded, i, j, *dy.shape[2:], stride)
            inputs += np.einsum("nohw,oc->nchw", dy, w[:, :, i, j])
    return padded[:, :, padding : padding + height, padding : padding + width]


def max_pool(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    n, channels, height, width = x.shape
    tiles = x.reshape(n, channels, height // 2, 2, width // 2, 2).transpose(0, 1, 2, 4, 3, 5)
    tiles = tiles.reshape(n, channels, height // 2, width // 2, 4)
    winner = np.arange(4) == tiles.argmax(-1)[..., None]

    def back(dy: Array) -> Array:
        spread = (dy[..., None] * winner).reshape(n, channels, height // 2, width // 2, 2, 2)
        return spread.transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)

    return tiles.max(-1), back


def batch_norm(z: Array, scale: Array, shift: Array):
    axes = (0, 2, 3)
    count = z.size / z.shape[1]
    deviation = np.sqrt(z.var(axes, keepdims=True) + EPSILON)
    normal = (z - z.mean(axes, keepdims=True)) / deviation
    gamma = scale[:, None, None]

    def back(dy: Array) -> tuple[Array, Array, Array]:
        dscale, dshift = (dy * normal).sum(axes), dy.sum(axes)
        mean, slope = dshift[:, None, None] / count, dscale[:, None, None] / count
        return gamma / deviation * (dy - mean - normal * slope), dscale, dshift

    return gamma * normal + shift[:, None, None], back
