"""Are the probabilities right as often as they say? Reliability curves, calibration error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.calibration.bins import Bins, binned
from goaldriven.identify.calibration.checks import (
    Indices,
    Matrix,
    Vector,
    at_least,
    network_labels,
    open_unit,
    probability_rows,
    rule_indices,
    rule_names,
)
from goaldriven.identify.calibration.networks import count_networks, wilson

CURVE = (
    "rule", "bin", "left", "right", "confidence", "accuracy", "count", "networks", "low", "high",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Claim:
    """Probabilities claimed for one event each, and when the event is a hit.

    ``rule`` is the column it is about, None for the rule that is called.
    """

    rule: int | None
    confidence: Vector
    called: Indices

    def hits(self, truth: Indices) -> Vector:
        return (self.called == truth).astype(np.float64)


def _top(p: Matrix) -> list[_Claim]:
    return [_Claim(None, p.max(axis=1), p.argmax(axis=1))]


def _classwise(p: Matrix) -> list[_Claim]:
    return [_Claim(k, p[:, k], np.full(len(p), k)) for k in range(p.shape[1])]


KINDS: dict[str, Callable[[Matrix], list[_Claim]]] = {"top": _top, "classwise": _classwise}


def _claims(p: Matrix, kind: str) -> list[_Claim]:
    if kind not in KINDS:
        raise IdentificationError(unknown("kind", kind, KINDS))
    return KINDS[kind](p)


def reliability_curve(
    probabilities: ArrayLike,
    truth: ArrayLike,
    n_bins: int = 10,
    kind: str = "top",
    *,
    binning: str = "width",
    rules: Sequence[str] | None = None,
    networks: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Accuracy against confidence, in bins of confidence; calibrated means equal.

    Parameters
    ----------
    probabilities, truth, rules : see `brier_score`.
    n_bins, binning : bins of equal ``"width"`` over 0…1, or of equal ``"count"`` of rows.
    kind : ``"top"``, the highest probability and whether its rule is the true one, or
        ``"classwise"``, the probability of each rule and whether it is the true one.
    networks : of each row. The interval takes as many independent trials as there are different
        networks in the bin; without, as there are rows.

    Returns
    -------
    pd.DataFrame
        One row per bin that is not empty (and rule): ``rule`` ("top", or the rule), ``bin``,
        ``left``, ``right``, mean ``confidence``, ``accuracy``, ``count`` of rows, ``networks``,
        and the Wilson interval ``low``, ``high`` of the accuracy.

    Raises
    ------
    IdentificationError : not probabilities, an unknown rule, kind or binning.

    Source: DeGroot & Fienberg, 1983, Statistician 32, 12; Kull et al. 2019 (classwise).
    """
    p, true, names, labels = _prepared(probabilities, truth, rules, networks)
    frames = [
        _curve(claim, claim.hits(true), binned(claim.confidence, n_bins, binning), labels, level)
        .assign(rule="top" if claim.rule is None else names[claim.rule])
        for claim in _claims(p, kind)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)[list(CURVE)]


def _curve(
    claim: _Claim, hits: Vector, bins: Bins, networks: NDArray[Any], level: float
) -> pd.DataFrame:
    occupied, counts = np.unique(bins.of_row, return_counts=True)
    n = np.array([count_networks(networks[bins.of_row == b]) for b in occupied])
    confidence, accuracy = (
        np.bincount(bins.of_row, weights=v)[occupied] / counts for v in (claim.confidence, hits)
    )
    low, high = wilson(accuracy, n, level)
    return pd.DataFrame(
        {"bin": occupied, "left": bins.edges[occupied], "right": bins.edges[occupied + 1],
         "confidence": confidence, "accuracy": accuracy, "count": counts, "networks": n,
         "low": low, "high": high}
    )  # fmt: skip


