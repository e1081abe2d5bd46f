"""Results of experiments with planted measures other than accuracies, as running gives them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from goaldriven.identify.experiments import Results

from .planted_experiments import CLASSIFIERS, GROUPS, RULES, make_results

POOLED = float("nan")


def with_measures(results: Results, rows: Iterable[dict[str, object]]) -> Results:
    """The results with more rows, ``keys`` and all metrics of a row of theirs in one."""
    fixed = {"split_kind": "network", "split": POOLED, "seed": 0, "experiment": results.experiment}
    more = [
        {**fixed, **{k: v for k, v in row.items() if k != "values"}, "metric": m, "value": v}
        for row in rows
        for m, v in row["values"].items()  # type: ignore[attr-defined]
    ]
    table = pd.concat([results.table, pd.DataFrame(more)], ignore_index=True)
    return dataclasses.replace(results, table=table)


def interval(metric: str, value: float) -> dict[str, float]:
    return {metric: value, f"{metric}_low": value - 0.05, f"{metric}_high": value + 0.05}


def calibration_results(covered: bool = True) -> Results:
    """Fitted verdicts are right by 0.1 more often than sure; sets cover 0.01 more than stated."""
    rows: list[dict[str, object]] = []
    for i, classifier in enumerate(CLASSIFIERS):
        for shift, stage in enumerate(("as fitted", "temperature scaled")):
            keys = {"observables": "all", "classifier": classifier, "stage": stage}
            scores = interval("brier", 0.2) | interval("log", 0.4)
            rows.append(
                {**keys, "values": {"ece": 0.1, "ece_expected": 0.1, "ece_p": 0.5, **scores}}
            )
            if shift:
                found = {"temperature": 0.5, "temperature_at_bound": 0.0}
                rows += [{**keys, "split": split, "values": found} for split in (0, 1)]
            for b in (3, 5, 8):
                confidence = b / 10 + 0.04 + 0.01 * i
                values = {**interval("bin_accuracy", confidence + 0.1 * (1 - shift)),
                          "bin_left": b / 10, "bin_right": (b + 1) / 10,
                          "bin_confidence": confidence, "bin_count": 10 * b + shift,
                          "bin_networks": 10 * b}  # fmt: skip
                rows.append({**keys, "bin": b, "values": values})
        for sets, coverage, rule in itertools.product(
            ("all networks", "rule by rule"), (0.8, 0.9), ("all", *RULES)
        ):
            stated = {"sets": sets, "coverage": coverage, "of_rule": rule}
            values = {"calibration_networks": 40.0, "networks_needed": 9.0}
            if covered:
                found = coverage + 0.01 + 0.01 * i - 0.02 * (rule != "all")
                values |= {**interval("covered", found), "mean_size": 1.1 + coverage + i,
                           "empty": 0.0, "singleton": 0.5, "networks": 40.0}  # fmt: skip
            rows.append(
                {"observables": "all", "classifier": classifier, **stated, "values": values}
            )
    common = make_results("calibration", [{"observables": "all"}], lambda k: 0.9)
    return with_measures(common, rows)


AUROC = {"conformal": 0.9, "max_probability": 0.8, "distance": 0.7}


def open_set_results() -> Results:
    """The later a rule's name, the harder it is to notice; known networks are named right."""
    rows: list[dict[str, object]] = []
    for i, classifier in enumerate(CLASSIFIERS):
        for j, rule in enumerate(RULES):
            keys = {"left_out": rule, "classifier": classifier}
            rows.append({**keys, "values": interval("known_accuracy", 0.9 - 0.01 * j)})
            for method, area in AUROC.items():
                place = {**keys, "method": method}
                hard = area - 0.02 * j - 0.1 * i
                values = {**interval("auroc", hard), **interval("detection", hard - 0.3),
                          **interval("false_alarm", 0.08 + 0.01 * j),
                          **interval("balanced_accuracy", 0.7), "alpha": 0.1}  # fmt: skip
                rows.append({**place, "of_rule": "all", "values": values})
                rows.append({**place, "of_rule": rule, "values": interval("false_alarm", 0.05)})
    # Every network of the rule left out is called wrong: the common accuracy is that much lower.
    common = make_results("open_set", [{"left_out": rule} for rule in RULES], lambda k: 0.3)
    return with_measures(common, rows)


def same_pairs(observables: str, classifier: str) -> set[tuple[str, str]]:
    """SVMs that see the activity change alone do not tell fa from ia."""
    same = observables == "activity_change" and classifier == "svm"
    return {("fa", "ia")} if same else set()


