"""Proper scores of probabilities over rules: Brier with its parts, and the log score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import log_loss

from goaldriven.identify.calibration.bins import binned
from goaldriven.identify.calibration.checks import Vector, probability_rows, rule_indices


def brier_score(
    probabilities: ArrayLike, truth: ArrayLike, rules: Sequence[str] | None = None
) -> float:
    """Mean squared distance of the probabilities from the truth.

    B = (1/N) Σ_i Σ_k (p_ik − o_ik)², o_ik = 1 for the true rule and 0 otherwise; from 0 to 2. The
    sum goes over all rules: for two it is twice the score that is common there.
    Source: Brier, 1950, Mon. Weather Rev. 78, 1.

    Parameters
    ----------
    probabilities : (row, rule), rows are layers or networks.
    truth : (row,), the index of the true rule's column; its name where ``rules`` are given.
    rules : names of the columns.

    Raises
    ------
    IdentificationError : not probabilities, or an unknown rule.
    """
    p, true = _checked(probabilities, truth, rules)
    return float(np.mean(np.sum((p - np.eye(p.shape[1])[true]) ** 2, axis=1)))


@dataclass(frozen=True)
class BrierParts:
    """Parts of a Brier score, summed over the rules; see `brier_decomposition`."""

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float

    @property
    def total(self) -> float:
        """The Brier score: reliability − resolution + uncertainty + within_bins."""
        return self.reliability - self.resolution + self.uncertainty + self.within_bins


def brier_decomposition(
    probabilities: ArrayLike,
    truth: ArrayLike,
    rules: Sequence[str] | None = None,
    n_bins: int | None = None,
) -> BrierParts:
    """How much of the Brier score is miscalibration, and how much the rules' variety.

    For each rule k the rows are put into bins b by p_k, N_b rows with mean probability p̄_b and
    share ō_b of the rule, ō over all:

        reliability = Σ_b (N_b/N)(p̄_b − ō_b)²
        resolution = Σ_b (N_b/N)(ō_b − ō)²
        uncertainty = ō(1 − ō)
        within_bins = Σ_b (N_b/N)(var_b(p) − 2 cov_b(p, o))

    and B = reliability − resolution + uncertainty + within_bins exactly. A bin holds rows of equal
    p_k (within_bins = 0, Murphy's decomposition), or ``n_bins`` bins are of equal width. With few
    rows in a bin, reliability and resolution are both biased upwards, by the same amount.
    Sources: Murphy, 1973, J. Appl. Meteorol. 12, 595; Stephenson et al., 2008, Weather Forecast.
    23, 752.

    Raises
    ------
    IdentificationError : see `brier_score`; no bins.
    """
    p, true = _checked(probabilities, truth, rules)
    hits = np.eye(p.shape[1])[true]
    parts = np.array([_parts(p[:, k], hits[:, k], n_bins) for k in range(p.shape[1])]).sum(axis=0)
    return BrierParts(*parts.tolist())


def _parts(p: Vector, hit: Vector, n_bins: int | None) -> Vector:
    """Reliability, resolution, uncertainty and within_bins of one rule."""
    if n_bins is None:
        bins = np.unique(p, return_inverse=True)[1].reshape(-1)
    else:
        bins = binned(p, n_bins, "width").of_row
    _, bins, counts = np.unique(bins, return_inverse=True, return_counts=True)
    bins = bins.reshape(-1)
    share = counts / len(p)
    p_mean, hit_mean = (np.bincount(bins, weights=v) / counts for v in (p, hit))
    base = hit.mean()
    around_p, around_hit = p - p_mean[bins], hit - hit_mean[bins]
    return np.array(
        [
            np.sum(share * (p_mean - hit_mean) ** 2),
            np.sum(share * (hit_mean - base) ** 2),
            base * (1 - base),
            np.mean(around_p**2 - 2 * around_p * around_hit),
        ]
    )


def log_score(
    probabilities: ArrayLike, truth: ArrayLike, rules: Sequence[str] | None = None
) -> float:
    """Mean surprise at the true rule in nats, −(1/N) Σ_i ln p_i,true; 0 is best.

    Forests give probabilities of exactly 0; those count as the machine epsilon, some 36 nats.
    Source: Good, 1952, J. R. Stat. Soc. B 14, 107.

    Raises
    ------
    IdentificationError : see `brier_score`.
    """
    p, true = _checked(probabilities, truth, rules)
    p = p / p.sum(axis=1, keepdims=True)
    return float(log_loss(true, p, labels=np.arange(p.shape[1])))


def _checked(
    probabilities: ArrayLike, truth: ArrayLike, rules: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    p = probability_rows(probabilities)
    return p, rule_indices(truth, p.shape, rules)
