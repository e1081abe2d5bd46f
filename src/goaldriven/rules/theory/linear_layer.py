"""Backward weights of a linear layer whose forward weights rest: where they go, and how fast.

With forward weight W and backward weight B of one shape, (outputs, inputs) as in PyTorch, and the
input's second moment C = E[x xᵀ], a rule without angle descends

    dB/dt = −(decay B + null W C Wᵀ B + sparse B C) + amp W C + self W

in the mean. This is linear: in the eigenbases of W C Wᵀ (eigenvalues sᵢ) and C (eigenvalues cⱼ)
entry (i, j) of B relaxes on its own, at the rate decay + null sᵢ + sparse cⱼ. The fixed points are

    weight mirror           B* = (amp/decay) W C
    information alignment   B* = amp (decay I + null W C Wᵀ)⁻¹ W C
    symmetric alignment     B* = (self/decay) W
    activation alignment    B* C = (amp/sparse) W C

B equal to W is what aligns: it is the thesis' B transposed.

Sources: gradients, thesis Table 5.1 and Kunin et al. 2020, Table 1; the rest is derived here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from goaldriven.errors import SpecError
from goaldriven.rules.theory.arguments import (
    Array,
    array,
    ascending,
    count,
    like_weight,
    number,
    positive,
    primitive_weights,
    second_moment_matrix,
    whole_steps,
)

Rule = str | Mapping[str, float]

_ROUNDING = 1e-10


class _Relaxation(NamedTuple):
    """dB̃/dt = drive − rates ∘ B̃ for B̃ = rowsᵀ B columns."""

    rows: Array  # (outputs, outputs), orthogonal
    columns: Array  # (inputs, inputs), orthogonal
    rates: Array  # (outputs, inputs), ≥ 0
    drive: Array  # (outputs, inputs)

    def into(self, b: Array) -> Array:
        return self.rows.T @ b @ self.columns

    def back(self, b: Array) -> Array:
        return self.rows @ b @ self.columns.T


def _relaxation(
    rule: Rule, forward_weight: npt.ArrayLike, second_moment: npt.ArrayLike, decay: float | None
) -> _Relaxation:
    weights = primitive_weights(rule, decay)
    w = array("forward_weight", forward_weight, axes=2)
    moment = second_moment_matrix(second_moment, w.shape[1])
    c, columns = np.linalg.eigh(moment)
    c[c <= _ROUNDING * c.max(initial=0.0)] = 0.0
    # W C Wᵀ by the singular values of W C^½: what is 0 is found as 0, not as √rounding.
    rows, singular, _ = np.linalg.svd(w @ (columns * np.sqrt(c)))
    s = np.zeros(len(w))
    s[: singular.size] = np.where(singular > _ROUNDING * singular.max(initial=0), singular, 0) ** 2
    rates = weights["decay"] + weights["null"] * s[:, None] + weights["sparse"] * c[None, :]
    drive = rows.T @ w @ columns * (weights["self"] + weights["amp"] * c)
    idle = (rates == 0) & (np.abs(drive) <= _ROUNDING * np.abs(drive).max(initial=0.0))
    return _Relaxation(rows, columns, rates, np.where(idle, 0.0, drive))


def backward_rates(
    rule: Rule,
    forward_weight: npt.ArrayLike,
    second_moment: npt.ArrayLike = 1.0,
    decay: float | None = None,
) -> Array:
    """Rates at which the components of B approach the fixed point: decay + null sᵢ + sparse cⱼ.

    A component's distance shrinks as e^(−rate t), in steps as (1 − η rate)ᵏ: for symmetric
    alignment and the weight mirror one rate for all, the weight of decay; for activation alignment
    the eigenvalues of C; for information alignment decay + null × eigenvalues of W C Wᵀ. Components
    of rate 0 stay as they are or grow for ever.

    Parameters
    ----------
    rule, decay : see `primitive_weights`.
    forward_weight : W, (outputs, inputs).
    second_moment : C, (inputs, inputs); a number σ² stands for white noise, σ² I.

    Returns
    -------
    (outputs, inputs); i and j count eigenvectors of W C Wᵀ and of C.

    Raises
    ------
    SpecError : an argument out of range.

    >>> backward_rates("information_alignment", [[2.0, 0.0]], decay=0.1).tolist()
    [[4.1, 4.1]]
    """
    return _relaxation(rule, forward_weight, second_moment, decay).rates


def largest_learning_rate(
    rule: Rule,
    forward_weight: npt.ArrayLike,
    second_moment: npt.ArrayLike = 1.0,
    decay: float | None = None,
) -> float:
    """The learning rate above which gradient steps on B diverge: 2 / (largest of the rates).

    Infinite where all rates are 0. Arguments and errors are those of `backward_rates`.
    """
    fastest = float(backward_rates(rule, forward_weight, second_moment, decay).max(initial=0.0))
    return 2 / fastest if fastest else float("inf")


def backward_fixed_point(
    rule: Rule,
    forward_weight: npt.ArrayLike,
    second_moment: npt.ArrayLike = 1.0,
    decay: float | None = None,
    start: npt.ArrayLike | None = None,
) -> Array:
    """B*, where the mean of B comes to rest; see the top of this module for each rule's.

    Parameters
    ----------
    rule, forward_weight, second_moment, decay : as for `backward_rates`.
    start : B at first, (outputs, inputs), which decides components that no primitive moves, such as
        those of activation alignment outside the span of the inputs; 0 if not given.

    Returns
    -------
    (outputs, inputs).

    Raises
    ------
    SpecError : an argument out of range; a rule under which B grows for ever, such as a weight
        mirror without decay.

    >>> backward_fixed_point("weight_mirror", [[2.0, -1.0]], second_moment=3.0, decay=0.5).tolist()
    [[12.0, -6.0]]
    """
    relaxation = _relaxation(rule, forward_weight, second_moment, decay)
    rates, drive = relaxation.rates, relaxation.drive
    if ((rates == 0) & (drive != 0)).any():
        raise SpecError(f"'rule' must hold the backward weights in bounds by decay, null or sparse "
                        f"wherever amp or self drives them, got {rule!r}")  # fmt: skip
    first = relaxation.into(_start(start, drive))
    return relaxation.back(np.where(rates > 0, drive / np.where(rates > 0, rates, 1.0), first))


def _start(start: npt.ArrayLike | None, like: Array) -> Array:
    return np.zeros_like(like) if start is None else like_weight("start", start, like)


def backward_flow(
    rule: Rule,
    forward_weight: npt.ArrayLike,
    start: npt.ArrayLike,
    times: npt.ArrayLike,
    second_moment: npt.ArrayLike = 1.0,
    decay: float | None = None,
) -> Array:
    """Mean B(t) under gradient flow, in closed form.

    B̃ᵢⱼ(t) = B̃*ᵢⱼ + e^(−rᵢⱼ t) (B̃ᵢⱼ(0) − B̃*ᵢⱼ) in the eigenbases, and linear in t where rᵢⱼ = 0.

    Parameters
    ----------
    rule, forward_weight, second_moment, decay : as for `backward_rates`.
    start : B(0), (outputs, inputs).
    times : (time,), ascending from 0 or later.

    Returns
    -------
    (time, outputs, inputs).
    """
    relaxation = _relaxation(rule, forward_weight, second_moment, decay)
    exponent = -relaxation.rates * ascending("times", times)[:, None, None]
    return _relaxed(relaxation, start, np.exp(exponent), -np.expm1(exponent), times)


def backward_steps(
    rule: Rule,
    forward_weight: npt.ArrayLike,
    start: npt.ArrayLike,
    steps: npt.ArrayLike,
    learning_rate: float,
    second_moment: npt.ArrayLike = 1.0,
    decay: float | None = None,
) -> Array:
    """Mean B after plain gradient steps B ← B − η ∇R, in closed form.

    B̃ᵢⱼ = B̃*ᵢⱼ + (1 − η rᵢⱼ)ᵏ (B̃ᵢⱼ(0) − B̃*ᵢⱼ) after k steps. Exact for the mean over inputs that are
    drawn afresh at every step, in batches of any size, and for B itself if C is that of the batch.

    Parameters
    ----------
    rule, forward_weight, second_moment, decay : as for `backward_rates`.
    start : B at first, (outputs, inputs).
    steps : (step,), ascending whole numbers.
    learning_rate : η.

    Returns
    -------
    (step, outputs, inputs).
    """
    relaxation = _relaxation(rule, forward_weight, second_moment, decay)
    rate, k = positive("learning_rate", learning_rate), whole_steps(steps)
    kept = (1 - rate * relaxation.rates) ** k[:, None, None]
    return _relaxed(relaxation, start, kept, 1 - kept, rate * k)


def _relaxed(
    relaxation: _Relaxation, start: npt.ArrayLike, kept: Array, lost: Array, times: npt.ArrayLike
) -> Array:
    """kept · B̃(0) + lost · B̃*, and drive · time where the rate is 0."""
    rates, drive = relaxation.rates, relaxation.drive
    first = relaxation.into(like_weight("start", start, drive))
    elapsed = np.asarray(times, dtype=np.float64)[:, None, None]
    gain = np.where(rates > 0, lost / np.where(rates > 0, rates, 1.0), elapsed)
    return relaxation.back(kept * first + gain * drive)


def weight_mirror_alignment(
    forward_weight: npt.ArrayLike,
    start: npt.ArrayLike,
    steps: npt.ArrayLike,
    learning_rate: float,
    batch_size: int,
    amp: float = 1.0,
    decay: float = 0.0,
    second_moment: npt.ArrayLike = 1.0,
) -> xr.Dataset:
    """How a weight mirror's B turns towards W while it sees Gaussian noise.

    Each step draws ``batch_size`` inputs x ~ N(0, C) and sets B ← (1 − ηβ) B + ηα W Ĉ, Ĉ their mean
    x xᵀ. With a = 1 − ηβ, m_k the mean of B after k steps (`backward_steps`) and v_k the total
    variance around it,

        v_k = (ηα)² (V/n) (1 − a²ᵏ)/(1 − a²),    V = tr(W C Wᵀ) tr C + tr(W C² Wᵀ)
        cos angle = ⟨m_k, W⟩ / (‖W‖ √(‖m_k‖² + v_k))

    V is σ⁴ ‖W‖² (N + 1) for white noise and N inputs. Without decay and from B = 0 the angle obeys
    tan² = (N + 1)/(k n): it falls with the square root of the number of stimuli. With decay it
    comes to rest at tan² = ηβ/(2 − ηβ) · (N + 1)/n.

    m_k and v_k are exact. The cosine puts the expectations of ⟨B, W⟩ and ‖B‖² for themselves, which
    is right up to their relative fluctuations: it lies above the mean angle by 0.1° of 12.8° for
    15 × 20 weights at rest, and by 1.4° of 6.4° for 3 × 4.

    Parameters
    ----------
    forward_weight, start : W and the first B, (outputs, inputs).
    steps : (step,), ascending whole numbers k.
    learning_rate, batch_size : η and n.
    amp, decay : α and β, the weights of the primitives.
    second_moment : C, (inputs, inputs); a number σ² stands for white noise, σ² I.

    Returns
    -------
    Dataset over step: ``angle`` of W and B in degrees (NaN where either is 0), ``norm_ratio``
    √E‖B‖² / ‖W‖, ``mean_square`` ‖m_k‖² and ``variance`` v_k.

    Raises
    ------
    SpecError : an argument out of range.

    Source: derived here from the fourth moment of a Gaussian.
    """
    w = array("forward_weight", forward_weight, axes=2)
    c = second_moment_matrix(second_moment, w.shape[1])
    rate, k = positive("learning_rate", learning_rate), whole_steps(steps)
    weights = {"amp": number("amp", amp, least=0.0), "decay": number("decay", decay, least=0.0)}
    mean = backward_steps(weights, w, start, k, rate, c)
    wc = w @ c
    per_sample = np.sum(wc * w) * np.trace(c) + np.sum(wc**2)
    spread = (rate * amp) ** 2 * per_sample / count("batch_size", batch_size)
    variance = spread * _geometric_sum((1 - rate * decay) ** 2, k)
    mean_square = np.sum(mean**2, axis=(1, 2))
    size, forward = np.sqrt(mean_square + variance), np.linalg.norm(w)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.sum(mean * w, axis=(1, 2)) / (size * forward)
        ratio = size / forward
    return xr.Dataset(
        {
            "angle": ("step", np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
            "norm_ratio": ("step", ratio),
            "mean_square": ("step", mean_square),
            "variance": ("step", variance),
        },
        coords={"step": k.astype(np.int64)},
    )


def _geometric_sum(ratio: float, terms: Array) -> Array:
    """1 + ratio + … of so many terms."""
    return terms if ratio == 1 else (1 - ratio**terms) / (1 - ratio)


def kolen_pollack_contraction(
    steps: npt.ArrayLike,
    learning_rate: float,
    weight_decay: float,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> Array:
    """‖W − B‖ after so many steps over what it was at first, under Kolen-Pollack's rule.

    W and B receive the same gradient, so that it drops out of their difference D, which only the
    weight decay moves: D ← (1 − ηλ) D, hence (1 − ηλ)ᵏ, whatever the data. With momentum μ, as
    PyTorch's SGD defines it, V ← μ V + λ D and D ← D − η V (Nesterov: D − η (λ D + μ V)).

    Parameters
    ----------
    steps : (step,), ascending whole numbers.
    learning_rate, weight_decay : η and λ; in the form ΔW = −η∇W − λW of Akrout et al. 2019 the
        product ηλ is called λ.
    momentum, nesterov : of the optimizer that steps both weights; the velocity is 0 at first.

    Returns
    -------
    (step,): factors with their sign.

    Raises
    ------
    SpecError : an argument out of range.

    Sources: Kolen and Pollack 1994; Akrout et al. 2019; thesis section 5.11.3.

    >>> kolen_pollack_contraction([0, 1, 2], learning_rate=0.5, weight_decay=0.2).tolist()
    [1.0, 0.9, 0.81]
    """
    rate, decay = positive("learning_rate", learning_rate), number("weight_decay", weight_decay, 0)
    mu, k = number("momentum", momentum, least=0.0), whole_steps(steps).astype(np.int64)
    if mu >= 1:
        raise SpecError(f"'momentum' must be below 1, got {momentum!r}")
    difference, velocity = 1.0, 0.0
    factors = np.empty(int(k[-1]) + 1)
    for step in range(factors.size):
        factors[step] = difference
        gradient = decay * difference
        velocity = mu * velocity + gradient
        difference -= rate * (gradient + mu * velocity if nesterov else velocity)
    return factors[k]
