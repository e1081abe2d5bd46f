"""Is a first-order chain enough? Tests against tables simulated by the chain itself.

Many cells of the tables of counts are empty, so that χ² distributions do not hold; every p-value
here is the share of simulated tables, with the same synapses seen on the same days, that are as
far from the hypothesis as the data.

What is tested is the chain of *bins*. A first-order process of sizes is no exact first-order chain
of bins, least of all of coarse ones, and neither is one that is measured with noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError
from goaldriven.synapses import chains, resampling
from goaldriven.synapses.markov import occupied
from goaldriven.synapses.states import ABSENT, UNOBSERVED, Bins, States
from goaldriven.synapses.table import Floats

Which = Literal["all", "present"]
_CELLS = 2_000_000  # simulated counts held at once


def chain_states(w: Floats, bins: Bins, which: Which = "present") -> States:
    """(synapse, column) states; with ``"present"``, absence counts as not observed.

    Absence is no state like others: a synapse that is lost is not the same as one unborn, and in
    data made by following synapses no lost one comes back. ``"present"`` tests the sizes alone.
    """
    states = bins.to_states(w)
    return np.where(states == ABSENT, UNOBSERVED, states) if which == "present" else states


def order_test(
    states: States,
    n_states: int,
    *,
    order: int = 1,
    simulations: int = 500,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Likelihood-ratio test of a chain of an order against one of the next.

        G² = 2 Σ n(c, j) log [ P(j | c) / P(j | c′) ]

    over windows of order + 2 successive columns, all observed; c are all but the last state, c′
    without the first, and P the maximum-likelihood estimates from the same windows.

    Parameters
    ----------
    states : (synapse, column) on equally spaced columns, see `chain_states`.
    order : of the hypothesis: 0 (independent sessions) or 1 (a Markov chain).
    simulations : tables simulated under the hypothesis, from each synapse's first state.

    Returns
    -------
    ``order``, ``windows``, ``g2``, ``g2_expected`` (mean of simulations), ``g2_sd``, ``p`` and
    ``excess``: (g2 − g2_expected) / 2 windows, nats per step that the further state tells beyond
    what so many free parameters would by chance.

    Raises
    ------
    DataError : an order other than 0 and 1, or no window is observed.
    """
    if order not in (0, 1):
        raise DataError(f"order must be 0 or 1, got {order}")
    windows, observed_g2 = (float(x[0]) for x in _likelihood_ratio(states[None], n_states, order))
    if not windows:
        raise DataError(
            f"size must be observed on {order + 2} successive days for some synapse, got none"
        )
    null = np.concatenate(
        [
            _likelihood_ratio(paths, n_states, order)[1]
            for paths in simulated_tables(
                hypothesis(states, n_states, order),
                states,
                simulations,
                rng,
                most=max(1, _CELLS // n_states ** (order + 2)),
            )
        ]
    )
    return {
        "order": order,
        "windows": int(windows),
        "g2": observed_g2,
        "g2_expected": float(null.mean()),
        "g2_sd": float(null.std(ddof=1)),
        "p": _p(null, observed_g2),
        "excess": float((observed_g2 - null.mean()) / (2 * windows)),
    }


def _likelihood_ratio(tables: States, n_states: int, order: int) -> tuple[Floats, Floats]:
    """Number of windows and G² of each table (table, synapse, column)."""
    length = order + 2
    columns = tables.shape[-1] - length + 1
    if columns < 1:
        return np.zeros(len(tables)), np.zeros(len(tables))
    parts = np.stack([tables[..., k : k + columns] for k in range(length)])
    seen = (parts != UNOBSERVED).all(axis=0)
    code = np.broadcast_to(np.arange(len(tables))[:, None, None], seen.shape)[seen]
    for part in parts:
        code = code * n_states + part[seen]
    shape = (len(tables), *(n_states,) * length)
    n = np.bincount(code, minlength=int(np.prod(shape))).reshape(shape).astype(float)
    full = _log_likelihood(n)
    short = _log_likelihood(n.sum(axis=1))
    return n.sum(axis=tuple(range(1, n.ndim))), 2 * (full - short)


def _log_likelihood(n: Floats) -> Floats:
    """Σ n log (n / Σ_last n) of each table."""
    given = n.sum(axis=-1)
    axes = tuple(range(1, n.ndim))
    return _xlogx(n).sum(axis=axes) - _xlogx(given).sum(axis=axes[:-1])


def _xlogx(n: Floats) -> Floats:
    return n * np.log(np.where(n > 0, n, 1.0))


def goodness_of_fit(
    states: States,
    n_states: int,
    *,
    step: float = 1.0,
    simulations: int = 500,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Does one transition matrix describe all sessions, and several steps ahead?

    Rows (``check``, ``lag`` in days):

    - ``homogeneity``: G² of a matrix per session against the pooled one.
    - ``k steps``, k = 2, 3, …: X² = Σ (n_ij(k) − e_ij)² / e_ij of counts k columns apart against
      e_ij = Σ_j n_ij(k) · (P^k)_ij (Chapman–Kolmogorov).
    - ``occupancy``: total variation between the stationary distribution and the occupancy.

    The chain is fitted anew to every simulated table (of `hypothesis`), as it was to the data.

    Returns
    -------
    Columns ``check``, ``lag``, ``n`` (transitions or observations), ``statistic``, ``expected``
    (mean of simulations), ``p``, ``distance`` (total variation between counted and predicted
    k-step transitions, weighted by how often each state was left), ``distance_expected``.
    """
    most = max(1, _CELLS // (n_states**2 * states.shape[1]))
    transition = hypothesis(states, n_states)
    data = _fit_statistics(states[None], n_states)
    parts = [
        _fit_statistics(paths, n_states)
        for paths in simulated_tables(transition, states, simulations, rng, most=most)
    ]
    rows = []
    for name, (lag, n, statistic, distance) in data.items():
        null = np.concatenate([p[name][2] for p in parts])
        null_distance = np.concatenate([p[name][3] for p in parts])
        rows.append(
            {
                "check": name,
                "lag": lag * step,
                "n": int(n[0]),
                "statistic": float(statistic[0]),
                "expected": float(null.mean()),
                "p": _p(null, float(statistic[0])),
                "distance": float(distance[0]),
                "distance_expected": float(null_distance.mean()),
            }
        )
    return pd.DataFrame(rows)


_Statistics = dict[str, tuple[int, Floats, Floats, Floats]]


def _fit_statistics(tables: States, n_states: int) -> _Statistics:
    """Name → lag, n, statistic, distance; the last three per table."""
    columns = tables.shape[-1]
    single = np.stack(
        [chains.count_transitions(tables[..., t : t + 2], n_states) for t in range(columns - 1)],
        axis=1,
    )
    pooled = single.sum(axis=1)
    transition = chains.transition_matrix(pooled)
    found: _Statistics = {}
    apart = sum(_log_likelihood(single[:, t]) for t in range(columns - 1))
    n = pooled.sum(axis=(1, 2))
    g2 = 2 * (apart - _log_likelihood(pooled))
    found["homogeneity"] = (1, n, g2, np.full(len(tables), np.nan))
    power = transition
    for k in range(2, columns):
        power = power @ transition
        counts = chains.count_transitions(tables, n_states, step=k)
        if not counts.any():
            continue
        left = counts.sum(axis=2, keepdims=True)
        expected = left * power
        with np.errstate(divide="ignore", invalid="ignore"):
            cells = np.where(expected > 0, (counts - expected) ** 2 / expected, 0.0)
        distance = 0.5 * np.abs(counts - expected).sum(axis=(1, 2)) / counts.sum(axis=(1, 2))
        found[f"{k} steps"] = (k, counts.sum(axis=(1, 2)), cells.sum(axis=(1, 2)), distance)
    held = np.stack([occupied(table, n_states).sum(axis=0) for table in tables])
    share = held / held.sum(axis=1, keepdims=True)
    apart_from = chains.total_variation(chains.long_run(transition, share), share)
    found["occupancy"] = (0, held.sum(axis=1), apart_from, apart_from)
    return found


def hypothesis(states: States, n_states: int, order: int = 1) -> Floats:
    """The matrix of the simulations: that of the data, with one transition more per state spread
    over the k states that occur (1/k each, Perks' prior).

    The maximum-likelihood matrix has fewer rare transitions than the truth, so that its tables
    scatter less: with 60 synapses of 4 states a test at 5% rejected 6% of true chains and at 20%,
    25%; so it is 4% and 19%.
    """
    counts = chains.count_transitions(states, n_states)
    if order == 0:
        counts = np.tile(counts.sum(axis=0), (n_states, 1))
    occurs = np.isin(np.arange(n_states), states)
    return chains.transition_matrix(counts + occurs / max(occurs.sum(), 1))


def simulated_tables(
    transition: Floats, states: States, n: int, rng: np.random.Generator, *, most: int = 100
) -> Iterator[States]:
    """n tables in portions of at most ``most``: each synapse from its first state, seen when the
    data were. Synapses that are never observed are left out."""
    observed = states != UNOBSERVED
    used = observed.any(axis=1)
    observed = observed[used]
    start = states[used][np.arange(len(observed)), np.argmax(observed, axis=1)]
    while n > 0:
        portion = min(n, most)
        yield chains.simulate_states(transition, start, observed, portion, rng)
        n -= portion


def _p(null: Floats, value: float) -> float:
    """Share of simulations at least as extreme, the data counted among them."""
    return float((1 + (null >= value - 1e-9 * abs(value)).sum()) / (1 + len(null)))


def memory(
    w: ArrayLike,
    clusters: NDArray,
    *,
    bootstraps: int = 1000,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Do sizes two steps ago tell more than sizes one step ago? The test without bins.

    Partial correlation of log w(t+1) and log w(t−1) given log w(t), over synapses present on all
    three days: 0 for a process whose expected log size is linear in the last one and that has no
    further memory; above 0 where sizes are measured with noise.

    Returns
    -------
    ``triples``, ``partial_correlation``, ``low``, ``high`` (95%, over dendrites), and the plain
    correlations ``lag_one`` and ``lag_two`` of the same triples.
    """
    sizes = np.asarray(w, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(sizes > 0, np.log(sizes), np.nan)
    x = np.stack([logs[:, :-2], logs[:, 1:-1], logs[:, 2:]], axis=-1)
    seen = np.isfinite(x).all(axis=-1)
    if not seen.any():
        raise DataError("size must be above 0 on three successive days for some synapse, got none")
    x = np.where(seen[..., None], x, 0.0)
    moments = np.concatenate([seen[..., None], x, (x[..., :, None] * x[..., None, :]).reshape(
        *x.shape[:-1], 9)], axis=-1).sum(axis=1)  # fmt: skip
    n_clusters, index = resampling.cluster_index(clusters)
    sums = resampling.sums_within(moments, index, n_clusters)
    drawn = resampling.draws(n_clusters, bootstraps, rng)
    low, high = resampling.interval(_partial(resampling.resampled(drawn, sums))[0])
    partial, one, two = _partial(sums.sum(axis=0))
    return {
        "triples": int(seen.sum()),
        "partial_correlation": float(partial),
        "low": float(low),
        "high": float(high),
        "lag_one": float(one),
        "lag_two": float(two),
    }


def _partial(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Partial correlation of first and third given second, and the correlations 1-2 and 1-3.

    NaN where the second says all of the first or third, as with two synapses.
    """
    n = sums[..., :1]
    mean = sums[..., 1:4] / n
    second = (sums[..., 4:] / n).reshape(*sums.shape[:-1], 3, 3)
    covariance = second - mean[..., :, None] * mean[..., None, :]
    sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    r = covariance / (sd[..., :, None] * sd[..., None, :])
    ab, bc, ac = r[..., 0, 1], r[..., 1, 2], r[..., 0, 2]
    unsaid = (1 - ab**2) * (1 - bc**2)
    unsaid = np.where(unsaid > 1e-12, unsaid, np.nan)  # else rounding is all that is left
    return (ac - ab * bc) / np.sqrt(unsaid), ab, ac
