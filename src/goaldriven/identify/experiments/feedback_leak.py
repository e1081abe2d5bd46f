"""What the published activity change leaks of the backward weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.cache import Fit
from goaldriven.identify.experiments.cells import WHOLE, Cell
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.measured_conditions import available, measured
from goaldriven.identify.experiments.outcomes import conditions
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, Row, told
from goaldriven.identify.experiments.views import of_measures, records

TRUE, THROUGH = "forward weights", "backward weights"
MOMENTS = 5
WHOLE_TRAJECTORY = "all"


def _leak(given: Material) -> Sequence[Cell]:
    (spec, *_) = available(given, "feedback_leak", through_feedback=True)
    through = of_measures(measured(given, spec), ("activity_change",))
    statistics = [s for s in through["statistic"].values if s in given.examples["statistic"].values]
    if not statistics:
        raise IdentificationError(
            "experiment 'feedback_leak' must have an activity change that is finite for all "
            "networks in both variants, got none"
        )
    seen = {
        TRUE: given.examples.sel(statistic=statistics),
        THROUGH: through.sel(statistic=statistics),
    }
    moments = np.unique(np.linspace(0, given.examples.sizes["epoch"] - 1, MOMENTS).astype(int))
    cells = []
    for taken_through, examples in seen.items():
        cells += given.cells(
            examples, ("random_forest", "svm"), taken_through=taken_through, epoch=WHOLE_TRAJECTORY
        )
        for moment in moments:
            cells += given.cells(
                records(examples, moment, moment + 1),
                ("random_forest",),
                # Twins of equal initial weights on both sides would push accuracy below chance.
                "start" if moment == 0 else "network",
                taken_through=taken_through,
                epoch=str(int(given.examples["epoch"].values[moment])),
            )
    return cells


def _recall(cell: Cell, fit: Fit) -> list[Row]:
    """The share of each rule's layers that are named right."""
    rules = cell.train["rule"].values.astype(str)[cell.split.test]
    named = fit.classes[fit.scores[WHOLE].argmax(axis=1)]
    return [
        conditions(cell, WHOLE)
        | {"metric": f"recall {rule}", "value": float(np.mean(named[rules == rule] == rule))}
        for rule in np.unique(rules)
    ]


def _leak_found(results: Results) -> Sequence[Finding]:
    summary = results.summary()
    layers = summary[
        (summary["metric"] == "layer_accuracy") & (summary["classifier"] == "random_forest")
    ]

    def row(taken_through: str, epoch: str) -> pd.Series:
        chosen = layers[
            (layers["taken_through"] == taken_through) & (layers["epoch"].astype(str) == epoch)
        ]
        return chosen.iloc[0]

    true, through = row(TRUE, WHOLE_TRAJECTORY), row(THROUGH, WHOLE_TRAJECTORY)
    first = str(min(int(e) for e in set(layers["epoch"].astype(str)) - {WHOLE_TRAJECTORY}))
    initial = row(TRUE, first), row(THROUGH, first)
    recall = _mean_recall(results)
    gained = {r: recall[THROUGH, r] - recall[TRUE, r] for (_, r) in recall}
    return (
        Finding(
            f"From the activity change alone: {told(true)} of the layers through the "
            f"forward weights, {told(through)} through the backward weights, as the "
            f"published code takes it (random forest, splits by network, chance "
            f"{true['chance']:.2f}). Gained by rule: "
            + ", ".join(f"{r} {g:+.2f}" for r, g in sorted(gained.items(), key=lambda x: -x[1]))
            + ".",
            "The activity change was among the observables that told the rules best (Figure 2a); "
            "that it contained B was not remarked on.",
            "not in the paper",
        ),
        Finding(
            "Before learning, where networks of equal start are kept on one side: "
            f"{told(initial[0])} through the forward and {told(initial[1])} "
            "through the backward weights; what exceeds chance there is B, not learning.",
            "",
            "not in the paper",
        ),
    )


def _mean_recall(results: Results) -> dict[tuple[str, str], float]:
    table = results.table
    rows = table[
        table["metric"].str.startswith("recall ") & (table["classifier"] == "random_forest")
        & (table["epoch"].astype(str) == WHOLE_TRAJECTORY)
    ]  # fmt: skip
    return {
        (str(taken_through), str(metric).removeprefix("recall ")): float(of_rule["value"].mean())
        for taken_through, of_variant in rows.groupby("taken_through")
        for metric, of_rule in of_variant.groupby("metric")
    }


FEEDBACK_LEAK = Experiment(
    "feedback_leak",
    "The leak of the published activity change",
    "How much of the activity change's power comes from the backward weights in it?",
    "ours",
    _leak,
    _leak_found,
    (Plot("levels", "epoch", "taken_through", "classifier"),),
    measure=_recall,
    measured=True,
)

ENTRIES = (FEEDBACK_LEAK,)
