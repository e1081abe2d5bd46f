"""``goaldriven trajectories``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Import, export, merge, look into and check trajectories.", no_args_is_help=True
)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder or a collection.")]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file in the published format (dataset.pkl).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the collection.")],
    record_every: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs between two records; default as the file says, else 5."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="A field of 'meta' under another name."),
    ] = None,
) -> None:
    """Read a file in the published format; nothing in it is executed."""
    from goaldriven.commands import collecting

    collecting.import_published(file, out, record_every, field or [])


@app.command("export")
def export(
    folder: Folder, file: Annotated[Path, typer.Argument(help="The file to write.")]
) -> None:
    """Write trajectories in the published format."""
    from goaldriven.commands import collecting

    collecting.export_published(folder, file)


@app.command("merge")
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Study folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the collection.")],
) -> None:
    """Put the networks of several folders into one."""
    from goaldriven.commands import collecting

    collecting.merge_folders(folders, out)


@app.command("info")
def info(folder: Folder) -> None:
    """Tell what a folder of trajectories holds."""
    from goaldriven.commands import collecting

    collecting.show_info(folder)


@app.command("validate")
def validate(folder: Folder) -> None:
    """Check every trajectory of a folder."""
    from goaldriven.commands import collecting

    collecting.validate_folder(folder)
