"""What the functions of `goaldriven.rules.theory` accept; anything else is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from goaldriven.errors import SpecError, unknown

Array = npt.NDArray[np.float64]

_RULES: dict[str, dict[str, float]] = {
    "feedback_alignment": {},
    "weight_mirror": {"amp": 1.0, "decay": 1.0},
    "information_alignment": {"amp": 1.0, "decay": 1.0, "null": 1.0},
    "symmetric_alignment": {"decay": 1.0, "self": 1.0},
    "activation_alignment": {"amp": 1.0, "sparse": 1.0},
}
_FREE_DECAY = ("weight_mirror", "information_alignment")
_PRIMITIVES = ("amp", "decay", "null", "self", "sparse")


def primitive_weights(
    rule: str | Mapping[str, float], decay: float | None = None
) -> dict[str, float]:
    """The weight of each primitive in a rule's alignment loss R = Σ weight · primitive.

    Parameters
    ----------
    rule : ``feedback_alignment``, ``weight_mirror``, ``information_alignment``,
        ``symmetric_alignment`` or ``activation_alignment``, whose weights are then 1; or weights
        of one's own, such as ``{"amp": 1, "decay": 0.1, "null": 4}``.
    decay : λ, the weight of decay in a weight mirror or information alignment; 1 if not given.
        Symmetric alignment has a decay too, but not one to be chosen apart: see Raises.

    Returns
    -------
    A new dictionary with all of amp, decay, null, self and sparse; 0 for those not in the rule.

    Raises
    ------
    SpecError : an unknown name, a weight that is negative or not finite, or ``decay`` together with
        weights of one's own or with a rule that has no free decay.

    Source: Kunin et al. 2020, Tables 1 and 2 (thesis Tables 5.1 and 5.2).

    >>> primitive_weights("weight_mirror", decay=0.5)
    {'amp': 1.0, 'decay': 0.5, 'null': 0.0, 'self': 0.0, 'sparse': 0.0}
    """
    if isinstance(rule, str):
        if rule not in _RULES:
            raise SpecError(unknown("rule", rule, _RULES))
        given: Mapping[str, float] = _RULES[rule]
    else:
        given = rule
    for name in given:
        if name not in _PRIMITIVES:
            raise SpecError(unknown("primitive", name, _PRIMITIVES))
    weights = {
        name: number(f"weight of {name}", given.get(name, 0.0), least=0.0) for name in _PRIMITIVES
    }
    if decay is not None:
        if rule not in _FREE_DECAY:
            raise SpecError(f"'decay' must be left out unless 'rule' is one of "
                            f"{', '.join(_FREE_DECAY)}, got {decay!r} with {rule!r}")  # fmt: skip
        weights["decay"] = number("decay", decay, least=0.0)
    return weights


def number(name: str, value: object, least: float = -np.inf) -> float:
    """A finite number not below ``least``."""
    scalar = np.asarray(value)
    given = float(scalar) if scalar.ndim == 0 and scalar.dtype.kind in "iuf" else np.nan
    if not np.isfinite(given) or given < least:
        bound = f" of at least {least:g}" if np.isfinite(least) else ""
        raise SpecError(f"'{name}' must be a finite number{bound}, got {value!r}")
    return given


def positive(name: str, value: object) -> float:
    """A finite number above 0."""
    given = number(name, value)
    if given <= 0:
        raise SpecError(f"'{name}' must be above 0, got {value!r}")
    return given


def count(name: str, value: object) -> int:
    """A whole number of at least 1."""
    given = number(name, value, least=1)
    if given != int(given):
        raise SpecError(f"'{name}' must be a whole number, got {value!r}")
    return int(given)


def array(name: str, value: npt.ArrayLike, axes: int | None = None) -> Array:
    """Finite real numbers as a new array of float64, with so many axes (any if None)."""
    try:
        given = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise SpecError(f"'{name}' must be an array of real numbers, got {value!r}") from None
    if axes is not None and given.ndim != axes:
        raise SpecError(f"'{name}' must have {axes} axes, got the shape {given.shape}")
    if not np.isfinite(given).all():
        raise SpecError(f"'{name}' must be finite, got {int((~np.isfinite(given)).sum())} that are "
                        "not")  # fmt: skip
    return given


def ascending(name: str, value: npt.ArrayLike) -> Array:
    """A vector of at least one number that ascends from 0 or later."""
    given = array(name, value, axes=1)
    if given.size == 0 or given[0] < 0 or (np.diff(given) <= 0).any():
        raise SpecError(f"'{name}' must ascend from 0 or later, got {value!r}")
    return given


def whole_steps(value: npt.ArrayLike) -> Array:
    """Numbers of steps: an ascending vector of whole numbers."""
    given = ascending("steps", value)
    if (given != np.round(given)).any():
        raise SpecError(f"'steps' must be whole numbers, got {value!r}")
    return given


def like_weight(name: str, value: npt.ArrayLike, weight: Array) -> Array:
    """A matrix of the shape of the forward weight."""
    given = array(name, value, axes=2)
    if given.shape != weight.shape:
        raise SpecError(f"'{name}' must have the forward weight's shape {weight.shape}, "
                        f"got {given.shape}")  # fmt: skip
    return given


def second_moment_matrix(value: npt.ArrayLike, inputs: int) -> Array:
    """C = E[x xᵀ], (inputs, inputs); a number σ² stands for white noise, σ² I."""
    given = array("second_moment", value)
    if given.ndim == 0:
        return number("second_moment", given, least=0.0) * np.eye(inputs)
    if given.shape != (inputs, inputs):
        raise SpecError(f"'second_moment' must be a number or have the shape {(inputs, inputs)}, "
                        f"got {given.shape}")  # fmt: skip
    scale = np.abs(given).max(initial=0.0)
    if not np.allclose(given, given.T, rtol=0, atol=1e-9 * scale):
        raise SpecError("'second_moment' must be symmetric, got a matrix that is not")
    least = np.linalg.eigvalsh(given).min(initial=0.0)
    if least < -1e-9 * scale:
        raise SpecError(f"'second_moment' must have no negative eigenvalue, got {least:.3g}")
    return (given + given.T) / 2
