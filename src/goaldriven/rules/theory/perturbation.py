"""The variance of gradients estimated by perturbation, and the estimators themselves.

Noise ξ ~ N(0, σ²I) on N variables z (all weights, or all nodes) changes the loss by
L(z + ξ) − L(z) ≈ ⟨g, ξ⟩ with g = ∂L/∂z. Each variable takes the credit:

    ĝ = (1/S) Σ_s (L(z + ξ_s) − L(z)) ξ_s / σ²

For a linear loss the mean of ĝ is g and

    Var ĝ_i = (‖g‖² + g_i²)/S,    E‖ĝ − g‖² = (N + 1) ‖g‖²/S,

since E[(gᵀu)² ‖u‖²] = (N + 2) ‖g‖² for u ~ N(0, I). The relative error √((N + 1)/S) falls with
slope −½ in the logarithm of the samples and rises with slope ½ in that of the number of perturbed
variables: weights for weight perturbation, nodes for node perturbation.

Dividing the change of the loss by ξ_i instead, as the slides' Δf/ΔW_i is written, would give a
variable without a variance (a Cauchy-like ratio); multiplying by ξ_i/σ² gives their law, Var ≈ N.

Sources: K. Kording's lecture slides on weight perturbation; Werfel, Xie and Seung 2005. Constants
and curvature terms are derived here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from goaldriven.errors import SpecError
from goaldriven.rules.theory.arguments import Array, array, count, number, positive

Loss = Callable[[Array], Array]

_CHUNK = 1 << 20  # random numbers held at once


def perturbed_loss_variance(
    gradient: npt.ArrayLike, noise: float, hessian: npt.ArrayLike | None = None
) -> float:
    """Var L(z + ξ) = σ² ‖g‖² + ½ σ⁴ tr H² for a quadratic loss; N σ² if all partials are 1.

    Parameters
    ----------
    gradient : g, any shape, N numbers in all.
    noise : σ, the noise's standard deviation.
    hessian : H, (N, N), symmetric; 0 if not given.

    Raises
    ------
    SpecError : an argument out of range.

    >>> perturbed_loss_variance([1.0, 1.0, 1.0], noise=0.1)  # doctest: +ELLIPSIS
    0.03...
    """
    g, variance = array("gradient", gradient), number("noise", noise, least=0.0) ** 2
    curvature = 0.0 if hessian is None else np.sum(_hessian(hessian, g.size) ** 2)
    return float(variance * np.sum(g**2) + variance**2 / 2 * curvature)


def perturbation_variance(gradient: npt.ArrayLike, samples: int = 1) -> Array:
    """Variance of each component of ĝ for a linear loss: (‖g‖² + g_i²)/S.

    Parameters
    ----------
    gradient : g over everything perturbed at a time, any shape.
    samples : S.

    Returns
    -------
    As ``gradient``. If all N partials are 1, this is (N + 1)/S.
    """
    g = array("gradient", gradient)
    return (np.sum(g**2) + g**2) / count("samples", samples)


def perturbation_relative_error(perturbed: npt.ArrayLike, samples: npt.ArrayLike) -> Array:
    """√(E‖ĝ − g‖²)/‖g‖ = √((N + 1)/S) for a linear loss.

    Parameters
    ----------
    perturbed : N, how many variables are perturbed at a time.
    samples : S; broadcast against N.

    >>> perturbation_relative_error(99, [1, 100]).tolist()
    [10.0, 1.0]
    """
    n, s = array("perturbed", perturbed), array("samples", samples)
    for name, given in (("perturbed", n), ("samples", s)):
        if (given < 1).any():
            raise SpecError(f"'{name}' must be at least 1, got {given.min():g}")
    return np.sqrt((n + 1) / s)


def weight_perturbation_error(
    gradient: npt.ArrayLike,
    samples: int = 1,
    noise: float = 0.0,
    hessian: npt.ArrayLike | None = None,
    two_sided: bool = False,
) -> float:
    """E‖ĝ − g‖² of weight perturbation on a quadratic loss.

        (1/S) [ (N + 1) ‖g‖² + (σ²/4)(N + 4)((tr H)² + 2 tr H²) ]

    The curvature adds variance but no bias. Two-sided estimates, (L(W+ξ) − L(W−ξ))/2 in place of
    L(W+ξ) − L(W), are free of it.

    Parameters
    ----------
    gradient : g = ∂L/∂W, any shape, N numbers in all.
    samples : S.
    noise : σ.
    hessian : H, (N, N), symmetric; 0 if not given.
    two_sided : see above; S then counts pairs.

    Raises
    ------
    SpecError : an argument out of range.
    """
    g, variance = array("gradient", gradient), number("noise", noise, least=0.0) ** 2
    error = (g.size + 1) * np.sum(g**2)
    if hessian is not None and not two_sided:
        h = _hessian(hessian, g.size)
        error += variance / 4 * (g.size + 4) * (np.trace(h) ** 2 + 2 * np.sum(h**2))
    return float(error / count("samples", samples))


def node_perturbation_error(
    node_gradients: npt.ArrayLike,
    inputs: npt.ArrayLike,
    samples: int = 1,
    per_stimulus_loss: bool = True,
    elsewhere: npt.ArrayLike = 0.0,
) -> float:
    """E‖Ĝ − G‖² of a linear layer's weight gradient, by node perturbation of its outputs.

    For stimuli k = 1…n with inputs x_k, h_k = W x_k, losses ℓ_k, and g_k = ∂ℓ_k/∂h_k, the gradient
    of the mean loss is G = (1/n) Σ g_k x_kᵀ. Noise is drawn apart for every stimulus and node. With
    M nodes, and e_k the squared norm of ∂ℓ_k in nodes perturbed at the same time elsewhere:

    - each stimulus' own loss is known, Ĝ = (1/n) Σ_k (ℓ̃_k − ℓ_k) ξ_k x_kᵀ/σ²:

          (1/S n²) Σ_k [M (‖g_k‖² + e_k) + ‖g_k‖²] ‖x_k‖²

    - only their mean is known, Ĝ = (L̃ − L) Σ_k ξ_k x_kᵀ/σ², as if the batch had n M nodes:

          (1/S n²) [M Σ_k (‖g_k‖² + e_k) Σ_k ‖x_k‖² + ‖n G‖²]

    For one stimulus both are (M + 1) ‖G‖²/S: weight perturbation's law, with nodes for weights.

    Parameters
    ----------
    node_gradients : g_n, (n, nodes).
    inputs : x_n, (n, inputs).
    samples : S, noise patterns per stimulus.
    per_stimulus_loss : which of the two.
    elsewhere : e_n, (n,) or one number.

    Returns
    -------
    The expectation, for losses that are linear in the nodes (σ → 0).
    """
    g, x = array("node_gradients", node_gradients, axes=2), array("inputs", inputs, axes=2)
    if len(g) != len(x) or not len(g):
        raise SpecError(f"'inputs' must have a row for each of the {len(g)} stimuli (at least 1), "
                        f"got {len(x)}")  # fmt: skip
    stimuli, nodes = g.shape
    own, energy = np.sum(g**2, axis=1), np.sum(x**2, axis=1)
    total = own + np.broadcast_to(_elsewhere(elsewhere, stimuli), stimuli)
    if per_stimulus_loss:
        error = np.sum((nodes * total + own) * energy)
    else:
        error = nodes * np.sum(total) * np.sum(energy) + np.sum((g.T @ x) ** 2)
    return float(error / stimuli**2 / count("samples", samples))


def _elsewhere(value: npt.ArrayLike, stimuli: int) -> Array:
    given = array("elsewhere", value)
    if given.shape not in ((), (stimuli,)) or (given < 0).any():
        raise SpecError(
            f"'elsewhere' must be one number or {stimuli}, none negative, got {value!r}"
        )
    return given


def _hessian(value: npt.ArrayLike, size: int) -> Array:
    h = array("hessian", value)
    if h.shape != (size, size):
        raise SpecError(f"'hessian' must have the shape {(size, size)}, got {h.shape}")
    if not np.allclose(h, h.T):
        raise SpecError("'hessian' must be symmetric, got a matrix that is not")
    return h


def estimate_gradient(
    loss: Loss,
    point: npt.ArrayLike,
    noise: float,
    samples: int,
    generator: np.random.Generator,
    two_sided: bool = False,
) -> Array:
    """ĝ: the gradient of a loss at a point from its values under noise, and nothing else.

    (1/S) Σ_s (L(z + ξ_s) − L(z)) ξ_s/σ², or two-sided (1/S) Σ_s (L(z + ξ_s) − L(z − ξ_s)) ξ_s/2σ².

    Parameters
    ----------
    loss : maps points (k, N) to their losses (k,).
    point : z, (N,).
    noise : σ.
    samples : S.
    generator : draws the noise.
    two_sided : see above; S counts pairs.

    Returns
    -------
    (N,).

    Raises
    ------
    SpecError : an argument out of range.
    """
    z, sigma, left = (
        array("point", point, axes=1),
        positive("noise", noise),
        count("samples", samples),
    )
    total, here = np.zeros_like(z), 0.0 if two_sided else loss(z[None])
    while left:
        size = min(left, max(1, _CHUNK // z.size))
        xi = sigma * generator.standard_normal((size, z.size))
        change = (loss(z + xi) - loss(z - xi)) / 2 if two_sided else loss(z + xi) - here
        total += change @ xi
        left -= size
    return total / (samples * sigma**2)


def measure_perturbation(
    inputs: Sequence[int],
    outputs: Sequence[int],
    samples: Sequence[int],
    repeats: int,
    generator: np.random.Generator,
) -> xr.Dataset:
    """Error of weight and node perturbation on linear layers, measured, beside the law.

    The layer y = W x sees one stimulus of ones and its loss is the sum of y, so that the partial
    derivative is 1 in each of its inputs × outputs weights and at each of its outputs nodes. Node
    perturbation's estimate of a weight is that of its node times its input.

    Parameters
    ----------
    inputs, outputs : sizes of layers; every pair is one layer.
    samples : numbers S of noise patterns.
    repeats : independent estimates of which each error is the root mean square.
    generator : draws the noise.

    Returns
    -------
    Dataset over (rule, inputs, outputs, samples), rules ``weight_perturbation`` and
    ``node_perturbation``: ``relative_error`` √⟨‖ĝ − g‖²⟩/‖g‖, its ``standard_error``, the
    ``predicted`` √((N + 1)/S), and over (rule, inputs, outputs) ``perturbed``, N.
    """
    sizes = [
        np.array([count(name, n) for n in given])
        for name, given in (("inputs", inputs), ("outputs", outputs), ("samples", samples))
    ]
    fan_in, nodes = sizes[0][:, None], sizes[1][None, :]
    perturbed = np.stack([fan_in * nodes, np.broadcast_to(nodes, (len(inputs), len(outputs)))])
    shape = (*perturbed.shape, len(samples))
    error, spread = np.empty(shape), np.empty(shape)
    number("repeats", repeats, least=2)  # one has no standard error
    for index in np.ndindex(shape):
        drawn = _squared_errors(
            int(perturbed[index[:3]]), int(sizes[2][index[3]]), repeats, generator
        )
        error[index] = np.sqrt(drawn.mean())
        spread[index] = drawn.std(ddof=1) / np.sqrt(repeats) / (2 * error[index])
    axes = ("rule", "inputs", "outputs", "samples")
    return xr.Dataset(
        {
            "relative_error": (axes, error),
            "standard_error": (axes, spread),
            "predicted": (axes, perturbation_relative_error(perturbed[..., None], sizes[2])),
            "perturbed": (axes[:3], perturbed),
        },
        coords={
            "rule": ["weight_perturbation", "node_perturbation"],
            **dict(zip(axes[1:], sizes, strict=True)),
        },
        attrs={"repeats": repeats},
    )


def _squared_errors(
    perturbed: int, samples: int, repeats: int, generator: np.random.Generator
) -> Array:
    """‖ĝ − g‖²/‖g‖² of independent estimates for a sum of so many variables.

    For nodes that is the error of the weights' gradient too: each row of it is one node's error
    times the same input.
    """
    origin = np.zeros(perturbed)
    estimates = [
        estimate_gradient(lambda z: z.sum(axis=1), origin, 1.0, samples, generator)
        for _ in range(repeats)
    ]
    return np.array([np.mean((g - 1.0) ** 2) for g in estimates])
