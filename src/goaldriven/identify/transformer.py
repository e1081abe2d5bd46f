"""A small transformer over the records of a trajectory: tokens are epochs."""

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
Tokens = NDArray[np.float32]

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
EPSILON = 1e-5  # under the roots of the normalisations


class EpochTransformer(ClassifierMixin, BaseEstimator):
    """softmax(V·mean_t(norm(h_t)) + c) of an encoder's states h, fitted to the cross-entropy.

    The token of a record holds the values of all trajectories at that time, and the layer's
    position as three constant channels. h⁰_t = E·token_t + e + s(t), with the sines and cosines s
    of the published transformer; each of the layers adds self-attention and then a perceptron with
    one hidden layer of ReLU, both of normalised states:

        h ← h + O·attention(norm(h)) + o,    h ← h + B·ReLU(A·norm(h) + a) + b.

    Fitting is AdamW on the mean cross-entropy of batches in a new random order in each epoch, with
    a learning rate that rises linearly over the first tenth of the steps and falls to 0 as a
    cosine. Initial matrices are Glorot uniform, offsets 0.

    Parameters
    ----------
    n_times : records per trajectory.
    width : of the states; even, and a multiple of ``heads``.
    heads, layers, hidden : attention heads, encoder layers, hidden units of the perceptrons.
    dropout : share of the units silenced, while fitting, of what a layer adds and of the readout's
        input.
    learning_rate, epochs, batch_size, weight_decay : of the fit.
    seed : of initial weights, order and dropout.

    Torch is needed to fit, on one thread; what is fitted is NumPy arrays, and applying them needs
    NumPy only.

    Source: Vaswani et al. 2017, with the normalisation first (Xiong et al. 2020). Not in the
    paper on learning rules.
    """

    def __init__(
        self,
        n_times: int,
        width: int = 32,
        heads: int = 4,
        layers: int = 1,
        hidden: int = 64,
        dropout: float = 0.1,
        learning_rate: float = 3e-3,
        epochs: int = 40,
        batch_size: int = 64,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        self.n_times = n_times
        self.width = width
        self.heads = heads
        self.layers = layers
        self.hidden = hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.seed = seed

    def fit(self, x: Matrix, y: NDArray[np.generic]) -> EpochTransformer:
        self.classes_, targets = np.unique(y, return_inverse=True)
        self.weights_ = _fit(self, self._tokens(x), targets)
        return self

    def predict_proba(self, x: Matrix) -> Matrix:
        check_is_fitted(self)
        weights, state = self.weights_, self._tokens(x)
        state = state @ weights["embed"].T + weights["embed_offset"]
        state = state + sinusoids(self.n_times, self.width)
        for i in range(self.layers):
            part = {k.removeprefix(f"{i}/"): w for k, w in weights.items() if k.startswith(f"{i}/")}
            state = state + self._attend(_normalise(state, part, "first"), part)
            inner = _normalise(state, part, "second") @ part["inner"].T + part["inner_offset"]
            state = state + np.maximum(inner, 0) @ part["outer"].T + part["outer_offset"]
        pooled = _normalise(state, weights, "last").mean(axis=1)
        scores = pooled @ weights["readout"].T + weights["readout_offset"]
        return np.asarray(_softmax(scores.astype(float)), dtype=float)

    def predict(self, x: Matrix) -> NDArray[np.generic]:
        return self.classes_[self.predict_proba(x).argmax(axis=1)]

    def _tokens(self, x: Matrix) -> Tokens:
        """(example, time, channel)."""
        x = np.asarray(x, dtype=np.float32)
        trajectories = x[:, N_POSITIONS:].reshape(len(x), -1, self.n_times).transpose(0, 2, 1)
        position = np.repeat(x[:, None, :N_POSITIONS], self.n_times, axis=1)
        return np.concatenate([position, trajectories], axis=2)

    def _attend(self, state: Tokens, part: dict[str, Tokens]) -> Tokens:
        n, times, _ = state.shape
        mixed = (state @ part["mix"].T + part["mix_offset"]).reshape(n, times, 3, self.heads, -1)
        query, key, value = mixed.transpose(2, 0, 3, 1, 4)  # each (example, head, time, unit)
        weight = _softmax(query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(query.shape[-1])))
        seen = (weight @ value).transpose(0, 2, 1, 3).reshape(n, times, -1)
        return seen @ part["attended"].T + part["attended_offset"]


