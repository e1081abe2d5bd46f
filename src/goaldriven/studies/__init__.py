"""Studies: a grid of networks trained by a pool of workers into one folder, resumably."""

from goaldriven.studies.files import load_study, shipped_studies
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.runner import RunSummary, run_study
from goaldriven.studies.worker import Settings

__all__ = ["RunSummary", "Settings", "StudyFolder", "load_study", "run_study", "shipped_studies"]
