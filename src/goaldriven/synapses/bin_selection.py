"""How many bins? The number that predicts held-out dendrites best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.synapses import chains
from goaldriven.synapses.preparation import consecutive_pairs
from goaldriven.synapses.states import Bins, Kind, make_bins
from goaldriven.synapses.table import Floats

NUMBERS = (2, 3, 5, 8, 12, 20, 30, 40)
PRIORS = (0.01, 0.03, 0.1, 0.3, 1.0)


def choose_bins(
    w: Floats,
    clusters: NDArray,
    *,
    kinds: Sequence[Kind] = ("equal_width", "quantile"),
    numbers: Sequence[int] = NUMBERS,
    priors: Sequence[float] = PRIORS,
    folds: int = 5,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Held-out log-likelihood of Markov chains with different bins.

    A pair of successive sizes w → w′ of a held-out dendrite has log P[s(w), s(w′)] + log p(w′ |
    s(w′)), with the density of `Bins.log_density`, so that chains of different bins are compared on
    the same scale. Bins, matrix and densities come from the other dendrites alone. A prior is
    needed, since transitions that were never seen would have probability 0.

    Parameters
    ----------
    w : (synapse, column) on equally spaced columns.
    clusters : (synapse,) dendrites; each is held out once.
    folds : groups of dendrites.

    Returns
    -------
    One row per candidate, the best first: ``kind``, ``n_bins``, ``prior``, ``log_likelihood`` (nats
    per pair), ``sem`` over folds of the difference to the best, ``pairs``.

    Raises
    ------
    DataError : fewer dendrites than folds, or fewer than two folds.
    """
    names = np.unique(np.asarray(clusters))
    if not 2 <= folds <= len(names):
        raise DataError(
            f"folds must be between 2 and the number of dendrites, {len(names)}, got {folds}"
        )
    fold_of = dict(zip(rng.permutation(names), np.arange(len(names)) % folds, strict=True))
    fold = np.array([fold_of[c] for c in np.asarray(clusters)])
    rows = []
    for kind in kinds:
        for number in numbers:
            scores = _scores(w, fold, folds, kind, number, priors)
            rows += [
                {"kind": kind, "n_bins": number, "prior": prior, "scores": scores[k]}
                for k, prior in enumerate(priors)
                if scores is not None
            ] if scores is not None else []  # fmt: skip
    pairs = np.array([len(consecutive_pairs(w[fold == f]).before) for f in range(folds)])
    table = pd.DataFrame(rows)
    per_fold = np.stack(table.pop("scores").tolist())  # (candidate, fold) sums
    table["log_likelihood"] = per_fold.sum(axis=1) / pairs.sum()
    best = per_fold[int(table["log_likelihood"].argmax())]
    difference = (per_fold - best) / pairs
    table["sem"] = difference.std(axis=1, ddof=1) / np.sqrt(folds)
    table["pairs"] = int(pairs.sum())
    return table.sort_values("log_likelihood", ascending=False, kind="stable", ignore_index=True)


def _scores(
    w: Floats, fold: NDArray, folds: int, kind: Kind, number: int, priors: Sequence[float]
) -> Floats | None:
    """(prior, fold) held-out log-likelihoods; none where a fold has too few sizes for the bins."""
    scores = np.zeros((len(priors), folds))
    for f in range(folds):
        train = w[fold != f]
        try:
            bins = make_bins(train, kind, number)
        except DataError:
            return None
        counts = chains.count_transitions(bins.to_states(train), bins.n_states)
        for k, prior in enumerate(priors):
            scores[k, f] = held_out(w[fold == f], bins, chains.transition_matrix(counts, prior))
    return scores


def held_out(w: Floats, bins: Bins, transition: Floats) -> float:
    """Sum of log p(w′ | w) over the successive pairs of a table."""
    pairs = consecutive_pairs(w)
    before, after = bins.to_states(pairs.before), bins.to_states(pairs.after)
    return float((np.log(transition[before, after]) + bins.log_density(pairs.after)).sum())
