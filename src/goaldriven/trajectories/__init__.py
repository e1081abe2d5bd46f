"""Trajectories of observables: one file per network on disk, stacked to examples in memory."""

from goaldriven.trajectories.contract import validate
from goaldriven.trajectories.examples import admissible, to_examples, trained
from goaldriven.trajectories.files import load_examples, load_networks, read, read_outcome, write

__all__ = [
    "admissible",
    "load_examples",
    "load_networks",
    "read",
    "read_outcome",
    "to_examples",
    "trained",
    "validate",
    "write",
]
