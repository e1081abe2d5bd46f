"""The measurements that a study has, as conditions of experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.material import OBSERVABLES, Material
from goaldriven.identify.experiments.views import of_measures, only_rules
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.trajectories import admissible, load_networks, trained
from goaldriven.trajectories.measured import load_measured_examples, measurements_of

ALL_UNITS, NO_NOISE = "all units", "none"


@dataclass(frozen=True, eq=False)
class Condition:
    """One way of measuring, with its draws of units and noise.

    Attributes
    ----------
    units, noise : for tables, see `units_label` and `noise_label`.
    draws : examples of one draw each, all with the same statistics.
    """

    units: str
    noise: str
    draws: tuple[xr.Dataset, ...]

    @property
    def clean(self) -> bool:
        return (self.units, self.noise) == (ALL_UNITS, NO_NOISE)

    @property
    def label(self) -> str:
        """``300 units, noise 0.3 s.d.``; ``all units, no noise`` for everything."""
        return f"{self.units}, {'no noise' if self.noise == NO_NOISE else f'noise {self.noise}'}"


CLEAN = Condition(ALL_UNITS, NO_NOISE, ()).label


def measured(
    given: Material, spec: MeasurementSpec, networks: Sequence[xr.Dataset] | None = None
) -> xr.Dataset:
    """The trained networks as one measurement has them, with statistics that are finite there."""
    folder = _folder(given)
    loaded = load_networks(folder) if networks is None else networks
    examples = trained(load_measured_examples(folder, spec, networks=loaded))
    return examples.sel(statistic=list(admissible(examples)))


def _folder(given: Material) -> Path:
    if given.folder is None:
        raise IdentificationError("material must come from a study's folder to be measured")
    return given.folder


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


def measured_conditions(given: Material, name: str) -> tuple[Condition, ...]:
    """Everything as recorded, and every measurement that the study has; the first is clean.

    Only statistics that are finite in every condition are kept: noise makes skew and kurtosis
    finite that are not without it, and few units the reverse, and more of them would tell more.

    Raises
    ------
    IdentificationError : there is no measurement but that of everything.
    """
    specs = available(given, name, through_feedback=False)
    seen: dict[tuple[str, str], list[xr.Dataset]] = {(ALL_UNITS, NO_NOISE): [given.examples]}
    networks = load_networks(_folder(given))
    for spec in specs:
        key = (units_label(spec), noise_label(spec))
        if key != (ALL_UNITS, NO_NOISE):
            seen.setdefault(key, []).append(measured(given, spec, networks))
    if len(seen) == 1:
        raise IdentificationError(
            f"experiment {name!r} must have measurements of fewer units, with noise or over fewer "
            "stimuli, got that of everything alone"
        )
    shared = _shared_statistics([one for draws in seen.values() for one in draws])
    return tuple(
        Condition(units, noise, tuple(one.sel(statistic=shared) for one in draws))
        for (units, noise), draws in seen.items()
    )


def measured_cells(
    given: Material,
    conditions: Sequence[Condition],
    rules: Sequence[str],
    classifiers: Sequence[str] = ("random_forest",),
) -> list[Cell]:
    """Trained and tested under each condition; draws of units and noise count as further splits."""
    cells = []
    for condition in conditions:
        for draw, one in enumerate(condition.draws):
            for observables, measures in OBSERVABLES.items():
                examples = only_rules(of_measures(one, measures), rules)
                keys = {
                    "observables": observables, "units": condition.units, "noise": condition.noise,
                }  # fmt: skip
                cells += [
                    Cell(keys, classifier, examples, split, number + draw * given.n_splits)
                    for classifier in classifiers
                    for number, split in enumerate(given.splits("network", examples))
                ]
    return cells


def units_label(spec: MeasurementSpec) -> str:
    """Which units and stimuli, for tables: ``300 units``, ``10% of units, 50 stimuli``."""
    parts = [part for part in spec.label.split(", ") if "units" in part or "stimuli" in part]
    return ", ".join(parts)


def noise_label(spec: MeasurementSpec) -> str:
    """Which noise, for tables: ``absolute 0.1``, ``0.3 s.d.``, ``constant 0.3 s.d.``, ``none``."""
    parts = [part for part in spec.label.split(", ") if "noise" in part]
    if not parts:
        return NO_NOISE
    text = parts[0].replace("noise ", "")
    return f"absolute {text}" if spec.noise else text


def _shared_statistics(examples: Sequence[xr.Dataset]) -> list[str]:
    """Those of all examples, in the order of the first."""
    shared = set.intersection(*(set(one["statistic"].values.tolist()) for one in examples))
    return [s for s in examples[0]["statistic"].values.tolist() if s in shared]
