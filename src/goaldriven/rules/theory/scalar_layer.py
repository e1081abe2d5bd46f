"""One scalar layer whose alignment loss moves both of its weights: when do they stay in bounds?

A layer with forward weight w, backward weight b and input x (root mean square, where it varies),
no bias and no non-linearity. Its alignment loss is made symmetric in w and b, and both descend it:

    R = −(self + x² amp) w b + ½ (decay + x² sparse)(w² + b²) + ½ x² null w² b²

    dw/dt = −d w + c b − s w b²,    db/dt = −d b + c w − s b w²

with d = decay + x² sparse, c = self + x² amp and s = x² null. Without null this is the linear
d(w, b)/dt = −A (w, b). In the basis of u = w + b (symmetric) and v = w − b (skew) it decouples:

    du/dt = −(d − c) u,    dv/dt = −(d + c) v

b aligns with w, for d + c > 0; but their common size vanishes, stays or explodes with the sign of
d − c. The null primitive bounds it: du/dt = −(d − c + s w b) u.

Sources: thesis sections 5.5 (equation 5.1) and 5.11.1; Kunin et al. 2020, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.integrate import solve_ivp

from goaldriven.errors import SpecError
from goaldriven.rules.theory.arguments import (
    Array,
    array,
    ascending,
    number,
    primitive_weights,
)
from goaldriven.rules.theory.stability import ROUNDING, classify_eigenvalues

Rule = str | Mapping[str, float]
Verdict = Literal["over-regularised", "neutral", "exploding", "bounded"]


class AlignmentEigenvalues(NamedTuple):
    """Eigenvalues of A: above 0 a component decays, below 0 it grows."""

    symmetric: float
    skew: float


class _Coefficients(NamedTuple):
    """d, c and s of the module's equations."""

    diagonal: float
    coupling: float
    saturation: float

    @property
    def eigenvalues(self) -> AlignmentEigenvalues:
        """d − c and d + c; a difference that is rounding is 0."""
        symmetric, skew = self.diagonal - self.coupling, self.diagonal + self.coupling
        return AlignmentEigenvalues(0.0 if abs(symmetric) <= ROUNDING * skew else symmetric, skew)


def _coefficients(rule: Rule, x: float, decay: float | None) -> _Coefficients:
    weights = primitive_weights(rule, decay)
    square = number("x", x) ** 2
    return _Coefficients(
        diagonal=weights["decay"] + square * weights["sparse"],
        coupling=weights["self"] + square * weights["amp"],
        saturation=square * weights["null"],
    )


def alignment_matrix(rule: Rule, x: float = 1.0, decay: float | None = None) -> Array:
    """A of d(w, b)/dt = −A (w, b), the flow's linear part at the origin.

    A = [[d, −c], [−c, d]]: for symmetric alignment [[1, −1], [−1, 1]], for activation alignment
    x² times that, for the weight mirror [[λ, −x²], [−x², λ]]. Information alignment has the weight
    mirror's A and a cubic term beside it.

    Parameters
    ----------
    rule, decay : see `primitive_weights`; ``decay`` is λ.
    x : the layer's input, or its root mean square.

    Returns
    -------
    (2, 2), symmetric.

    Raises
    ------
    SpecError : an argument out of range.

    Source: thesis section 5.11.1.

    >>> alignment_matrix("weight_mirror", x=2, decay=1).tolist()
    [[1.0, -4.0], [-4.0, 1.0]]
    """
    d, c, _ = _coefficients(rule, x, decay)
    return np.array([[d, -c], [-c, d]])


def alignment_eigenvalues(
    rule: Rule, x: float = 1.0, decay: float | None = None
) -> AlignmentEigenvalues:
    """Eigenvalues of `alignment_matrix`: of (1, 1), d − c, and of (1, −1), d + c.

    ============================  ==========  =======
    rule                          symmetric   skew
    ============================  ==========  =======
    symmetric_alignment           0           2
    activation_alignment          0           2x²
    weight_mirror                 λ − x²      λ + x²
    information_alignment (at 0)  λ − x²      λ + x²
    ============================  ==========  =======

    Arguments and errors are those of `alignment_matrix`. Source: thesis section 5.11.1.

    >>> alignment_eigenvalues("weight_mirror", x=2, decay=1)
    AlignmentEigenvalues(symmetric=-3.0, skew=5.0)
    """
    return _coefficients(rule, x, decay).eigenvalues


