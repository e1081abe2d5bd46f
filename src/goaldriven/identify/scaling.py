"""Transformations fitted on the training part: scaling of features and principal axes.

The layer's position, the first three columns, passes through unchanged and stays in front.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from goaldriven.identify.features import N_POSITIONS

Matrix = NDArray[np.float64]

STD_FLOOR = 1e-5
# Axes along which the training part spreads less than this, relative to the first, are rounding.
SMALLEST_AXIS = 1e-6


def _split(x: Matrix) -> tuple[Matrix, Matrix]:
    x = np.asarray(x, dtype=float)
    return x[:, :N_POSITIONS], x[:, N_POSITIONS:]


class ZScore(TransformerMixin, BaseEstimator):
    """(x − mean) / max(std, 1e-5), with mean and population std of the training part.

    Source: lr-identify ``utils.py``; thesis section 6.3.9.
    """

    def fit(self, x: Matrix, y: object = None) -> ZScore:
        _, continuous = _split(x)
        self.mean_ = continuous.mean(axis=0)
        self.scale_ = np.maximum(continuous.std(axis=0), STD_FLOOR)
        return self

    def transform(self, x: Matrix) -> Matrix:
        check_is_fitted(self)
        position, continuous = _split(x)
        return np.hstack([position, (continuous - self.mean_) / self.scale_])


class Ranks(TransformerMixin, BaseEstimator):
    """Where a value stands among the training part's, from −√3 to √3.

    The empirical distribution function is interpolated between ``n_knots`` quantiles q of the
    training part, F(x) = mean over k of clip((x − q_k) / (q_{k+1} − q_k), 0, 1), and scaled to
    the variance 1 of evenly spread values, 2√3·(F(x) − ½). Statistics of different tasks,
    architectures and layers differ by orders of magnitude; ranks see their order and no outliers.

    Where neighbouring quantiles coincide that is a step, with ½ at the value itself.
    """

    def __init__(self, n_knots: int = 17) -> None:
        self.n_knots = n_knots

    def fit(self, x: Matrix, y: object = None) -> Ranks:
        _, continuous = _split(x)
        # Quantiles by linear interpolation; sorting outright is quicker than np.quantile here.
        ordered = np.sort(continuous, axis=0)
        places = np.linspace(0, len(ordered) - 1, self.n_knots)
        below = np.floor(places).astype(int)
        above = np.ceil(places).astype(int)
        share = (places - below)[:, None]
        self.knots_ = ordered[below] * (1 - share) + ordered[above] * share
        return self

    def transform(self, x: Matrix) -> Matrix:
        check_is_fitted(self)
        position, continuous = _split(x)
        place = self._between_knots(continuous) / (self.n_knots - 1)
        return np.hstack([position, 2 * np.sqrt(3) * (place - 0.5)])

    def _between_knots(self, x: Matrix) -> Matrix:
        """Each value's place among the knots 0…K−1, between them by linear interpolation."""
        below = np.zeros(x.shape, dtype=np.int16)  # knots smaller than the value
        equal = np.zeros(x.shape, dtype=np.int16)
        for knot in self.knots_:
            below += x > knot
            equal += x == knot
        last = self.n_knots - 1
        low = np.take_along_axis(self.knots_, np.clip(below - 1, 0, last), axis=0)
        high = np.take_along_axis(self.knots_, np.clip(below, 0, last), axis=0)
        inside = (below > 0) & (below <= last) & (equal == 0)
        share = np.divide(x - low, high - low, out=np.zeros_like(x), where=inside)
        between = np.clip(below - 1 + share, 0, last)
        # On a knot, or on several that coincide: in the middle of them.
        return np.where(equal > 0, below + (equal - 1) / 2, between)


class PrincipalAxes(TransformerMixin, BaseEstimator):
    """Coordinates along the principal axes of the training part, largest variance first.

    With all axes this is a rotation of the training part's own space: a linear classifier with an
    L2 penalty, which only sees inner products, is the same before and after, and far fewer
    coordinates than features make it quick. The axes come from the eigenvectors of the smaller of
    the Gram and the scatter matrix.
    """

    def fit(self, x: Matrix, y: object = None) -> PrincipalAxes:
        _, continuous = _split(x)
        self.mean_ = continuous.mean(axis=0)
        centred = continuous - self.mean_
        n, p = centred.shape
        small = centred @ centred.T if n < p else centred.T @ centred
        squares, vectors = np.linalg.eigh(small)
        squares, vectors = squares[::-1], vectors[:, ::-1]
        keep = squares > max(squares[0], 0.0) * SMALLEST_AXIS**2
        squares, vectors = squares[keep], vectors[:, keep]
        axes = (vectors / np.sqrt(squares)).T @ centred if n < p else vectors.T
        self.axes_ = axes  # (axis, feature), orthonormal rows
        return self

    def transform(self, x: Matrix) -> Matrix:
        check_is_fitted(self)
        position, continuous = _split(x)
        return np.hstack([position, (continuous - self.mean_) @ self.axes_.T])


class TooFewAxes(ValueError):
    """More principal axes are asked for than the training part has."""


class FirstAxes(TransformerMixin, BaseEstimator):
    """The first ``n_components`` principal axes: PCA. None keeps all."""

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    def fit(self, x: Matrix, y: object = None) -> FirstAxes:
        available = x.shape[1] - N_POSITIONS
        if self.n_components is not None and self.n_components > available:
            raise TooFewAxes(
                f"n_components must be at most the {available} principal axes of the training "
                f"part, got {self.n_components}"
            )
        self.n_kept_ = available if self.n_components is None else self.n_components
        return self

    def transform(self, x: Matrix) -> Matrix:
        check_is_fitted(self)
        return np.asarray(x)[:, : N_POSITIONS + self.n_kept_]
