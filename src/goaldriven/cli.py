"""The command line. Heavy imports happen inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from goaldriven.errors import GoaldrivenError

app = typer.Typer(
    help="Train goal-driven networks under any learning rule, measure them, identify the rule.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Table(StrEnum):
    """What ``goaldriven list`` can list."""

    rules = "rules"
    architectures = "architectures"
    tasks = "tasks"
    statistics = "statistics"
    studies = "studies"
    searches = "searches"


class Grid(StrEnum):
    """Size of the hyperparameter grids."""

    quick = "quick"
    paper = "paper"


class Precision(StrEnum):
    """Of training steps."""

    float32 = "float32"
    tf32 = "tf32"
    bf16 = "bf16"


class BatchNorm(StrEnum):
    """What batch norm averages over where several devices train together."""

    joined = "joined"
    per_rank = "per_rank"


StudyDir = Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processes; default one per core.")
]


@app.command("list")
def list_(table: Annotated[Table, typer.Argument(help="Which table.")]) -> None:
    """List the rules, architectures, tasks, statistics, studies or searches that there are."""
    from goaldriven.commands import listing

    listing.show_table(table.value)


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study file (YAML) or the name of a shipped one.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default results/<study>.")
    ] = None,
    jobs: Jobs = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Factor levels, e.g. rule=ia,architecture=knet4.")
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device of the workers.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads per worker.")] = 1,
    keep_checkpoints: Annotated[
        bool,
        typer.Option(
            "--keep-checkpoints", help="Store weights at recorded epochs, to measure them later."
        ),
    ] = False,
    measurements: Annotated[
        str | None,
        typer.Option(
            "--measurements", help="Measure at recorded epochs: a file or a shipped one's name."
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Train again the networks that failed.")
    ] = False,
    stack: Annotated[
        str,
        typer.Option(
            metavar="off|auto|N", help="Networks that train as one program; auto tries what pays."
        ),
    ] = "off",
    precision: Annotated[
        Precision, typer.Option(help="Of training steps; records are float32.")
    ] = Precision.float32,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Channels innermost in memory.")
    ] = False,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile training steps by torch.compile.")
    ] = False,
    micro_batch: Annotated[
        int | None, typer.Option("--micro-batch", min=1, help="Stimuli at once, accumulated.")
    ] = None,
    batch_norm: Annotated[
        BatchNorm, typer.Option(help="Over all devices' stimuli, or those of each.")
    ] = BatchNorm.joined,
    devices: Annotated[
        int, typer.Option(min=1, help="Devices that train each network together.")
    ] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines with so many devices.")] = 1,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            "--checkpoint-every", metavar="5|30min", help="Store networks in training, to resume."
        ),
    ] = None,
    keep_last: Annotated[
        bool, typer.Option("--keep-last", help="Keep the last of these when finished.")
    ] = False,
) -> None:
    """Train and measure a study's networks; resumes where it stopped."""
    from goaldriven.commands import running

    options = {
        "precision": precision.value,
        "channels_last": channels_last,
        "compile": compile_,
        "micro_batch": micro_batch,
        "batch_norm": batch_norm.value,
    }
    running.run(
        study, out, jobs, only, device, threads, keep_checkpoints, measurements, retry_failed,
        running.Hardware(devices, nodes, options, checkpoint_every, keep_last), stack,
    )  # fmt: skip


@app.command()
def measure(
    folder: StudyDir,
    measurements: Annotated[
        str,
        typer.Argument(
            metavar="MEASUREMENTS", help="A measurements file (YAML) or the name of a shipped one."
        ),
    ],
    jobs: Jobs = None,
    device: Annotated[str, typer.Option(help="Torch device of the workers.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads per worker.")] = 1,
) -> None:
    """Measure a study's networks from their checkpoints: fewer units, with noise."""
    from goaldriven.commands import measuring

    measuring.measure(folder, measurements, jobs, device, threads)


@app.command()
def search(
    search: Annotated[
        str, typer.Argument(help="A search file (YAML) or the name of a shipped one.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default results/<search>.")
    ] = None,
    jobs: Jobs = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all; default as in the file.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Database URL, for several machines; default a file in the folder."),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device of the workers.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads per worker.")] = 1,
) -> None:
    """Search for the settings that score best; resumes where it stopped."""
    from goaldriven.commands import searching

    searching.search(search, out, jobs, trials, storage, device, threads)


@app.command()
def status(
    folder: StudyDir,
    networks: Annotated[bool, typer.Option("--networks", help="One line per network.")] = False,
) -> None:
    """Count the networks that are trained, diverged, failed, running and left."""
    from goaldriven.commands import running

    running.status(folder, networks)


