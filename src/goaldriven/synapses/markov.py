"""Synaptic sizes as a Markov chain of bins and absence: the fit and its long run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.synapses import chains, resampling
from goaldriven.synapses.preparation import regular_days
from goaldriven.synapses.resampling import Unit
from goaldriven.synapses.states import UNOBSERVED, Bins, States, equal_width_bins
from goaldriven.synapses.table import Floats, check_weights

UNITS: tuple[Unit, ...] = ("dendrite", "synapse")


@dataclass(frozen=True, eq=False)
class Resamples:
    """The chain fitted to resampled data; first axis: resamples."""

    transition: Floats
    stationary: Floats
    occupancy: Floats


@dataclass(frozen=True, eq=False)
class MarkovFit:
    """A chain fitted to one group of synapses.

    Attributes
    ----------
    bins : the states' sizes.
    states : (synapse, column) of the data on equally spaced columns, −1 = not observed.
    days : (column,) the days of the columns.
    counts, transition : (state, state), from the row's to the column's state.
    stationary : (state,) π with πP = π; of a chain with several, the mix reached from the data.
    occupancy : (state,) shares of all observations, the empirical counterpart of π.
    prior : concentration of the Dirichlet prior.
    resamples : the same from resampled dendrites and from resampled synapses.
    """

    bins: Bins
    states: States
    days: Floats
    counts: Floats
    transition: Floats
    stationary: Floats
    occupancy: Floats
    prior: float
    resamples: dict[Unit, Resamples]

    @property
    def step(self) -> float:
        """Days of one step of the chain."""
        return float(self.days[1] - self.days[0])

    @property
    def relaxation_days(self) -> float:
        """Days in which the slowest deviation from the stationary distribution falls to 1/e."""
        return self.step * chains.relaxation_steps(self.transition)

    def table(self, unit: Unit = "dendrite") -> pd.DataFrame:
        """One row per state: its sizes, ``transitions`` (how many were counted from it),
        ``occupancy``, ``stationary`` and their ``difference`` with 95% intervals."""
        table = self.bins.table()
        table["transitions"] = self.counts.sum(axis=1)
        again = self.resamples[unit]
        for name, value, samples in (
            ("occupancy", self.occupancy, again.occupancy),
            ("stationary", self.stationary, again.stationary),
            ("difference", self.stationary - self.occupancy, again.stationary - again.occupancy),
        ):
            table[name] = value
            table[f"{name}_low"], table[f"{name}_high"] = resampling.interval(samples)
        return table

    def transitions(self, unit: Unit = "dendrite") -> pd.DataFrame:
        """One row per pair of states: ``from_state``, ``to_state``, ``count``, ``probability`` with
        its 95% interval."""
        n = self.bins.n_states
        low, high = resampling.interval(self.resamples[unit].transition)
        rows, columns = np.indices((n, n))
        return pd.DataFrame(
            {
                "from_state": rows.ravel(),
                "to_state": columns.ravel(),
                "count": self.counts.ravel().astype(int),
                "probability": self.transition.ravel(),
                "probability_low": low.ravel(),
                "probability_high": high.ravel(),
            }
        )


def fit_markov(
    w: Floats,
    days: Floats,
    clusters: NDArray,
    *,
    bins: Bins | None = None,
    prior: float = 0.0,
    bootstraps: int = 1000,
    rng: np.random.Generator,
) -> MarkovFit:
    """Fit a Markov chain to synaptic sizes.

        P_ij = n_ij / Σ_k n_ik

    with n_ij the number of times a synapse in state i was in state j one step later, all synapses
    and days pooled.

    Parameters
    ----------
    w, days, clusters : see `goaldriven.synapses.table.Weights`; a skipped session breaks a path.
    bins : default the published 20: `equal_width_bins`. See also `choose_bins`.
    prior : see `chains.transition_matrix`.
    bootstraps : resamples of dendrites, and as many of synapses.

    Raises
    ------
    DataError : sizes or days cannot be used, or no synapse is observed on two successive days.

    Source: thesis §6.2.4.
    """
    sizes, when = regular_days(*check_weights(w, days))
    bins = equal_width_bins(sizes) if bins is None else bins
    states = bins.to_states(sizes)
    per_synapse = chains.count_transitions(states[:, None, :], bins.n_states)
    if not per_synapse.sum():
        raise DataError("size must be observed on two successive days for some synapse, got none")
    held = occupied(states, bins.n_states)
    counts = per_synapse.sum(axis=0)
    transition = chains.transition_matrix(counts, prior)
    occupancy = held.sum(axis=0) / held.sum()
    labels: dict[Unit, NDArray] = {u: resampling.units(clusters, u) for u in UNITS}
    return MarkovFit(
        bins=bins,
        states=states,
        days=when,
        counts=counts,
        transition=transition,
        stationary=chains.long_run(transition, occupancy),
        occupancy=occupancy,
        prior=prior,
        resamples={
            unit: _resample(per_synapse, held, of, prior, bootstraps, rng)
            for unit, of in labels.items()
        },
    )


def occupied(states: States, n_states: int) -> Floats:
    """(item, state) in how many sessions each item was in each state."""
    rows, columns = np.nonzero(states != UNOBSERVED)
    counts = np.zeros((len(states), n_states))
    np.add.at(counts, (rows, states[rows, columns]), 1.0)
    return counts


def _resample(
    per_synapse: Floats,
    held: Floats,
    labels: NDArray,
    prior: float,
    bootstraps: int,
    rng: np.random.Generator,
) -> Resamples:
    n_clusters, index = resampling.cluster_index(labels)
    drawn = resampling.draws(n_clusters, bootstraps, rng)
    counts = resampling.resampled(drawn, resampling.sums_within(per_synapse, index, n_clusters))
    times = resampling.resampled(drawn, resampling.sums_within(held, index, n_clusters))
    transition = chains.transition_matrix(counts, prior)
    occupancy = times / times.sum(axis=1, keepdims=True)
    return Resamples(transition, chains.long_run(transition, occupancy), occupancy)


def given_present(distribution: Floats) -> Floats:
    """(…, state − 1) the distribution over bins of size, absence left out."""
    present = distribution[..., 1:]
    return present / present.sum(axis=-1, keepdims=True)


def stationarity(fit: MarkovFit) -> pd.DataFrame:
    """How far the stationary distribution is from the empirical one.

    Returns
    -------
    Two rows, ``states`` = all, and present (given that a synapse is there): ``distance`` (total
    variation), its 95% interval over dendrites, ``mean_stationary`` and ``mean_occupancy`` (of
    the state's mean size; over all states absence counts as 0), ``outside`` (states whose
    bootstrap interval of the difference leaves out 0) of ``n_states``.
    """
    again = fit.resamples["dendrite"]
    middle = np.concatenate([[0.0], (fit.bins.low + fit.bins.high) / 2])
    rows = []
    for name, take, sizes in (
        ("all", lambda p: p, middle),
        ("present", given_present, middle[1:]),
    ):
        pi, occupancy = take(fit.stationary), take(fit.occupancy)
        pis, occupancies = take(again.stationary), take(again.occupancy)
        low, high = resampling.interval(chains.total_variation(pis, occupancies))
        below, above = resampling.interval(pis - occupancies)
        rows.append(
            {
                "states": name,
                "distance": float(chains.total_variation(pi, occupancy)),
                "distance_low": float(low),
                "distance_high": float(high),
                "mean_stationary": float(pi @ sizes),
                "mean_occupancy": float(occupancy @ sizes),
                "outside": int(((below > 0) | (above < 0)).sum()),
                "n_states": len(pi),
            }
        )
    return pd.DataFrame(rows)


STARTS = ("uniform", "absent", "largest", "smallest", "data")
"""Starting distributions whose convergence `convergence` follows."""


def convergence(fit: MarkovFit, *, steps: int = 100) -> pd.DataFrame:
    """Different distributions of size, carried forward by the chain.

    Returns
    -------
    One row per start, step and state: ``start`` (one of `STARTS`), ``days``, ``state``,
    ``probability``, ``distance`` (total variation to the stationary distribution).

    Source: thesis §6.2.2, Figure 6.2a,b.
    """
    n = fit.bins.n_states
    one = np.eye(n)
    starts = (np.full(n, 1 / n), one[0], one[-1], one[1], fit.occupancy)
    parts = []
    for name, start in zip(STARTS, starts, strict=True):
        path = chains.iterate(fit.transition, start, steps)
        parts.append(
            pd.DataFrame(
                {
                    "start": name,
                    "days": np.repeat(fit.step * np.arange(steps + 1), n),
                    "state": np.tile(np.arange(n), steps + 1),
                    "probability": path.ravel(),
                    "distance": np.repeat(chains.total_variation(path, fit.stationary), n),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
