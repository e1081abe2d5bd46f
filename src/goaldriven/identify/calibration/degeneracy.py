"""Which rules cannot be told from one another: pair by pair, with networks as units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import hypergeom

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration.checks import (
    Vector,
    at_least,
    finite_rows,
    network_labels,
    open_unit,
    probability_rows,
    rule_indices,
    rule_names,
)
from goaldriven.identify.calibration.networks import (
    average_over_layers,
    first_of_each,
    mean_of_rates,
)
from goaldriven.identify.splits import TEST_SHARE

DEGENERACY = (
    "rule_a", "rule_b", "accuracy", "low", "high", "p", "p_adjusted", "indistinguishable",
    "networks_a", "networks_b",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PairCalls:
    """What a classifier said of networks of two rules, a and b.

    Attributes
    ----------
    called_b : (row,), 1 where it said b, 0 where a, ½ where it could not say.
    is_b : (row,), whether the network is of rule b.
    networks : (row,); a network has several rows when it is tested under several splits.
    """

    called_b: Vector
    is_b: NDArray[np.bool_]
    networks: NDArray[Any]


def degeneracy_table(
    scores: ArrayLike,
    truth: ArrayLike,
    networks: ArrayLike | None,
    rng: np.random.Generator,
    *,
    rules: Sequence[str] | None = None,
    alpha: float = 0.05,
    test_share: float | None = TEST_SHARE,
    n_resamples: int = 9999,
    level: float = 0.95,
) -> pd.DataFrame:
    """Every pair of rules: how often a classifier of all rules tells one from the other.

    A network of rule a or b is called b where its score for b is higher than that for a, whatever
    its scores for other rules. Statistics as of `degeneracy_of_pairs`.

    Parameters
    ----------
    scores, truth : (row, rule) and (row,), mean over the layers of a tested network; one row per
        network and split that tests it.
    networks : (row,), or None for a network per row.

    Raises
    ------
    IdentificationError : not probabilities, an unknown rule, a rule without a network, and see
        `degeneracy_of_pairs`.
    """
    p = probability_rows(scores, "scores")
    true = rule_indices(truth, p.shape, rules)
    names, labels = rule_names(rules, p.shape[1]), network_labels(networks, len(p))
    pairs = {}
    for a, b in itertools.combinations(range(p.shape[1]), 2):
        rows = (true == a) | (true == b)
        lead = p[rows, b] - p[rows, a]
        called = np.where(np.abs(lead) < 1e-12, 0.5, lead > 0)
        pairs[names[a], names[b]] = PairCalls(called, true[rows] == b, labels[rows])
    return degeneracy_of_pairs(
        pairs, rng, alpha=alpha, test_share=test_share, n_resamples=n_resamples, level=level
    )


def degeneracy_of_pairs(
    pairs: Mapping[tuple[str, str], PairCalls],
    rng: np.random.Generator,
    *,
    alpha: float = 0.05,
    test_share: float | None = TEST_SHARE,
    n_resamples: int = 9999,
    level: float = 0.95,
) -> pd.DataFrame:
    """Balanced accuracy of each pair of rules, held against chance, ½.

    With c_i the share of network i's rows that are right, A = ½(mean c over networks of a + mean c
    over networks of b). Under the hypothesis that the classifier cannot tell a from b, the
    networks' labels are exchangeable: p = (1 + #{A* − ½ ≥ (A − ½)/f}) / (1 + resamples) over
    permutations A* of the labels of networks. Holm's procedure then keeps the chance of any false
    "distinguishable" among all pairs at ``alpha``.

    f allows for the networks tested under one split being trained on under another: their calls
    then depend on each other's labels, and A varies more than networks judged by outsiders. With
    tests per network m and tested share r, f² = 1/m + 1/(1 − r) (Nadeau & Bengio); 1 where
    ``test_share`` is None. It is a heuristic, which held its level for neighbours and linear
    classifiers where the plain permutation test (f = 1) gave up to twice the stated error.

    Parameters
    ----------
    pairs : by the names of the two rules, from one classifier of all rules or one for each pair.
    rng : of the permutations.
    alpha : level of the whole table.
    test_share : of the networks, in each split; None where no tested network was trained on, as
        under a single split.
    level : of the intervals.

    Returns
    -------
    pd.DataFrame
        One row per pair: ``rule_a``, ``rule_b``, balanced ``accuracy`` with ``low``, ``high``
        (square-and-add of Wilson intervals over n/f² networks each), ``p``, ``p_adjusted``
        (Holm), ``indistinguishable`` (p_adjusted > alpha), ``networks_a``, ``networks_b``.
        Indistinguishable means not shown to differ with these networks: ``high`` says how well
        they could yet be told.

    Raises
    ------
    IdentificationError : too few networks (or resamples) for even perfect accuracy to reach alpha
        over this many pairs, or a pair without networks of a rule.

    Sources: Nadeau & Bengio, 2003, Mach. Learn. 52, 239; Holm, 1979, Scand. J. Stat. 6, 65;
    Ojala & Garriga, 2010, J. Mach. Learn. Res. 11, 1833.
    """
    open_unit(alpha, "alpha")
    if not pairs:
        raise IdentificationError("pairs must hold at least one pair of rules, got none")
    at_least(n_resamples, math.ceil(len(pairs) / alpha) - 1, "n_resamples")
    rows = []
    for (a, b), calls in pairs.items():
        called, is_b, factor = _per_network((a, b), calls, test_share)
        n = (int(np.sum(~is_b)), int(np.sum(is_b)))
        _enough(a, b, n, factor, len(pairs), alpha)
        recalls = [1 - called[~is_b].mean(), called[is_b].mean()]
        interval = mean_of_rates(recalls, np.array(n) / factor**2, level)
        rows.append((a, b, *interval, _permutation_p(called, is_b, factor, rng, n_resamples), *n))
    table = pd.DataFrame(rows, columns=[c for c in DEGENERACY if c not in _FROM_ALL])
    table["p_adjusted"] = holm(table["p"].to_numpy())
    table["indistinguishable"] = table["p_adjusted"] > alpha
    return table[list(DEGENERACY)]


_FROM_ALL = ("p_adjusted", "indistinguishable")


def degenerate_groups(table: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    """Groups of rules linked by pairs that are indistinguishable, as of `degeneracy_of_pairs`.

    Connected components: a and c can share a group for being both like b although they are told
    from one another. Every rule is in one group, alone where it is told from all others.
    """
    rules = list(dict.fromkeys([*table["rule_a"], *table["rule_b"]]))
    number = {rule: i for i, rule in enumerate(rules)}
    linked = table[table["indistinguishable"]]
    ends = [linked[column].map(number).to_numpy(dtype=int) for column in ("rule_a", "rule_b")]
    graph = coo_array((np.ones(len(linked)), (ends[0], ends[1])), shape=(len(rules), len(rules)))
    count, member = connected_components(graph, directed=False)
    return tuple(
        tuple(rule for rule in rules if member[number[rule]] == group) for group in range(count)
    )


def holm(p: ArrayLike) -> Vector:
    """Holm's adjusted p-values, p̃_(j) = max over i ≤ j of min(1, (m − i + 1) p_(i)).

    Rejecting where p̃ ≤ α keeps the chance of any false rejection at α, whatever the dependence.

    Source: Holm, 1979, Scand. J. Stat. 6, 65.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1, values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def _per_network(
    pair: tuple[str, str], calls: PairCalls, test_share: float | None
) -> tuple[Vector, NDArray[np.bool_], float]:
    """Each network's share of calls of b, whether it is b, and the factor f."""
    called = np.asarray(calls.called_b, dtype=np.float64)
    labels = network_labels(calls.networks, len(called))
    is_b = network_labels(calls.is_b, len(called)).astype(bool)
    for rule, there in zip(pair, (~is_b, is_b), strict=True):
        if not there.any():
            raise IdentificationError(f"rule {rule} must have tested networks, got none")
    finite_rows(called, "called_b")
    _, share = average_over_layers(called, labels)
    factor = 1.0
    if test_share is not None:
        per_network = len(called) / len(share)
        factor = math.sqrt(1 / per_network + 1 / (1 - open_unit(test_share, "test_share")))
    return share, first_of_each(is_b, labels), factor


