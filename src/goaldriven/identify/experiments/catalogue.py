"""The experiments by name."""

from __future__ import annotations

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.experiments import (
    calibration,
    controls,
    degeneracy,
    extra_classifiers,
    families,
    feedback_leak,
    generalisation,
    importance,
    matching,
    measured,
    measured_pairs,
    measured_transfer,
    open_set,
    separability,
    undersampling,
)
from goaldriven.identify.experiments.spec import Experiment

_FAMILIES = (
    separability,
    controls,
    matching,
    generalisation,
    importance,
    undersampling,
    measured,
    measured_transfer,
    measured_pairs,
    feedback_leak,
    calibration,
    open_set,
    degeneracy,
    families,
    extra_classifiers,
)

EXPERIMENTS: dict[str, Experiment] = {
    entry.name: entry for family in _FAMILIES for entry in family.ENTRIES
}


def experiment(name: str) -> Experiment:
    """The experiment with this name.

    Raises
    ------
    IdentificationError : it is not in `EXPERIMENTS`.
    """
    if name not in EXPERIMENTS:
        raise IdentificationError(unknown("experiment", name, EXPERIMENTS))
    return EXPERIMENTS[name]