def sinusoids(n_times: int, width: int) -> Tokens:
    """s(t, 2k) = sin(t / 10000^(2k/width)), s(t, 2k+1) its cosine; (time, width)."""
    rate = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(n_times)[:, None] * rate
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(n_times, width).astype("f4")


def _softmax(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _normalise(state: Tokens, weights: dict[str, Tokens], name: str) -> Tokens:
    """To mean 0 and variance 1 over the units of each state, then scaled and shifted by unit."""
    centred = state - state.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
    return centred / spread * weights[f"{name}_scale"] + weights[f"{name}_shift"]


def _fit(
    settings: EpochTransformer, tokens: Tokens, targets: NDArray[np.intp]
) -> dict[str, Tokens]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same bits whatever the machine, and one core per job
    try:
        return _train(settings, torch.tensor(tokens), torch.tensor(targets))
    finally:
        torch.set_num_threads(threads)


def _train(
    settings: EpochTransformer, tokens: torch.Tensor, targets: torch.Tensor
) -> dict[str, Tokens]:
    import torch
    from torch.nn.functional import cross_entropy

    generator = torch.Generator().manual_seed(settings.seed)
    weights = _initial(settings, tokens.shape[2], int(targets.max()) + 1, generator)
    optimizer = torch.optim.AdamW(
        weights.values(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    n_steps = settings.epochs * math.ceil(len(tokens) / settings.batch_size)
    step = 0
    for _ in range(settings.epochs):
        order = torch.randperm(len(tokens), generator=generator)
        for batch in order.split(settings.batch_size):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * _pace(step, n_steps)
            scores = _scores(settings, weights, tokens[batch], generator)
            loss = cross_entropy(scores, targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return {name: weight.detach().numpy() for name, weight in weights.items()}


def _pace(step: int, n_steps: int) -> float:
    """The learning rate at a step, as a share of the highest."""
    warm = max(1, round(WARM_UP * n_steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))


def _initial(
    settings: EpochTransformer, n_channels: int, n_classes: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    import torch

    width, weights = settings.width, {}

    def affine(name: str, n_out: int, n_in: int) -> None:
        bound = math.sqrt(6 / (n_in + n_out))
        weights[name] = (2 * torch.rand(n_out, n_in, generator=generator) - 1) * bound
        weights[f"{name}_offset"] = torch.zeros(n_out)

    def norm(name: str) -> None:
        weights[f"{name}_scale"], weights[f"{name}_shift"] = torch.ones(width), torch.zeros(width)

    affine("embed", width, n_channels)
    for i in range(settings.layers):
        norm(f"{i}/first")
        affine(f"{i}/mix", 3 * width, width)
        affine(f"{i}/attended", width, width)
        norm(f"{i}/second")
        affine(f"{i}/inner", settings.hidden, width)
        affine(f"{i}/outer", width, settings.hidden)
    norm("last")
    affine("readout", n_classes, width)
    for weight in weights.values():
        weight.requires_grad_()
    return weights


def _scores(
    settings: EpochTransformer,
    weights: dict[str, torch.Tensor],
    tokens: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """As `EpochTransformer.predict_proba`, before the softmax, and with dropout."""
    import torch
    from torch.nn import functional as F

    def affine(state: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(state, weights[name], weights[f"{name}_offset"])

    def norm(state: torch.Tensor, name: str) -> torch.Tensor:
        scale, shift = weights[f"{name}_scale"], weights[f"{name}_shift"]
        return F.layer_norm(state, (settings.width,), scale, shift, EPSILON)

    def drop(state: torch.Tensor) -> torch.Tensor:
        if not settings.dropout:
            return state
        kept = torch.rand(state.shape, generator=generator) >= settings.dropout
        return state * kept / (1 - settings.dropout)

    n, times, _ = tokens.shape
    state = affine(tokens, "embed") + torch.tensor(sinusoids(times, settings.width))
    for i in range(settings.layers):
        mixed = affine(norm(state, f"{i}/first"), f"{i}/mix")
        query, key, value = mixed.reshape(n, times, 3, settings.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        state = state + drop(affine(seen.reshape(n, times, -1), f"{i}/attended"))
        inner = torch.relu(affine(norm(state, f"{i}/second"), f"{i}/inner"))
        state = state + drop(affine(inner, f"{i}/outer"))
    return affine(drop(norm(state, "last").mean(dim=1)), "readout")
