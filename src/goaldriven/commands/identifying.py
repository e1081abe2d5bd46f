"""``goaldriven identify`` and ``goaldriven report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from goaldriven.identify import Identification
from goaldriven.report.identified import FOLDER
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.runner import usable_cores
from goaldriven.trajectories.collection import is_collection


def identify(
    path: Path,
    grid: str,
    statistics: str,
    splits: int,
    seed: int,
    jobs: int | None,
    classifiers: Sequence[str] = (),
) -> None:
    """Fit and test the classifiers on a study's trajectories; the default ones if none is named."""
    from goaldriven.identify import DEFAULT_CLASSIFIERS
    from goaldriven.identify import identify as run
    from goaldriven.trajectories import load_examples

    folder = path if is_collection(path) else StudyFolder.open(path).path
    examples = load_examples(folder)
    console = Console(stderr=True)
    shown = bar(console)
    task = shown.add_task("identifying", total=None)

    def progress(done: int, total: int, what: str) -> None:
        shown.start()  # not before: a complaint about the input should stand alone
        shown.update(task, completed=done, total=total)

    try:
        results = run(
            examples,
            grid=grid,
            classifiers=classifiers or DEFAULT_CLASSIFIERS,
            statistics=statistics,
            n_splits=splits,
            seed=seed,
            jobs=jobs or usable_cores(),
            progress=progress,
        )
    finally:
        if shown.live.is_started:
            shown.stop()
    results.save(folder / FOLDER)
    _print(results, Console())
    console.print(f"tables and classifiers → {folder / FOLDER}", highlight=False)


def bar(console: Console) -> Progress:
    """Counts fits, with the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _print(results: Identification, console: Console) -> None:
    """Accuracies (mean ± s.e.m. over splits): one row per classifier and unit, columns by kind."""
    summary = results.summary()
    for (unit, kind), rows in summary.groupby(["unit", "split_kind"], sort=False):
        what = "rules named layer by layer" if unit == "layer" else "verdicts on whole networks"
        chance = rows["chance"].mean()
        table = Table(title=f"{what}, splits by {kind} (chance {chance:.2f})", title_justify="left",
                      box=None, pad_edge=False)  # fmt: skip
        observables = list(dict.fromkeys(rows["observables"]))
        table.add_column("classifier")
        for name in observables:
            table.add_column(name.replace("_", " "), justify="right")
        for classifier, group in rows.groupby("classifier", sort=False):
            cells = group.set_index("observables")
            table.add_row(
                str(classifier).replace("_", " "), *(_cell(cells.loc[o]) for o in observables)
            )
        console.print(table)
        console.print()


def _cell(row: pd.Series) -> str:
    sem = "" if pd.isna(row["sem"]) else f" ± {row['sem']:.3f}"
    return f"{row['mean']:.3f}{sem}"


def report(path: Path) -> None:
    """Write the study's report page."""
    from goaldriven.report import write_report

    folder = StudyFolder.open(path)
    print(write_report(folder.path).resolve())
