"""Can the rules be told apart where the networks perform alike?"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.above_chance import ONCE_IN, above_chance, chance_limit
from goaldriven.identify.experiments.cache import Fit
from goaldriven.identify.experiments.cells import WHOLE, Cell, Scalar
from goaldriven.identify.experiments.comparisons import decided, redrawn
from goaldriven.identify.experiments.matched_sets import Matrix, Sets, matched_sets, ranges_of
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.outcomes import conditions
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import (
    Experiment,
    Finding,
    Plot,
    Row,
    accuracy,
    told,
)
from goaldriven.identify.experiments.views import of_statistics, records
from goaldriven.identify.splits import by_network

FOREST = "random_forest"

TOLERANCES = (0.005, 0.01, 0.02, 0.05)
"""In units of the metric, which is an accuracy in the tasks of the package."""

MIN_SETS = 8
"""Fewer leave a single set to test."""

FINAL, CURVE = "final metric", "learning curve"
MATCHED, AT_RANDOM = "matched", "at random"
OBSERVED = "observables"
SET, RANGE = "matched_set", "matched_range"
ALL = "all"

# Matching within a batch size too is stricter, where it leaves enough.
WITHIN = (("task", "architecture", "batch_size"), ("task", "architecture"))


def _performance(given: Material, matched: str) -> Matrix:
    """The metric of each network, (network, record): at the last record, or at all."""
    curve = of_statistics(given.performance(), ["metric"])["value"].values[:, :, 0]
    return curve[:, -1:] if matched == FINAL else curve


def _strata(given: Material, within: Sequence[str]) -> NDArray[np.str_]:
    columns = [given.curves[name].values.astype(str) for name in within]
    return np.array(["/".join(row) for row in zip(*columns, strict=True)])


def sets_within(
    given: Material, rules: Sequence[str], matched: str, tolerance: float, within: Sequence[str]
) -> Sets:
    """The matched sets of these rules among the networks that share the coordinates ``within``."""
    performance, strata = _performance(given, matched), _strata(given, within)
    names = given.curves["rule"].values.astype(str)
    members, of_set = [np.empty((0, len(rules)), dtype=np.intp)], []
    for stratum in np.unique(strata):
        here = np.flatnonzero((strata == stratum) & np.isin(names, list(rules)))
        if len(np.unique(names[here])) == len(rules):
            found = here[matched_sets(performance[here], names[here], tolerance)]
            members.append(found)
            of_set += [str(stratum)] * len(found)
    together = np.concatenate(members)
    return Sets(
        tuple(within), together, np.array(of_set, dtype=str), ranges_of(performance, together)
    )


def sets_of(given: Material, rules: Sequence[str], matched: str, tolerance: float) -> Sets:
    """The matched sets within task, architecture and batch size, or, if those are fewer than
    `MIN_SETS`, within task and architecture."""
    tried = (sets_within(given, rules, matched, tolerance, within) for within in WITHIN)
    return next((sets for sets in tried if len(sets.members) >= MIN_SETS), sets_within(
        given, rules, matched, tolerance, WITHIN[-1]
    ))  # fmt: skip


def at_random(given: Material, rules: Sequence[str], sets: Sets) -> Sets:
    """As many sets from the same strata, of any networks: what fewer networks alone would do."""
    performance, strata = _performance(given, FINAL), _strata(given, sets.within)
    names = given.curves["rule"].values.astype(str)
    key = f"{'/'.join(rules)} {len(sets.members)}"
    rng = np.random.default_rng([given.seed, zlib.crc32(key.encode())])
    parts = []
    for stratum, count in zip(*np.unique(sets.strata, return_counts=True), strict=True):
        drawn = [
            rng.permutation(np.flatnonzero((strata == stratum) & (names == rule)))[:count]
            for rule in sorted(rules)
        ]
        parts.append(np.stack(drawn, axis=1))
    members = np.concatenate(parts)
    return Sets(sets.within, members, np.sort(sets.strata), ranges_of(performance, members))


def in_sets(examples: xr.Dataset, networks: NDArray[np.str_], sets: Sets) -> xr.Dataset:
    """The examples of the sets' networks, with their set and its range as coordinates."""
    label = {str(networks[i]): n for n, one in enumerate(sets.members) for i in one}
    names = examples["network"].values.astype(str)
    kept = np.flatnonzero(np.isin(names, list(label)))
    of_example = np.array([label[name] for name in names[kept]])
    return examples.isel(example=kept).assign_coords(
        {SET: ("example", of_example), RANGE: ("example", sets.ranges[of_example])}
    )


