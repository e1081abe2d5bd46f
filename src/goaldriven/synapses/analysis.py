"""Every analysis of one table of synaptic sizes, group by group, as tidy tables."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from goaldriven.errors import DataError
from goaldriven.synapses import (
    bin_selection,
    comparison,
    descriptive,
    distribution,
    kesten,
    markov,
    markov_predictions,
    markov_tests,
)
from goaldriven.synapses.preparation import regular_days
from goaldriven.synapses.states import Bins, quantile_bins
from goaldriven.synapses.table import Weights, groups_of, weights_of

SIMULATIONS = 500
"""Simulated tables behind each p-value of the tests of the chain."""

TEST_RESAMPLES = 200
"""Simulations behind each p-value of the Kesten process's likelihood ratios."""

WHICH: tuple[markov_tests.Which, ...] = ("present", "all")

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Given:
    """What one analysis of one group may use."""

    weights: Weights
    bootstraps: int
    rng: np.random.Generator
    fit: Callable[[], markov.MarkovFit]
    kesten: Callable[[], kesten.KestenFit]

    @property
    def regular(self) -> Weights:
        """On equally spaced days."""
        w, days = regular_days(self.weights.w, self.weights.days)
        return Weights(w, days, self.weights.clusters)


def _weight_changes(given: Given) -> pd.DataFrame:
    return descriptive.weight_changes(*given.weights, bootstraps=given.bootstraps, rng=given.rng)


def _changes_by_interval(given: Given) -> pd.DataFrame:
    return descriptive.changes_by_interval(
        *given.weights, bootstraps=given.bootstraps, rng=given.rng
    )


def _survival(given: Given) -> pd.DataFrame:
    return descriptive.survival(*given.weights, bootstraps=given.bootstraps, rng=given.rng)


def _turnover(given: Given) -> pd.DataFrame:
    return descriptive.turnover(*given.weights, bootstraps=given.bootstraps, rng=given.rng)


def _additions(given: Given) -> pd.DataFrame:
    return descriptive.aligned(given.weights.w, given.weights.days, "addition")


def _eliminations(given: Given) -> pd.DataFrame:
    return descriptive.aligned(given.weights.w, given.weights.days, "elimination")


def _distributions(given: Given) -> pd.DataFrame:
    return distribution.compare_distributions(given.weights.w)


def _lognormality(given: Given) -> pd.DataFrame:
    return distribution.lognormality_test(given.weights.w, given.weights.days, rng=given.rng)


def _stationarity(given: Given) -> pd.DataFrame:
    return markov.stationarity(given.fit())


def _correlations(given: Given) -> pd.DataFrame:
    return markov_predictions.compare_correlations(
        given.fit(),
        given.regular.w,
        given.weights.clusters,
        bootstraps=given.bootstraps,
        rng=given.rng,
    )


def _predicted_survival(given: Given) -> pd.DataFrame:
    return markov_predictions.predict_survival(given.fit(), rng=given.rng)


def _order(given: Given) -> pd.DataFrame:
    """The published bins and coarse ones; with absence and without."""
    w = given.regular.w
    choices: list[tuple[str, Bins]] = [
        ("fitted", given.fit().bins),
        ("5 quantiles", quantile_bins(w, 5)),
    ]
    rows = []
    for which in WHICH:
        for name, bins in choices:
            states = markov_tests.chain_states(w, bins, which)
            for order in (0, 1):
                tested = markov_tests.order_test(
                    states, bins.n_states, order=order, simulations=SIMULATIONS, rng=given.rng
                )
                rows.append({"states": which, "bins": name, **tested})
    return pd.DataFrame(rows)


def _goodness(given: Given) -> pd.DataFrame:
    fit = given.fit()
    parts = []
    for which in WHICH:
        states = markov_tests.chain_states(given.regular.w, fit.bins, which)
        tested = markov_tests.goodness_of_fit(
            states, fit.bins.n_states, step=fit.step, simulations=SIMULATIONS, rng=given.rng
        )
        tested.insert(0, "states", which)
        parts.append(tested)
    return pd.concat(parts, ignore_index=True)


def _memory(given: Given) -> pd.DataFrame:
    found = markov_tests.memory(
        given.regular.w, given.weights.clusters, bootstraps=given.bootstraps, rng=given.rng
    )
    return pd.DataFrame([found])


def _bins(given: Given) -> pd.DataFrame:
    folds = min(5, len(np.unique(given.weights.clusters)))
    return bin_selection.choose_bins(
        given.regular.w, given.weights.clusters, folds=folds, rng=given.rng
    )


def _comparison(given: Given) -> pd.DataFrame:
    folds = min(5, len(np.unique(given.weights.clusters)))
    return comparison.compare_models(*given.weights, folds=folds, rng=given.rng)


