"""What survives when few units are seen, through noise, over few stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.comparisons import (
    Accuracies,
    Redrawn,
    Statistic,
    decided,
    redrawn,
)
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.measured_conditions import (
    ALL_UNITS,
    NO_NOISE,
    measured_cells,
    measured_conditions,
)
from goaldriven.identify.experiments.results import Results, interval
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot, accuracy, told

PUBLISHED_PAIR = ("fa", "ia")
SINGLE = tuple(name for name in OBSERVABLES if name != "all")


def _measurement(given: Material) -> Sequence[Cell]:
    return measured_cells(given, measured_conditions(given, "measurement"), given.rules)


def _published_pair(given: Material) -> Sequence[Cell]:
    missing = [rule for rule in PUBLISHED_PAIR if rule not in given.rules]
    if missing:
        raise IdentificationError(
            f"experiment 'measurement_fa_ia' must have networks of fa and ia, got none of "
            f"{' and '.join(missing)}"
        )
    found = measured_conditions(given, "measurement_fa_ia")
    return measured_cells(given, found, PUBLISHED_PAIR)


def _measurement_found(results: Results) -> Sequence[Finding]:
    return (_robustness(results), *_of_kinds(results))


def _robustness(results: Results) -> Finding:
    """How much of what all units tell beyond chance is left, on average over the measurements."""
    summary = results.summary()
    clean = {
        name: accuracy(summary, "layer_accuracy", observables=name, units=ALL_UNITS, noise=NO_NOISE)
        for name in SINGLE
    }
    # What tells nothing to begin with has nothing to lose.
    telling = [name for name, row in clean.items() if row["low"] > row["chance"]]
    paper = (
        "Activations were the most robust to noise and to undersampling of units; weights and "
        "activity changes the least (Figure 5)."
    )
    told_clean = ", ".join(f"{n.replace('_', ' ')} {told(clean[n])}" for n in clean)
    if not telling:
        return Finding(
            f"With all units and no noise no observable tells the rules by itself ({told_clean}).",
            paper,
            "not testable here",
        )
    share = {name: _share_left(summary, name) for name in telling}
    drawn = _drawn(results, telling)
    left = {name: drawn.estimate(share[name]).value for name in telling}
    conditions_seen = summary[["units", "noise"]].drop_duplicates()
    ranked = sorted(left, key=lambda name: -left[name])
    others = [name for name in ranked if name != "activation"] if "activation" in left else []
    more = {
        name: drawn.estimate(lambda a, name=name: share["activation"](a) - share[name](a))  # type: ignore[misc]
        for name in others
    }
    return Finding(
        f"Of what each observable tells beyond chance with all units and no noise ({told_clean}), "
        f"this much is left on average over {len(conditions_seen) - 1} measurements: "
        + ", ".join(f"{n.replace('_', ' ')} {left[n]:.0%}" for n in ranked)
        + " (random forest, layers, splits by network, with the statistics that are finite in "
        "every condition)"
        + "".join(f"; activation less {n.replace('_', ' ')} {e.told}" for n, e in more.items())
        + ".",
        paper,
        decided(*more.values()) if more else "not testable here",
    )


def _drawn(results: Results, telling: Sequence[str]) -> Redrawn:
    """Accuracies from these observables under every condition, by `_key`."""
    rows = results.verdicts[["observables", "units", "noise"]].drop_duplicates()
    rows = rows[rows["observables"].isin(telling)]
    return redrawn(results, {_key(*row): dict(row) for _, row in rows.iterrows()})


def _key(observables: str, units: str, noise: str) -> str:
    return f"{observables}/{units}/{noise}"


def _share_left(summary: pd.DataFrame, observables: str) -> Statistic:
    """Accuracies by `_key` → what is left beyond chance, as a share of that without measurement."""
    chosen = summary[
        (summary["metric"] == "layer_accuracy") & (summary["observables"] == observables)
    ]
    chance = {
        _key(observables, str(row["units"]), str(row["noise"])): float(row["chance"])
        for _, row in chosen.iterrows()
    }
    clean = _key(observables, ALL_UNITS, NO_NOISE)

    def share(a: Accuracies) -> Any:
        beyond = {key: a[key] - chance[key] for key in chance}
        return np.mean([beyond[key] for key in chance if key != clean], axis=0) / beyond[clean]

    return share


def _of_kinds(results: Results) -> list[Finding]:
    """One sentence on each kind of measurement: each observable's accuracy over its conditions."""
    verdicts = results.verdicts
    kinds = [
        kind_of(str(units), str(noise))
        for units, noise in zip(verdicts["units"], verdicts["noise"], strict=True)
    ]
    found = []
    for kind, rows in verdicts.groupby(np.array(kinds), sort=False):
        if kind == NOTHING:
            continue
        seen = list(dict.fromkeys(zip(rows["units"], rows["noise"], strict=True)))
        parts = [_over(rows[rows["observables"] == name], name) for name in SINGLE]
        found.append(
            Finding(
                f"{kind}: layers named right {', '.join(parts)} (random forest, mean over "
                f"{_listed(seen)}).",
                "",
                "not in the paper",
            )
        )
    return found


NOTHING = "Everything"


def kind_of(units: str, noise: str) -> str:
    """What is done to the tensors, in words, from the labels of units and of noise.

    >>> kind_of("all units", "0.3 s.d."), kind_of("10 units, 50 stimuli", "none")
    ('Noise relative to the signal', 'Fewer units, by number, and fewer stimuli')
    """
    parts = []
    if ALL_UNITS not in units:
        parts.append(f"fewer units, {'as a share' if '%' in units else 'by number'}")
    if "stimuli" in units:
        parts.append("fewer stimuli")
    if noise != NO_NOISE:
        parts.append(_noise_kind(noise))
    text = ", and ".join(parts) or NOTHING
    return text[0].upper() + text[1:]


def _noise_kind(noise: str) -> str:
    size = "relative to the signal" if noise.endswith("s.d.") else "in the tensor's own units"
    if "shared" in noise:
        return f"noise {size}, correlated across units"
    if "constant" in noise:
        return f"noise {size}, constant through learning"
    return f"noise {size}"


def _over(rows: pd.DataFrame, observables: str) -> str:
    low, high = interval(rows, "layer_accuracy")
    mean = rows["layers_correct"].sum() / rows["layers"].sum()
    return f"{observables.replace('_', ' ')} {mean:.3f} ({low:.3f}–{high:.3f})"


_MOST_NAMED = 6


def _listed(seen: Sequence[tuple[object, object]]) -> str:
    """The conditions by name, where they are not too many."""
    if len(seen) > _MOST_NAMED:
        return f"{len(seen)} conditions"
    names = [
        ", ".join([str(units)] * (units != ALL_UNITS) + [f"noise {noise}"] * (noise != NO_NOISE))
        for units, noise in seen
    ]
    return "; ".join(names)


MEASUREMENT = Experiment(
    "measurement",
    "Few units and noise",
    "Which observables still tell the rules when few units are read, with noise?",
    "Figure 5, beyond the published pair of rules",
    _measurement,
    _measurement_found,
    (Plot("grid", "noise", "units", "observables"),),
    measured=True,
)

MEASUREMENT_PAIR = Experiment(
    "measurement_fa_ia",
    "Few units and noise: FA against IA",
    "Which observables still tell FA from IA when few units are read, with noise?",
    "Figures 5 and S8",
    _published_pair,
    _measurement_found,
    (Plot("grid", "noise", "units", "observables"),),
    measured=True,
)

ENTRIES = (MEASUREMENT, MEASUREMENT_PAIR)
