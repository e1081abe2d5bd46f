"""Figures of a study: tidy tables (from `goaldriven.report.tables`) → matplotlib figures.

Each function draws one table and returns a `matplotlib.figure.Figure`, without pyplot, so that it
can be shown in a notebook or saved with ``figure.savefig``.
"""

from goaldriven.report.figures.alignment import alignment
from goaldriven.report.figures.experiments import experiment
from goaldriven.report.figures.identification import accuracy, confusion, importances
from goaldriven.report.figures.performance import learning_curves, task_performance
from goaldriven.report.figures.robustness import robustness
from goaldriven.report.figures.trajectories import trajectories
from goaldriven.report.figures.weight_dynamics import weight_dynamics
from goaldriven.report.figures.weight_scatter import weight_scatter

__all__ = [
    "accuracy",
    "alignment",
    "confusion",
    "experiment",
    "importances",
    "learning_curves",
    "robustness",
    "task_performance",
    "trajectories",
    "weight_dynamics",
    "weight_scatter",
]
