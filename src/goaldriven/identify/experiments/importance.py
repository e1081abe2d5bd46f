"""Which statistics matter, and at which epochs: to a forest that has them all, and alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.cache import Fit
from goaldriven.identify.experiments.cells import WHOLE, Cell
from goaldriven.identify.experiments.comparisons import Estimate, decided, over_splits
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.outcomes import conditions
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, Row, Status, told
from goaldriven.identify.experiments.views import of_statistics, positions_alone
from goaldriven.identify.features import POSITION_GROUP
from goaldriven.identify.splits import TEST_SHARE
from goaldriven.specs import PUBLISHED_STATISTICS, STATISTICS

FOREST = "random_forest"
CLASSIFIERS = (FOREST, "svm")
EVERY = "all"

KINDS: dict[str, str] = {
    "gini": "gini",
    "gini_by_epoch": "gini by epoch",
    "permutation": "permutation by statistic",
    "permutation_by_epoch": "permutation by epoch",
}
"""What importances are called in tables, by the probe that finds them."""


def _published(examples: xr.Dataset) -> tuple[str, ...]:
    known = set(examples["statistic"].values.tolist())
    return tuple(name for name in PUBLISHED_STATISTICS if name in known)


def _importance(given: Material) -> Sequence[Cell]:
    chosen = _published(given.examples)
    if len(chosen) < 2:
        raise IdentificationError(
            "experiment 'importance' must have at least 2 of the published statistics, finite in "
            f"all layers, got {', '.join(chosen) or 'none'}"
        )
    examples = of_statistics(given.examples, chosen)
    return [
        Cell(
            {"importance": "whole", "statistic": EVERY}, FOREST, examples, split, number,
            views="published", probes=tuple(KINDS),
        )
        for number, split in enumerate(given.splits("network", examples))
    ]  # fmt: skip


def _measured(cell: Cell, fit: Fit) -> Iterator[Row]:
    """A split's importances: mean, s.d. and number of trees (Gini) or of permutations."""
    keys = conditions(cell, WHOLE)
    statistics = [str(name) for name in cell.train["statistic"].values]
    epochs = [f"epoch {epoch}" for epoch in cell.train["epoch"].values]
    for probe, kind in KINDS.items():
        found = fit.found[probe]  # (tree or permutation, group)
        names = [POSITION_GROUP, *(epochs if probe.endswith("epoch") else statistics)]
        spread = found.std(axis=0, ddof=1) if len(found) > 1 else np.full(len(names), np.nan)
        for name, mean, sd in zip(names, found.mean(axis=0), spread, strict=True):
            values = {"importance": mean, "importance_sd": sd, "importance_n": len(found)}
            for metric, value in values.items():
                yield keys | {
                    "importance": kind, "statistic": name, "metric": metric, "value": float(value)
                }  # fmt: skip


def importances(results: Results) -> pd.DataFrame:
    """The importances of experiment ``importance``, over all trees (or permutations) and splits.

    Columns: ``importance`` (``gini``, ``gini by epoch``, ``permutation by statistic``,
    ``permutation by epoch``), ``statistic`` (or ``epoch 5``, or ``layer_position``), ``measure``
    (of a statistic; else the same as ``statistic``, or ``epoch``), ``mean``, ``sem`` (s/√n, n trees
    or permutations times splits, s their s.d.) and ``n``; the most important first. Source of mean
    and s.e.m.: Nayebi, Srivastava et al. 2020, Figure 3.

    The s.e.m. says how far trees and splits spread. All are grown on, and tested with, the same
    networks: how uncertain importances and their ranking are over networks it does not say, and
    more trees make it as small as one likes.
    """
    table = results.table[results.table["metric"].str.startswith("importance")]
    rows = []
    for (kind, name), group in table.groupby(["importance", "statistic"], sort=False):
        parts = group.pivot(index="split", columns="metric", values="value")
        n, means = parts["importance_n"], parts["importance"]
        total, mean = n.sum(), np.average(means, weights=n)
        squares = ((n - 1) * parts["importance_sd"].fillna(0) ** 2 + n * (means - mean) ** 2).sum()
        sem = np.sqrt(squares / (total - 1) / total) if total > 1 else np.nan
        rows.append({"importance": kind, "statistic": name, "measure": _measure(str(name)),
                     "mean": mean, "sem": sem, "n": int(total)})  # fmt: skip
    return pd.DataFrame(rows).sort_values(
        ["importance", "mean"], ascending=[True, False], kind="stable", ignore_index=True
    )


