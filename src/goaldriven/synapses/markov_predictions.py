"""What a fitted chain predicts that it was not fitted to: correlations of changes, and survival."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.synapses import chains, resampling
from goaldriven.synapses.markov import MarkovFit
from goaldriven.synapses.states import UNOBSERVED
from goaldriven.synapses.table import Floats

Pooling = Literal["pairs", "sessions"]


def simulate_sizes(
    fit: MarkovFit,
    n: int,
    rng: np.random.Generator,
    *,
    start: Literal["stationary", "first_day"] = "stationary",
    once: bool = False,
) -> Floats:
    """(n, synapse, column) sizes simulated by the chain, as many synapses and days as in the data.

    A path of states, each turned to a size uniform within its bin.

    Parameters
    ----------
    start : from the stationary distribution, or from that of the first day.
    once : a synapse may come and go only once.

    Source: thesis §6.2.4.
    """
    observed = fit.states != UNOBSERVED
    if start == "stationary":
        p = fit.stationary
    else:
        first = fit.states[observed[:, 0], 0]
        p = np.bincount(first, minlength=fit.bins.n_states) / max(len(first), 1)
    states = rng.choice(fit.bins.n_states, size=(n, len(fit.states)), p=p)
    paths = chains.simulate_states(fit.transition, states, observed, n, rng, once=once)
    return fit.bins.to_sizes(paths, rng)


def cross_correlation(w: Floats, *, pooling: Pooling = "pairs") -> Floats:
    """(…, lag) correlation of changes δ steps apart, divided by that at δ = 0.

        ΔW_i(t) = W_i(t+1) − W_i(t) ,   C(δ) = corr(ΔW(t), ΔW(t+δ))

    over synapses and t together (``pooling="pairs"``), or over synapses for each t and then
    averaged (``"sessions"``); the thesis's formula is lost, and its text fits both. ``w``:
    (…, synapse, column); pairs with an unobserved size are left out, absence counts as 0.

    Source: thesis §6.2.4, Figure 6.1e,f.
    """
    sums = _lag_sums(np.diff(w, axis=-1), pooling)
    correlation = _correlation(sums.sum(axis=-4))
    correlation = np.nanmean(correlation, axis=-1)  # over one t if all are pooled
    return correlation / correlation[..., :1]


def _lag_sums(change: Floats, pooling: Pooling) -> Floats:
    """(…, synapse, lag, t, 6) sums of 1, x, y, x², y², xy; one t if all are pooled."""
    columns = change.shape[-1]
    times = columns if pooling == "sessions" else 1
    sums = np.zeros((*change.shape[:-1], columns, times, 6))
    for lag in range(columns):
        x, y = change[..., : columns - lag], change[..., lag:]
        both = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(both, x, 0.0), np.where(both, y, 0.0)
        parts = np.stack([both, x, y, x * x, y * y, x * y], axis=-1)
        if pooling == "sessions":
            sums[..., lag, : columns - lag, :] = parts
        else:
            sums[..., lag, 0, :] = parts.sum(axis=-2)
    return sums


def _correlation(sums: Floats) -> Floats:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = xy / n - x * y / n**2
        variance = (xx / n - (x / n) ** 2) * (yy / n - (y / n) ** 2)
        return np.where((n > 2) & (variance > 0), covariance / np.sqrt(variance), np.nan)


def compare_correlations(
    fit: MarkovFit,
    w: Floats,
    clusters: NDArray,
    *,
    simulations: int = 100,
    bootstraps: int = 1000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Cross-correlation of changes, in the data and in the chain.

    Parameters
    ----------
    w : (synapse, column) sizes on the columns of the fit (`regular_days`).

    Returns
    -------
    One row per lag: ``lag`` (days), ``data`` with its 95% interval over dendrites, ``model`` (mean
    of simulations started from the stationary distribution) with the interval of a simulated
    table of the data's size, ``data_by_session`` (correlations of each t averaged).
    """
    n_clusters, index = resampling.cluster_index(clusters)
    per_cluster = resampling.sums_within(_lag_sums(np.diff(w), "pairs")[:, :, 0], index, n_clusters)
    drawn = resampling.draws(n_clusters, bootstraps, rng)
    low, high = resampling.interval(_correlation(resampling.resampled(drawn, per_cluster)))
    simulated = np.concatenate(
        [cross_correlation(simulate_sizes(fit, 1, rng)) for _ in range(simulations)]
    )
    model_low, model_high = resampling.interval(simulated)
    return pd.DataFrame(
        {
            "lag": fit.step * np.arange(w.shape[1] - 1),
            "data": cross_correlation(w),
            "data_low": low,
            "data_high": high,
            "model": simulated.mean(axis=0),
            "model_low": model_low,
            "model_high": model_high,
            "data_by_session": cross_correlation(w, pooling="sessions"),
        }
    )