def _groups_of_rules(given: Material, matched: str) -> dict[str, tuple[str, ...]]:
    """All rules, or as many as leave enough sets at the widest tolerance, and every pair."""
    rules, pairs = given.rules, itertools.combinations(given.rules, 2)
    while len(rules) > 2 and _count(given, rules, matched) < MIN_SETS:
        without = [tuple(r for r in rules if r != left_out) for left_out in rules]
        rules = max(without, key=lambda chosen: _count(given, chosen, matched))
    groups = {_name(given.rules, rules): rules}
    return groups | {_name(given.rules, pair): pair for pair in pairs}


def _count(given: Material, rules: Sequence[str], matched: str) -> int:
    return len(sets_of(given, rules, matched, max(TOLERANCES)).members)


def _name(every: Sequence[str], rules: Sequence[str]) -> str:
    return ALL if 2 < len(rules) == len(every) else " or ".join(rules)


def _matched(given: Material) -> Sequence[Cell]:
    cells: list[Cell] = []
    most = 0
    for matched in (FINAL, CURVE):
        for name, rules in _groups_of_rules(given, matched).items():
            for tolerance in TOLERANCES:
                sets = sets_of(given, rules, matched, tolerance)
                most = max(most, len(sets.members))
                if len(sets.members) >= MIN_SETS:
                    levels: dict[str, Scalar] = {
                        "matched": matched, "rules": name, "tolerance": tolerance,
                    }  # fmt: skip
                    cells += _cells(given, levels, rules, sets)
    if not cells:
        raise IdentificationError(
            f"experiment 'performance_matched' must have at least {MIN_SETS} sets of networks, one "
            f"of each of two rules, that share task and architecture and differ by at most "
            f"{max(TOLERANCES)} in the metric, got {most}"
        )
    return cells


def _cells(
    given: Material, levels: dict[str, Scalar], rules: Sequence[str], sets: Sets
) -> Iterator[Cell]:
    """The observables and the performance of matched networks; the observables of any others."""
    metric = of_statistics(given.curves, ["metric"])
    last = metric.sizes["epoch"]
    observed = {OBSERVED: given.examples}
    performance = {"metric curve": metric, "final metric": records(metric, last - 1, last)}
    chosen = {MATCHED: (sets, observed | performance),
              AT_RANDOM: (at_random(given, rules, sets), observed)}  # fmt: skip
    networks = given.curves["network"].values.astype(str)
    for how, (some, seen) in chosen.items():
        for what, examples in seen.items():
            part = in_sets(examples, networks, some)
            condition = levels | {"within": " × ".join(some.within), "sets": how, "seen": what}
            for number, split in enumerate(by_network(part, given.n_splits, given.seed, (SET,))):
                yield Cell(condition, FOREST, part, split, number)


def _measured(cell: Cell, fit: Fit) -> Iterator[Row]:
    """How many sets there are, and how far apart their networks are."""
    del fit  # it is the same for all
    first = np.unique(cell.train[SET].values, return_index=True)[1]
    ranges = cell.train[RANGE].values[first]
    values = {
        "matched_sets": len(first), "largest_range": ranges.max(), "mean_range": ranges.mean(),
    }  # fmt: skip
    for metric, value in values.items():
        yield conditions(cell, WHOLE) | {"metric": metric, "value": float(value)}


def _compared(results: Results, matched: str) -> pd.DataFrame:
    """What is seen of networks matched in one way, beside what is seen of as many at random."""
    summary = results.summary()
    random = summary["sets"] == AT_RANDOM
    seen = summary["seen"].where(~random, summary["seen"] + ", networks at random")
    return summary.assign(seen=seen)[summary["matched"] == matched].drop(columns="sets")