def alignment_stability(rule: Rule, x: float = 1.0, decay: float | None = None) -> Verdict:
    """What becomes of the common size of w and b.

    - ``over-regularised``: both decay to 0 (d > c; with null also d = c > 0, then as 1/√t);
    - ``neutral``: they end at a size that the initial values decide (d = c without null);
    - ``exploding``: they grow without bound (d < c without null);
    - ``bounded``: they settle where w b = (c − d)/s, at w = b if d > 0 (d < c with null).

    Arguments and errors are those of `alignment_matrix`. Source: thesis section 5.5.

    >>> [alignment_stability("weight_mirror", x=1, decay=λ) for λ in (0.5, 1, 2)]
    ['exploding', 'neutral', 'over-regularised']
    >>> alignment_stability("information_alignment", x=1, decay=0.5)
    'bounded'
    """
    coefficients = _coefficients(rule, x, decay)
    symmetric = coefficients.eigenvalues.symmetric
    if symmetric < 0:
        return "bounded" if coefficients.saturation else "exploding"
    pulled = symmetric > 0 or (coefficients.saturation > 0 and coefficients.diagonal > 0)
    return "over-regularised" if pulled else "neutral"


def alignment_velocity(
    rule: Rule, state: npt.ArrayLike, x: float = 1.0, decay: float | None = None
) -> Array:
    """(dw/dt, db/dt) at states (w, b), by the equations at the top of this module.

    Parameters
    ----------
    state : (…, 2).
    rule, x, decay : as for `alignment_matrix`.

    Returns
    -------
    (…, 2).
    """
    points = array("state", state)
    if points.ndim == 0 or points.shape[-1] != 2:
        raise SpecError(f"'state' must have a last axis of 2, got the shape {points.shape}")
    return _velocity(_coefficients(rule, x, decay), points)


def _velocity(coefficients: _Coefficients, points: Array) -> Array:
    d, c, s = coefficients
    swapped = points[..., ::-1]
    return -d * points + c * swapped - s * points * swapped**2


def alignment_trajectory(
    rule: Rule,
    start: Sequence[float],
    times: npt.ArrayLike,
    x: float = 1.0,
    decay: float | None = None,
) -> xr.Dataset:
    """w(t) and b(t) from (w, b) at t = 0.

    Without null in closed form,

        w, b = ½ [(w₀ + b₀) e^(−(d−c)t) ± (w₀ − b₀) e^(−(d+c)t)],

    with it by numerical integration to a relative 1e-9.

    Parameters
    ----------
    start : (w₀, b₀).
    times : (time,), ascending from 0 or later, in units of 1/learning rate.
    rule, x, decay : as for `alignment_matrix`.

    Returns
    -------
    Dataset of w and b over time. Values too large for a float are infinite.
    """
    coefficients = _coefficients(rule, x, decay)
    origin, t = array("start", start, axes=1), ascending("times", times)
    if origin.shape != (2,):
        raise SpecError(f"'start' must be two numbers, w and b, got {origin.size}")
    solve = _integrated if coefficients.saturation else _closed_form
    w, b = solve(coefficients, origin, t)
    return xr.Dataset({"w": ("time", w), "b": ("time", b)}, coords={"time": t})


def _closed_form(coefficients: _Coefficients, start: Array, t: Array) -> tuple[Array, Array]:
    symmetric, skew = coefficients.eigenvalues
    with np.errstate(over="ignore"):
        u, v = (
            amount * np.exp(-rate * t) if amount else np.zeros_like(t)
            for amount, rate in ((start.sum(), symmetric), (start[0] - start[1], skew))
        )
    return (u + v) / 2, (u - v) / 2


