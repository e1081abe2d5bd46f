"""One number that makes probabilities less, or more, sure of themselves: temperature scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration.checks import (
    Indices,
    Matrix,
    at_least,
    network_labels,
    open_unit,
    probability_rows,
    rule_indices,
)
from goaldriven.identify.calibration.networks import (
    average_over_layers,
    bootstrap_by_network,
    first_of_each,
)
from goaldriven.identify.calibration.reliability import (
    consistent_truths,
    expected_calibration_error,
)
from goaldriven.identify.calibration.scores import brier_score, log_score

# Were all networks told right, the best temperature would be 0: it is kept within these.
COLDEST, HOTTEST = 0.05, 20.0

TABLE = (
    "metric", "value", "low", "high", "expected", "expected_low", "expected_high", "p", "networks",
)  # fmt: skip


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature; see `fit_temperature`.

    Attributes
    ----------
    value : T; above 1 the probabilities were too sure, below 1 not sure enough.
    floor : under which a probability counts as the floor.
    n_networks : that it was fitted on.
    at_bound : it stopped at 0.05 or 20: the networks are too few, or too easy, to tell it.
    """

    value: float
    floor: float
    n_networks: int
    at_bound: bool


def fit_temperature(
    scores: ArrayLike,
    truth: ArrayLike,
    networks: ArrayLike | None = None,
    *,
    rules: Sequence[str] | None = None,
    floor: float | None = None,
) -> Temperature:
    """The temperature under which the true rules are least surprising.

    T = argmin −Σ_i ln q_i,true with q_ik = p_ik^(1/T) / Σ_j p_ij^(1/T), p_i the mean scores of
    network i over its layers. The sum is convex in 1/T. Order, and so every verdict, is unchanged.

    Parameters
    ----------
    scores : (example, rule), out-of-fold on the training part of a split, the folds by network:
        scores of examples that the classifier was fitted on look surer than those of new ones.
    truth : (example,), index of the true rule's column, or its name where ``rules`` are given.
    networks : of each example; without, every row is a network.
    floor : forests give probabilities of exactly 0, which no temperature changes; anything below
        the floor is raised to it. By default half the smallest positive probability in ``scores``.

    Raises
    ------
    IdentificationError : not probabilities, an unknown rule, fewer than two networks, or a floor
        outside 0…1.

    Source: Guo et al., 2017, ICML (temperature scaling of logits; here of log probabilities).
    """
    p, true = _by_network(scores, truth, networks, rules)
    at_least(len(p), 2, "number of networks")
    lowest = p[p > 0].min() / 2 if floor is None else open_unit(floor, "floor")
    logs = np.log(np.maximum(p, lowest))
    rows = np.arange(len(p))

    def surprise(log_t: float) -> float:
        scaled = logs / np.exp(log_t)
        top = scaled.max(axis=1, keepdims=True)
        total = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
        return float(np.mean(total - scaled[rows, true]))

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    at_bound = min(found.x - bounds[0], bounds[1] - found.x) < 1e-3
    return Temperature(float(np.exp(found.x)), float(lowest), len(p), bool(at_bound))