def _measure(name: str) -> str:
    if name in STATISTICS:
        return STATISTICS[name].measure
    return "epoch" if name.startswith("epoch ") else name


def _importance_found(results: Results) -> Sequence[Finding]:
    table = importances(results)
    gini, permuted = (table[table["importance"] == KINDS[p]] for p in ("gini", "permutation"))
    splits = _by_split(results)
    return (
        _first_of("weight", "median", gini, splits, _missing(results)),
        _first_of_all(gini, splits),
        _first_of("activation", "norm", gini, splits),
        _position_last(gini, splits),
        _by_measure(gini),
        _permuted(gini, permuted),
        _when(table),
    )


_OVER_TREES = "(± s.e.m. over trees and splits, not over networks)"
_OVER_PERMUTATIONS = "(± s.e.m. over permutations and splits, not over networks)"


def _missing(results: Results) -> str:
    absent = [n for n in PUBLISHED_STATISTICS if n not in results.settings["statistics"]]
    if not absent:
        return ""
    return (
        f" Of the {len(PUBLISHED_STATISTICS)} published statistics {', '.join(absent)} are missing."
    )


def _told(row: pd.Series) -> str:
    """With the s.e.m. that `_OVER_TREES` or `_OVER_PERMUTATIONS` explains."""
    return f"{row['statistic']} {row['mean']:.4f} ± {row['sem']:.4f}"


def _by_split(results: Results) -> pd.DataFrame:
    """Gini importances, (split, statistic)."""
    table = results.table
    rows = table[(table["importance"] == KINDS["gini"]) & (table["metric"] == "importance")]
    return rows.pivot(index="split", columns="statistic", values="value")


def _less(splits: pd.DataFrame, a: str, b: str) -> Estimate:
    """The importance of ``a`` less that of ``b``, over the forests of different training parts."""
    return over_splits(splits[a] - splits[b], (1 - TEST_SHARE) / TEST_SHARE)


def _matters_most(splits: pd.DataFrame, wanted: str, rivals: Sequence[str]) -> tuple[str, Status]:
    """How much more a statistic matters than the most important of others, and is it the first?"""
    best = max(rivals, key=lambda name: splits[name].mean())
    status = decided(*(_less(splits, wanted, name) for name in rivals))
    return f"{wanted} less {best} {_less(splits, wanted, best).told}", status


def _first_of(
    measure: str, summary: str, gini: pd.DataFrame, splits: pd.DataFrame, more: str = ""
) -> Finding:
    """Which statistic of a measure has the highest Gini importance, and is it the published one?"""
    paper = f"Of the {measure} statistics the {summary} mattered most (Figure 3)."
    ranked = gini[gini["measure"] == measure]
    wanted = [n for n in ranked["statistic"] if STATISTICS[n].summary == summary]
    rivals = [n for n in ranked["statistic"] if n not in wanted]
    if not wanted or not rivals:
        return Finding(
            f"The study lacks {measure} statistics to compare.{more}", paper, "not testable here"
        )
    place = ranked["statistic"].tolist().index(wanted[0]) + 1
    order = ", ".join(_told(row) for _, row in ranked.head(3).iterrows())
    beside, status = _matters_most(splits, wanted[0], rivals)
    return Finding(
        f"Gini importance summed over the trajectory, the highest of the {measure} statistics "
        f"{_OVER_TREES}: {order}; {wanted[0]} is number {place} of {len(ranked)}; {beside}.{more}",
        paper,
        status,
    )


def _first_of_all(gini: pd.DataFrame, splits: pd.DataFrame) -> Finding:
    """Is a median of weights also the most important of all statistics?"""
    paper = "Medians of weights mattered most in absolute terms too (Figure 3)."
    names = gini["statistic"].tolist()
    medians = [n for n in names if _measure(n) == "weight" and STATISTICS[n].summary == "median"]
    if not medians:
        return Finding("The study lacks medians of weights.", paper, "not testable here")
    beside, status = _matters_most(splits, medians[0], [n for n in names if n not in medians])
    return Finding(
        f"Most important of all {_OVER_TREES}: {_told(gini.iloc[0])}; {medians[0]} is number "
        f"{names.index(medians[0]) + 1} of {len(gini)}; {beside}.",
        paper,
        status,
    )


def _position_last(gini: pd.DataFrame, splits: pd.DataFrame) -> Finding:
    place = gini["statistic"].tolist().index(POSITION_GROUP) + 1
    rows = gini[gini["statistic"] == POSITION_GROUP]
    others = {n: _less(splits, n, POSITION_GROUP) for n in gini["statistic"] if n != POSITION_GROUP}
    last = min(others, key=lambda name: others[name].value)
    return Finding(
        f"Layer position {_OVER_TREES}: {_told(rows.iloc[0])}, number {place} of {len(gini)}; "
        f"{last} less {POSITION_GROUP} {others[last].told}.",
        "Layer position mattered least (Figure 3).",
        decided(*others.values()),
    )


