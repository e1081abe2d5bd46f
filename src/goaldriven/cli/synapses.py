"""``goaldriven synapses``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Rules of synaptic dynamics: sizes of synapses over days.", no_args_is_help=True
)
Bootstraps = Annotated[int, typer.Option(min=2, help="Resamples of dendrites.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of resamples and simulations.")]


@app.command("fit")
def fit(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Sizes of synapses: .csv, .npz, .nwb or .nc.")
    ],
    group: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Column of groups (cell types) in a CSV file, or one group."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default results/synapses_<table>.")
    ] = None,
    bootstraps: Bootstraps = 1000,
    seed: Seed = 0,
    common_sessions: Annotated[
        bool,
        typer.Option(
            "--common-sessions", help="Only sessions in which all dendrites of a group were seen."
        ),
    ] = False,
    drop_absent: Annotated[
        bool, typer.Option("--drop-absent", help="Leave out synapses that are never present.")
    ] = False,
) -> None:
    """Describe a table of synaptic sizes and fit Markov and Kesten models to it."""
    from goaldriven.commands import synapses as command

    command.fit(table, group, out, bootstraps, seed, common_sessions, drop_absent)


@app.command("demo")
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default results/synapses_demo.")
    ] = None,
    bootstraps: Bootstraps = 1000,
    seed: Seed = 0,
) -> None:
    """The same for the published synapses of Melander et al. 2021."""
    from goaldriven.commands import synapses as command

    command.demo(out, bootstraps, seed)


@app.command("networks")
def networks(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default DIR/synapses.")
    ] = None,
    synapses: Annotated[
        int, typer.Option(min=1, help="Weights to follow per layer of a network.")
    ] = 20,
    bootstraps: Bootstraps = 100,
    seed: Seed = 0,
) -> None:
    """The Kesten fit and the comparison of rules on the weights of a study's networks."""
    from goaldriven.commands import synapses as command

    command.networks(folder, out, synapses, bootstraps, seed)
