"""Two scalar linear layers and one backward weight: which minima does a rule find, and keep?

The network ŷ = w2 w1 x learns pairs (xᵢ, yᵢ) by J = (1/2n) Σ (yᵢ − w2 w1 xᵢ)². With the moments
x := Σ xᵢ²/n and y := Σ xᵢ yᵢ/n, and the error carried to the first layer by b instead of w2,

    dw1/dt = b (y − w2 w1 x)
    dw2/dt = w1 (y − w2 w1 x)
    db/dt  = dw2/dt (backprop, where b ≡ w2);  0 (feedback alignment);  w2 − b (symmetric alignment)

All have fixed points on the hyperbola of minima, w2 w1 = y/x, and at the origin; for feedback
alignment b = w1 = 0 is a whole line of them. On the hyperbola feedback alignment is stable only
where w1² + b w2 ≥ 0, the other two everywhere.

Eigenvalues are those of −(Jacobian), as in the thesis: positive ones attract.

Source: thesis section 5.11.2 (equations 5.2 to 5.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.integrate import solve_ivp

from goaldriven.errors import SpecError, unknown
from goaldriven.rules.theory.arguments import Array, array, ascending, number, positive
from goaldriven.rules.theory.stability import classify_eigenvalues

_Parts = tuple[Array, Array, Array]


class _Dynamics(NamedTuple):
    """What one rule does with b, given (w1, w2, b), the residual r and its gradient."""

    velocity: Callable[[_Parts, Array], Array]
    jacobian: Callable[[_Parts, Array, Array], Array]
    carries_forward_weight: bool  # b ≡ w2 at fixed points


def _tied_velocity(state: _Parts, r: Array) -> Array:
    return state[0] * r


def _tied_jacobian(state: _Parts, r: Array, slope: Array) -> Array:
    row = state[0][..., None] * slope
    row[..., 0] += r
    return row


def _resting_velocity(state: _Parts, r: Array) -> Array:
    return np.zeros_like(r)


def _resting_jacobian(state: _Parts, r: Array, slope: Array) -> Array:
    return np.zeros_like(slope)


def _following_velocity(state: _Parts, r: Array) -> Array:
    return state[1] - state[2]


def _following_jacobian(state: _Parts, r: Array, slope: Array) -> Array:
    return np.broadcast_to([0.0, 1.0, -1.0], slope.shape)


_DYNAMICS: dict[str, _Dynamics] = {
    "backprop": _Dynamics(_tied_velocity, _tied_jacobian, True),
    "feedback_alignment": _Dynamics(_resting_velocity, _resting_jacobian, False),
    "symmetric_alignment": _Dynamics(_following_velocity, _following_jacobian, True),
}


def _dynamics(rule: str) -> _Dynamics:
    if rule not in _DYNAMICS:
        raise SpecError(unknown("rule", rule, _DYNAMICS))
    return _DYNAMICS[rule]


def _parts(rule: str, state: npt.ArrayLike) -> _Parts:
    points = array("state", state)
    if points.ndim == 0 or points.shape[-1] != 3:
        raise SpecError(f"'state' must have a last axis of 3, got the shape {points.shape}")
    w1, w2, b = np.moveaxis(points, -1, 0)
    if rule == "backprop" and not np.allclose(w2, b, rtol=1e-9, atol=1e-9):
        raise SpecError("'state' must have b = w2 for backprop, got others")
    return w1, w2, b


def network_velocity(rule: str, state: npt.ArrayLike, x: float = 1.0, y: float = 1.0) -> Array:
    """(dw1/dt, dw2/dt, db/dt) at states (w1, w2, b).

    Parameters
    ----------
    rule : ``backprop``, ``feedback_alignment`` or ``symmetric_alignment``.
    state : (…, 3); for backprop b must equal w2.
    x, y : the data's moments Σ xᵢ²/n, above 0, and Σ xᵢ yᵢ/n.

    Returns
    -------
    (…, 3).

    Raises
    ------
    SpecError : an argument out of range.

    Source: thesis equations 5.2 to 5.4.

    >>> network_velocity("feedback_alignment", (1, 0.5, -1)).tolist()
    [-0.5, 0.5, 0.0]
    """
    dynamics, parts = _dynamics(rule), _parts(rule, state)
    return _velocity(dynamics, parts, positive("x", x), number("y", y))


def _velocity(dynamics: _Dynamics, state: _Parts, x: float, y: float) -> Array:
    w1, w2, b = state
    r = y - x * w1 * w2
    return np.stack([b * r, w1 * r, dynamics.velocity(state, r)], axis=-1)


def network_jacobian(rule: str, state: npt.ArrayLike, x: float = 1.0, y: float = 1.0) -> Array:
    """∂(velocity)/∂(w1, w2, b), (…, 3, 3). Arguments and errors: see `network_velocity`.

    For backprop, where b ≡ w2, derivatives in b are counted with those in w2: its column is 0.
    """
    dynamics, (w1, w2, b) = _dynamics(rule), _parts(rule, state)
    x, y = positive("x", x), number("y", y)
    r = y - x * w1 * w2
    slope = -x * np.stack([w2, w1, np.zeros_like(w1)], axis=-1)  # of r in (w1, w2, b)
    first, second = b[..., None] * slope, w1[..., None] * slope
    first[..., 1 if rule == "backprop" else 2] += r
    second[..., 0] += r
    return np.stack([first, second, dynamics.jacobian((w1, w2, b), r, slope)], axis=-2)


def network_eigenvalues(rule: str, state: npt.ArrayLike, x: float = 1.0, y: float = 1.0) -> Array:
    """Real parts of the eigenvalues of −(Jacobian), ascending, (…, 3).

    On the hyperbola w2 w1 = y/x of minima, where they are real:

    ===================  ========================
    backprop             0, 0, x (w1² + w2²)
    feedback_alignment   0, 0, x (w1² + b w2)
    symmetric_alignment  0, 1, x (w1² + w2²)
    ===================  ========================

    One 0 is the direction along the hyperbola; the other belongs to b, which is w2 in backprop and
    rests in feedback alignment. At the origin: backprop ±y and 0; feedback alignment 0, 0, 0;
    symmetric alignment the roots of −λ³ + λ² = y², of mixed signs.

    Arguments and errors: see `network_velocity`. Source: thesis section 5.11.2.
    """
    return (
        np.sort(np.linalg.eigvals(-network_jacobian(rule, state, x, y)).real, axis=-1) + 0.0
    )  # no −0


def network_fixed_points(
    rule: str,
    positions: npt.ArrayLike,
    b: float | None = None,
    x: float = 1.0,
    y: float = 1.0,
) -> xr.Dataset:
    """Fixed points of the flow, their eigenvalues and their kind.

    - ``minimum``: (w1, y/(x w1)) on the hyperbola, b = w2 or, for feedback alignment, b as given;
    - ``origin``: w1 = w2 = b = 0, unless feedback alignment's b is another;
    - ``line``: w1 = b = 0 with any w2, for feedback alignment if b is 0.

    Parameters
    ----------
    rule, x, y : as for `network_velocity`; y must not be 0 (the hyperbola would be the axes).
    positions : where along the families to take points: w1 on the hyperbola, w2 on the line;
        none of them 0.
    b : feedback alignment's backward weight; for that rule only.

    Returns
    -------
    Dataset over point: w1, w2, b, ``family``, ``stability`` (see `classify_eigenvalues`), and
    ``eigenvalue`` over (point, rank), ascending.

    Raises
    ------
    SpecError : an argument out of range.

    Source: thesis section 5.11.2.
    """
    dynamics, along = _dynamics(rule), array("positions", positions, axes=1)
    x, y = positive("x", x), number("y", y)
    _check_backward_weight(rule, b, needed=not dynamics.carries_forward_weight)
    if (along == 0).any() or y == 0:
        name = "positions" if y else "y"
        raise SpecError(f"'{name}' must not be 0 on the hyperbola w2 w1 = y/x, got 0")
    w2 = y / (x * along)
    minima = np.stack([along, w2, w2 if b is None else np.full_like(w2, b)], axis=-1)
    families = [("minimum", minima)]
    if not b:
        families.append(("origin", np.zeros((1, 3))))
    if b == 0:
        families.append(("line", along[:, None] * [0.0, 1.0, 0.0]))
    states = np.concatenate([points for _, points in families])
    values = network_eigenvalues(rule, states, x, y)
    return xr.Dataset(
        {
            **{name: ("point", states[:, i]) for i, name in enumerate(("w1", "w2", "b"))},
            "family": ("point", [name for name, points in families for _ in points]),
            "stability": ("point", classify_eigenvalues(values)),
            "eigenvalue": (("point", "rank"), values),
        }
    )


def _check_backward_weight(rule: str, b: float | None, needed: bool) -> None:
    if needed and b is None:
        raise SpecError(f"'b' must be given for {rule}, got None")
    if not needed and b is not None:
        raise SpecError(f"'b' must be left out for {rule}, where b = w2, got {b!r}")
    if b is not None:
        number("b", b)


def network_trajectory(
    rule: str,
    start: Sequence[float],
    times: npt.ArrayLike,
    x: float = 1.0,
    y: float = 1.0,
) -> xr.Dataset:
    """Learning from (w1, w2, b) at t = 0, integrated to a relative 1e-9.

    Parameters
    ----------
    rule, x, y : as for `network_velocity`.
    start : (w1, w2, b); for backprop b must equal w2.
    times : (time,), ascending from 0 or later, in units of 1/learning rate.

    Returns
    -------
    Dataset over time: w1, w2, b and ``excess_loss``, J less its minimum, (x/2)(w2 w1 − y/x)².
    """
    dynamics, t = _dynamics(rule), ascending("times", times)
    x, y = positive("x", x), number("y", y)
    origin = np.array(_parts(rule, start))
    if origin.shape != (3,):
        raise SpecError(f"'start' must be three numbers, got the shape {origin.shape[1:]} of them")
    solution = solve_ivp(
        lambda _, state: _velocity(dynamics, (state[0], state[1], state[2]), x, y),
        (0.0, t[-1]),
        origin,
        method="LSODA",
        t_eval=t,
        rtol=1e-9,
        atol=1e-12,
    )
    w1, w2, b = solution.y
    return xr.Dataset(
        {
            "w1": ("time", w1),
            "w2": ("time", w2),
            "b": ("time", b),
            "excess_loss": ("time", x / 2 * (w1 * w2 - y / x) ** 2),
        },
        coords={"time": t},
    )


def network_flow(
    rule: str,
    w1: npt.ArrayLike,
    w2: npt.ArrayLike,
    b: float | None = None,
    x: float = 1.0,
    y: float = 1.0,
) -> xr.Dataset:
    """The flow on a grid of forward weights: at b = w2, or at feedback alignment's b.

    For symmetric alignment b = w2 is the plane that attracts every trajectory; there w1 and w2 flow
    as in backprop.

    Parameters
    ----------
    rule, b, x, y : as for `network_fixed_points`, y any.
    w1, w2 : the grid's axes, each ascending; (w1,) and (w2,).

    Returns
    -------
    Dataset over (w2, w1): dw1, dw2, db.
    """
    dynamics = _dynamics(rule)
    _check_backward_weight(rule, b, needed=not dynamics.carries_forward_weight)
    columns, rows = array("w1", w1, axes=1), array("w2", w2, axes=1)
    first, second = np.meshgrid(columns, rows)
    carried = second if b is None else np.full_like(second, b)
    velocity = network_velocity(rule, np.stack([first, second, carried], axis=-1), x, y)
    return xr.Dataset(
        {f"d{name}": (("w2", "w1"), velocity[..., i]) for i, name in enumerate(("w1", "w2", "b"))},
        coords={"w1": columns, "w2": rows},
    )


def network_portrait(
    rule: str,
    b: float | None = None,
    x: float = 1.0,
    y: float = 1.0,
    reach: float = 3.0,
    duration: float = 20.0,
) -> xr.Dataset:
    """One rule's flow, fixed points and a ring of trajectories: what a phase portrait shows.

    Parameters
    ----------
    rule, x, y : as for `network_velocity`.
    b : the backward weight at t = 0 of the trajectories; feedback alignment keeps it. None only for
        backprop, where b ≡ w2.
    reach : how far the portrait extends from the origin in w1 and w2.
    duration : of the trajectories.

    Returns
    -------
    Dataset: dw1, dw2 and db over (w2, w1) (`network_flow`); fixed_w1, fixed_w2, family and
    stability over point (`network_fixed_points`); path_w1, path_w2 and path_b over (path, time),
    from 16 starts around the origin at 0.85 reach; attributes rule, x, y and b (NaN for none).
    """
    carries = _dynamics(rule).carries_forward_weight
    _check_backward_weight(rule, b, needed=rule != "backprop")
    kept = None if carries else b
    reach, duration = positive("reach", reach), positive("duration", duration)
    axis = np.linspace(-reach, reach, 61)
    arm = np.geomspace(abs(y) / (positive("x", x) * reach), reach, 200)
    points = network_fixed_points(rule, np.concatenate([-arm[::-1], arm]), kept, x, y)
    times = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 200) * duration])
    angles = 2 * np.pi * (np.arange(16) + 0.5) / 16
    starts = 0.85 * reach * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    paths = [
        network_trajectory(rule, (w1, w2, w2 if b is None else b), times, x, y) for w1, w2 in starts
    ]
    flow = network_flow(rule, axis, axis, kept, x, y)
    variables = {
        **{f"fixed_{name}": ("point", points[name].values) for name in ("w1", "w2")},
        **{name: ("point", points[name].values) for name in ("family", "stability")},
        **{
            f"path_{name}": (("path", "time"), np.array([path[name] for path in paths]))
            for name in ("w1", "w2", "b")
        },
    }
    about = {"rule": rule, "x": float(x), "y": float(y), "b": np.nan if b is None else float(b)}
    return flow.assign(variables).assign_coords(time=times).assign_attrs(about)
