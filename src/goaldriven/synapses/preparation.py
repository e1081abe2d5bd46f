"""Normalisation, selection, and what happens to a synapse between two sessions.

Everything here takes sizes ``w`` (synapse, day): NaN = not observed, 0 = absent.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError
from goaldriven.synapses.table import Floats

Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


class Status(IntEnum):
    """What is known of a synapse in one session."""

    not_observed = 0
    unborn = 1  # absent, and present in a later session only
    present = 2
    lost = 3  # absent, and present in an earlier session only
    gap = 4  # absent between two presences
    never = 5  # absent in all sessions


def status(w: Floats) -> NDArray[np.int8]:
    """(synapse, day) codes of `Status`: absence, birth, death and missing days kept apart.

    >>> [Status(s).name for s in status(np.array([[0, 1, 0, 2, np.nan, 0]]))[0]]
    ['unborn', 'present', 'gap', 'present', 'not_observed', 'lost']
    """
    present = w > 0
    before = np.logical_or.accumulate(present, axis=1)
    after = np.logical_or.accumulate(present[:, ::-1], axis=1)[:, ::-1]
    codes = np.select(
        [np.isnan(w), present, before & after, before, after],
        [Status.not_observed, Status.present, Status.gap, Status.lost, Status.unborn],
        Status.never,
    )
    return codes.astype(np.int8)


class Pairs(NamedTuple):
    """Sizes in neighbouring sessions: ``before[i]``, ``after[i]`` are of synapse ``synapse[i]``."""

    before: Floats
    after: Floats
    synapse: Indices


def consecutive_pairs(w: ArrayLike, *, present: bool = False) -> Pairs:
    """Pairs of neighbouring columns in which both sizes are observed.

    Parameters
    ----------
    present : only pairs with both sizes above 0, so neither births nor deaths nor absences.

    >>> consecutive_pairs(np.array([[1.0, 2.0, 0.0], [np.nan, 3.0, 4.0]])).after
    array([2., 0., 4.])
    """
    sizes = np.asarray(w, dtype=float)
    before, after = sizes[:, :-1], sizes[:, 1:]
    chosen = np.isfinite(before) & np.isfinite(after)
    if present:
        chosen &= (before > 0) & (after > 0)
    synapse, _ = np.nonzero(chosen)
    return Pairs(before[chosen], after[chosen], synapse)


def regular_days(w: ArrayLike, days: ArrayLike) -> tuple[Floats, Floats]:
    """The same sizes on equally spaced days: days in between become columns of NaN.

    A Markov or Kesten step is the interval of one column to the next, so a skipped session must
    not pass for a step. The step is the smallest interval there is.

    Raises
    ------
    DataError : an interval is no multiple of the smallest.

    >>> regular_days(np.array([[1.0, 2.0, 3.0]]), [0, 4, 12])[1]
    array([ 0.,  4.,  8., 12.])
    """
    sizes, when = np.asarray(w, dtype=float), np.asarray(days, dtype=float)
    steps = np.diff(when)
    step = float(steps.min())
    column = (when - when[0]) / step
    if not np.allclose(column, np.round(column), atol=1e-3):
        raise DataError(
            "day must be spaced by multiples of the smallest interval, got intervals "
            f"{', '.join(f'{s:g}' for s in np.unique(steps))}"
        )
    places = np.round(column).astype(int)
    full = np.full((len(sizes), places[-1] + 1), np.nan)
    full[:, places] = sizes
    return full, when[0] + step * np.arange(places[-1] + 1)


def normalise(raw: ArrayLike, clusters: ArrayLike, *, low: float = 40, high: float = 60) -> Floats:
    """Sizes over the mean of the dendrite's middling synapses, session by session.

        w_i(t) = r_i(t) / mean{ r_j(t) : j on the dendrite of i, present, q_low ≤ r_j(t) ≤ q_high }

    with q the 'nearest' percentiles of the dendrite's present synapses. This takes out what
    differs between sessions for all synapses of a dendrite alike (depth, laser, bleaching).
    Absent (0) and unobserved (NaN) synapses stay what they are.

    Parameters
    ----------
    raw : (synapse, day) sizes in any unit that is common to a dendrite's session.
    clusters : (synapse,) dendrites.

    Raises
    ------
    DataError : the percentiles are not 0 ≤ low < high ≤ 100.

    Source: thesis §6.2.2.
    """
    if not 0 <= low < high <= 100:
        raise DataError(f"percentiles must be 0 ≤ low < high ≤ 100, got {low:g} and {high:g}")
    sizes = np.array(raw, dtype=float)
    dendrites = np.asarray(clusters)
    for dendrite in np.unique(dendrites):
        mine = np.flatnonzero(dendrites == dendrite)
        for t in range(sizes.shape[1]):
            column = sizes[mine, t]
            present = column[column > 0]
            if present.size:
                q = np.percentile(present, [low, high], method="nearest")
                sizes[mine, t] /= present[(present >= q[0]) & (present <= q[1])].mean()
    return sizes


def persistent(w: Floats) -> Flags:
    """(synapse,) present in every session in which any synapse was observed."""
    imaged = np.isfinite(w).any(axis=0)
    return np.all(w[:, imaged] > 0, axis=1)


def middle_half(
    w: Floats, among: Flags | None = None, *, low: float = 25, high: float = 75
) -> Flags:
    """(synapse,) size in the first session between two percentiles of those ``among``.

    The smallest synapses are drowned in noise and the largest are rare. Percentiles (linear, both
    ends included) are taken over the synapses ``among`` (default `persistent`) of all dendrites.

    Source: thesis §6.2.2; that the first session decides is our reading (`docs/synapses.md`).
    """
    first = w[:, 0]
    chosen: Flags = (persistent(w) if among is None else among) & (first > 0)
    if not chosen.any():
        return chosen
    q = np.percentile(first[chosen], [low, high])
    return np.logical_and.reduce([chosen, first >= q[0], first <= q[1]])