def _found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    networks = summary[summary["metric"] == "network_accuracy"]
    return (
        *(
            finding
            for matched in (FINAL, CURVE)
            for finding in (_together(results, networks, matched), _in_pairs(networks, matched))
        ),
        _published(results, summary),
        _control(networks),
        _left_out(results, networks),
    )


def _of(networks: pd.DataFrame, **levels: object) -> pd.DataFrame:
    for column, level in levels.items():
        networks = networks[networks[column] == level]
    return networks


def _together(results: Results, networks: pd.DataFrame, matched: str) -> Finding:
    """As many rules at once as the study allows, at each tolerance."""
    rules = networks[networks["matched"] == matched]["rules"]
    names = [r for r in dict.fromkeys(rules) if r == ALL or r.count(" or ") > 1]
    if not names:
        two = len(results.settings["rules"]) == 2
        reason = (
            "the study has two" if two
            else f"there are fewer than {MIN_SETS} such sets within {max(TOLERANCES)}"
        )  # fmt: skip
        return Finding(
            f"More than two rules at once, matched in the {matched}: {reason}.",
            "",
            "not in the paper",
        )
    rows = _of(networks, matched=matched, rules=names[0])
    text = "; ".join(_at(results, part, tolerance) for tolerance, part in rows.groupby("tolerance"))
    every = "all rules" if names[0] == ALL else f"the rules {names[0]} (all at once: too few)"
    return Finding(
        f"Networks of {every} named right (random forest), one of each in a set that differs "
        f"little in the {matched}: {text}; chance {rows['chance'].iloc[0]:.2f}.",
        "",
        "not in the paper",
    )


def _at(results: Results, rows: pd.DataFrame, tolerance: object) -> str:
    keys = {c: rows[c].iloc[0] for c in ("matched", "rules", "tolerance")}
    table = _of(results.table, metric="matched_sets", sets=MATCHED, **keys)
    by = {(r["sets"], r["seen"]): told(r) for _, r in rows.iterrows()}
    return (
        f"within {tolerance} ({table['value'].iloc[0]:.0f} sets) from all observables "
        f"{by[MATCHED, OBSERVED]}, from the final metric alone {by[MATCHED, 'final metric']}, from "
        f"the metric's curve alone {by[MATCHED, 'metric curve']}, from the observables of as many "
        f"networks at random {by[AT_RANDOM, OBSERVED]}"
    )


def _in_pairs(networks: pd.DataFrame, matched: str) -> Finding:
    """Means over the pairs of rules, at each tolerance."""
    rows = _of(networks, matched=matched, sets=MATCHED)
    rows = rows[np.isclose(rows["chance"], 0.5)]
    parts = []
    for tolerance, part in rows.groupby("tolerance"):
        mean = part.groupby("seen")["mean"].mean()
        worst = _of(part, seen=OBSERVED).sort_values("mean").iloc[0]
        parts.append(
            f"within {tolerance} ({(part['seen'] == OBSERVED).sum()} pairs) from all observables "
            f"{mean[OBSERVED]:.3f}, lowest {told(worst)} for {worst['rules']}, from the final "
            f"metric alone {mean['final metric']:.3f}, from its curve alone "
            f"{mean['metric curve']:.3f}"
        )
    text = "; ".join(parts) or f"no pair has {MIN_SETS} of them within {max(TOLERANCES)}"
    return Finding(
        f"Networks of two rules named right, in pairs that differ little in the {matched}, mean "
        f"over the pairs of rules: {text}.",
        "",
        "not in the paper",
    )


