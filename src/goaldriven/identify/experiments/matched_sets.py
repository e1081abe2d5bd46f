"""Sets of networks, one of every learning rule, that perform alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from goaldriven.errors import IdentificationError

Matrix = NDArray[np.float64]
Indices = NDArray[np.intp]

# Metrics are counts divided by counts: differences equal to the tolerance must not miss it by the
# last bit.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Sets:
    """Disjoint sets of networks, one of every rule.

    Attributes
    ----------
    within : coordinates that the networks of a set share.
    members : indices of networks, (set, rule).
    strata : of each set, the values of these coordinates.
    ranges : of each set, how far its networks' performance is apart at most.
    """

    within: tuple[str, ...]
    members: Indices
    strata: NDArray[np.str_]
    ranges: Matrix


def matched_sets(performance: Matrix, rules: NDArray[np.str_], tolerance: float) -> Indices:
    """Disjoint sets of networks, one of every rule, whose performance differs little.

    The distance of two networks is the largest difference of their performance at any record,

        d(a, b) = max over t of |p(a, t) − p(b, t)|,

    and the range of a set the largest distance within it; it is at most the tolerance. Of two rules
    there are as many sets as there can be, and among all ways to form that many this has the
    smallest sum of distances (an assignment problem). Of more rules and a single record there are
    as many as there can be, and among those this has the smallest largest range (see `_sweep`). Of
    more rules and many records the problem is NP-hard; sets are formed greedily, and may be a few
    less than possible.

    Parameters
    ----------
    performance : (network, record), e.g. a metric; networks with a value that is not finite match
        none.
    rules : (network,).
    tolerance : in units of the performance.

    Returns
    -------
    Indices of networks, (set, rule), rules in alphabetical order.

    Raises
    ------
    IdentificationError : there are fewer than two rules, or the tolerance is negative.
    """
    names = np.unique(rules)
    if len(names) < 2:
        raise IdentificationError(f"rules must hold at least 2 rules, got {len(names)}")
    if not tolerance >= 0:
        raise IdentificationError(f"tolerance must be at least 0, got {tolerance}")
    finite = np.isfinite(performance).all(axis=1)
    members = [np.flatnonzero((rules == name) & finite) for name in names]
    limit = tolerance + _ROUNDING
    if min(len(m) for m in members) == 0:
        return np.empty((0, len(names)), dtype=np.intp)
    if len(names) == 2:
        return _assigned(performance, members[0], members[1], limit)
    if performance.shape[1] == 1:
        return _narrowest(performance[:, 0], members, limit)
    return _greedy(performance, members, limit)


def ranges_of(performance: Matrix, sets: Indices) -> Matrix:
    """The range of each set, (set,); see `matched_sets`."""
    return np.ptp(performance[sets], axis=1).max(axis=1, initial=0.0)


def distances(a: Matrix, b: Matrix) -> Matrix:
    """The largest difference at any record between rows of a and of b, (row of a, row of b)."""
    return np.abs(a[:, None] - b[None]).max(axis=-1)


def _assigned(performance: Matrix, first: Indices, second: Indices, limit: float) -> Indices:
    """As many pairs as there can be, with the smallest sum of distances."""
    apart = distances(performance[first], performance[second])
    # One pair too far apart costs more than all others together: there are as few as can be.
    costs = np.where(apart <= limit, apart, (limit + 1) * (min(apart.shape) + 1))
    rows, columns = linear_sum_assignment(costs)
    near = apart[rows, columns] <= limit
    return np.stack([first[rows[near]], second[columns[near]]], axis=1)


def _sweep(values: Matrix, members: Sequence[Indices], limit: float) -> Indices:
    """As many sets as there can be of a performance that is one number.

    Take the worst network left of every rule. If they lie within the limit they make a set, else
    the worst of all has no partner among the rule that is furthest from it, now or later, and is
    laid aside. No other way gives more: sets can always be reordered so that the worst used network
    of every rule are together, the second worst, and so on, without widening the widest; and the
    first of such sets can be exchanged for the one taken here.
    """
    queues = [m[np.argsort(values[m], kind="stable")] for m in members]
    place = np.zeros(len(queues), dtype=np.intp)
    sets = []
    while all(p < len(q) for p, q in zip(place, queues, strict=True)):
        front = np.array([q[p] for p, q in zip(place, queues, strict=True)])
        if np.ptp(values[front]) <= limit:
            sets.append(front)
            place += 1
        else:
            place[values[front].argmin()] += 1
    return np.array(sets, dtype=np.intp).reshape(-1, len(queues))


def _narrowest(values: Matrix, members: Sequence[Indices], limit: float) -> Indices:
    """As many sets as within the limit, but within the smallest limit that gives so many."""
    best = _sweep(values, members, limit)
    used = np.concatenate(members)
    apart = np.unique(np.abs(values[used][:, None] - values[used]))
    steps = apart[apart <= limit]
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        if len(_sweep(values, members, steps[middle])) == len(best):
            high = middle
        else:
            low = middle + 1
    return _sweep(values, members, steps[low])


def _greedy(performance: Matrix, members: Sequence[Indices], limit: float) -> Indices:
    """One set after the other, each grown around a network that is left, as far as they go.

    Once the narrowest first, once those first whose members have the fewest networks within the
    limit; the former if it gives as many.
    """
    apart = distances(performance, performance)
    ways = [_formed(apart, members, limit, rare) for rare in (False, True)]
    sets = max(ways, key=len)
    return np.array(sets, dtype=np.intp).reshape(-1, len(members))


def _formed(apart: Matrix, members: Sequence[Indices], limit: float, rare: bool) -> list[Indices]:
    """Sets in the order in which they are chosen: the narrowest, or (``rare``) the rarest first."""
    left, sets = list(members), []
    while all(len(rule) for rule in left):
        grown, widths = _grown(apart, left)
        near = np.flatnonzero(widths <= limit)
        if not len(near):
            break
        partners = (apart[:, np.concatenate(left)] <= limit).sum(axis=1)
        rarity = partners[grown[near]].sum(axis=1) if rare else np.zeros(len(near))
        best = grown[near[np.lexsort((widths[near], rarity))[0]]]
        sets.append(best)
        left = [rule[rule != network] for rule, network in zip(left, best, strict=True)]
    return sets


def _grown(apart: Matrix, left: Sequence[Indices]) -> tuple[Indices, Matrix]:
    """A set around every network, (network, rule), and its range, (network,).

    Beside the network in the centre, of each rule in turn the one that widens the set least.
    """
    centres = np.concatenate(left)
    reach = apart[centres]  # of each set, how far it is at most from any network
    widths = np.zeros(len(centres))
    columns, start = [], 0
    for rule in left:
        chosen = rule[reach[:, rule].argmin(axis=1)]
        chosen[start : start + len(rule)] = rule  # their own centres
        widths = np.maximum(widths, reach[np.arange(len(centres)), chosen])
        reach = np.maximum(reach, apart[chosen])
        columns.append(chosen)
        start += len(rule)
    return np.stack(columns, axis=1), widths
