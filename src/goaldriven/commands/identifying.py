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

from goaldriven.commands.output import output
from goaldriven.commands.replacing import say_replaced
from goaldriven.errors import IdentificationError
from goaldriven.identify import Identification
from goaldriven.report.identified import FOLDER
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.runner import usable_cores
from goaldriven.trajectories.collection import is_collection

CACHE = "cache"
"""Where in the folder of an identification its fits are kept."""


def identify(
    path: Path,
    grid: str,
    statistics: str,
    splits: int,
    seed: int,
    jobs: int | None,
    classifiers: Sequence[str] = (),
    alpha: float = 0.1,
) -> None:
    """Fit and test the classifiers on a study's trajectories; the default ones if none is named."""
    from goaldriven.identify import DEFAULT_CLASSIFIERS
    from goaldriven.identify import identify as run
    from goaldriven.trajectories import load_examples
    from goaldriven.trajectories.atomic import check_writable

    console = Console(stderr=True)
    whole(path, console)
    check_writable(path / FOLDER)
    examples = load_examples(path)
    chosen = tuple(classifiers or DEFAULT_CLASSIFIERS)
    say_replaced(
        path / FOLDER, examples, console,
        grid=grid, statistics=statistics, splits=splits, seed=seed, classifiers=chosen, alpha=alpha,
    )  # fmt: skip
    shown = bar(console)
    task = shown.add_task("identifying", total=None)

    def progress(done: int, total: int, what: str) -> None:
        shown.start()  # not before: a complaint about the input should stand alone
        shown.update(task, completed=done, total=total)

    try:
        results = run(
            examples,
            grid=grid,
            classifiers=chosen,
            statistics=statistics,
            n_splits=splits,
            alpha=alpha,
            seed=seed,
            jobs=jobs or usable_cores(),
            cache=path / FOLDER / CACHE,
            progress=progress,
        )
    except KeyboardInterrupt:
        shown.stop()
        console.print(
            "stopped; finished fits are kept, but for those of the first split, and the same "
            f"command goes on from here; the results in {path / FOLDER} are as they were",
            style="bold",
            soft_wrap=True,
        )
        raise
    finally:
        if shown.live.is_started:
            shown.stop()
    results.save(path / FOLDER)
    _print(results, output())
    console.print(f"tables and classifiers → {path / FOLDER}", highlight=False)


def verdicts_on(path: Path, other: Path, alpha: float, classifiers: Sequence[str] = ()) -> None:
    """Print and write verdicts on another study's networks by a study's fitted classifiers.

    By those named, or the one that named most networks right.
    """
    from goaldriven.identify import load, verdicts
    from goaldriven.trajectories import load_examples, trained
    from goaldriven.trajectories.atomic import check_writable, write_bytes

    for folder in (path, other):
        if not is_collection(folder):
            StudyFolder.open(folder)  # complains where it is none
    results = load(path / FOLDER)
    able = [one for one in results.fitted if one.observables == "all" and one.calibration]
    kept = list(dict.fromkeys(one.classifier for one in able))
    missing = [name for name in classifiers if name not in kept]
    if missing or not kept:
        raise IdentificationError(
            f"classifier must be one that the identification of {path} kept "
            f"({', '.join(kept) or 'none'}), got {missing[0] if missing else 'none'}"
        )
    place = path / FOLDER / "verdicts_on" / f"{other.resolve().name}.csv"
    check_writable(place.parent)
    examples = trained(load_examples(other))
    parts = [
        verdicts(results.classifier(name), examples, alpha).assign(classifier=name)
        for name in classifiers or [_most_accurate(results, kept)]
    ]
    table = pd.concat(parts, ignore_index=True)
    table = table[["classifier", *table.columns.drop("classifier")]]
    write_bytes(place, table.to_csv(index=False).encode())
    _print_verdicts(table, output())
    Console(stderr=True).print(f"verdicts → {place}", highlight=False)


def _most_accurate(results: Identification, kept: Sequence[str]) -> str:
    table = results.network_accuracy
    chosen = table[
        (table["observables"] == "all") & (table["split_kind"] == "network")
        & table["classifier"].isin(kept)
    ]  # fmt: skip
    means = chosen.groupby("classifier", sort=False)["accuracy"].mean()
    return str(means.idxmax())


def _print_verdicts(table: pd.DataFrame, console: Console) -> None:
    """One row per classifier and network."""
    from goaldriven.identify.open_verdicts import NONE

    shown = Table(box=None, pad_edge=False)
    for name in ("network", "trained by", "classifier", "verdict", "probability", "p",
                 f"rules not ruled out at {table['alpha'].iloc[0]:g}"):  # fmt: skip
        shown.add_column(
            name, justify="right" if name in ("probability", "p") else "left", overflow="fold"
        )
    for row in table.to_dict("records"):
        shown.add_row(
            row["network"], row["rule"], row["classifier"].replace("_", " "), row["verdict"],
            f"{row['probability']:.3f}", f"{row['p_value']:.3f}", row["conformal_set"] or "–",
        )  # fmt: skip
    console.print(shown)
    for classifier, rows in table.groupby("classifier", sort=False):
        name, n = str(classifier).replace("_", " "), (rows["verdict"] == NONE).sum()
        console.print(f"{name}: {n} of {len(rows)} {NONE}", highlight=False)


def whole(path: Path, console: Console) -> None:
    """Refuse a study that is running; say how many networks are missing where it is not whole.

    A collection has no networks to come.

    Raises
    ------
    IdentificationError : networks are in training.
    StudyError : the folder is neither a study's nor a collection.
    """
    if is_collection(path):
        return
    count = StudyFolder.open(path).count()
    missing = count["left"] + count["running"] + count["failed"]  # broken ones are read, and told
    if count["running"]:
        raise IdentificationError(
            f"DIR must be a study that is not running, got {path}, where {count['running']} "
            "networks are in training; wait, or stop it (finished networks are kept)"
        )
    if missing:
        console.print(
            f"{missing} of {sum(count.values())} networks of the study are not trained; these are "
            "results on the others",
            style="bold",
        )


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
        table.add_column("classifier", overflow="fold")
        for name in observables:
            table.add_column(name.replace("_", " "), justify="right", overflow="fold")
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
    """Write the report page of a study or a collection."""
    from goaldriven.report import write_report
    from goaldriven.trajectories.atomic import check_writable

    if not is_collection(path):
        StudyFolder.open(path)  # complains where it is none
    check_writable(path)
    print(write_report(path).resolve())