def _permutation_p(
    called: Vector,
    is_b: NDArray[np.bool_],
    factor: float,
    rng: np.random.Generator,
    n_resamples: int,
) -> float:
    """p-value of the difference of mean calls, 2A − 1, under permutation of the networks."""
    n, n_b = len(called), int(is_b.sum())
    weights = np.where(is_b, 1 / n_b, -1 / (n - n_b))
    observed = float(weights @ called)
    order = np.argsort(rng.random((n_resamples, n)), axis=1)
    permuted = called[order] @ weights
    return float((1 + np.sum(permuted * factor >= observed - 1e-12)) / (1 + n_resamples))


def smallest_p(n_a: int, n_b: int, factor: float = 1.0) -> float:
    """The p-value of perfect accuracy on n_a and n_b networks; with factor 1, n_a! n_b!/(n_a+n_b)!.

    Exchanging k networks of a with k of b lowers A − ½ = ½ by k(1/n_a + 1/n_b)/2; it reaches ½/f
    for k ≤ (1 − 1/f)/(1/n_a + 1/n_b), and k is hypergeometric.
    """
    most = math.floor((1 - 1 / factor) / (1 / n_a + 1 / n_b) + 1e-9)
    return float(hypergeom.cdf(most, n_a + n_b, n_b, n_a))


def _enough(a: str, b: str, n: tuple[int, int], factor: float, n_pairs: int, alpha: float) -> None:
    if smallest_p(*n, factor) * n_pairs <= alpha:
        return
    needed = max(n)
    while smallest_p(needed, needed, factor) * n_pairs > alpha:
        needed += 1
    raise IdentificationError(
        f"networks of rules {a} and {b} must be about {needed} each for alpha = {alpha:g} over "
        f"{n_pairs} pairs, got {n[0]} and {n[1]}"
    )
