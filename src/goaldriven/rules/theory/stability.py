"""What the eigenvalues of a linearised flow say of a fixed point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from goaldriven.rules.theory.arguments import array

ROUNDING = 1e-9
"""Eigenvalues this small, relative to the largest, count as 0."""


def classify_eigenvalues(values: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """The kind of fixed point, from the real parts of −(Jacobian)'s eigenvalues.

    ``sink`` if none is negative, ``source`` if none is positive, ``saddle`` if there are both,
    ``neutral`` if all are 0 (within 1e-9 of the largest, or of 1 if that is larger).

    Parameters
    ----------
    values : (…, eigenvalue).

    Source: the thesis' definition, section 5.11.2.

    >>> classify_eigenvalues([[0, 0, 2], [0, 0, -1], [-1, 0, 1], [0, 0, 0]]).tolist()
    ['sink', 'source', 'saddle', 'neutral']
    """
    given = array("values", values)
    tolerance = ROUNDING * np.maximum(np.abs(given).max(axis=-1, keepdims=True), 1.0)
    attracts, repels = (given > tolerance).any(axis=-1), (given < -tolerance).any(axis=-1)
    return np.select(
        [attracts & repels, attracts, repels], ["saddle", "sink", "source"], default="neutral"
    )