@app.command()
def identify(
    folder: StudyDir,
    grid: Annotated[Grid, typer.Option(help="Hyperparameter grids.")] = Grid.quick,
    statistics: Annotated[
        str, typer.Option(help="'admissible' (finite for every network) or 'published' (the 24).")
    ] = "admissible",
    splits: Annotated[int, typer.Option(min=1, help="Train/test splits of each kind.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the splits and classifiers.")] = 0,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            "--classifier", metavar="NAME", help="May be repeated; default all but the extra ones."
        ),
    ] = None,
    jobs: Jobs = None,
    verdicts_on: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER", help="Instead name the rules of OTHER's networks by what was fitted."
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="Share of known networks that may be called 'none of these'.")
    ] = 0.1,
) -> None:
    """Train and test classifiers of the learning rule; write the results beside the data."""
    from goaldriven.commands import identifying

    if verdicts_on is not None:
        identifying.verdicts_on(folder, verdicts_on, alpha, classifier or [])
        return
    identifying.identify(
        folder, grid.value, statistics, splits, seed, jobs, classifier or [], alpha
    )


experiments = typer.Typer(
    help="The experiments of the paper and their controls, on a study.", no_args_is_help=True
)
app.add_typer(experiments, name="experiment")


@experiments.command("list")
def experiment_list() -> None:
    """List the experiments, each with its question."""
    from goaldriven.commands import experimenting

    experimenting.list_experiments()


@experiments.command("run")
def experiment_run(
    folder: StudyDir,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all that can be run.")
    ] = None,
    grid: Annotated[Grid, typer.Option(help="Hyperparameter grids.")] = Grid.quick,
    splits: Annotated[int, typer.Option(min=1, help="Train/test splits of each kind.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the splits and classifiers.")] = 0,
    jobs: Jobs = None,
) -> None:
    """Run experiments on a study's trajectories; nothing is fitted twice."""
    from goaldriven.commands import experimenting

    experimenting.run_experiments(folder, names or [], grid.value, splits, seed, jobs)


trajectories = typer.Typer(
    help="Import, export, merge, look into and check trajectories.", no_args_is_help=True
)
app.add_typer(trajectories, name="trajectories")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder or a collection.")]


@trajectories.command("import")
def trajectories_import(
    file: Annotated[Path, typer.Argument(help="A file in the published format (dataset.pkl).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the collection.")],
    record_every: Annotated[int, typer.Option(min=1, help="Epochs between two records.")] = 5,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="A field of 'meta' under another name."),
    ] = None,
) -> None:
    """Read a file in the published format; nothing in it is executed."""
    from goaldriven.commands import collecting

    collecting.import_published(file, out, record_every, field or [])


@trajectories.command("export")
def trajectories_export(
    folder: Folder, file: Annotated[Path, typer.Argument(help="The file to write.")]
) -> None:
    """Write trajectories in the published format."""
    from goaldriven.commands import collecting

    collecting.export_published(folder, file)


@trajectories.command("merge")
def trajectories_merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Study folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the collection.")],
) -> None:
    """Put the networks of several folders into one."""
    from goaldriven.commands import collecting

    collecting.merge_folders(folders, out)


@trajectories.command("info")
def trajectories_info(folder: Folder) -> None:
    """Tell what a folder of trajectories holds."""
    from goaldriven.commands import collecting

    collecting.show_info(folder)


@trajectories.command("validate")
def trajectories_validate(folder: Folder) -> None:
    """Check every trajectory of a folder."""
    from goaldriven.commands import collecting

    collecting.validate_folder(folder)


synapses = typer.Typer(
    help="Rules of synaptic dynamics: sizes of synapses over days.", no_args_is_help=True
)
app.add_typer(synapses, name="synapses")
Bootstraps = Annotated[int, typer.Option(min=2, help="Resamples of dendrites.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of resamples and simulations.")]


@synapses.command("fit")
def synapses_fit(
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


@synapses.command("demo")
def synapses_demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; default results/synapses_demo.")
    ] = None,
    bootstraps: Bootstraps = 1000,
    seed: Seed = 0,
) -> None:
    """The same for the published synapses of Melander et al. 2021."""
    from goaldriven.commands import synapses as command

    command.demo(out, bootstraps, seed)


@synapses.command("networks")
def synapses_networks(
    folder: StudyDir,
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


@app.command()
def report(folder: StudyDir) -> None:
    """Write DIR/report.html: one self-contained page."""
    from goaldriven.commands import identifying

    identifying.report(folder)


@app.command()
def show(
    folder: StudyDir,
    network_id: Annotated[str, typer.Argument(metavar="NETWORK_ID", help="Id or its beginning.")],
) -> None:
    """Show one network: its spec, learning curve and trajectories."""
    from goaldriven.commands import showing

    showing.show(folder, network_id)


def main() -> None:
    """Entry point: a user's mistake is one message and exit code 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except GoaldrivenError as error:
        print(f"goaldriven: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
