"""What synapses do over days: change, survive, come and go. No model yet.

All functions take sizes ``w`` (synapse, day), ``days`` and ``clusters`` (the dendrites), and return
tidy tables with 95% intervals from a bootstrap over dendrites.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.synapses import resampling
from goaldriven.synapses.preparation import Flags, middle_half
from goaldriven.synapses.table import Floats

Event = Literal["addition", "elimination"]


def weight_changes(
    w: Floats,
    days: Floats,
    clusters: NDArray,
    *,
    among: Flags | None = None,
    bootstraps: int = 1000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """How far sizes have moved since the first session.

        change(t) = mean over synapses of |log w(t) − log w(0)| ,  percent = 100 (e^change − 1)

    Parameters
    ----------
    among : (synapse,) which; default `middle_half` of the persistent, as in the thesis.

    Returns
    -------
    One row per session: ``day``, ``n``, ``size`` (mean), ``size_sem``, ``log_change`` (mean of
    log w(t) − log w(0)), ``change`` (of its magnitude), ``change_sem`` (standard error over
    synapses), ``change_low``, ``change_high`` (95%, over dendrites), ``percent``.

    Source: thesis §6.2.2, Figure 6.1a,b.
    """
    chosen = middle_half(w) if among is None else among
    x, dendrites = w[chosen], np.asarray(clusters)[chosen]
    first = x[:, :1]
    usable = (x > 0) & (first > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(usable, np.log(x) - np.log(first), np.nan)
    size = np.where(usable, x, np.nan)
    low, high = _interval_of_means(np.abs(change), dendrites, bootstraps, rng)
    mean, sem = mean_and_sem(np.abs(change))
    return pd.DataFrame(
        {
            "day": days,
            "n": usable.sum(axis=0),
            "size": mean_and_sem(size)[0],
            "size_sem": mean_and_sem(size)[1],
            "log_change": mean_and_sem(change)[0],
            "change": mean,
            "change_sem": sem,
            "change_low": low,
            "change_high": high,
            "percent": 100 * np.expm1(mean),
        }
    )


def changes_by_interval(
    w: Floats,
    days: Floats,
    clusters: NDArray,
    *,
    among: Flags | None = None,
    bootstraps: int = 1000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Mean |log w(t + δ) − log w(t)| against δ, over all pairs of sessions that are δ days apart.

    Unlike `weight_changes` this uses every start, so its errors are smaller; a synapse counts
    once per pair in which it is present on both days.

    Returns
    -------
    One row per interval: ``interval`` (days), ``pairs``, ``change``, ``change_low``,
    ``change_high`` (95%, over dendrites), ``percent``.
    """
    chosen = middle_half(w) if among is None else among
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(w[chosen] > 0, np.log(w[chosen]), np.nan)
    n_clusters, index = resampling.cluster_index(np.asarray(clusters)[chosen])
    gaps = np.subtract.outer(days, days).T  # gaps[s, t] = days[t] − days[s]
    rows = []
    for gap in np.unique(np.round(gaps[gaps > 0], 6)):
        starts, ends = np.nonzero(np.isclose(gaps, gap))
        change = np.abs(logs[:, ends] - logs[:, starts])
        both = np.stack([change, np.isfinite(change)], axis=-1).astype(float)
        sums = resampling.sums_within(np.nansum(both, axis=1), index, n_clusters)
        low, high = _ratio_interval(sums, bootstraps, rng)
        total, pairs = sums.sum(axis=0)
        mean = total / pairs if pairs else np.nan
        rows.append((float(gap), int(pairs), mean, float(low), float(high), 100 * np.expm1(mean)))
    columns = ["interval", "pairs", "change", "change_low", "change_high", "percent"]
    return pd.DataFrame(rows, columns=columns)


