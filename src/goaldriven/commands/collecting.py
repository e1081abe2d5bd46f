"""``goaldriven trajectories``: import, export, merge, look into and check trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from goaldriven.commands.identifying import bar
from goaldriven.commands.output import output
from goaldriven.errors import DataError
from goaldriven.trajectories.atomic import check_writable
from goaldriven.trajectories.collection import Overview, Step, collect, merge, overview
from goaldriven.trajectories.examples import to_examples
from goaldriven.trajectories.files import load_networks
from goaldriven.trajectories.finite import named, not_finite_examples
from goaldriven.trajectories.published import (
    FIELDS,
    RECORD_EVERY,
    open_published,
    write_published,
)


def import_published(
    path: Path, out: Path, record_every: int | None, fields: Sequence[str]
) -> None:
    """Read a file in the published format into a collection."""
    read = open_published(path, record_every=record_every, fields=_pairs(fields))
    networks = read.networks
    with _steps("importing") as progress:
        n = collect(networks, out, str(path), progress)
    layers = sum(network.sizes["layer"] for network in networks)
    when = f"epochs {_listed(read.epochs)}"
    if not read.epochs_stored and record_every is None:
        when += f", assumed: the file holds none; --record-every sets them (default {RECORD_EVERY})"
    print(f"{n} networks, {layers} layers, {when} → {out}")
    _warn_not_finite(not_finite_examples(to_examples(networks)))


def export_published(folder: Path, path: Path) -> None:
    """Write a folder's trajectories in the published format."""
    check_writable(path.parent)
    rows = write_published(load_networks(folder), path)
    print(f"{rows} layers → {path}")


def merge_folders(folders: Sequence[Path], out: Path) -> None:
    """Put the networks of several folders into one."""
    with _steps("merging") as progress:
        n = merge(folders, out, progress)
    print(f"{n} networks → {out}")


def show_info(folder: Path) -> None:
    """Print what a folder of trajectories holds."""
    found = _overview(folder)
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    diverged = f", {found.diverged} of them diverged" if found.diverged else ""
    table.add_row("networks", f"{found.networks}{diverged}")
    table.add_row("layers", str(found.layers))
    for factor, levels in found.levels.items():
        told = ", ".join(f"{level} ({n})" for level, n in levels.items())
        table.add_row(factor.replace("_", " "), told)
    if found.epochs is None:
        table.add_row("records", "not the same for all networks")
    else:
        table.add_row("records", f"{len(found.epochs)}, epochs {found.epochs[0]} to "
                                 f"{found.epochs[-1]}")  # fmt: skip
    table.add_row("statistics", f"{found.statistics}, finite for all networks that trained: "
                                f"{found.finite}")  # fmt: skip
    if found.broken:
        table.add_row("cannot be read", f"{len(found.broken)} files; see 'goaldriven trajectories "
                                        f"validate {folder}'")  # fmt: skip
    output().print(table, highlight=False)


def validate_folder(folder: Path) -> None:
    """Check every trajectory of a folder.

    Raises
    ------
    DataError : some cannot be used; names each.
    """
    found = _overview(folder)
    if found.broken:
        n = len(found.broken) + found.networks
        raise DataError(f"{len(found.broken)} of {n} trajectories cannot be used:\n"
                        + "\n".join(found.broken.values()))  # fmt: skip
    if found.epochs is None:
        raise DataError(f"{folder} must hold networks recorded at the same epochs, got several "
                        "grids")  # fmt: skip
    print(f"{found.networks} trajectories, all whole")
    _warn_not_finite(found.not_finite)


def _warn_not_finite(networks: Sequence[str]) -> None:
    if networks:
        Console(stderr=True).print(
            f"warning: {len(networks)} trained networks have statistics that are not finite where "
            f"most networks' are, and so take these from all comparisons: {named(networks)}",
            style="bold",
            highlight=False,
            soft_wrap=True,
        )


def _listed(epochs: Sequence[int]) -> str:
    """At which epochs the records were made, in short.

    >>> _listed((0, 5)), _listed((0, 5, 10, 15, 20))
    ('0, 5', '0, 5, … 20')
    """
    if len(epochs) <= 3:
        return ", ".join(map(str, epochs))
    return f"{epochs[0]}, {epochs[1]}, … {epochs[-1]}"


def _overview(folder: Path) -> Overview:
    with _steps("reading") as progress:
        return overview(folder, progress)


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        ours, equals, theirs = text.partition("=")
        if not equals or ours not in FIELDS or not theirs:
            raise DataError(
                f"field must be one of {', '.join(FIELDS)}, '=' and a name in the file's meta; got "
                f"{text!r}"
            )
        pairs[ours] = theirs
    return pairs


@contextmanager
def _steps(what: str) -> Iterator[Step]:
    shown = bar(Console(stderr=True))
    task = shown.add_task(what, total=None)

    def progress(done: int, total: int) -> None:
        shown.update(task, completed=done, total=total)

    with shown:
        yield progress