def _integrated(coefficients: _Coefficients, start: Array, t: Array) -> tuple[Array, Array]:
    solution = solve_ivp(
        lambda _, state: _velocity(coefficients, state),
        (0.0, t[-1]),
        start,
        method="LSODA",
        t_eval=t,
        rtol=1e-9,
        atol=1e-12,
    )
    return solution.y[0], solution.y[1]


def alignment_fixed_points(rule: Rule, x: float = 1.0, decay: float | None = None) -> xr.Dataset:
    """Where the flow stands still: the origin, and ±√((c − d)/s) (1, 1) where s > 0 and d < c.

    The latter for information alignment: w = b = ±√(1 − λ/x²) if x² > λ. There the eigenvalues of
    −(Jacobian) are 2(c − d) for the symmetric and 2d for the skew direction: a sink.

    Arguments and errors are those of `alignment_matrix`.

    Returns
    -------
    Dataset over point: w, b, ``stability`` (see `classify_eigenvalues`), and ``eigenvalue`` over
    (point, mode) of −(Jacobian). Where there is a continuum of fixed points, the attribute
    ``continuum`` tells which, and the points given are some of it: ``w = b`` if neutral,
    ``w b = product`` for null without decay and sparse (the attribute ``product`` is NaN
    otherwise), ``everywhere`` if nothing moves; ``""`` if there is none.
    """
    coefficients = _coefficients(rule, x, decay)
    d, _, s = coefficients
    symmetric, skew = coefficients.eigenvalues
    size, values = [0.0], [(symmetric, skew)]
    if s and symmetric < 0:
        away = float(np.sqrt(-symmetric / s))
        size += [-away, away]
        values += [(-2 * symmetric, 2 * d)] * 2
    return xr.Dataset(
        {
            "w": ("point", np.array(size)),
            "b": ("point", np.array(size)),
            "eigenvalue": (("point", "mode"), np.array(values)),
            "stability": ("point", classify_eigenvalues(values)),
        },
        coords={"mode": ["symmetric", "skew"]},
        attrs=_continuum(coefficients),
    )


def _continuum(coefficients: _Coefficients) -> dict[str, str | float]:
    d, c, s = coefficients
    if d == c == s == 0:
        return {"continuum": "everywhere", "product": np.nan}
    if s and not d:
        return {"continuum": "w b = product", "product": c / s}
    neutral = coefficients.eigenvalues.symmetric == 0 and not s
    return {"continuum": "w = b" if neutral else "", "product": np.nan}


def alignment_flow(
    rule: Rule,
    w: npt.ArrayLike,
    b: npt.ArrayLike,
    x: float = 1.0,
    decay: float | None = None,
) -> xr.Dataset:
    """The flow on a grid, with its fixed points: what a phase portrait shows.

    Parameters
    ----------
    w, b : the grid's axes, each ascending; (w,) and (b,).
    rule, x, decay : as for `alignment_matrix`.

    Returns
    -------
    Dataset: ``dw`` and ``db`` over (b, w); ``fixed_w``, ``fixed_b`` and ``stability`` over point
    (see `alignment_fixed_points`); attributes rule, x, decay (the primitive's weight),
    eigenvalue_symmetric, eigenvalue_skew, verdict, continuum and product.
    """
    columns, rows = array("w", w, axes=1), array("b", b, axes=1)
    coefficients = _coefficients(rule, x, decay)
    states = np.stack(np.meshgrid(columns, rows), axis=-1)
    velocity = _velocity(coefficients, states)
    points = alignment_fixed_points(rule, x, decay)
    symmetric, skew = coefficients.eigenvalues
    return xr.Dataset(
        {
            "dw": (("b", "w"), velocity[..., 0]),
            "db": (("b", "w"), velocity[..., 1]),
            "fixed_w": ("point", points["w"].values),
            "fixed_b": ("point", points["b"].values),
            "stability": ("point", points["stability"].values),
        },
        coords={"w": columns, "b": rows},
        attrs={
            "rule": rule if isinstance(rule, str) else "custom",
            "x": float(x),
            "decay": primitive_weights(rule, decay)["decay"],
            "eigenvalue_symmetric": symmetric,
            "eigenvalue_skew": skew,
            "verdict": alignment_stability(rule, x, decay),
            **points.attrs,
        },
    )