def survival(
    w: Floats,
    days: Floats,
    clusters: NDArray,
    *,
    bootstraps: int = 1000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Fraction of the first session's synapses that are still there.

        S(t) = #{present in every session up to t} / #{present at first, observed up to t}

    Returns
    -------
    One row per session: ``day``, ``n`` (synapses that count), ``survival``, ``survival_sem``
    (binomial), ``survival_low``, ``survival_high`` (95%, over dendrites).

    Source: thesis §6.2.4, Figure 6.1k.

    Raises
    ------
    DataError : no synapse is present in the first session.
    """
    start = w[:, 0] > 0
    if not start.any():
        raise DataError("size must be above 0 for some synapse in the first session, got none")
    observed = np.logical_and.accumulate(np.isfinite(w), axis=1) & start[:, None]
    alive = np.logical_and.accumulate(w > 0, axis=1) & observed
    n = observed.sum(axis=0)
    n_clusters, index = resampling.cluster_index(clusters)
    sums = resampling.sums_within(np.stack([alive, observed], axis=-1), index, n_clusters)
    low, high = _ratio_interval(sums, bootstraps, rng)
    fraction = _ratio(alive.sum(axis=0), n)
    return pd.DataFrame(
        {
            "day": days,
            "n": n,
            "survival": fraction,
            "survival_sem": np.sqrt(fraction * (1 - fraction) / np.maximum(n, 1)),
            "survival_low": low,
            "survival_high": high,
        }
    )


def turnover(
    w: Floats,
    days: Floats,
    clusters: NDArray,
    *,
    bootstraps: int = 1000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Fractions gained and lost from one session to the next.

        gain = births / N ,  loss = deaths / N ,  N = synapses present before, observed after

    Births are absent before and present after, both observed: a synapse that was not looked at is
    neither born nor dead.

    Returns
    -------
    One row per interval and one (``from_day`` NaN) over all: ``from_day``, ``to_day``, ``n``,
    ``births``, ``deaths``, ``gain``, ``loss``, and their 95% intervals over dendrites.
    """
    before, after = w[:, :-1], w[:, 1:]
    seen = np.isfinite(before) & np.isfinite(after)
    births = seen & (before == 0) & (after > 0)
    deaths = seen & (before > 0) & (after == 0)
    base = seen & (before > 0)
    n_clusters, index = resampling.cluster_index(clusters)
    counts = np.stack([births, deaths, base], axis=-1).astype(float)
    counts = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)
    sums = resampling.sums_within(counts, index, n_clusters)
    total = sums.sum(axis=0)
    columns = {
        "from_day": np.append(days[:-1], np.nan),
        "to_day": np.append(days[1:], np.nan),
        "n": total[:, 2].astype(int),
        "births": total[:, 0].astype(int),
        "deaths": total[:, 1].astype(int),
    }
    drawn = resampling.draws(n_clusters, bootstraps, rng)
    again = resampling.resampled(drawn, sums)
    for k, name in enumerate(("gain", "loss")):
        columns[name] = _ratio(total[:, k], total[:, 2])
        low, high = resampling.interval(_ratio(again[..., k], again[..., 2]))
        columns |= {f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns)


def aligned(w: Floats, days: Floats, event: Event) -> pd.DataFrame:
    """Sizes against days since synapses appeared, or until they disappeared.

    Day 0 is the first session with the synapse (``"addition"``: absent in the session before) or
    without it (``"elimination"``: present in the session before). A size counts while the synapse
    has been present without a break since (or until) its event.

    Returns
    -------
    One row per distance: ``days_since`` (negative before), ``n``, ``size`` (mean of those present),
    ``size_sem``, ``size_median``.

    Source: thesis §6.2.2, Figure 6.1i,j.
    """
    before, after = w[:, :-1], w[:, 1:]
    absent, there = (before, after) if event == "addition" else (after, before)
    which, column = np.nonzero((absent == 0) & (there > 0))
    moment = column + 1
    found: dict[float, list[float]] = {}
    for i, t in zip(which, moment, strict=True):
        path = range(t, len(days)) if event == "addition" else range(t - 1, -1, -1)
        for s in path:
            if w[i, s] == 0:
                break
            if w[i, s] > 0:
                found.setdefault(round(float(days[s] - days[t]), 6), []).append(w[i, s])
    rows = [
        (since, len(x), np.mean(x), np.std(x, ddof=1) / len(x) ** 0.5 if len(x) > 1 else np.nan,
         np.median(x))
        for since, x in sorted(found.items())
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["days_since", "n", "size", "size_sem", "size_median"])


def mean_and_sem(values: Floats) -> tuple[Floats, Floats]:
    """Mean and its standard error over the first axis, without what is NaN."""
    n = np.isfinite(values).sum(axis=0)
    total = np.nansum(values, axis=0)
    mean = _ratio(total, n)
    squares = np.nansum((values - mean) ** 2, axis=0)
    return mean, np.sqrt(_ratio(_ratio(squares, n - 1), n))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, np.asarray(above, float) / np.asarray(below, float), np.nan)


def _interval_of_means(
    values: Floats, clusters: NDArray, bootstraps: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    n_clusters, index = resampling.cluster_index(clusters)
    both = np.stack([values, np.isfinite(values)], axis=-1)
    return _ratio_interval(resampling.sums_within(both, index, n_clusters), bootstraps, rng)


def _ratio_interval(
    sums: Floats, bootstraps: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """95% interval of sums[..., 0] / sums[..., 1] over resampled clusters."""
    again = resampling.resampled(resampling.draws(len(sums), bootstraps, rng), sums)
    return resampling.interval(_ratio(again[..., 0], again[..., 1]))
