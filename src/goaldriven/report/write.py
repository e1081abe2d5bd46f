"""The page of a study or a collection: read, describe, draw, write."""

from __future__ import annotations

from pathlib import Path

import goaldriven
from goaldriven.report.identified import read_results
from goaldriven.report.page import render
from goaldriven.report.sections.alignment import alignment
from goaldriven.report.sections.answer import answer
from goaldriven.report.sections.experiments import experiments
from goaldriven.report.sections.identification import identification
from goaldriven.report.sections.methods import methods
from goaldriven.report.sections.observables import trajectories
from goaldriven.report.sections.overview import overview
from goaldriven.report.sections.performance import performance
from goaldriven.report.sections.robustness import robustness
from goaldriven.report.study import read_folder
from goaldriven.trajectories.atomic import write_bytes


def write_report(folder: str | Path) -> Path:
    """Write ``<folder>/report.html`` and return its path.

    The page is one file without scripts or outside references: what was run, task performance,
    robustness across architectures (where there are some to compare), trajectories, identification
    of the rule, experiments (those that were run), alignment, and methods, each figure with a
    caption and its numbers as CSV. It is written as far as the study has come: without
    identification, it says how to run it. Of a collection it says what there is, and has no section
    on what was not recorded. The file is written whole or not at all.

    Raises
    ------
    StudyError : the folder is neither a readable study's nor a collection, or cannot be written.
    DataError : a trajectory file cannot be read.
    """
    folder = Path(folder)
    data = read_folder(folder)
    results = read_results(folder)
    sections = (
        overview(data, answer(data, results)),
        *performance(data),
        *robustness(data),
        trajectories(data),
        *identification(data, results),
        *experiments(data),
        *alignment(data),
        methods(data, results),
    )
    title, subtitle = f"Collection {folder.resolve().name}", ""
    if data.study is not None:
        title, subtitle = f"Study {data.study.name}", data.study.description
    page = render(
        title,
        subtitle,
        sections,
        f"Written by goaldriven {goaldriven.__version__}.",
    )
    path = folder / "report.html"
    write_bytes(path, page.encode("utf-8"))
    return path