def survival_curve(transition: Floats, start: Floats, steps: int) -> Floats:
    """(…, steps + 1) chance to have been present at every step so far: start Q^k 1.

    Q is ``transition`` without state 0, ``start`` (…, state) a distribution, taken given presence.
    Exact where a synapse that is lost does not come back.
    """
    alive = start[..., 1:] / start[..., 1:].sum(axis=-1, keepdims=True)
    curve = [np.ones(alive.shape[:-1])]
    for _ in range(steps):
        alive = (alive[..., None, :] @ transition[..., 1:, 1:])[..., 0, :]
        curve.append(alive.sum(axis=-1))
    return np.stack(curve, axis=-1)


def predict_survival(
    fit: MarkovFit, *, simulations: int = 100, rng: np.random.Generator
) -> pd.DataFrame:
    """Survival that the chain predicts for the synapses of the first day.

    Returns
    -------
    One row per column: ``day``, ``predicted`` (`survival_curve` from the first day's distribution),
    ``predicted_low``, ``predicted_high`` (95% of tables of the data's size, from chains fitted to
    resampled dendrites: sampling and estimation together), ``simulated`` (mean of ``simulations``
    tables drawn path by path, each synapse with one life).

    Source: thesis §6.2.4, Figure 6.1k: paths may enter and leave absence once.

    Raises
    ------
    DataError : no synapse is present on the first day.
    """
    first = fit.states[:, 0]
    alive = first[first > 0]
    if not len(alive):
        raise DataError("size must be above 0 for some synapse on the first day, got none")
    start = np.bincount(alive, minlength=fit.bins.n_states) / len(alive)
    steps = fit.states.shape[1] - 1
    again = fit.resamples["dendrite"].transition
    uncertain = survival_curve(again, np.broadcast_to(start, (len(again), len(start))), steps)
    curve = survival_curve(fit.transition, start, steps)
    low, high = resampling.interval(_sampled(uncertain, len(alive), rng))
    begin = rng.choice(alive, size=(simulations, len(alive)))
    seen = np.ones((len(alive), steps + 1), dtype=bool)
    paths = chains.simulate_states(fit.transition, begin, seen, simulations, rng, once=True)
    return pd.DataFrame(
        {
            "day": fit.days,
            "predicted": curve,
            "predicted_low": low,
            "predicted_high": high,
            "simulated": np.logical_and.accumulate(paths > 0, axis=2).mean(axis=(0, 1)),
        }
    )


def _sampled(curves: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Fractions of n synapses alive if each lives as its curve says; one row per curve."""
    left = np.full(len(curves), n)
    fractions = [np.ones(len(curves))]
    for t in range(1, curves.shape[1]):
        with np.errstate(divide="ignore", invalid="ignore"):
            stay = np.where(curves[:, t - 1] > 0, curves[:, t] / curves[:, t - 1], 0.0)
        left = rng.binomial(left, np.clip(stay, 0, 1))
        fractions.append(left / n)
    return np.stack(fractions, axis=1)
