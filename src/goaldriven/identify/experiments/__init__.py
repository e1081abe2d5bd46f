"""The experiments of the paper and their controls, on any study."""

from goaldriven.identify.experiments.catalogue import EXPERIMENTS, experiment
from goaldriven.identify.experiments.material import Material, load_material, material
from goaldriven.identify.experiments.results import Results, load, with_results
from goaldriven.identify.experiments.running import run
from goaldriven.identify.experiments.spec import Experiment, Finding, Plot

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "Finding",
    "Material",
    "Plot",
    "Results",
    "experiment",
    "load",
    "load_material",
    "material",
    "run",
    "with_results",
]