def _published(results: Results, summary: pd.DataFrame) -> Finding:
    """SGDM and IA, at the smallest tolerance that leaves enough."""
    paper = "SGDM and IA performed alike and were easily separated all the same (Figure S2a)."
    pairs = summary[
        summary["rules"].isin(["ia or sgdm"]) & (summary["matched"] == FINAL)
        & (summary["sets"] == MATCHED)
    ]  # fmt: skip
    if pairs.empty:
        return Finding(
            f"There are fewer than {MIN_SETS} pairs of a network of sgdm and one of ia that "
            f"differ by at most {max(TOLERANCES)}.", paper, "not testable here",
        )  # fmt: skip
    tolerance = pairs["tolerance"].min()
    seen, alone = (
        accuracy(pairs, tolerance=tolerance, seen=name) for name in (OBSERVED, "final metric")
    )
    drawn = redrawn(
        results,
        {
            name: {
                "rules": "ia or sgdm", "matched": FINAL, "sets": MATCHED, "tolerance": tolerance,
                "seen": name,
            }
            for name in (OBSERVED, "final metric")
        },
        "network_accuracy",
    )  # fmt: skip
    more = drawn.difference(OBSERVED, "final metric")
    above = drawn.estimate(lambda a: a[OBSERVED] - 0.5)
    return Finding(
        f"Networks of sgdm and ia that differ by at most {tolerance} in the final metric: "
        f"{told(seen)} named right from all observables, {told(alone)} from the final metric; "
        f"difference {more.told}.",
        paper,
        decided(more, above),
    )


def _control(networks: pd.DataFrame) -> Finding:
    """Where networks are matched in something, it must not tell the rule."""
    control = {FINAL: "final metric", CURVE: "metric curve"}
    rows = networks[
        (networks["sets"] == MATCHED) & (networks["seen"] == networks["matched"].map(control))
    ]
    above = above_chance(rows)
    far = f"above chance by {chance_limit(len(rows)):.1f} standard errors"
    named = ", ".join(
        f"{r['rules']} by {r['matched']} within {r['tolerance']} ({r['mean']:.2f})"
        for _, r in above.iterrows()
    )
    verdict = (
        f"in none is it {far}" if above.empty
        else f"in {len(above)} it still tells the rules, {far}, so that these networks do not "
        f"perform alike: {named}"
    )  # fmt: skip
    return Finding(
        f"Control: of {len(rows)} conditions, what networks are matched in is given alone; "
        f"{verdict} (the limit that one condition of all exceeds by scatter once in {ONCE_IN} such "
        "experiments). Networks of one set are never on both sides of a split.",
        "",
        "not in the paper",
    )


def _left_out(results: Results, networks: pd.DataFrame) -> Finding:
    """The conditions without enough sets, and how strictly the others were matched."""
    rules = results.settings["rules"]
    names = [" or ".join(pair) for pair in itertools.combinations(rules, 2)]
    names = [ALL, *names] if len(rules) > 2 else names
    present = set(zip(networks["matched"], networks["rules"], networks["tolerance"], strict=True))
    absent = [
        f"{name} by {matched}" + ("" if not some else f" within {', '.join(map(str, lacking))}")
        for matched in (FINAL, CURVE)
        for name in names
        for lacking in [[t for t in TOLERANCES if (matched, name, t) not in present]]
        for some in [len(lacking) < len(TOLERANCES)]
        if lacking
    ]
    loose = _of(networks, sets=MATCHED, seen=OBSERVED, within=" × ".join(WITHIN[-1]))
    total = _of(networks, sets=MATCHED, seen=OBSERVED)
    return Finding(
        f"Left out for fewer than {MIN_SETS} sets: {'; '.join(absent) or 'nothing'}. Networks of a "
        f"set share task, architecture and batch size; in {len(loose)} of {len(total)} conditions, "
        "where there are too few of those, only task and architecture.",
        "",
        "not in the paper",
    )


PERFORMANCE_MATCHED = Experiment(
    "performance_matched",
    "Networks matched in performance",
    "Can rules be told apart among networks that do equally well?",
    "ours, beyond Figure S2a",
    _matched,
    _found,
    tuple(
        Plot(
            "lines",
            "tolerance",
            "seen",
            "rules",
            "largest difference of the metric",
            True,
            table=partial(_compared, matched=matched),
            title=f"matched in the {matched}",
        )
        for matched in (FINAL, CURVE)
    ),
    measure=_measured,
)

ENTRIES = (PERFORMANCE_MATCHED,)
