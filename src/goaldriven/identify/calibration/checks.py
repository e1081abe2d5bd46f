"""What these functions accept: probabilities over rules, true rules, networks, levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import IdentificationError, unknown

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Indices = NDArray[np.intp]

SUM_TOLERANCE = 1e-5  # rows of single-precision probabilities sum to 1 within this


def probability_rows(probabilities: ArrayLike, name: str = "probabilities") -> Matrix:
    """The array as float64, (row, rule); every row a distribution over at least two rules.

    Raises
    ------
    IdentificationError : another shape, no rows, not finite, outside 0…1, or a row that does not
        sum to 1.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] < 2:
        raise IdentificationError(
            f"{name} must have shape (row, rule) with a row and two rules at least, "
            f"got {rows.shape}"
        )
    finite_rows(rows, name)
    if rows.min() < 0 or rows.max() > 1 + SUM_TOLERANCE:
        raise IdentificationError(f"{name} must lie in 0…1, got {rows.min():.4g}…{rows.max():.4g}")
    sums = rows.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > SUM_TOLERANCE:
        raise IdentificationError(
            f"{name} must sum to 1 over the rules, got {sums[worst]:.6g} in row {worst}"
        )
    return rows


def finite_rows(rows: NDArray[np.float64], name: str) -> None:
    """Raises IdentificationError where a number is not finite; names the first such row."""
    bad = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))
    if len(bad):
        raise IdentificationError(
            f"{name} must be finite, got NaN or infinity in {len(bad)} rows (the first is {bad[0]})"
        )


def rule_indices(
    truth: ArrayLike, shape: tuple[int, ...], rules: Sequence[str] | None = None
) -> Indices:
    """The true rule of each row as the index of its column, of scores of shape (row, rule).

    ``truth`` holds names where ``rules`` gives the columns' names, otherwise indices.

    Raises
    ------
    IdentificationError : another length than the rows, names without ``rules``, or an unknown rule.
    """
    n_rows, n_rules = shape
    given = np.asarray(truth)
    if given.shape != (n_rows,):
        raise IdentificationError(
            f"truth must have one rule per row, {n_rows}, got shape {given.shape}"
        )
    if rules is None:
        if not np.issubdtype(given.dtype, np.integer):
            raise IdentificationError(
                f"truth must hold indices of columns unless rules are given, got {given.dtype}"
            )
        if given.min() < 0 or given.max() >= n_rules:
            wrong = given[(given < 0) | (given >= n_rules)][0]
            raise IdentificationError(f"truth must lie in 0…{n_rules - 1}, got {wrong}")
        return given.astype(np.intp)
    column = {name: k for k, name in enumerate(rule_names(rules, n_rules))}
    names = [str(name) for name in given.tolist()]
    for name in names:
        if name not in column:
            raise IdentificationError(unknown("truth", name, column))
    return np.array([column[name] for name in names], dtype=np.intp)


def rule_names(rules: Sequence[str] | None, n_rules: int) -> tuple[str, ...]:
    """Names of the columns, as given or "0", "1", …

    Raises
    ------
    IdentificationError : not one different name per column.
    """
    if rules is None:
        return tuple(str(k) for k in range(n_rules))
    names = tuple(str(name) for name in rules)
    if len(names) != n_rules or len(set(names)) != n_rules:
        raise IdentificationError(
            f"rules must name the {n_rules} columns, each differently, got {list(names)}"
        )
    return names


def network_labels(networks: ArrayLike | None, n_rows: int) -> NDArray[Any]:
    """The network of each row; without ``networks`` every row is a network of its own.

    Raises
    ------
    IdentificationError : another length than the rows.
    """
    if networks is None:
        return np.arange(n_rows)
    labels = np.asarray(networks)
    if labels.shape != (n_rows,):
        raise IdentificationError(
            f"networks must name one network per row, {n_rows}, got shape {labels.shape}"
        )
    return labels


def open_unit(value: float, name: str) -> float:
    """A number strictly between 0 and 1.

    Raises
    ------
    IdentificationError : it is not.
    """
    if not 0 < value < 1:
        raise IdentificationError(f"{name} must lie between 0 and 1, got {value}")
    return float(value)


def at_least(value: int, least: int, name: str) -> int:
    """A whole number not below ``least``.

    Raises
    ------
    IdentificationError : it is smaller.
    """
    if value < least:
        raise IdentificationError(f"{name} must be at least {least}, got {value}")
    return int(value)