def _by_measure(gini: pd.DataFrame) -> Finding:
    sums = gini[gini["measure"] != POSITION_GROUP].groupby("measure", sort=False)["mean"]
    text = "; ".join(
        f"{str(measure).replace('_', ' ')} {group.sum():.3f} from {len(group)} "
        f"({group.mean():.4f} each)"
        for measure, group in sums
    )
    return Finding(
        f"Gini importance summed over all statistics of a measure: {text}. The sum grows with how "
        "many statistics there are; compare the means.",
        "",
        "not in the paper",
    )


def _permuted(gini: pd.DataFrame, permuted: pd.DataFrame) -> Finding:
    means = [t.set_index("statistic")["mean"] for t in (gini, permuted)]
    rank = means[0].corr(means[1].reindex(means[0].index), method="spearman")
    agree = "" if np.isnan(rank) else f" Rank correlation with Gini: {rank:.2f}."
    order = ", ".join(_told(row) for _, row in permuted.head(3).iterrows())
    return Finding(
        f"Accuracy lost when a statistic's trajectory is exchanged between examples "
        f"{_OVER_PERMUTATIONS}: {order}."
        f"{agree} Statistics that say the same stand in for one another.",
        "",
        "not in the paper",
    )


def _when(table: pd.DataFrame) -> Finding:
    parts = []
    for probe, over in (
        ("gini_by_epoch", _OVER_TREES), ("permutation_by_epoch", _OVER_PERMUTATIONS)
    ):  # fmt: skip
        kind = KINDS[probe]
        rows = table[(table["importance"] == kind) & (table["measure"] == "epoch")]
        parts.append(f"{kind.removesuffix(' by epoch')} {over}: " +
                     ", ".join(_told(row) for _, row in rows.head(3).iterrows()))  # fmt: skip
    return Finding(
        f"Most important epochs, all statistics together, by {'; by '.join(parts)}. Neighbouring "
        "epochs stand in for one another.",
        "",
        "not in the paper",
    )


IMPORTANCE = Experiment(
    "importance",
    "Importance",
    "Which statistics does the forest go by, and at which epochs?",
    "Figure 3",
    _importance,
    _importance_found,
    (Plot("importances", "statistic", "importance"),),
    measure=_measured,
)


def _alone(given: Material) -> Sequence[Cell]:
    examples = given.examples
    seen = {EVERY: examples, POSITION_GROUP: positions_alone(examples)}
    seen |= {str(n): of_statistics(examples, [str(n)]) for n in examples["statistic"].values}
    return [
        cell
        for name, part in seen.items()
        for cell in given.cells(part, CLASSIFIERS, importance="alone", statistic=name)
    ]


def _alone_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    layers = summary[summary["metric"] == "layer_accuracy"].sort_values(
        "mean", ascending=False, kind="stable"
    )
    return tuple(_alone_with(layers[layers["classifier"] == name]) for name in CLASSIFIERS)


def _alone_with(ranked: pd.DataFrame) -> Finding:
    """One classifier's accuracies, sorted: the best statistic of each measure, beside all."""
    named = ranked[ranked["statistic"].isin(list(STATISTICS))]
    every, position = (
        ranked[ranked["statistic"] == name].iloc[0] for name in (EVERY, POSITION_GROUP)
    )
    best = named.groupby(named["statistic"].map(_measure), sort=False).head(1)
    return Finding(
        f"Layers named right from a single statistic and the layer's position "
        f"({ranked['classifier'].iloc[0].replace('_', ' ')}, splits by network), the best of each "
        "measure: "
        + ", ".join(f"{row['statistic']} {told(row)}" for _, row in best.iterrows())
        + f"; median of {len(named)} statistics {named['mean'].median():.3f}; all statistics "
        f"{told(every)}; position alone {told(position)}; chance "
        f"{ranked['chance'].iloc[0]:.2f}.",
        "",
        "not in the paper",
    )


SINGLE_STATISTICS = Experiment(
    "single_statistics",
    "Single statistics",
    "How far does one statistic get by itself?",
    "ours, beyond Figure 3",
    _alone,
    _alone_found,
    (Plot("levels", "statistic", "classifier"),),
)

ENTRIES = (IMPORTANCE, SINGLE_STATISTICS)
