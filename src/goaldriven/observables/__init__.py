"""Measure networks as an experimenter would: 45 aggregate statistics per layer."""

from goaldriven.observables.change import activity_change, activity_change_through_feedback
from goaldriven.observables.measurement import record_measured
from goaldriven.observables.recorder import record
from goaldriven.observables.statistics import (
    activation_statistics,
    published_weight_norms,
    weight_statistics,
)

__all__ = [
    "activation_statistics",
    "activity_change",
    "activity_change_through_feedback",
    "published_weight_norms",
    "record",
    "record_measured",
    "weight_statistics",
]
