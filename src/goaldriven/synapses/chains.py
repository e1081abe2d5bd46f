"""Markov chains of finitely many states: estimation, long run, simulation. No synapses here."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError
from goaldriven.synapses.states import UNOBSERVED, States
from goaldriven.synapses.table import Floats

_DAMPING = 1e-10
"""Chance per step to start again; small enough not to be seen, large enough to settle ties."""


def count_transitions(states: States, n_states: int, step: int = 1) -> Floats:
    """n[…, i, j]: how often state i was followed by j ``step`` columns later, both observed.

    ``states`` (…, item, column): counts are summed over items and columns; −1 = not observed.
    """
    before, after = states[..., :-step], states[..., step:]
    seen = (before != UNOBSERVED) & (after != UNOBSERVED)
    lead = states.shape[:-2]
    which = np.broadcast_to(
        np.arange(int(np.prod(lead))).reshape(*lead, 1, 1), before.shape
    )[seen]  # fmt: skip
    code = (which * n_states + before[seen]) * n_states + after[seen]
    counts = np.bincount(code, minlength=int(np.prod(lead)) * n_states**2)
    return counts.reshape(*lead, n_states, n_states).astype(float)


def transition_matrix(counts: ArrayLike, prior: float = 0.0) -> Floats:
    """P_ij = (n_ij + α) / Σ_k (n_ik + α): maximum likelihood, or the mean under a Dirichlet prior.

    Parameters
    ----------
    counts : (…, state, state) transitions from the row's to the column's state.
    prior : α ≥ 0, the concentration of a symmetric Dirichlet prior of each row. With 0 the row of
        a state that was never left is uniform, the limit α → 0.

    Raises
    ------
    DataError : a negative prior.

    >>> transition_matrix([[3, 1], [0, 2]])
    array([[0.75, 0.25],
           [0.  , 1.  ]])
    """
    if prior < 0:
        raise DataError(f"prior must be 0 or above, got {prior:g}")
    n = np.asarray(counts, dtype=float) + prior
    total = n.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, n / total, 1 / n.shape[-1])


def stationary(transition: Floats) -> Floats:
    """π with π P = π, Σ π = 1: the left eigenvector of the eigenvalue 1.

    (The thesis writes "right eigenvector"; of a matrix whose rows sum to 1 that is constant.)

    Raises
    ------
    DataError : the eigenvalue is not simple, so that the long run depends on the start; `long_run`
        takes one.
    """
    values, vectors = np.linalg.eig(transition.T)
    ones = np.abs(values - 1) < 1e-8
    if ones.sum() != 1:
        raise DataError(
            "transition must have one stationary distribution, got "
            f"{int(ones.sum())} separate sets of states that are never left"
        )
    vector = np.real(vectors[:, np.argmax(ones)])
    pi = vector / vector.sum()
    return np.clip(pi, 0, None) / np.clip(pi, 0, None).sum()


def long_run(transition: Floats, start: Floats) -> Floats:
    """Where many chains end: lim_n 1/n Σ_k start P^k, for a stack of chains at once.

    Of a chain with one stationary distribution it is that, whatever the start; otherwise the mix
    of them that is reached from ``start``. Computed as the stationary distribution of the chain
    that begins again from ``start`` with a chance of 1e-10 per step, by the elimination of
    Grassmann, Taksar & Heyman (1985), which subtracts nothing and so loses no digits.

    Parameters
    ----------
    transition : (…, state, state).
    start : (…, state) distributions, strictly positive somewhere.
    """
    p = (1 - _DAMPING) * transition + _DAMPING * start[..., None, :]
    p = p.copy()
    n = p.shape[-1]
    for k in range(n - 1, 0, -1):
        out = p[..., k, :k].sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            into = np.where(out[..., None] > 0, p[..., :k, k] / out[..., None], 0.0)
        p[..., :k, k] = into
        p[..., :k, :k] += into[..., :, None] * p[..., k, None, :k]
    pi = np.zeros(p.shape[:-1])
    pi[..., 0] = 1.0
    for k in range(1, n):
        pi[..., k] = (pi[..., :k] * p[..., :k, k]).sum(axis=-1)
    return pi / pi.sum(axis=-1, keepdims=True)


def iterate(transition: Floats, start: Floats, steps: int) -> Floats:
    """(steps + 1, state) distributions start, start P, start P², …"""
    path = np.empty((steps + 1, len(start)))
    path[0] = start
    for k in range(steps):
        path[k + 1] = path[k] @ transition
    return path


def stationary_by_iteration(
    transition: Floats, start: Floats, *, tolerance: float = 1e-12, most: int = 100_000
) -> tuple[Floats, int]:
    """start P^k for the first k at which it no longer changes; returns it and k.

    Raises
    ------
    DataError : it still changes after ``most`` steps (the chain is periodic, or very slow).
    """
    pi = np.asarray(start, dtype=float)
    for k in range(1, most + 1):
        following = pi @ transition
        if np.abs(following - pi).max() < tolerance:
            return following / following.sum(), k
        pi = following
    raise DataError(
        f"transition must settle within {most} steps, got a largest change of "
        f"{np.abs(following - pi).max():.1e} in the last"
    )


def relaxation_steps(transition: Floats) -> float:
    """−1 / log |λ₂|: steps in which the slowest deviation from the stationary distribution falls
    to 1/e; infinite where the chain does not settle."""
    values = np.sort(np.abs(np.linalg.eigvals(transition)))[::-1]
    if len(values) < 2 or values[1] < 1e-15:
        return 0.0
    return float(-1 / np.log(values[1])) if values[1] < 1 - 1e-12 else float("inf")


def total_variation(p: Floats, q: Floats) -> Floats:
    """½ Σ |p − q| over the last axis: the largest difference in the probability of any event."""
    return 0.5 * np.abs(p - q).sum(axis=-1)


def simulate_states(
    transition: Floats,
    start: States,
    observed: NDArray[np.bool_],
    n: int,
    rng: np.random.Generator,
    *,
    once: bool = False,
) -> States:
    """Paths of a chain, observed where the data were.

    Parameters
    ----------
    transition : (state, state).
    start : (item,) or (n, item) state of each item in its first observed column.
    observed : (item, column); simulated states elsewhere are −1, though the chain moves on.
    n : how many times the whole table is simulated.
    once : an item that has been in a state above 0 and comes to 0 stays there: one life each.

    Returns
    -------
    (n, item, column) states; −1 where not observed and before the first observation.
    """
    n_states = len(transition)
    cumulative = np.cumsum(transition, axis=1)
    cumulative[:, -1] = 1.0
    ladder = (np.arange(n_states)[:, None] + np.minimum(cumulative, 1.0)).ravel()
    n_items, n_columns = observed.shape
    first = np.argmax(observed, axis=1)
    state = np.broadcast_to(start, (n, n_items)).copy()
    lived = state > 0
    paths = np.full((n, n_items, n_columns), UNOBSERVED, dtype=np.int64)
    for t in range(n_columns):
        u = rng.random((n, n_items))
        following = np.searchsorted(ladder, state + u, side="right") - state * n_states
        following = np.minimum(following, n_states - 1)
        if once:
            following = np.where(lived & (state == 0), 0, following)
        state = np.where(t > first, following, state)
        lived |= state > 0
        paths[:, :, t] = np.where(observed[:, t] & (t >= first), state, UNOBSERVED)
    return paths
