"""Sets of rules that hold the true one with a stated probability, for networks.

The unit is the network: its score is the mean over its layers. Layers of one network are not
exchangeable with those of another, and counting them as if they were claims more evidence than
there is: with m equal layers a set calibrated on n networks would be stated to cover 1 − α while
it covers ⌈(nm + 1)(1 − α)/m⌉/(n + 1).

The ranks are counted here rather than by a library because p-values are needed for "none of
these", per rule and per fold, from scores that are at hand; at a single level, with one model, the
sets are those of MAPIE's ``lac`` score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration.checks import (
    Indices,
    Matrix,
    network_labels,
    open_unit,
    probability_rows,
    rule_indices,
    rule_names,
)
from goaldriven.identify.calibration.networks import count_networks, wilson

REPORT = (
    "rule", "alpha", "coverage", "low", "high", "mean_size", "empty", "singleton", "n", "networks",
)  # fmt: skip
ROUNDING = 1e-9  # scores this close are equal, and so are p-values and levels


@dataclass(frozen=True, eq=False)
class ConformalSets:
    """Sets of rules at a level, see `conformal_sets`.

    Attributes
    ----------
    members : (network, rule), whether the set holds the rule.
    p_values : (network, rule), of the hypothesis that the rule made the network.
    alpha : the level; the set holds rules of p-value above it.
    rules : names of the columns.
    """

    members: NDArray[np.bool_]
    p_values: Matrix
    alpha: float
    rules: tuple[str, ...]

    @property
    def sizes(self) -> NDArray[np.intp]:
        """How many rules each set holds; 0 says "none of these"."""
        return self.members.sum(axis=1)


def networks_needed(alpha: float) -> int:
    """The fewest calibration networks with which a p-value can be as small as α, ⌈1/α − 1⌉.

    >>> networks_needed(0.1), networks_needed(0.05)
    (9, 19)
    """
    return math.ceil(1 / open_unit(alpha, "alpha") - 1 - ROUNDING)


def conformal_p_values(
    test_scores: ArrayLike,
    scores: ArrayLike,
    truth: ArrayLike,
    *,
    folds: ArrayLike | None = None,
    per_rule: bool = False,
    rules: Sequence[str] | None = None,
) -> Matrix:
    """How unusual each test network were among the calibration networks, were it each rule's.

    With the nonconformity a = 1 − p_true of n calibration networks, and a_k(x) = 1 − p_k(x),

        p_k(x) = (1 + #{i : a_i ≥ a_k(x)}) / (n + 1)

    Parameters
    ----------
    test_scores : (network, rule), mean over layers; with ``folds`` (fold, network, rule), from the
        classifier of each fold.
    scores, truth : (network, rule) and (network,), calibration networks that the classifier was
        not fitted on; with ``folds`` the out-of-fold scores of the whole training part.
    folds : of each calibration network, 0, 1, …: cross-conformal. The networks of a fold are
        compared with ``test_scores`` of the classifier that was fitted without it, and the counts
        are summed.
    per_rule : compare with networks of rule k only (Mondrian): then each rule has its own
        guarantee, and n is the number of its networks.
    rules : names of the columns, where ``truth`` holds names.

    Notes
    -----
    Networks exchangeable with the test network: P(p_true ≤ α) ≤ α exactly for one classifier and
    held-out calibration networks; ≤ 2α plus a term of the order of folds/n, in practice about α,
    for cross-conformal. Out-of-fold scores compared with those of a classifier fitted on the whole
    training part (no ``folds``) have no theorem; that classifier has seen more, hence coverage is
    usually a little too high.

    Raises
    ------
    IdentificationError : not probabilities, other numbers of rules or folds, an unknown rule, or
        with ``per_rule`` a rule without a calibration network.

    Sources: Vovk, Gammerman & Shafer, 2005; Sadinle, Lei & Wasserman, 2019, J. Am. Stat. Assoc.;
    Vovk, 2015, Ann. Math. Artif. Intell. (cross-conformal); Vovk, 2013, Mach. Learn. (Mondrian).
    """
    p = probability_rows(scores, "scores")
    true = rule_indices(truth, p.shape, rules)
    fold, tests = _folds(test_scores, folds, p)
    own = 1 - p[np.arange(len(p)), true]
    counts, n = np.zeros(tests.shape[1:]), np.zeros(p.shape[1])
    for k in range(p.shape[1]):
        reference = (true == k) if per_rule else np.ones(len(p), dtype=bool)
        n[k] = reference.sum()
        if not n[k]:
            name = rule_names(rules, p.shape[1])[k]
            raise IdentificationError(f"rule {name} must have a calibration network, got none")
        for f, test in enumerate(tests):
            ordered = np.sort(own[reference & (fold == f)])
            below = np.searchsorted(ordered, 1 - test[:, k] - ROUNDING, side="left")
            counts[:, k] += len(ordered) - below
    return (1 + counts) / (n + 1)


def _folds(
    test_scores: ArrayLike, folds: ArrayLike | None, scores: Matrix
) -> tuple[Indices, NDArray[np.float64]]:
    """Fold of each calibration network and test scores (fold, network, rule)."""
    tests = np.asarray(test_scores, dtype=np.float64)
    fold = np.zeros(len(scores), dtype=np.intp)
    if folds is None:
        tests = tests[None]
    else:
        fold = np.asarray(folds).astype(np.intp)
        if tests.ndim != 3 or fold.shape != (len(scores),):
            raise IdentificationError(
                f"test_scores must have shape (fold, network, rule) and folds one fold for each of "
                f"{len(scores)} calibration networks, got {tests.shape} and {fold.shape}"
            )
        if sorted(set(fold.tolist())) != list(range(len(tests))):
            raise IdentificationError(
                f"folds must be all of 0…{len(tests) - 1}, got {sorted(set(fold.tolist()))}"
            )
    if tests.ndim != 3 or tests.shape[2] != scores.shape[1]:
        raise IdentificationError(
            f"test_scores must have shape (network, {scores.shape[1]} rules), got {tests.shape[1:]}"
        )
    return fold, np.stack([probability_rows(t, "test_scores") for t in tests])


def conformal_sets(
    test_scores: ArrayLike,
    scores: ArrayLike,
    truth: ArrayLike,
    alpha: float,
    *,
    folds: ArrayLike | None = None,
    per_rule: bool = False,
    rules: Sequence[str] | None = None,
) -> ConformalSets:
    """Rules that cannot be ruled out at level α, {k : p_k(x) > α}, for each test network.

    The set holds the true rule with probability 1 − α at least, for networks exchangeable with
    the calibration networks; see `conformal_p_values` for parameters, and for what cross-conformal
    sets promise. An empty set says "none of these", see `goaldriven.identify.calibration.open_set`.

    Raises
    ------
    IdentificationError : see `conformal_p_values`; fewer than 1/α − 1 calibration networks (of a
        rule, with ``per_rule``), with which every set would hold every rule.
    """
    p_values = conformal_p_values(
        test_scores, scores, truth, folds=folds, per_rule=per_rule, rules=rules
    )
    n_rules = p_values.shape[1]
    true = rule_indices(truth, (len(np.asarray(truth)), n_rules), rules)
    names = rule_names(rules, n_rules)
    enough_networks(true, alpha, names if per_rule else None)
    return ConformalSets(p_values > alpha + ROUNDING, p_values, float(alpha), names)


def enough_networks(true: Indices, alpha: float, rules: Sequence[str] | None = None) -> None:
    """Raises IdentificationError where fewer than 1/α − 1 networks, of each rule if given."""
    needed = networks_needed(alpha)
    parts = {"": len(true)}
    if rules is not None:
        parts = {f" of rule {name}": int(np.sum(true == k)) for k, name in enumerate(rules)}
    for part, n in parts.items():
        if n < needed:
            raise IdentificationError(
                f"calibration networks{part} must be at least {needed} for alpha = {alpha:g} "
                f"(1/alpha − 1), got {n}"
            )


def conformal_report(
    sets: ConformalSets,
    truth: ArrayLike,
    *,
    networks: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Coverage and size of conformal sets, over all rules and for each.

    Parameters
    ----------
    truth : (network,), names of the true rules if the sets have names, or indices of columns.
    networks : labels, where a network has several rows (tested under several splits). The Wilson
        interval takes as many independent trials as there are different networks.

    Returns
    -------
    pd.DataFrame
        One row for all rules (``rule`` "all") and per true rule that occurs: ``alpha``,
        ``coverage`` (to be 1 − alpha or more) with ``low`` and ``high``, ``mean_size``, shares of
        ``empty`` and ``singleton`` sets, ``n`` sets, ``networks``.

    Raises
    ------
    IdentificationError : an unknown rule, or another number of networks.
    """
    n_rows = len(sets.members)
    named = not np.issubdtype(np.asarray(truth).dtype, np.integer)
    true = rule_indices(truth, sets.members.shape, sets.rules if named else None)
    labels = network_labels(networks, n_rows)
    covered = sets.members[np.arange(n_rows), true]
    rows = []
    for name, part in [("all", np.ones(n_rows, dtype=bool))] + [
        (rule, true == k) for k, rule in enumerate(sets.rules)
    ]:
        if not part.any():
            continue
        sizes, n = sets.sizes[part], count_networks(labels[part])
        coverage = float(covered[part].mean())
        low, high = wilson(coverage, n, level)
        rows.append(
            (name, sets.alpha, coverage, float(low), float(high), float(sizes.mean()),
             float(np.mean(sizes == 0)), float(np.mean(sizes == 1)), len(sizes), n)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(REPORT))
