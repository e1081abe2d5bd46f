"""Leave one rule out: does the classifier say "none of these" of networks that it made?"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.errors import IdentificationError
from goaldriven.identify.calibration import (
    networks_needed,
    none_of_these,
    open_set_metrics,
    wilson,
)
from goaldriven.identify.experiments.cache import Fit, Matrix
from goaldriven.identify.experiments.cells import WHOLE, Cell
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.outcomes import conditions
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.scored import (
    Row,
    judged,
    of_all_splits,
    out_of_fold,
    rows,
    said,
    together,
    wide,
    with_interval,
)
from goaldriven.identify.experiments.spec import Experiment, Finding, Measure, Plot
from goaldriven.identify.splits import Split

CLASSIFIERS = ("random_forest", "svm")
ALPHA = 0.1
"""The share of known networks that may be called unknown."""

BOOTSTRAPS = 1000
EVERY = "all"

Group = Sequence[tuple[Cell, Fit]]


def _open_set(given: Material) -> Sequence[Cell]:
    if len(given.rules) < 3:
        raise IdentificationError(
            "experiment 'open_set' must have at least 3 rules to leave one out, got "
            f"{len(given.rules)} ({', '.join(given.rules)})"
        )
    examples = given.observables("all")
    return [
        Cell(
            {"left_out": rule}, classifier, examples, without(split, examples["rule"].values, rule),
            number, probes=("cross_fitted", "neighbour_distances"),
        )
        for rule in given.rules
        for classifier in CLASSIFIERS
        for number, split in enumerate(given.splits("network", examples))
    ]  # fmt: skip


def without(split: Split, rules: NDArray[np.str_], left_out: str) -> Split:
    """The split with every example of one rule tested and none trained on.

    Networks of the other rules stay where they were.
    """
    unknown = rules == left_out
    test = np.union1d(split.test, np.flatnonzero(unknown))
    return Split(split.train[~unknown[split.train]], test, split.kind, split.groups)


def _after(given: Material, cells: Sequence[Cell], fits: Sequence[Fit]) -> Iterable[Row]:
    for group in together(cells, fits):
        name = f"{group[0][0].condition['left_out']}/{group[0][0].classifier}"
        yield from _rows(group, np.random.default_rng([given.seed, zlib.crc32(name.encode())]))


def _rows(group: Group, rng: np.random.Generator) -> Iterator[Row]:
    cell, fit = group[0]
    left_out, rules = str(cell.condition["left_out"]), fit.classes.tolist()
    decisions = _decisions(group)
    keys = of_all_splits(cell)
    yield from rows(keys, _known_accuracy(group, left_out))
    # Novelties of different splits are not on one scale: areas are taken split by split (below).
    table = open_set_metrics(
        decisions, decisions["truth"].to_numpy(), rules, [left_out], rng, n_resamples=1
    )
    for line in table[table["metric"] != "auroc"].to_dict("records"):
        values = with_interval(line["metric"], line["value"], line["low"], line["high"])
        place = {"method": line["method"], "of_rule": line["rule"]}
        yield from rows(keys | place, values)
    for method, part in decisions.groupby("method", sort=False):
        place = {"method": method, "of_rule": EVERY}
        areas, low, high = areas_by_split(part, left_out, rng)
        yield from rows(
            keys | place,
            {"alpha": part["alpha"].iloc[0], "auroc_low": low, "auroc_high": high},
        )
        for (one, _), area in zip(group, areas, strict=True):
            yield from rows(conditions(one, WHOLE) | place, {"auroc": area})


def _decisions(group: Group) -> pd.DataFrame:
    """What is said of each tested network under each split, with ``truth`` and ``split``."""
    trained = [out_of_fold(*one) for one in group]
    alpha = max(ALPHA, 1 / (1 + min(len(part.truth) for part in trained)))
    fewest = min(np.unique(part.truth, return_counts=True)[1].min() for part in trained)
    # Rule by rule, a rule whose own networks are unsure does not hide strangers to the others. With
    # barely enough networks, however, a stranger would have to be stranger than all of every rule.
    frames = []
    for (cell, fit), training in zip(group, trained, strict=True):
        test = judged(cell, fit)
        frame = none_of_these(
            training.scores, training.truth, test.scores, alpha,
            rules=fit.classes.tolist(), test_networks=test.networks,
            distances=(fit.found["distance_train"], fit.found["distance_test"]),
            per_rule=bool(fewest >= 2 * networks_needed(alpha)),
        )  # fmt: skip
        of_network = dict(zip(test.networks.tolist(), test.truth.tolist(), strict=True))
        frames.append(frame.assign(truth=frame["network"].map(of_network), split=cell.number))
    return pd.concat(frames, ignore_index=True)


def _known_accuracy(group: Group, left_out: str) -> dict[str, float]:
    """Share of verdicts that are right on networks of known rules, as if there were no others."""
    right, networks = [], []
    for cell, fit in group:
        test = judged(cell, fit)
        known = test.truth != left_out
        right.append((fit.classes[test.scores.argmax(axis=1)] == test.truth)[known])
        networks.append(test.networks[known])
    mean = float(np.concatenate(right).mean())
    low, high = wilson(mean, len(np.unique(np.concatenate(networks))))
    return with_interval("known_accuracy", mean, float(low), float(high))


def areas_by_split(
    decisions: pd.DataFrame, left_out: str, rng: np.random.Generator
) -> tuple[list[float], float, float]:
    """The chance that a network of the unknown rule is more novel than a known one, per split.

    AUROC = Σ_uk w_u w_k s_uk / Σ_uk w_u w_k over unknown u and known k, s = 1 where u is more
    novel, ½ where both are equal; all w are 1. The interval of the mean over splits comes from a
    bootstrap of networks within rules, in which w counts how often a network was drawn; where that
    has no width, from Wilson's with the smaller number of networks.

    Parameters
    ----------
    decisions : of one method: ``split``, ``network``, ``truth``, ``novelty``.

    Returns
    -------
    areas, low, high
    """
    networks = decisions.drop_duplicates("network").set_index("network")["truth"]
    place = {name: i for i, name in enumerate(networks.index)}
    weights = _drawn(networks.to_numpy(dtype=str), rng)
    areas, draws = [], []
    for _, part in decisions.groupby("split", sort=False):
        novel = (part["truth"] == left_out).to_numpy()
        value = part["novelty"].to_numpy()
        gap = value[novel][:, None] - value[~novel]
        above = np.where(np.abs(gap) < 1e-12, 0.5, gap > 0)
        where = part["network"].map(place).to_numpy()
        unknown, known = weights[:, where[novel]], weights[:, where[~novel]]
        areas.append(float(above.mean()))
        with np.errstate(invalid="ignore"):  # no known network of this split was drawn
            total = unknown.sum(axis=1) * known.sum(axis=1)
            draws.append(((unknown @ above) * known).sum(axis=1) / total)
    low, high = np.nanquantile(np.nanmean(draws, axis=0), [0.025, 0.975])
    if high - low < 1e-9:
        n = min(np.sum(networks == left_out), np.sum(networks != left_out))
        low, high = wilson(float(np.mean(areas)), n)
    return areas, float(low), float(high)


def _drawn(strata: NDArray[np.str_], rng: np.random.Generator) -> Matrix:
    """How often each network is drawn, with replacement within strata: (bootstrap, network)."""
    weights = np.zeros((BOOTSTRAPS, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = rng.multinomial(len(members), even, size=BOOTSTRAPS)
    return weights


def strangers(results: Results) -> pd.DataFrame:
    """Experiment ``open_set`` at a glance: one row per left-out rule, classifier and method.

    Columns: ``left_out``, ``classifier``, ``method``, ``alpha``, and ``auroc``, ``false_alarm``,
    ``detection`` and ``balanced_accuracy`` (over the known rules and "none of these"), each with
    ``_low`` and ``_high``: 95% over networks.
    """
    table = results.table[results.table["of_rule"] == EVERY]
    return wide(table, ("left_out", "classifier", "method"))


def _found(results: Results) -> Sequence[Finding]:
    table = strangers(results)
    forest = table[table["classifier"] == CLASSIFIERS[0]]
    text = []
    for method, part in forest.groupby("method", sort=False):
        ordered = part.sort_values("auroc")
        hardest, easiest = ordered.iloc[0], ordered.iloc[-1]
        text.append(
            f"{str(method).replace('_', ' ')} AUROC {part['auroc'].mean():.2f} (from "
            f"{hardest['left_out']} {said(hardest, 'auroc')} to {easiest['left_out']} "
            f"{said(easiest, 'auroc')}), {part['detection'].mean():.2f} of unknown and "
            f"{part['false_alarm'].mean():.2f} of known networks called unknown"
        )
    loud = table[table["false_alarm_low"] > table["alpha"]]
    verdict = (
        "nowhere more false alarms than stated by more than chance"
        if loud.empty
        else "more false alarms than stated with "
        + ", ".join(
            f"{r['left_out']} left out ({r['classifier']}, {r['method']}) {said(r, 'false_alarm')}"
            for _, r in loud.iterrows()
        )
    )
    return (
        Finding(
            "Networks of a rule that was left out, against known ones not trained on "
            f"({CLASSIFIERS[0].replace('_', ' ')}, mean over {forest['left_out'].nunique()} rules "
            "left out in turn; stated "
            f"false alarms {forest['alpha'].iloc[0]:.2f}): {'; '.join(text)}; {verdict}.",
            "", "not in the paper",
        ),
    )  # fmt: skip


OPEN_SET = Experiment(
    "open_set",
    "None of these",
    "Is it noticed that a network was made by a rule that the classifier does not know?",
    "ours",
    _open_set,
    _found,
    (
        Plot(
            "levels",
            "left_out",
            "method",
            "classifier",
            "rule left out",
            table=strangers,
            measures=(
                Measure("auroc", "AUROC of strangers", 0.5, "chance"),
                Measure("detection", "strangers detected"),
                Measure("false_alarm", "known called strangers", "alpha", "as stated"),
            ),
            title="strangers detected, and false alarms",
        ),
        Plot(
            "levels",
            "left_out",
            "classifier",
            x_label="rule left out",
            table=lambda results: wide(results.table, ("left_out", "classifier")),
            measures=(Measure("known_accuracy", "networks of the known rules named right"),),
            title="networks of the other rules",
        ),
    ),
    after=_after,
)
"""Common accuracies (``network_accuracy``, ``layer_accuracy``) count every network of the left-out
rule as wrong, as no classifier knows its name; ``known_accuracy`` leaves those networks out."""

ENTRIES = (OPEN_SET,)
