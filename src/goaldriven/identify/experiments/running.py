"""Running experiments on a study."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import pandas as pd

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments.engine import Settings, fit_all
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.outcomes import metrics_of, verdicts_of
from goaldriven.identify.experiments.results import FOLDER, Results, save
from goaldriven.identify.experiments.spec import Experiment
from goaldriven.identify.experiments.tidy_csv import columns_of_numbers
from goaldriven.trajectories.measured import measurements_of

CACHE = "cache"
Progress = Callable[[int, int, str], None]


def run(
    experiment: Experiment,
    given: Material,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Results:
    """Fit an experiment's cells and gather its tables; store them where the study has a folder.

    Parameters
    ----------
    given : see `load_material`.
    jobs : processes, one thread each. The results do not depend on it.
    progress : called with (done, total, what was done).

    Raises
    ------
    IdentificationError : the study cannot answer the question; says why.
    StudyError : the results cannot be written.
    """
    cells = list(experiment.cells(given))
    if not cells:
        raise IdentificationError(f"experiment {experiment.name!r} has nothing to vary here")
    cache = None if given.folder is None else given.folder / FOLDER / CACHE
    settings = Settings(given.grid, given.seed, cache)
    fits, rows, verdicts = [], [], []
    for cell, one in zip(cells, fit_all(cells, settings, jobs, progress), strict=True):
        of_cell = verdicts_of(cell, one)
        verdicts += of_cell
        rows += metrics_of(cell, pd.DataFrame(of_cell))
        if experiment.measure is not None:
            rows += list(experiment.measure(cell, one))
        if experiment.after is not None:
            fits.append(one)
    if experiment.after is not None:
        rows += list(experiment.after(given, cells, fits))
    tables = _tidy(experiment.name, rows, given.seed), pd.DataFrame(verdicts)
    settings_of_run = _settings(given, experiment) | {"numbers": columns_of_numbers(tables)}
    results = Results(experiment.name, *tables, settings_of_run)
    if given.folder is not None:
        save(results, given.folder)
    return results


def _tidy(name: str, rows: list[dict[str, Any]], seed: int) -> pd.DataFrame:
    """Rows → a table with the condition's columns between the fixed ones."""
    table = pd.DataFrame(rows)
    table.insert(0, "experiment", name)
    table["seed"] = seed
    last = ["classifier", "split_kind", "split", "seed", "metric", "value"]
    return table[[*(c for c in table.columns if c not in last), *last]]


def _settings(given: Material, experiment: Experiment) -> dict[str, Any]:
    examples = given.examples
    return {
        "grid": given.grid,
        "n_splits": given.n_splits,
        "seed": given.seed,
        "rules": list(given.rules),
        "statistics": examples["statistic"].values.tolist(),
        "epochs": [int(e) for e in examples["epoch"].values],
        "networks": sorted(set(examples["network"].values.tolist())),
        "measurements": _measurements(given, experiment),
        "version": importlib.metadata.version("goaldriven"),
    }


def _measurements(given: Material, experiment: Experiment) -> list[str]:
    """Ids of the study's measurements, where the experiment is about them."""
    if given.folder is None or not experiment.measured:
        return []
    return sorted(spec.measurement_id for spec in measurements_of(given.folder))