def degeneracy_results(rules: Sequence[str] = RULES) -> Results:
    rows: list[dict[str, object]] = []
    for group, classifier in itertools.product(GROUPS, CLASSIFIERS):
        for k, (a, b) in enumerate(itertools.combinations(rules, 2)):
            same = (a, b) in same_pairs(group, classifier)
            value = 0.52 if same else 0.99 - 0.01 * k - 0.2 * (classifier == "svm")
            values = {**interval("pair_accuracy", max(value, 0.6 - 0.08 * same)),
                      "pair_p": 0.001, "pair_p_adjusted": 0.5 if same else 0.006,
                      "indistinguishable": float(same), "networks_a": 12.0,
                      "networks_b": 12.0}  # fmt: skip
            rows.append(
                {"observables": group, "classifier": classifier, "pair": f"{a} or {b}",
                 "values": values}
            )  # fmt: skip
    common = make_results("degeneracy", [{"observables": g} for g in GROUPS], lambda k: 0.9)
    return with_measures(common, rows)


FAMILIES = ("aligned feedback", "backprop optimizer", "random feedback")
FINE_WAYS = {"summed over rules": 0.85, "of the rule called": 0.8}


def family_results() -> Results:
    """Families are named right a little more often than rules, in three ways."""
    rows: list[dict[str, object]] = []
    ways = [("rules", way, value) for way, value in FINE_WAYS.items()]
    for classifier in CLASSIFIERS:
        lost = 0.1 * (classifier == "svm")
        for level, way, value in [*ways, ("families", "trained on families", 0.9)]:
            keys = {"level": level, "classifier": classifier, "families_by": way}
            for split in (0, 1):
                found = value - lost + 0.02 * split
                values = {"family_layer_accuracy": found, "family_network_accuracy": found + 0.05}
                rows.append({**keys, "split": split, "values": values})
            ends = {
                f"family_{metric}_accuracy_{end}": value - lost + gap
                for metric in ("layer", "network")
                for end, gap in (("low", -0.1), ("high", 0.1))
            }
            rows.append({**keys, "values": ends | interval("family_balanced_accuracy", 0.8)})
            for i, family in enumerate(FAMILIES):
                recall = interval("family_recall", value - lost - 0.03 * i)
                rows.append({**keys, "family": family, "values": recall | {"family_networks": 8.0}})
        wrong = {"layers_named_wrong": 9.0, "errors_in_family": 0.5,
                 "errors_in_family_by_chance": 0.2}  # fmt: skip
        pair = {"level": "rules", "classifier": classifier, "pair": "adam and sgdm"}
        rows.append({"level": "rules", "classifier": classifier, "values": wrong})
        rows.append({**pair, "values": {"exchanged_layers": 0.1}})
    common = make_results(
        "rule_families", [{"level": level} for level in ("rules", "families")], lambda k: 0.8
    )
    return with_measures(common, rows)


UNITS = ("all units", "30 units", "1000 units", "0.1% of units", "10% of units", "100 units")
NOISE = ("none", "1 s.d.", "constant 0.3 s.d.", "0.3 s.d.")


def measurement_results() -> Results:
    """Fewer units and more noise lose more; all units without noise came first, others anyhow."""
    return make_results(
        "measurement",
        [
            {"observables": g, "units": u, "noise": n}
            for g in GROUPS[:2]
            for u in UNITS
            for n in NOISE
        ],
        lambda k: 0.9 - 0.05 * UNITS.index(str(k["units"])) - 0.1 * NOISE.index(str(k["noise"])),
        classifiers=("random_forest",),
    )


def matched_results() -> Results:
    """Matched networks are told by their observables; at 0.005 there are too few of some pairs."""
    seen = {"observables": 0.9, "metric curve": 0.6, "final metric": 0.5}
    conditions: list[dict[str, object]] = []
    for matched in ("final metric", "learning curve"):
        for rules, tolerances in (("all", (0.02, 0.05)), ("ia or sgdm", (0.005, 0.02, 0.05))):
            for tolerance in tolerances:
                common = {"matched": matched, "rules": rules, "tolerance": tolerance,
                          "within": "task × architecture"}  # fmt: skip
                conditions += [{**common, "sets": "matched", "seen": what} for what in seen]
                conditions.append({**common, "sets": "at random", "seen": "observables"})
    results = make_results(
        "performance_matched", conditions,
        lambda k: (
            seen[str(k["seen"])]
            + 0.05 * (k["sets"] == "at random") - 0.2 * (k["matched"] == "learning curve")
        ),
        classifiers=("random_forest",),
    )  # fmt: skip
    pair = results.table["rules"] == "ia or sgdm"
    chance = results.table["metric"] == "chance"
    table = results.table.copy()
    table.loc[pair & chance, "value"] = 0.5
    kept = np.flatnonzero(chance & (table["sets"] == "matched"))
    sets = table.iloc[kept].assign(metric="matched_sets", value=9.0)
    return dataclasses.replace(results, table=pd.concat([table, sets], ignore_index=True))
