"""Results of experiments with planted accuracies, in the form in which running gives them."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from goaldriven.identify.experiments import Results

RULES = ("adam", "fa", "ia", "sgdm")
LAYERS = 10
CLASSIFIERS = ("random_forest", "svm")
GROUPS = ("all", "weight", "activation", "activity_change")


def make_results(
    name: str,
    conditions: Iterable[dict[str, object]],
    right: Callable[[dict[str, object]], float],
    networks: Sequence[str] | None = None,
    *,
    splits: int = 2,
    kinds: Sequence[str] = ("network",),
    classifiers: Sequence[str] = CLASSIFIERS,
) -> Results:
    """Of each network ``LAYERS`` layers, of which the share ``right(levels)`` is named right.

    ``levels`` has the condition's columns, ``classifier``, ``split_kind`` and ``split``. Networks
    differ by one layer more or less, so that intervals have a width; a network of more than half of
    its layers right is itself right.
    """
    ids = list(networks) if networks is not None else [f"n{i:02d}" for i in range(16)]
    rows, verdicts = [], []
    for condition, classifier, kind, split in itertools.product(
        conditions, classifiers, kinds, range(splits)
    ):
        keys = {**condition, "classifier": classifier, "split_kind": kind, "split": split}
        share = right(keys)
        of_cell = []
        for i, network in enumerate(ids):
            layers_right = int(np.clip(round(LAYERS * share) + (-1) ** (i // 4), 0, LAYERS))
            correct = int(layers_right > LAYERS / 2)
            rule = RULES[i % 4]
            of_cell.append(
                {**keys, "network": network, "rule": rule, "verdict": rule if correct else "none",
                 "correct": correct, "probability": 0.5, "layers": LAYERS,
                 "layers_correct": layers_right}
            )  # fmt: skip
        table = pd.DataFrame(of_cell)
        values = {
            "layer_accuracy": table["layers_correct"].sum() / table["layers"].sum(),
            "network_accuracy": table["correct"].mean(), "chance": 0.25,
            "network_chance": 0.25,
            "train_layers": 480, "test_layers": 160, "test_networks": len(ids),
        }  # fmt: skip
        verdicts += of_cell
        rows += [{**keys, "metric": m, "value": float(v)} for m, v in values.items()]
    return results_of(name, rows, verdicts, ids, splits)


def results_of(name, rows, verdicts, ids, splits) -> Results:
    table = pd.DataFrame(rows)
    table.insert(0, "experiment", name)
    table["seed"] = 0
    last = ["classifier", "split_kind", "split", "seed", "metric", "value"]
    table = table[[*(c for c in table.columns if c not in last), *last]]
    settings = {
        "grid": "quick", "n_splits": splits, "seed": 0, "rules": list(RULES),
        "statistics": ["weight_raw_norm"], "epochs": [0, 3], "networks": sorted(ids),
        "version": importlib.metadata.version("goaldriven"),
    }  # fmt: skip
    return Results(name, table, pd.DataFrame(verdicts), settings)


def average_results(
    networks: Sequence[str] | None = None, groups: Sequence[str] = GROUPS, svm: float = 0.4
) -> Results:
    """Of ``trajectory_average``: averaging costs the SVM 0.4, the forest 0.1."""
    lost = {"random_forest": 0.1, "svm": svm}
    first = dict(zip(GROUPS, (0.9, 0.8, 0.7, 0.6), strict=True))
    return make_results(
        "trajectory_average",
        [{"observables": g, "seen": s} for g in groups for s in ("trajectory", "its average")],
        lambda k: (
            first[str(k["observables"])] - lost[str(k["classifier"])] * (k["seen"] != "trajectory")
        ),
        networks,
    )


def undersampling_results(
    networks: Sequence[str] | None = None, groups: Sequence[str] = GROUPS
) -> Results:
    """Of ``undersampling``: the further apart the samples, the better."""
    counts = {"dense": (2, 4, 6, 21), "intermediate": (2, 4, 6), "sparse": (2, 4)}
    gain = {"dense": 0.0, "intermediate": 0.1, "sparse": 0.2}
    return make_results(
        "undersampling",
        [
            {"observables": g, "spacing": s, "samples": n}
            for g in groups for s, of in counts.items() for n in of
        ],
        lambda k: 0.4 + gain[str(k["spacing"])] + 0.01 * float(str(k["samples"])),
        networks,
    )  # fmt: skip


def thirds_results(
    networks: Sequence[str] | None = None, groups: Sequence[str] = GROUPS
) -> Results:
    """Of ``thirds``: 0.9 on the same third, 0.3 on another, 0.6 from middle to late."""
    thirds = ("early", "middle", "late")
    share = {("middle", "late"): 0.6, **{(t, t): 0.9 for t in thirds}}
    return make_results(
        "thirds",
        [
            {"observables": g, "trained": a, "tested": b}
            # As they come from running: tests in alphabetic order.
            for g in groups for a in thirds for b in sorted(thirds)
        ],
        lambda k: share.get((str(k["trained"]), str(k["tested"])), 0.3),
        networks,
    )  # fmt: skip


def held_out_results(networks: Sequence[str] | None = None) -> Results:
    """Of ``held_out_curriculum``: levels come in no order, and have a split kind of their own."""
    inside = make_results(
        "held_out_curriculum", [{"observables": g, "held_out": "none: by network"} for g in GROUPS],
        lambda k: 0.9, networks,
    )  # fmt: skip
    outside = make_results(
        "held_out_curriculum",
        [{"observables": g, "held_out": h} for g in GROUPS for h in ("128/0", "64/0", "64/1")],
        lambda k: 0.8, networks, splits=1, kinds=("held-out batch_size/data_seed",),
    )  # fmt: skip
    return Results(
        inside.experiment,
        pd.concat([inside.table, outside.table], ignore_index=True),
        pd.concat([inside.verdicts, outside.verdicts], ignore_index=True),
        inside.settings,
    )