def calibrated_probabilities(
    scores: ArrayLike, temperature: Temperature, networks: ArrayLike | None = None
) -> Matrix:
    """Probabilities of the rules for each network at a temperature, (network, rule).

    q_k = p_k^(1/T) / Σ_j p_j^(1/T), p the mean score over the network's layers; networks in the
    order in which they first occur.

    Raises
    ------
    IdentificationError : not probabilities, or another number of networks than rows.

    Source: Guo et al., 2017, ICML.
    """
    p = probability_rows(scores, "scores")
    if networks is not None:
        p = average_over_layers(p, networks)[1]
    logs = np.log(np.maximum(p, temperature.floor)) / temperature.value
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def calibration_table(
    probabilities: ArrayLike,
    truth: ArrayLike,
    rng: np.random.Generator,
    *,
    networks: ArrayLike | None = None,
    rules: Sequence[str] | None = None,
    n_bins: int = 10,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Brier score, log score and calibration errors, and what they were if calibrated.

    Parameters
    ----------
    probabilities : (row, rule), rows are verdicts on networks; a network may have several rows,
        from several splits.
    n_bins : of the calibration errors, ``ece`` (highest probability, bins of equal width),
        ``ece_equal_count`` and ``ece_classwise`` (bins of equal width).

    Returns
    -------
    pd.DataFrame
        One row per ``metric``: ``value``, with ``low`` and ``high`` from a bootstrap over networks
        (NaN for calibration errors: drawing again raises them), and were the probabilities right
        the ``expected`` value, the band ``expected_low``, ``expected_high``, and ``p``, the chance
        of a value as large; ``networks``, how many.

    Raises
    ------
    IdentificationError : see `brier_score`, `calibration_error`.
    """
    p = probability_rows(probabilities)
    true = rule_indices(truth, p.shape, rules)
    labels = network_labels(networks, len(p))
    at_least(n_resamples, 1, "n_resamples")
    tail = (1 - open_unit(level, "level")) / 2
    truths = consistent_truths(p, labels, rng, n_resamples)
    rows = []
    for name, metric in _metrics(n_bins).items():
        value = metric(p, true)
        low = high = np.nan
        if not name.startswith("ece"):
            low, high = bootstrap_by_network(
                _on_rows(metric, p, true), labels, true, rng, n_resamples, level
            )
        draws = np.array([metric(p, t) for t in truths])
        band = np.quantile(draws, [tail, 1 - tail])
        p_value = (1 + np.sum(draws >= value - 1e-12)) / (1 + n_resamples)
        n = len(np.unique(labels))
        rows.append((name, value, low, high, draws.mean(), *band, p_value, n))
    return pd.DataFrame(rows, columns=list(TABLE))


def before_and_after(
    training: tuple[ArrayLike, ArrayLike, ArrayLike],
    tested: tuple[ArrayLike, ArrayLike, ArrayLike],
    rng: np.random.Generator,
    *,
    rules: Sequence[str] | None = None,
    n_bins: int = 10,
    n_resamples: int = 1000,
) -> tuple[Temperature, pd.DataFrame]:
    """Fit a temperature on training networks and report calibration on the tested ones.

    Parameters
    ----------
    training, tested : scores (example, rule), truth and networks (example,); the scores of the
        training part out-of-fold.

    Returns
    -------
    Temperature
    pd.DataFrame : `calibration_table` of the tested networks with ``stage`` (before, after) and
        ``temperature`` (1 before).

    Raises
    ------
    IdentificationError : a network is both trained on and tested; see `fit_temperature`.
    """
    both = np.intersect1d(np.asarray(training[2]), np.asarray(tested[2]))
    if len(both):
        raise IdentificationError(
            f"networks must be either of the training or of the tested part, got {both[0]} in both"
        )
    temperature = fit_temperature(*training, rules=rules)
    p, true = _by_network(*tested, rules)
    stages = {
        "before": (1.0, p),
        "after": (temperature.value, calibrated_probabilities(p, temperature)),
    }
    frames = []
    for stage, (value, q) in stages.items():
        table = calibration_table(q, true, rng, n_bins=n_bins, n_resamples=n_resamples)
        frames.append(table.assign(stage=stage, temperature=value))
    return temperature, pd.concat(frames, ignore_index=True)[["stage", "temperature", *TABLE]]


Metric = Callable[[Matrix, Indices], float]


def _metrics(n_bins: int) -> dict[str, Metric]:
    return {
        "brier": brier_score,
        "log": log_score,
        "ece": lambda p, t: expected_calibration_error(p, t, n_bins),
        "ece_equal_count": lambda p, t: expected_calibration_error(p, t, n_bins, binning="count"),
        "ece_classwise": lambda p, t: expected_calibration_error(p, t, n_bins, kind="classwise"),
    }


def _on_rows(metric: Metric, p: Matrix, true: Indices) -> Callable[[Indices], float]:
    return lambda rows: metric(p[rows], true[rows])


def _by_network(
    scores: ArrayLike,
    truth: ArrayLike,
    networks: ArrayLike | None,
    rules: Sequence[str] | None,
) -> tuple[Matrix, Indices]:
    """Mean scores and true rule of each network."""
    p = probability_rows(scores, "scores")
    true = rule_indices(truth, p.shape, rules)
    if networks is None:
        return p, true
    return average_over_layers(p, networks)[1], first_of_each(true, networks)
