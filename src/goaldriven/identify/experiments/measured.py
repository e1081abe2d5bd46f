"""What survives when few units are seen through noise, and what the published change leaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.cache import Fit
from goaldriven.identify.experiments.cells import WHOLE, Cell
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.outcomes import conditions
from goaldriven.identify.experiments.results import Results
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, Row, accuracy, told
from goaldriven.identify.experiments.views import of_measures, only_rules, records
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.trajectories import admissible, load_networks, trained
from goaldriven.trajectories.measured import load_measured_examples, measurements_of

ALL_UNITS, NO_NOISE = "all units", "none"
PUBLISHED_PAIR = ("fa", "ia")


def measured(given: Material, spec: MeasurementSpec) -> xr.Dataset:
    """The trained networks as one measurement has them, with statistics that are finite there."""
    if given.folder is None:
        raise IdentificationError("material must come from a study's folder to be measured")
    networks = load_networks(given.folder)
    examples = trained(load_measured_examples(given.folder, spec, networks=networks))
    return examples.sel(statistic=list(admissible(examples)))


def available(given: Material, name: str, through_feedback: bool) -> tuple[MeasurementSpec, ...]:
    """The study's measurements through the forward or the backward weights.

    Raises
    ------
    IdentificationError : there are none; says how to make them.
    """
    specs = measurements_of(given.folder) if given.folder is not None else ()
    chosen = tuple(spec for spec in specs if spec.through_feedback == through_feedback)
    if through_feedback:  # all else must be as in the record that it is compared with
        chosen = tuple(s for s in chosen if s.canonical() == {"through_feedback": True})
    if not chosen:
        hint = "through_feedback" if through_feedback else "quick"
        raise IdentificationError(
            f"experiment {name!r} must have measurements of every trained network, got none: "
            f"'goaldriven run STUDY --keep-checkpoints' and then 'goaldriven measure DIR {hint}', "
            f"or 'goaldriven run STUDY --measurements {hint}'"
        )
    return chosen


def units_label(spec: MeasurementSpec) -> str:
    """Which units and stimuli, for tables: ``300 units``, ``10% of units, 50 stimuli``."""
    parts = [part for part in spec.label.split(", ") if "units" in part or "stimuli" in part]
    return ", ".join(parts)


def noise_label(spec: MeasurementSpec) -> str:
    """Which noise, for tables: ``0.3 s.d.``, ``constant 0.3 s.d.``, ``none``."""
    parts = [part for part in spec.label.split(", ") if "noise" in part]
    return parts[0].replace("noise ", "") if parts else NO_NOISE


def _measured_cells(given: Material, name: str, rules: Sequence[str]) -> list[Cell]:
    """Cells for every measurement; its draws of units and noise count as further splits."""
    specs = available(given, name, through_feedback=False)
    seen: dict[tuple[str, str], list[xr.Dataset]] = {(ALL_UNITS, NO_NOISE): [given.examples]}
    for spec in specs:
        key = (units_label(spec), noise_label(spec))
        if key != (ALL_UNITS, NO_NOISE):
            seen.setdefault(key, []).append(measured(given, spec))
    if len(seen) == 1:
        raise IdentificationError(
            f"experiment {name!r} must have measurements of fewer units, with noise or over fewer "
            "stimuli, got that of everything alone"
        )
    statistics = _shared_statistics([one for draws in seen.values() for one in draws])
    cells = []
    for (units, noise), draws in seen.items():
        for draw, one in enumerate(draws):
            whole = one.sel(statistic=statistics)
            for observables, measures in OBSERVABLES.items():
                examples = only_rules(of_measures(whole, measures), rules)
                condition = {"observables": observables, "units": units, "noise": noise}
                for number, split in enumerate(given.splits("network", examples)):
                    number += draw * given.n_splits
                    cells.append(Cell(condition, "random_forest", examples, split, number))
    return cells


def _shared_statistics(examples: Sequence[xr.Dataset]) -> list[str]:
    """Those finite in every condition: more in one of them would tell more there.

    Noise makes skew and kurtosis finite that are not without it, and few units the reverse.
    """
    shared = set.intersection(*(set(one["statistic"].values.tolist()) for one in examples))
    return [s for s in examples[0]["statistic"].values.tolist() if s in shared]


def _measurement(given: Material) -> Sequence[Cell]:
    return _measured_cells(given, "measurement", given.rules)


def _published_pair(given: Material) -> Sequence[Cell]:
    missing = [rule for rule in PUBLISHED_PAIR if rule not in given.rules]
    if missing:
        raise IdentificationError(
            f"experiment 'measurement_fa_ia' must have networks of fa and ia, got none of "
            f"{' and '.join(missing)}"
        )
    return _measured_cells(given, "measurement_fa_ia", PUBLISHED_PAIR)


def _measurement_found(results: Results) -> Sequence[Finding]:
    """How much of what all units tell beyond chance is left, on average over the measurements."""
    summary = results.summary()
    clean = {
        name: accuracy(summary, "layer_accuracy", observables=name, units=ALL_UNITS, noise=NO_NOISE)
        for name in OBSERVABLES
        if name != "all"
    }
    # What tells nothing to begin with has nothing to lose.
    telling = [name for name, row in clean.items() if row["low"] > row["chance"]]
    left = {name: _share_left(results, name) for name in telling}
    conditions_seen = summary[["units", "noise"]].drop_duplicates()
    ranked = sorted(left, key=lambda name: -left[name])
    testable = "activation" in left and len(left) > 1
    return (
        Finding(
            "Of what each observable tells beyond chance with all units and no noise ("
            + ", ".join(f"{n.replace('_', ' ')} {told(clean[n])}" for n in clean)
            + f"), this much is left on average over {len(conditions_seen) - 1} measurements: "
            + ", ".join(f"{n.replace('_', ' ')} {left[n]:.0%}" for n in ranked)
            + " (random forest, layers, splits by network, with the statistics that are finite in "
            "every condition).",
            "Activations were the most robust to noise and to undersampling of units; weights and "
            "activity changes the least (Figure 5).",
            "not testable here"
            if not testable
            else "reproduced"
            if ranked[0] == "activation"
            else "not reproduced",
        ),
    )


def _share_left(results: Results, observables: str) -> float:
    summary = results.summary()
    chosen = summary[
        (summary["metric"] == "layer_accuracy") & (summary["observables"] == observables)
    ]
    beyond: pd.Series = chosen["mean"] - chosen["chance"]
    clean = (chosen["units"] == ALL_UNITS) & (chosen["noise"] == NO_NOISE)
    return float(np.mean(beyond[~clean]) / beyond[clean].iloc[0])


MEASUREMENT = Experiment(
    "measurement",
    "Few units and noise",
    "Which observables still tell the rules when few units are read, with noise?",
    "Figure 5, beyond the published pair of rules",
    _measurement,
    _measurement_found,
    (Plot("grid", "noise", "units", "observables"),),
)

MEASUREMENT_PAIR = Experiment(
    "measurement_fa_ia",
    "Few units and noise: FA against IA",
    "Which observables still tell FA from IA when few units are read, with noise?",
    "Figures 5 and S8",
    _published_pair,
    _measurement_found,
    (Plot("grid", "noise", "units", "observables"),),
)

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
)

ENTRIES = (MEASUREMENT, MEASUREMENT_PAIR, FEEDBACK_LEAK)
