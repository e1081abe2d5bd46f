"""Open set: was a network made by none of the rules that the classifier knows?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.calibration.checks import (
    Indices,
    Vector,
    finite_rows,
    network_labels,
    probability_rows,
    rule_indices,
    rule_names,
)
from goaldriven.identify.calibration.conformal import (
    ROUNDING,
    conformal_p_values,
    enough_networks,
)
from goaldriven.identify.calibration.networks import (
    bootstrap_by_network,
    count_networks,
    mean_of_rates,
    wilson,
)

NONE = "none of these"
DECISIONS = ("method", "network", "novelty", "p_value", "alpha", "unknown", "verdict")
METRICS = ("method", "alpha", "metric", "rule", "value", "low", "high", "networks")


def novelty_p_values(train: ArrayLike, test: ArrayLike) -> Vector:
    """p-value of each test network's novelty among those of known networks.

    p = (1 + #{i : v_i ≥ v}) / (n + 1), v_i the out-of-fold novelty of training network i, of
    whatever rule. A known network has p ≤ α with probability α at most (up to the folds).

    Raises
    ------
    IdentificationError : no networks, or novelties that are not finite.

    Source: Bates et al., 2023, Ann. Stat. 51, 149.
    """
    known, new = (np.asarray(v, dtype=np.float64) for v in (train, test))
    for name, values in (("train", known), ("test", new)):
        if values.ndim != 1 or not len(values):
            raise IdentificationError(
                f"{name} must hold one novelty per network, got shape {values.shape}"
            )
        finite_rows(values, name)
    ordered = np.sort(known)
    slack = ROUNDING * np.maximum(1, np.abs(new))
    return (1 + len(ordered) - np.searchsorted(ordered, new - slack)) / (1 + len(ordered))


def none_of_these(
    scores: ArrayLike,
    truth: ArrayLike,
    test_scores: ArrayLike,
    alpha: float,
    *,
    rules: Sequence[str] | None = None,
    test_networks: ArrayLike | None = None,
    distances: tuple[ArrayLike, ArrayLike] | None = None,
    per_rule: bool = False,
) -> pd.DataFrame:
    """Is each test network of a known rule, and of which? By three measures of novelty.

    - ``conformal``: 1 − max_k p_k with the conformal p-values of the rules; unknown where the
      conformal set at level α is empty. False alarms are rarer than α, since a known network is
      called known also when another rule than its own is not ruled out.
    - ``max_probability``: 1 − max_k p_k with the scores, held against out-of-fold scores of the
      training networks. Unless ``per_rule`` it ranks networks as ``conformal`` does; only the
      level differs.
    - ``distance``: given ``distances``, held against those of the training networks. Scores say
      which known rule is nearest and can be sure of it far away from all; distances notice.

    Parameters
    ----------
    scores, truth : (network, rule), mean over layers, and (network,): out-of-fold, training part.
    test_scores : (network, rule), of test networks.
    alpha : the share of known networks that may be called unknown.
    test_networks : names.
    distances : of the training networks (out-of-fold) and of the test networks, in the order of
        the scores; see `goaldriven.identify.calibration.distances.feature_distances`.
    per_rule : conformal p-values among networks of the same rule.

    Returns
    -------
    pd.DataFrame
        One row per method and test network: ``method``, ``network``, ``novelty``, ``p_value``,
        ``alpha``, ``unknown`` (p_value ≤ alpha), ``verdict`` ("none of these", or the rule with
        the highest score).

    Raises
    ------
    IdentificationError : not probabilities, an unknown rule, fewer than 1/α − 1 training networks
        (of a rule, with ``per_rule``), or distances of another length.
    """
    p, new = probability_rows(scores, "scores"), probability_rows(test_scores, "test_scores")
    true = rule_indices(truth, p.shape, rules)
    names = rule_names(rules, p.shape[1])
    enough_networks(true, alpha)
    if per_rule:
        enough_networks(true, alpha, names)
    best = conformal_p_values(new, p, true, per_rule=per_rule).max(axis=1)
    doubt, new_doubt = 1 - p.max(axis=1), 1 - new.max(axis=1)
    found = {
        "conformal": (1 - best, best),
        "max_probability": (new_doubt, novelty_p_values(doubt, new_doubt)),
    }
    if distances is not None:
        found["distance"] = _by_distance(distances, len(p), len(new))
    called = np.array(names, dtype=object)[new.argmax(axis=1)]
    return _decisions(found, called, network_labels(test_networks, len(new)), alpha)


def _by_distance(
    distances: tuple[ArrayLike, ArrayLike], n_train: int, n_test: int
) -> tuple[Vector, Vector]:
    """Novelties and p-values of the test networks from distances of training and test networks."""
    train, test = (np.asarray(d, dtype=np.float64) for d in distances)
    if (len(train), len(test)) != (n_train, n_test):
        raise IdentificationError(
            f"distances must be those of {n_train} training and {n_test} test networks, "
            f"got {len(train)} and {len(test)}"
        )
    return test, novelty_p_values(train, test)


def _decisions(
    found: dict[str, tuple[Vector, Vector]],
    called: NDArray[Any],
    labels: NDArray[Any],
    alpha: float,
) -> pd.DataFrame:
    """The table of `none_of_these`, from each method's novelties and p-values."""
    frames = []
    for method, (novelty, p_value) in found.items():
        out = p_value <= alpha + ROUNDING
        frames.append(
            pd.DataFrame(
                {"method": method, "network": labels, "novelty": novelty, "p_value": p_value,
                 "alpha": float(alpha), "unknown": out, "verdict": np.where(out, NONE, called)}
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)[list(DECISIONS)]


def open_set_metrics(
    decisions: pd.DataFrame,
    truth: ArrayLike,
    rules: Sequence[str],
    unknown_rules: Sequence[str],
    rng: np.random.Generator,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """How well "none of these" is said, per method.

    Parameters
    ----------
    decisions : of `none_of_these`; of several splits, one below the other.
    truth : (row of ``decisions``,), names of the rules that made the networks.
    rules, unknown_rules : the rules that the classifier knows, and those that it does not.
    rng : of the bootstrap.

    Returns
    -------
    pd.DataFrame
        Tidy, ``method``, ``alpha``, ``metric``, ``rule`` ("all" or one), ``value``, ``low``,
        ``high``, ``networks``. Metrics: ``auroc``, the chance that an unknown network is more
        novel than a known one; ``false_alarm``, the share of known networks called unknown (per
        rule, too); ``detection``, the share of unknown networks called unknown (per rule, too);
        ``balanced_accuracy``, the mean share of right verdicts over the rules and "none of these".
        Intervals of shares are Wilson's with networks as units, of the mean share from these by
        square-and-add, of ``auroc`` from a bootstrap of networks within rules; where that has no
        width (all unknown ones more novel than all known) Wilson's with the smaller number of
        networks.

    Raises
    ------
    IdentificationError : a true rule that is neither known nor declared unknown, a rule that is
        both, another length, or no network that is known, or none that is not.
    """
    true = _true_rules(truth, len(decisions), rules, unknown_rules)
    decisions = decisions.reset_index(drop=True)  # several splits may repeat an index
    novel = np.isin(true, list(unknown_rules))
    if novel.all() or not novel.any():
        kind = "known" if novel.all() else "unknown"
        raise IdentificationError(f"truth must hold networks of {kind} rules, got none")
    rows: list[tuple[object, ...]] = []
    for (method, alpha), part in decisions.groupby(["method", "alpha"], sort=False):
        where = decisions.index.get_indexer(part.index)
        rows += [
            (method, alpha, *row)
            for row in _metrics(part, true[where], novel[where], rng, n_resamples, level)
        ]
    return pd.DataFrame(rows, columns=list(METRICS))


def _true_rules(
    truth: ArrayLike, n_rows: int, rules: Sequence[str], unknown_rules: Sequence[str]
) -> NDArray[Any]:
    true = np.asarray(truth)
    if true.shape != (n_rows,):
        raise IdentificationError(
            f"truth must have one rule per decision, {n_rows}, got shape {true.shape}"
        )
    both = set(rules) & set(unknown_rules)
    if both:
        raise IdentificationError(
            f"unknown_rules must not be among rules, got {', '.join(sorted(both))}"
        )
    for name in np.unique(true).tolist():
        if name not in (*rules, *unknown_rules):
            raise IdentificationError(unknown("truth", name, [*rules, *unknown_rules]))
    return true


def _metrics(
    part: pd.DataFrame,
    true: NDArray[Any],
    novel: NDArray[np.bool_],
    rng: np.random.Generator,
    n_resamples: int,
    level: float,
) -> list[tuple[object, ...]]:
    """Rows (metric, rule, value, low, high, networks) of one method at one level."""
    called, verdict = part["unknown"].to_numpy(), part["verdict"].to_numpy()
    networks, novelty = part["network"].to_numpy(), part["novelty"].to_numpy()

    def share(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> tuple[float, int]:
        return float(hits[of].mean()), count_networks(networks[of])

    area = _auroc(novelty, novel, networks, true, rng, n_resamples, level)
    rows: list[tuple[object, ...]] = [("auroc", "all", *area)]
    for metric, group in (("false_alarm", ~novel), ("detection", novel)):
        names = np.unique(true[group]).tolist()
        for name, of in [("all", group)] + [(str(r), true == r) for r in names]:
            value, n = share(called, of)
            low, high = wilson(value, n, level)
            rows.append((metric, name, value, float(low), float(high), n))
    groups = [(true == r, str(r)) for r in np.unique(true[~novel]).tolist()] + [(novel, NONE)]
    recalls = [share(verdict == name, of) for of, name in groups]
    interval = mean_of_rates([r for r, _ in recalls], [n for _, n in recalls], level)
    rows.append(("balanced_accuracy", "all", *interval, sum(n for _, n in recalls)))
    return rows


def _auroc(
    novelty: Vector,
    novel: NDArray[np.bool_],
    networks: NDArray[Any],
    true: NDArray[Any],
    rng: np.random.Generator,
    n_resamples: int,
    level: float,
) -> tuple[float, float, float, int]:
    def area(rows: Indices) -> float:
        # From ranks, as Mann & Whitney's statistic: many times quicker than from the curve.
        ranks, positive = rankdata(novelty[rows]), novel[rows]
        n = int(positive.sum())
        return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(rows) - n)))

    value = area(np.arange(len(novel)))
    low, high = bootstrap_by_network(area, networks, true, rng, n_resamples, level)
    if high - low < ROUNDING:
        n = min(count_networks(networks[novel]), count_networks(networks[~novel]))
        low, high = (float(end) for end in wilson(value, n, level))
    return value, low, high, count_networks(networks)