ANALYSES: dict[str, Callable[[Given], pd.DataFrame]] = {
    "distributions": _distributions,
    "lognormality": _lognormality,
    "weight_changes": _weight_changes,
    "changes_by_interval": _changes_by_interval,
    "survival": _survival,
    "turnover": _turnover,
    "additions": _additions,
    "eliminations": _eliminations,
    "markov_states": lambda given: given.fit().table(),
    "markov_transitions": lambda given: given.fit().transitions(),
    "markov_stationarity": _stationarity,
    "markov_convergence": lambda given: markov.convergence(given.fit()),
    "markov_correlations": _correlations,
    "markov_survival": _predicted_survival,
    "markov_order": _order,
    "markov_memory": _memory,
    "markov_goodness": _goodness,
    "markov_bins": _bins,
    "kesten": lambda given: given.kesten().table(),
    "kesten_moments": lambda given: given.kesten().moments.copy(),
    "kesten_tests": lambda given: given.kesten().test_table(),
    "comparison": _comparison,
}
"""Name of the result's table → what makes it of one group. One more entry is one more analysis."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """All results on one table.

    Attributes
    ----------
    table : the sizes.
    tables : name (of `ANALYSES`) → all groups' rows, with a column ``group`` before the others.
    fits, kestens : group → its Markov chain, and its Kesten process.
    skipped : (group, name) → why an analysis could not be made of these data.
    bootstraps, seed : settings.
    """

    table: xr.Dataset
    tables: dict[str, pd.DataFrame]
    fits: dict[str, markov.MarkovFit]
    kestens: dict[str, kesten.KestenFit]
    skipped: dict[tuple[str, str], str]
    bootstraps: int
    seed: int

    @property
    def groups(self) -> list[str]:
        return groups_of(self.table)


def analyse(
    table: xr.Dataset, *, bootstraps: int = 1000, seed: int = 0, progress: Progress | None = None
) -> Analysis:
    """Describe each group of a table and fit the models of synaptic dynamics to it.

    An analysis that the data do not allow (too few days, say) is left out and its reason kept.
    Every analysis has a random generator of its own, set by ``seed``, the group's name and its own
    name: results do not depend on which others are made.

    Parameters
    ----------
    progress : called before each step with (steps done, steps in all, what comes next).

    Raises
    ------
    DataError : ``bootstraps`` is below 2 or ``seed`` below 0.
    """
    for name, value, least in (("bootstraps", bootstraps, 2), ("seed", seed, 0)):
        if value < least:
            raise DataError(f"{name} must be at least {least}, got {value}")
    results: dict[str, list[pd.DataFrame]] = {name: [] for name in ANALYSES}
    fits: dict[str, markov.MarkovFit] = {}
    kestens: dict[str, kesten.KestenFit] = {}
    skipped: dict[tuple[str, str], str] = {}
    groups = groups_of(table)
    total = len(groups) * len(ANALYSES)
    for done, (group, name) in enumerate(_steps(groups)):
        if progress is not None:
            progress(done, total, f"{group}: {name.replace('_', ' ')}")
        given = _given(table, group, name, bootstraps, seed, fits, kestens)
        try:
            found = ANALYSES[name](given)
        except DataError as error:
            skipped[group, name] = str(error)
            continue
        found.insert(0, "group", group)
        results[name].append(found)
    if progress is not None:
        progress(total, total, "done")
    tables = {n: pd.concat(parts, ignore_index=True) for n, parts in results.items() if parts}
    return Analysis(table, tables, fits, kestens, skipped, bootstraps, seed)


def _steps(groups: list[str]) -> Iterator[tuple[str, str]]:
    return ((group, name) for group in groups for name in ANALYSES)


def _given(
    table: xr.Dataset,
    group: str,
    name: str,
    bootstraps: int,
    seed: int,
    fits: dict[str, markov.MarkovFit],
    kestens: dict[str, kesten.KestenFit],
) -> Given:
    """The group's arrays, and its fits: made on first use, then kept."""
    weights = weights_of(table, group)

    def fit() -> markov.MarkovFit:
        if group not in fits:
            rng = _generator(seed, group, "markov")
            fits[group] = markov.fit_markov(*weights, bootstraps=bootstraps, rng=rng)
        return fits[group]

    def fit_kesten() -> kesten.KestenFit:
        if group not in kestens:
            rng = _generator(seed, group, "kesten")
            kestens[group] = kesten.fit_kesten(
                *weights, bootstraps=bootstraps, rng=rng, test_resamples=TEST_RESAMPLES
            )
        return kestens[group]

    return Given(weights, bootstraps, _generator(seed, group, name), fit, fit_kesten)


def _generator(seed: int, group: str, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(group.encode()), zlib.crc32(name.encode())])


def markov_dataset(analysis: Analysis) -> xr.Dataset:
    """The chains as one dataset: ``transition(group, from_state, to_state)`` and the rest."""
    fits = analysis.fits
    names = list(fits)
    pair = ("group", "from_state", "to_state")
    low_high = [fit.transitions() for fit in fits.values()]
    n = {fit.bins.n_states for fit in fits.values()}
    if len(n) != 1:
        raise DataError(f"groups must have the same number of states, got {sorted(n)}")
    shape = (len(names), n.pop(), -1)

    def stacked(column: str) -> np.ndarray:
        return np.stack([t[column].to_numpy(float) for t in low_high]).reshape(shape)

    return xr.Dataset(
        {
            "count": (pair, np.stack([f.counts for f in fits.values()])),
            "transition": (pair, np.stack([f.transition for f in fits.values()])),
            "transition_low": (pair, stacked("probability_low")),
            "transition_high": (pair, stacked("probability_high")),
            "stationary": (("group", "state"), np.stack([f.stationary for f in fits.values()])),
            "occupancy": (("group", "state"), np.stack([f.occupancy for f in fits.values()])),
            "edge": (("group", "edge_index"), np.stack([f.bins.edges for f in fits.values()])),
        },
        coords={"group": names},
        attrs={"bootstraps": analysis.bootstraps, "seed": analysis.seed},
    )
