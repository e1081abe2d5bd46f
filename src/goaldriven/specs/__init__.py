"""Frozen, validated specs: what a user writes down and what files record. No torch here."""

from goaldriven.specs.architectures import ARCHITECTURES, ArchitectureSpec
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.specs.network import NetworkSpec
from goaldriven.specs.rule import RuleSpec
from goaldriven.specs.rules import RULES
from goaldriven.specs.statistics import PUBLISHED_STATISTICS, STATISTICS
from goaldriven.specs.study import Study
from goaldriven.specs.tasks import TASKS, TaskSpec

__all__ = [
    "ARCHITECTURES",
    "PUBLISHED_STATISTICS",
    "RULES",
    "STATISTICS",
    "TASKS",
    "ArchitectureSpec",
    "MeasurementSpec",
    "NetworkSpec",
    "RuleSpec",
    "Study",
    "TaskSpec",
]
