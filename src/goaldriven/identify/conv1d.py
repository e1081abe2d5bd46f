"""The Conv1D MLP: one convolution over the record times, ReLU, pooling, softmax readout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from goaldriven.identify.features import N_POSITIONS

if TYPE_CHECKING:
    import torch

Matrix = NDArray[np.float64]


class Conv1D(ClassifierMixin, BaseEstimator):
    """softmax(V·pool(ReLU(W * x + b)) + c), fitted by Adam to the cross-entropy.

    The input of an example is (time, channel): its trajectories, and its layer position as three
    constant channels. The convolution is 'valid'. The loss is the mean cross-entropy plus
    ``weight_decay``/2 times the sum of squares of all parameters. Initial weights are Glorot
    uniform, biases 0. Source: thesis section 6.3.9; lr-identify ``fit_pipeline.py``.

    Parameters
    ----------
    n_times : records per trajectory.
    kernel_share : length of the kernel as a share of the trajectory, rounded up.
    stride : of the convolution, in records.
    filters : output channels.
    pooling : ``"max"`` or ``"mean"`` over the output times, or None.
    learning_rate, epochs, batch_size, weight_decay : of the fit; batches of at most
        ``batch_size`` examples in a new random order in each epoch.
    seed : of initial weights and order.

    Torch is needed to fit, on one thread; what is fitted is NumPy arrays, and applying them needs
    NumPy only.
    """

    def __init__(
        self,
        n_times: int,
        kernel_share: float = 0.25,
        stride: int = 1,
        filters: int = 20,
        pooling: str | None = None,
        learning_rate: float = 1e-3,
        epochs: int = 400,
        batch_size: int = 512,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.n_times = n_times
        self.kernel_share = kernel_share
        self.stride = stride
        self.filters = filters
        self.pooling = pooling
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.seed = seed

    @property
    def kernel_size(self) -> int:
        return min(self.n_times, max(1, math.ceil(self.kernel_share * self.n_times)))

    def fit(self, x: Matrix, y: NDArray[np.generic]) -> Conv1D:
        self.classes_, targets = np.unique(y, return_inverse=True)
        fitted = _fit(self, self._windows(x), targets)
        self.kernel_, self.bias_, self.readout_, self.offset_ = fitted
        return self

    def predict_proba(self, x: Matrix) -> Matrix:
        check_is_fitted(self)
        windows = self._windows(x)
        hidden = np.maximum(windows @ self.kernel_.T + self.bias_, 0)  # (example, time, filter)
        if self.pooling == "max":
            pooled = hidden.max(axis=1)
        elif self.pooling == "mean":
            pooled = hidden.mean(axis=1)
        else:
            pooled = hidden.reshape(len(hidden), -1)
        scores = (pooled @ self.readout_.T + self.offset_).astype(float)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def predict(self, x: Matrix) -> NDArray[np.generic]:
        return self.classes_[self.predict_proba(x).argmax(axis=1)]

    def _windows(self, x: Matrix) -> NDArray[np.float32]:
        """What the kernel sees at each output time: (example, output time, channel × kernel)."""
        x = np.asarray(x, dtype=np.float32)
        trajectories = x[:, N_POSITIONS:].reshape(len(x), -1, self.n_times)
        position = np.repeat(x[:, :N_POSITIONS, None], self.n_times, axis=2)
        channels = np.concatenate([position, trajectories], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(channels, self.kernel_size, axis=2)
        windows = windows[:, :, :: self.stride].transpose(0, 2, 1, 3)
        return np.ascontiguousarray(windows.reshape(len(x), windows.shape[1], -1))


def _fit(
    settings: Conv1D, windows: NDArray[np.float32], targets: NDArray[np.intp]
) -> tuple[NDArray[np.float32], ...]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same bits whatever the machine, and one core per job
    try:
        return _train(settings, torch.tensor(windows), torch.tensor(targets))
    finally:
        torch.set_num_threads(threads)


def _train(
    settings: Conv1D, windows: torch.Tensor, targets: torch.Tensor
) -> tuple[NDArray[np.float32], ...]:
    import torch
    from torch.nn.functional import cross_entropy, linear

    generator = torch.Generator().manual_seed(settings.seed)
    n, n_windows, n_inputs = windows.shape
    n_classes = int(targets.max()) + 1
    n_hidden = settings.filters * (1 if settings.pooling else n_windows)
    parameters = [
        _glorot(settings.filters, n_inputs, settings.kernel_size, generator),
        torch.zeros(settings.filters),
        _glorot(n_classes, n_hidden, 1, generator),
        torch.zeros(n_classes),
    ]
    for parameter in parameters:
        parameter.requires_grad_()
    kernel, bias, readout, offset = parameters
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
    for _ in range(settings.epochs):
        for batch in _batches(n, settings.batch_size, generator):
            hidden = torch.relu(linear(windows[batch], kernel, bias))
            pooled = _pool(hidden, settings.pooling)
            loss = cross_entropy(linear(pooled, readout, offset), targets[batch])
            if settings.weight_decay:
                squares = sum((p * p).sum() for p in parameters)
                loss = loss + settings.weight_decay / 2 * squares
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return tuple(parameter.detach().numpy() for parameter in parameters)


def _batches(n: int, size: int, generator: torch.Generator) -> list[torch.Tensor] | list[slice]:
    """Whole batches of a random order, the rest left out; all at once where they fit in one."""
    import torch

    if size >= n:
        return [slice(None)]
    order = torch.randperm(n, generator=generator)
    return list(order[: n - n % size].split(size))


def _glorot(n_out: int, n_in: int, kernel_size: int, generator: torch.Generator) -> torch.Tensor:
    """Uniform in ±√(6/(fan in + fan out)); a convolution's fans count the taps of its kernel."""
    import torch

    bound = math.sqrt(6 / (n_in + n_out * kernel_size))
    return (2 * torch.rand(n_out, n_in, generator=generator) - 1) * bound


def _pool(hidden: torch.Tensor, pooling: str | None) -> torch.Tensor:
    """Over the output times of (example, output time, filter)."""
    if pooling == "max":
        return hidden.amax(dim=1)
    return hidden.mean(dim=1) if pooling == "mean" else hidden.flatten(1)
