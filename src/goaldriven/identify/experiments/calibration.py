"""Are the classifiers as sure as they may be? Calibration, and sets with a stated coverage."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from goaldriven.identify.calibration import (
    ConformalSets,
    average_over_layers,
    brier_decomposition,
    calibrated_probabilities,
    calibration_table,
    conformal_report,
    conformal_sets,
    first_of_each,
    fit_temperature,
    networks_needed,
    reliability_curve,
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

CLASSIFIERS = ("random_forest", "svm", "kernel_svm", "logistic_regression")
COVERAGES = (0.8, 0.9, 0.95)
BEFORE, AFTER = "as fitted", "temperature scaled"
MARGINAL, BY_RULE = "all networks", "rule by rule"
"""What conformal sets are calibrated on: networks of all rules, or those of each rule."""

N_BINS = 10
RESAMPLES = 1000
EVERY = "all"

Group = Sequence[tuple[Cell, Fit]]


def _calibration(given: Material) -> Sequence[Cell]:
    cells = given.cells(given.observables("all"), CLASSIFIERS, observables="all")
    return [replace(cell, probes=("cross_fitted",)) for cell in cells]


def _after(given: Material, cells: Sequence[Cell], fits: Sequence[Fit]) -> Iterable[Row]:
    for group in together(cells, fits):
        rng = np.random.default_rng([given.seed, zlib.crc32(group[0][0].classifier.encode())])
        yield from _calibration_rows(group, rng)
        for per_rule in (False, True):
            yield from _conformal_rows(group, per_rule)


def _calibration_rows(group: Group, rng: np.random.Generator) -> Iterator[Row]:
    """Scores and calibration errors of all splits' verdicts on networks, before and after.

    Each split's temperature comes from its own training part. A network that several splits test
    has a row for each, and counts once as evidence.
    """
    rules = group[0][1].classes.tolist()
    parts = [judged(*one) for one in group]
    scores: dict[str, list[Matrix]] = {BEFORE: [], AFTER: []}
    for (cell, fit), part in zip(group, parts, strict=True):
        training = out_of_fold(cell, fit)
        temperature = fit_temperature(training.scores, training.truth, rules=rules)
        scores[BEFORE].append(part.scores)
        scores[AFTER].append(calibrated_probabilities(part.scores, temperature))
        found = {"temperature": temperature.value, "temperature_at_bound": temperature.at_bound}
        yield from rows(conditions(cell, WHOLE) | {"stage": AFTER}, found)
    truth = np.concatenate([part.truth for part in parts])
    networks = np.concatenate([part.networks for part in parts])
    for stage, of_splits in scores.items():
        keys, p = of_all_splits(group[0][0]) | {"stage": stage}, np.concatenate(of_splits)
        table = calibration_table(
            p, truth, rng, networks=networks, rules=rules, n_bins=N_BINS, n_resamples=RESAMPLES
        )
        for metric, line in table.set_index("metric").iterrows():
            columns = line.drop("networks").dropna().items()
            yield from rows(
                keys, {str(metric if c == "value" else f"{metric}_{c}"): v for c, v in columns}
            )
        parts_of_brier = brier_decomposition(p, truth, rules, N_BINS)
        names = ("reliability", "resolution", "uncertainty", "within_bins")
        yield from rows(keys, {f"brier_{n}": getattr(parts_of_brier, n) for n in names})
        curve = reliability_curve(p, truth, N_BINS, rules=rules, networks=networks)
        yield from _curve_rows(keys, curve)


def _curve_rows(keys: Row, curve: pd.DataFrame) -> Iterator[Row]:
    for one in curve.to_dict("records"):
        values = with_interval("accuracy", one["accuracy"], one["low"], one["high"])
        values |= {n: one[n] for n in ("left", "right", "confidence", "count", "networks")}
        yield from rows(keys | {"bin": one["bin"]}, {f"bin_{n}": v for n, v in values.items()})


def _conformal_rows(group: Group, per_rule: bool) -> Iterator[Row]:
    """Coverage and size of cross-conformal sets, where the networks are enough for the level."""
    keys = of_all_splits(group[0][0]) | {"sets": BY_RULE if per_rule else MARGINAL}
    trained = [out_of_fold(*one) for one in group]
    parts = [judged(*one) for one in group]
    fewest = min(
        min(np.unique(t.truth, return_counts=True)[1]) if per_rule else len(t.truth)
        for t in trained
    )
    truth = np.concatenate([part.truth for part in parts])
    networks = np.concatenate([part.networks for part in parts])
    for coverage in COVERAGES:
        alpha = round(1 - coverage, 9)
        at_level = keys | {"coverage": coverage}
        counts = {"calibration_networks": fewest, "networks_needed": networks_needed(alpha)}
        yield from rows(at_level | {"of_rule": EVERY}, counts)
        if fewest < networks_needed(alpha):
            continue
        sets = _joined([_sets(cell, fit, alpha, per_rule) for cell, fit in group])
        report = conformal_report(sets, truth, networks=networks)
        for line in report.to_dict("records"):
            values = with_interval("covered", line["coverage"], line["low"], line["high"])
            values |= {n: line[n] for n in ("mean_size", "empty", "singleton", "networks")}
            yield from rows(at_level | {"of_rule": line["rule"]}, values)


def _sets(cell: Cell, fit: Fit, alpha: float, per_rule: bool) -> ConformalSets:
    training = out_of_fold(cell, fit)
    labels = cell.train["network"].values
    folds = first_of_each(fit.found["fold"], labels[cell.split.train], "fold")
    test = [average_over_layers(s, labels[cell.split.test])[1] for s in fit.found["fold_tests"]]
    return conformal_sets(
        np.stack(test), training.scores, training.truth, alpha,
        folds=folds, per_rule=per_rule, rules=fit.classes.tolist(),
    )  # fmt: skip


def _joined(sets: Sequence[ConformalSets]) -> ConformalSets:
    def stacked(name: str) -> NDArray:
        return np.concatenate([getattr(one, name) for one in sets])

    return replace(sets[0], members=stacked("members"), p_values=stacked("p_values"))


def reliability(results: Results) -> pd.DataFrame:
    """The reliability curves of experiment ``calibration``, one row per bin that is not empty.

    Columns: ``classifier``, ``stage``, ``bin``, ``left``, ``right``, mean ``confidence``,
    ``accuracy`` with the Wilson interval ``accuracy_low``, ``accuracy_high`` over networks,
    ``count`` of verdicts, ``networks``.
    """
    table = results.table[results.table["metric"].str.startswith("bin_")]
    curves = wide(table, ("classifier", "stage", "bin"))
    return curves.rename(columns=lambda name: name.removeprefix("bin_"))


def conformal(results: Results) -> pd.DataFrame:
    """The conformal sets of experiment ``calibration``, one row per classifier, kind, level, rule.

    Columns: ``classifier``, ``sets``, ``coverage`` (stated), ``of_rule``, ``covered`` with
    ``covered_low``, ``covered_high``, ``mean_size``, ``singleton``, ``empty``, ``networks``,
    ``calibration_networks`` and ``networks_needed`` (the fewest of a split, for all rules); NaN
    where the networks are too few.
    """
    return wide(results.table, ("classifier", "sets", "coverage", "of_rule"))


def _of_all_rules(results: Results) -> pd.DataFrame:
    """The rows of `conformal` that are about the networks of all rules together."""
    table = conformal(results)
    return table[table["of_rule"] == EVERY].drop(columns="of_rule")


def _found(results: Results) -> Sequence[Finding]:
    return (_scores_found(results), _sets_found(results), *_impossible(results))


def _scores_found(results: Results) -> Finding:
    table = wide(results.table[~results.table["metric"].str.startswith("bin_")],
                 ("classifier", "stage"))  # fmt: skip
    text = []
    for classifier in dict.fromkeys(table["classifier"]):
        mine = table[table["classifier"] == classifier].set_index("stage")
        before, after = mine.loc[BEFORE], mine.loc[AFTER]
        # At its limit the networks did not tell the temperature: too few, or all told right.
        at_bound = after["temperature_at_bound"]
        bound = f" (at its limit in {at_bound:.0%} of the splits)" if at_bound else ""
        text.append(
            f"{classifier.replace('_', ' ')} {_error(before)}; {_error(after)} after scaling by a "
            f"temperature of {after['temperature']:.2f}{bound}, Brier score "
            f"{_score(before, 'brier')} → {_score(after, 'brier')}, log score "
            f"{_score(before, 'log')} → {_score(after, 'log')}"
        )
    return Finding(
        "Expected calibration error of verdicts on networks (in brackets, were they calibrated): "
        + ". ".join(text) + ".", "", "not in the paper",
    )  # fmt: skip


def _error(row: pd.Series) -> str:
    return f"{row['ece']:.3f} ({row['ece_expected']:.3f}, p = {row['ece_p']:.3f})"


def _score(row: pd.Series, metric: str) -> str:
    return f"{row[metric]:.3f} ({row[f'{metric}_low']:.3f}–{row[f'{metric}_high']:.3f})"


def _sets_found(results: Results) -> Finding:
    table = conformal(results)
    table = table[(table["of_rule"] == EVERY) & (table["sets"] == MARGINAL)]
    if "covered" not in table or table["covered"].isna().all():
        return Finding(
            "The networks are too few for conformal sets at any of the levels.", "",
            "not testable here",
        )  # fmt: skip
    known = table.dropna(subset=["covered"])
    low = known[known["covered_high"] < known["coverage"]]
    forest = known[known["classifier"] == CLASSIFIERS[0]]
    verdict = (
        "no classifier's coverage is below what is stated by more than chance"
        if low.empty
        else "below what is stated by more than chance: "
        + ", ".join(f"{r['classifier']} at {r['coverage']:.0%}" for _, r in low.iterrows())
    )
    return Finding(
        f"Conformal sets of rules ({CLASSIFIERS[0].replace('_', ' ')}): "
        + "; ".join(
            f"stated {row['coverage']:.0%}, the true rule inside in {said(row, 'covered')} of the "
            f"networks, {row['mean_size']:.2f} rules a set, {row['singleton']:.0%} with one rule, "
            f"{row['empty']:.0%} empty"
            for _, row in forest.iterrows()
        )
        + f"; {verdict}.", "", "not in the paper",
    )  # fmt: skip


def _impossible(results: Results) -> Sequence[Finding]:
    """Levels for which there are too few networks."""
    table = conformal(results)
    table = table[(table["of_rule"] == EVERY) & (table["classifier"] == CLASSIFIERS[0])]
    few = table[table["calibration_networks"] < table["networks_needed"]]
    if few.empty:
        return ()
    return (
        Finding(
            "Too few training networks for conformal sets at: "
            + ", ".join(
                f"{r['coverage']:.0%} {r['sets']} ({r['calibration_networks']:.0f} of "
                f"{r['networks_needed']:.0f} needed)"
                for _, r in few.iterrows()
            ) + ".", "", "not testable here",
        ),
    )  # fmt: skip


CALIBRATION = Experiment(
    "calibration",
    "Calibration",
    "Are the classifiers right as often as they are sure, and which rules can be ruled out?",
    "ours",
    _calibration,
    _found,
    (
        Plot("levels", "classifier", "observables", title="accuracies"),
        Plot(
            "reliability",
            "confidence",
            "stage",
            "classifier",
            "mean probability of the verdict",
            table=reliability,
            measures=(Measure("accuracy", "share that is right", "confidence", "calibrated"),),
            title="reliability of verdicts on networks",
        ),
        Plot(
            "lines",
            "coverage",
            "sets",
            "classifier",
            "stated coverage",
            table=_of_all_rules,
            measures=(
                Measure("covered", "true rule in the set", "coverage", "as stated"),
                Measure("mean_size", "rules in a set"),
            ),
            title="sets with a stated coverage",
        ),
    ),
    after=_after,
)

ENTRIES = (CALIBRATION,)
