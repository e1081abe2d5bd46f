"""Results of experiments with planted accuracies, drawn by seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from goaldriven.identify.experiments import Results

RULES = ("adam", "fa", "ia", "sgdm")
N_LAYERS = 6
QUARTERS = 4

Levels = Mapping[str, object]


def quarter(levels: Levels, network: int) -> bool:
    """The share that a split tests: every network once in four splits."""
    return network % QUARTERS == levels["split"] % QUARTERS


def drawn(
    name: str,
    conditions: Iterable[Levels],
    right: Callable[[Levels], float],
    seed: int,
    *,
    n_per_rule: int = 40,
    n_splits: int = 4,
    kind: str = "network",
    classifiers: Sequence[str] = ("random_forest",),
    rules_of: Callable[[Levels], Sequence[str]] = lambda levels: RULES,
    tested: Callable[[Levels, int], bool] = quarter,
    called: Mapping[str, str] | None = None,
) -> Results:
    """Layers, and networks, named right with probability ``right(levels)``, each by itself.

    ``called`` says what networks of a rule are called when they are named wrong.
    """
    rng = np.random.default_rng(seed)
    rows, verdicts = [], []
    for condition, classifier, split in itertools.product(conditions, classifiers, range(n_splits)):
        keys = {**condition, "classifier": classifier, "split_kind": kind, "split": split}
        rules = rules_of(keys)
        cell = [
            _verdict(keys, rule, f"{rule}{i}", right(keys), called or {}, rng)
            for rule in rules
            for i in range(n_per_rule)
            if tested(keys, i)
        ]
        if not cell:
            continue
        every = len(rules) * n_per_rule
        table = pd.DataFrame(cell)
        values = {
            "layer_accuracy": table["layers_correct"].sum() / table["layers"].sum(),
            "network_accuracy": table["correct"].mean(), "chance": 1 / len(rules),
            "network_chance": 1 / len(rules), "best_constant": 1 / len(rules),
            "train_layers": N_LAYERS * (every - len(cell)), "test_layers": N_LAYERS * len(cell),
            "test_networks": len(cell),
        }  # fmt: skip
        rows += [keys | {"metric": m, "value": float(v)} for m, v in values.items()]
        verdicts += cell
    return Results(name, pd.DataFrame(rows), pd.DataFrame(verdicts), {"rules": list(RULES)})


def _verdict(keys, rule, network, probability, called, rng):
    correct = int(rng.random() < probability)
    others = [other for other in RULES if other != rule]
    verdict = rule if correct else called.get(rule, str(rng.choice(others)))
    return {
        **keys, "network": network, "rule": rule, "verdict": verdict, "correct": correct,
        "probability": 0.5, "layers": N_LAYERS,
        "layers_correct": int(rng.binomial(N_LAYERS, probability)),
    }  # fmt: skip


def with_rows(results: Results, rows: Iterable[Levels]) -> Results:
    """The same results, with more rows in their table."""
    table = pd.concat([results.table, pd.DataFrame(list(rows))], ignore_index=True)
    return Results(results.experiment, table, results.verdicts, results.settings)


def together(*parts: Results) -> Results:
    """Results of different conditions of one experiment as one."""
    tables, verdicts = (
        pd.concat([getattr(part, name) for part in parts], ignore_index=True)
        for name in ("table", "verdicts")
    )
    return Results(parts[0].experiment, tables, verdicts, parts[0].settings)
