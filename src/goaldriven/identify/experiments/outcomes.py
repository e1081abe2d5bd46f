"""Fits → tidy rows: what every experiment measures of every cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from goaldriven.identify.chance import chance
from goaldriven.identify.experiments.cache import Fit
from goaldriven.identify.experiments.cells import WHOLE, Cell
from goaldriven.identify.splits import SAME_START

Row = dict[str, Any]


def conditions(cell: Cell, test: str) -> Row:
    """The columns that say which cell a row is of."""
    tested = {} if test == WHOLE else {"tested": test}
    return {
        **cell.condition,
        **tested,
        "classifier": cell.classifier,
        "split_kind": cell.split.kind,
        "split": cell.number,
    }


def verdicts_of(cell: Cell, fit: Fit) -> list[Row]:
    """One row per tested network: how many of its layers, and whether it itself, were named right.

    The verdict on a network is the rule with the highest mean probability over its layers. Networks
    of one ``cluster`` are not independent of each other, see `_clusters`.
    """
    rows = []
    rules = cell.train["rule"].values.astype(str)[cell.split.test]
    networks = cell.train["network"].values[cell.split.test]
    clusters = _clusters(cell.train)[cell.split.test]
    for test, scores in fit.scores.items():
        right = fit.classes[scores.argmax(axis=1)] == rules
        for network in dict.fromkeys(networks.tolist()):
            layers = networks == network
            mean = scores[layers].mean(axis=0)
            rule, verdict = str(rules[layers][0]), str(fit.classes[mean.argmax()])
            rows.append(
                conditions(cell, test)
                | {"network": str(network), "cluster": str(clusters[layers][0]), "rule": rule,
                   "verdict": verdict,
                   "correct": int(rule == verdict), "probability": float(mean.max()),
                   "layers": int(layers.sum()), "layers_correct": int(right[layers].sum())}
            )  # fmt: skip
    return rows


def _clusters(examples: xr.Dataset) -> NDArray[np.str_]:
    """Of each example, what all that is not independent of it has in common: its network.

    Before learning, networks that start from the same forward weights are the same network.
    """
    initial = examples["epoch"].values.tolist() == [0]
    columns = [examples[n].values.astype(str) for n in (SAME_START if initial else ("network",))]
    return np.array(["/".join(row) for row in zip(*columns, strict=True)])


def metrics_of(cell: Cell, verdicts: pd.DataFrame) -> list[Row]:
    """Accuracy on layers and on networks, chance, and how many there were, for each test."""
    rows = []
    rules = cell.train["rule"].values.astype(str)
    train, test = rules[cell.split.train], rules[cell.split.test]
    tests = verdicts.groupby("tested") if "tested" in verdicts else [(WHOLE, verdicts)]
    for name, of_test in tests:
        values = {
            "layer_accuracy": of_test["layers_correct"].sum() / of_test["layers"].sum(),
            "network_accuracy": of_test["correct"].mean(),
            "chance": chance(train, test),
            "network_chance": chance(*_of_networks(cell)),
            "train_layers": len(train),
            "test_layers": len(test),
            "test_networks": len(of_test),
        }
        keys = conditions(cell, str(name))
        rows += [keys | {"metric": m, "value": float(v)} for m, v in values.items()]
    return rows


def _of_networks(cell: Cell) -> tuple[list[str], list[str]]:
    """The rules of the networks trained on, and of those tested."""
    names, rules = cell.train["network"].values, cell.train["rule"].values.astype(str)
    parts = []
    for part in (cell.split.train, cell.split.test):
        first = np.unique(names[part], return_index=True)[1]
        parts.append(rules[part][first].tolist())
    return parts[0], parts[1]


def confusion_of(cell: Cell, fit: Fit) -> list[Row]:
    """How often layers of one rule are called another: metrics ``layers TRUE called NAMED``."""
    rules = cell.train["rule"].values.astype(str)[cell.split.test]
    return [
        conditions(cell, test)
        | {"metric": f"layers {true} called {named}",
           "value": float(np.sum((rules == true) & (fit.classes[scores.argmax(axis=1)] == named)))}
        for test, scores in fit.scores.items()
        for true in fit.classes.tolist()
        for named in fit.classes.tolist()
    ]  # fmt: skip
