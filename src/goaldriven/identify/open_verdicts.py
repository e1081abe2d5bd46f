"""Honest verdicts on networks: a rule, "none of these", or several that cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    average_over_layers,
    calibrated_probabilities,
    conformal_sets,
    first_of_each,
    fit_temperature,
    networks_needed,
)
from goaldriven.trajectories.contract import POSITIONS

if TYPE_CHECKING:
    from goaldriven.identify.results import Fitted

Matrix = NDArray[np.float64]

NONE = "none of these"
UNKNOWN = "unknown"
ALPHA = 0.1
BETWEEN = ", "
COLUMNS = ("network", "rule", "verdict", "probability", "p_value", "conformal_set", "alpha")


@dataclass(frozen=True, eq=False)
class Calibration:
    """Networks that a classifier was trained on, judged by classifiers that did not see them.

    Attributes
    ----------
    networks, rules : of each network, its name and the rule that made it.
    scores : (network, rule of the classifier), the mean over its layers, by the same settings
        fitted anew without its fold of the training part.
    """

    networks: tuple[str, ...]
    rules: tuple[str, ...]
    scores: Matrix

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or not (
            len(self.scores) == len(self.networks) == len(self.rules) > 0
        ):
            raise IdentificationError(
                f"calibration must have one row of scores per network, got {self.scores.shape} "
                f"for {len(self.networks)} networks of {len(self.rules)} rules"
            )


def calibration_of(scores: ArrayLike, networks: ArrayLike, rules: ArrayLike) -> Calibration:
    """From out-of-fold scores of layers, (example, rule), with their networks and true rules."""
    names, means = average_over_layers(scores, networks)
    truth = first_of_each(np.asarray(rules).astype(str), networks)
    return Calibration(tuple(map(str, names)), tuple(map(str, truth)), means)


def widened(alpha: float, n_networks: int) -> float:
    """The level nearest to ``alpha`` that this many calibration networks allow, 1/(n + 1) at least.

    >>> widened(0.1, 100), widened(0.1, 4)
    (0.1, 0.2)
    """
    return alpha if n_networks >= networks_needed(alpha) else 1 / (1 + n_networks)


def judge(
    scores: ArrayLike,
    networks: Sequence[str],
    rules: Sequence[str],
    calibration: Calibration,
    alpha: float = ALPHA,
) -> pd.DataFrame:
    """What can be said of networks from a classifier's scores of them.

    The conformal set {k : p_k > alpha}, with p_k = (1 + #{i : s_i ≤ s_k}) / (n + 1) over the
    calibration networks' out-of-fold scores s_i of their own rules, holds the true rule of a
    network like those in 1 − alpha of cases; if it is empty, no known rule is plausible. Among
    known networks at most alpha are called "none of these".

    Parameters
    ----------
    scores : (network, rule), mean over layers.
    networks, rules : names of rows and columns.
    alpha : the level.

    Returns
    -------
    pd.DataFrame
        ``network``, ``verdict`` (the rule of the highest score, or "none of these" where the set is
        empty), ``probability`` (of the rule of the highest score, after scaling by the temperature
        fitted to the calibration networks), ``p_value`` (the largest p_k: that of the
        hypothesis that one of the rules made the network), ``conformal_set`` (rules, most
        plausible first), ``alpha``.

    Raises
    ------
    IdentificationError : alpha outside 0…1, or fewer than 1/alpha − 1 calibration networks.

    Sources: see `goaldriven.identify.calibration`, ``conformal_sets`` and ``fit_temperature``.
    """
    names, given = np.array(list(rules)), np.asarray(scores, dtype=np.float64)
    truth = np.array(calibration.rules)
    sets = conformal_sets(given, calibration.scores, truth, alpha, rules=list(rules))
    temperature = fit_temperature(calibration.scores, truth, rules=list(rules))
    surest = calibrated_probabilities(given, temperature).max(axis=1)
    order = np.argsort(-given, axis=1, kind="stable")
    named = names[order[:, 0]]
    return pd.DataFrame(
        {
            "network": list(networks),
            "verdict": np.where(sets.sizes == 0, NONE, named),
            "probability": surest,
            "p_value": sets.p_values.max(axis=1),
            "conformal_set": [
                BETWEEN.join(str(names[k]) for k in row if members[k])
                for row, members in zip(order, sets.members, strict=True)
            ],
            "alpha": float(alpha),
        }
    )


def verdicts(fitted: Fitted, examples: xr.Dataset, alpha: float = ALPHA) -> pd.DataFrame:
    """Verdicts of a fitted classifier on whole networks that it was not trained on.

    Parameters
    ----------
    fitted : one of `Identification.fitted`, of a split that keeps networks whole.
    examples : of `goaldriven.trajectories.load_examples` or ``to_examples``, or of one's own:
        ``value(example, epoch, statistic)`` with the coordinates ``network`` and ``position``
        (``early``, ``middle`` or ``deep``) of each example; the same epochs and statistics as it
        was trained on.
    alpha : at most this share of networks of known rules is called "none of these".

    Returns
    -------
    pd.DataFrame
        One row per network: ``network``, ``rule`` (as the examples name it; ``"unknown"`` where
        they have no such coordinate, as of networks whose rule is the question), and the columns
        of `judge`.

    Raises
    ------
    IdentificationError : the classifier has no calibration, a coordinate is missing, a network is
        one that it was trained on, other epochs or statistics, and see `judge`.
    """
    if fitted.calibration is None:
        raise IdentificationError(
            f"classifier {fitted.name} must be one of a split by network, with calibration "
            "networks, to give verdicts on networks; got none"
        )
    _check_coordinates(examples)
    labels = examples["network"].values.astype(str)
    seen = sorted(set(labels) & set(fitted.calibration.networks))
    if seen:
        raise IdentificationError(
            f"networks must be new to the classifier, got {len(seen)} that it was trained on "
            f"({seen[0]}{', …' if len(seen) > 1 else ''})"
        )
    names, scores = average_over_layers(fitted.probabilities(examples), labels)
    table = judge(scores, [str(n) for n in names], fitted.rules, fitted.calibration, alpha)
    made_by = np.full(len(labels), UNKNOWN)
    if "rule" in examples.coords:
        made_by = examples["rule"].values.astype(str)
    truth: NDArray[Any] = first_of_each(made_by, labels)
    table.insert(1, "rule", [str(rule) for rule in truth])
    return table[list(COLUMNS)]


def _check_coordinates(examples: xr.Dataset) -> None:
    needed = {"network": "example", "position": "example", "epoch": "epoch",
              "statistic": "statistic"}  # fmt: skip
    for name, dim in needed.items():
        if name not in examples.coords or examples[name].dims != (dim,):
            raise IdentificationError(f"examples must have a coordinate '{name}' ({dim})")
    places = sorted(set(examples["position"].values.astype(str).tolist()) - set(POSITIONS))
    if places:
        raise IdentificationError(
            f"position must be one of {', '.join(POSITIONS)} for every example, got {places[0]!r}"
        )
    if "value" not in examples or set(examples["value"].dims) != {"example", "epoch", "statistic"}:
        raise IdentificationError(
            "examples must have a variable 'value' (example, epoch, statistic)"
        )
