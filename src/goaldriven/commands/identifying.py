"""``goaldriven identify`` and ``goaldriven report``."""

from __future__ import annotations

from pathlib import Path


def identify(
    path: Path, grid: str, statistics: str, splits: int, seed: int, jobs: int | None
) -> None:
    """Fit and test the classifiers on a study's trajectories."""
    raise NotImplementedError


def report(path: Path) -> None:
    """Write the study's report page."""
    raise NotImplementedError