def expected_calibration_error(
    probabilities: ArrayLike,
    truth: ArrayLike,
    n_bins: int = 10,
    *,
    binning: str = "width",
    kind: str = "top",
    rules: Sequence[str] | None = None,
) -> float:
    """Mean gap between confidence and accuracy, ECE = Σ_b (N_b/N) |accuracy_b − confidence_b|.

    For ``kind="classwise"`` the mean of that over the rules. It is biased upwards: a perfectly
    calibrated model has about Σ_b √(2 N_b c_b(1 − c_b)/π) / N, more with fewer rows and with more
    bins; `calibration_error` gives that reference beside the value. Parameters and errors as of
    `reliability_curve`.
    Sources: Naeini, Cooper & Hauskrecht, 2015, AAAI; Kull et al., 2019, NeurIPS.
    """
    p, true, *_ = _prepared(probabilities, truth, rules, None)
    return _error(_with_bins(_claims(p, kind), n_bins, binning), true)


@dataclass(frozen=True)
class CalibrationError:
    """An expected calibration error with that of a perfectly calibrated model.

    Attributes
    ----------
    value : the expected calibration error.
    expected : what it would be on average were the probabilities right.
    low, high : within which it would then lie, with the stated level (the consistency band).
    p : chance of a value as large were the probabilities right.
    """

    value: float
    expected: float
    low: float
    high: float
    p: float

    @property
    def debiased(self) -> float:
        """value − expected; near 0, and negative as often as not, for a calibrated model."""
        return self.value - self.expected


def calibration_error(
    probabilities: ArrayLike,
    truth: ArrayLike,
    rng: np.random.Generator,
    n_bins: int = 10,
    *,
    binning: str = "width",
    kind: str = "top",
    rules: Sequence[str] | None = None,
    networks: ArrayLike | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> CalibrationError:
    """Expected calibration error, held against the one that chance alone would give.

    Consistency resampling: each row's true rule is drawn anew from its own probabilities, and the
    error computed as before. Rows of one network (tested under several splits, say) have one rule;
    they draw it with one uniform number, from the inverse of their distribution functions.
    p = (1 + number of resamples with an error as large) / (1 + resamples).
    Sources: Bröcker & Smith, 2007, Weather Forecast. 22, 651; Vaicenavicius et al., 2019, AISTATS.

    Raises
    ------
    IdentificationError : see `reliability_curve`; no resamples.
    """
    at_least(n_resamples, 1, "n_resamples")
    p, true, _, labels = _prepared(probabilities, truth, rules, networks)
    claims = _with_bins(_claims(p, kind), n_bins, binning)
    value = _error(claims, true)
    draws = np.array([_error(claims, t) for t in consistent_truths(p, labels, rng, n_resamples)])
    tail = (1 - open_unit(level, "level")) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    # Equal errors may differ by rounding.
    p_value = (1 + np.sum(draws >= value - 1e-12)) / (1 + n_resamples)
    return CalibrationError(value, float(draws.mean()), float(low), float(high), float(p_value))


def consistent_truths(
    p: Matrix, networks: NDArray[Any], rng: np.random.Generator, n_resamples: int
) -> list[Indices]:
    """True rules drawn from the probabilities themselves, one uniform number per network."""
    cumulated = np.cumsum(p, axis=1)[:, :-1]  # the last is 1, give or take rounding
    _, member = np.unique(networks, return_inverse=True)
    member = member.reshape(-1)
    n = int(member.max()) + 1
    return [np.sum(rng.random(n)[member][:, None] > cumulated, axis=1) for _ in range(n_resamples)]


def _with_bins(claims: list[_Claim], n_bins: int, binning: str) -> list[tuple[_Claim, Indices]]:
    return [(claim, binned(claim.confidence, n_bins, binning).of_row) for claim in claims]


def _error(claims: list[tuple[_Claim, Indices]], truth: Indices) -> float:
    gaps = [
        np.abs(np.bincount(bins, weights=claim.hits(truth) - claim.confidence)).sum() / len(truth)
        for claim, bins in claims
    ]
    return float(np.mean(gaps))


def _prepared(
    probabilities: ArrayLike,
    truth: ArrayLike,
    rules: Sequence[str] | None,
    networks: ArrayLike | None,
) -> tuple[Matrix, Indices, tuple[str, ...], NDArray[Any]]:
    p = probability_rows(probabilities)
    true = rule_indices(truth, p.shape, rules)
    return p, true, rule_names(rules, p.shape[1]), network_labels(networks, len(p))
