"""``goaldriven experiment list`` and ``goaldriven experiment run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from goaldriven.commands.identifying import bar, whole
from goaldriven.commands.output import output, plain_table
from goaldriven.errors import DataError, IdentificationError
from goaldriven.identify.experiments import EXPERIMENTS, Results, experiment, load_material, run
from goaldriven.identify.experiments.results import FOLDER
from goaldriven.studies.runner import usable_cores
from goaldriven.trajectories.atomic import check_writable


def list_experiments() -> None:
    """Print every experiment with its question."""
    table = plain_table("name", "question", "source")
    for entry in EXPERIMENTS.values():
        table.add_row(entry.name, entry.question, entry.source)
    output().print(table)


def run_experiments(
    path: Path, names: Sequence[str], grid: str, splits: int, seed: int, jobs: int | None
) -> None:
    """Run experiments on a study; one that the study cannot answer is told and passed over.

    Raises
    ------
    IdentificationError, DataError : an experiment that was asked for by name cannot be run.
    """
    chosen = [experiment(name) for name in names] or list(EXPERIMENTS.values())
    console = Console(stderr=True)
    whole(path, console)
    check_writable(path / FOLDER)
    given = load_material(path, grid=grid, n_splits=splits, seed=seed)
    for entry in chosen:
        with bar(console) as progress:
            task = progress.add_task(entry.name, total=None)

            def advance(done: int, total: int, what: str, task=task, progress=progress) -> None:  # type: ignore[no-untyped-def]
                progress.update(task, completed=done, total=total)

            try:
                results = run(entry, given, jobs=jobs or usable_cores(), progress=advance)
            except (IdentificationError, DataError) as error:
                if names:
                    raise
                progress.remove_task(task)
                console.print(f"{entry.name}: passed over; {error}", highlight=False)
                continue
            except KeyboardInterrupt:
                console.print("stopped; finished fits are kept, the same command goes on from "
                              "here", style="bold")  # fmt: skip
                raise
        _tell(results, output())
    console.print(f"tables → {path / FOLDER}", highlight=False)


def _tell(results: Results, console: Console) -> None:
    entry = experiment(results.experiment)
    console.print(f"[bold]{entry.title}[/bold] ({entry.source})")
    for finding in entry.findings(results):
        console.print(f"  {finding.statement}", highlight=False)
        if finding.paper:
            console.print(f"  paper: {finding.paper} — {finding.status}", highlight=False)
