"""Outcomes of single classifiers → the tidy tables of an `Identification`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from goaldriven.identify.calibration import average_over_layers, first_of_each
from goaldriven.identify.chance import chance
from goaldriven.identify.features import POSITION_GROUP
from goaldriven.identify.jobs import Outcome, Plan
from goaldriven.identify.open_verdicts import judge, widened
from goaldriven.identify.results import Fitted, Identification
from goaldriven.specs import STATISTICS

Row = dict[str, Any]

COLUMNS: dict[str, tuple[str, ...]] = {
    "accuracy": (
        "classifier", "observables", "split_kind", "split", "accuracy", "chance",
        "n_train", "n_test", "cv_accuracy", "parameters",
    ),
    "network_accuracy": (
        "classifier", "observables", "split_kind", "split", "accuracy", "chance",
        "n_train", "n_test",
    ),
    "verdicts": (
        "classifier", "observables", "split_kind", "split", "network", "rule", "verdict",
        "correct", "probability",
    ),
    "open_verdicts": (
        "classifier", "observables", "split_kind", "split", "network", "rule", "verdict",
        "correct", "probability", "p_value", "conformal_set", "alpha",
    ),
    "confusion": (
        "classifier", "observables", "split_kind", "split", "true", "predicted", "count",
    ),
    "importances": (
        "classifier", "observables", "split_kind", "kind", "statistic", "measure",
        "mean", "sem", "n",
    ),
}  # fmt: skip


def tabulate(
    outcomes: Sequence[Outcome], examples: xr.Dataset, plan: Plan, settings: Mapping[str, Any]
) -> Identification:
    """Gather outcomes on ``examples`` (those used) into an `Identification`."""
    rules, networks = examples["rule"].values, examples["network"].values
    rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    for outcome in outcomes:
        rows["accuracy"].append(_accuracy(outcome, rules))
        rows["confusion"].extend(_confusion(outcome, rules))
        if outcome.job.split.kind != "layer":
            verdicts = _verdicts(outcome, rules, networks)
            rows["verdicts"].extend(verdicts)
            rows["open_verdicts"].extend(_open_verdicts(outcome, rules, networks, plan.alpha))
            rows["network_accuracy"].append(_network_accuracy(outcome, verdicts, rules, networks))
    rows["importances"] = _importances(outcomes)
    tables = {
        name: pd.DataFrame(rows[name], columns=list(columns)) for name, columns in COLUMNS.items()
    }
    splits = tuple(split for kind in plan.splits.values() for split in kind)
    return Identification(**tables, splits=splits, settings=settings, fitted=_fitted(outcomes))


def _keys(outcome: Outcome) -> Row:
    return {
        "classifier": outcome.classifier,
        "observables": outcome.job.observables,
        "split_kind": outcome.job.split.kind,
        "split": outcome.job.number,
    }


def _accuracy(outcome: Outcome, rules: NDArray[np.str_]) -> Row:
    split = outcome.job.split
    true = rules[split.test]
    return _keys(outcome) | {
        "accuracy": float(np.mean(outcome.predicted == true)),
        "chance": chance(rules[split.train], true),
        "n_train": len(split.train),
        "n_test": len(split.test),
        "cv_accuracy": outcome.cv_accuracy,
        "parameters": outcome.parameters,
    }


def _confusion(outcome: Outcome, rules: NDArray[np.str_]) -> list[Row]:
    true = rules[outcome.job.split.test]
    return [
        _keys(outcome)
        | {"true": a, "predicted": b, "count": int(np.sum((true == a) & (outcome.predicted == b)))}
        for a in outcome.classes.tolist()
        for b in outcome.classes.tolist()
    ]


def _verdicts(outcome: Outcome, rules: NDArray[np.str_], networks: NDArray[np.str_]) -> list[Row]:
    """One row per tested network: the rule with the highest mean probability over its layers."""
    test = outcome.job.split.test
    rows = []
    for network in dict.fromkeys(networks[test].tolist()):
        layers = networks[test] == network
        mean = outcome.scores[layers].mean(axis=0)
        rule, verdict = str(rules[test][layers][0]), str(outcome.classes[mean.argmax()])
        rows.append(
            _keys(outcome)
            | {"network": network, "rule": rule, "verdict": verdict,
               "correct": int(rule == verdict), "probability": float(mean.max())}
        )  # fmt: skip
    return rows


def _open_verdicts(
    outcome: Outcome, rules: NDArray[np.str_], networks: NDArray[np.str_], alpha: float
) -> list[Row]:
    """Verdicts that may be "none of these", of classifiers that have calibration networks."""
    known = outcome.calibration
    if known is None:
        return []
    test = outcome.job.split.test
    names, scores = average_over_layers(outcome.scores, networks[test])
    truth = first_of_each(rules[test].astype(str), networks[test])
    level = widened(alpha, len(known.networks))
    table = judge(scores, names.tolist(), outcome.classes.tolist(), known, level)
    table.insert(1, "rule", truth)
    table["correct"] = (table["verdict"] == table["rule"]).astype(int)
    return [
        _keys(outcome) | {str(k): v for k, v in row.items()} for row in table.to_dict("records")
    ]


def _network_accuracy(
    outcome: Outcome,
    verdicts: Sequence[Row],
    rules: NDArray[np.str_],
    networks: NDArray[np.str_],
) -> Row:
    train = outcome.job.split.train
    _, first = np.unique(networks[train], return_index=True)
    tested = np.array([v["rule"] for v in verdicts])
    return _keys(outcome) | {
        "accuracy": float(np.mean([v["correct"] for v in verdicts])),
        "chance": chance(rules[train][first], tested),
        "n_train": len(first),
        "n_test": len(verdicts),
    }


def _importances(outcomes: Sequence[Outcome]) -> list[Row]:
    """Mean and s.e.m. over splits and trees (Gini) or repeats (permutation), as published.

    Trees and splits share networks: the s.e.m. is their spread over √n, not the uncertainty of
    an importance, or of the ranking, over networks.
    """
    gathered: dict[tuple[str, str, str, str], list[NDArray[np.float64]]] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for outcome in outcomes:
        groups[outcome.job.observables] = outcome.layout.groups
        for kind, values in (("gini", outcome.gini), ("permutation", outcome.permuted)):
            if values is not None:
                keys = _keys(outcome)
                key = (keys["classifier"], keys["observables"], keys["split_kind"], kind)
                gathered.setdefault(key, []).append(values)
    rows = []
    for (classifier, observables, split_kind, kind), parts in gathered.items():
        values = np.concatenate(parts)  # (trees or repeats of all splits, group)
        n = len(values)
        sem = values.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(values.shape[1], np.nan)
        for group, mean, error in zip(groups[observables], values.mean(axis=0), sem, strict=True):
            measure = group if group == POSITION_GROUP else STATISTICS[group].measure
            rows.append(
                {"classifier": classifier, "observables": observables, "split_kind": split_kind,
                 "kind": kind, "statistic": group, "measure": measure,
                 "mean": float(mean), "sem": float(error), "n": n}
            )  # fmt: skip
    return rows


def _fitted(outcomes: Sequence[Outcome]) -> tuple[Fitted, ...]:
    return tuple(
        Fitted(
            o.classifier, o.job.observables, o.job.split.kind, o.job.number, o.parameters,
            o.layout, o.pipeline, o.calibration,
        )
        for o in outcomes
        if o.pipeline is not None
    )  # fmt: skip
