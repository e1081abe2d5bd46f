"""The command line. Heavy imports happen inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from goaldriven.cli import options, synapses, trajectories
from goaldriven.cli.options import BatchNorm, Executor, Precision
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
    classifiers = "classifiers"
    measurements = "measurements"
    experiments = "experiments"


class Grid(StrEnum):
    """Size of the hyperparameter grids."""

    quick = "quick"
    paper = "paper"


@app.command("list")
def list_(table: Annotated[Table, typer.Argument(help="Which table.")]) -> None:
    """List what there is: rules, architectures, tasks, statistics, studies, classifiers, …"""
    from goaldriven.commands import listing

    listing.show_table(table.value)


@app.command()
def run(
    study: options.StudyFile,
    out: options.Out = None,
    jobs: options.Jobs = None,
    only: options.Only = None,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    keep_checkpoints: options.KeepCheckpoints = False,
    measurements: options.Measurements = None,
    retry_failed: options.RetryFailed = False,
    stack: options.Stack = "off",
    precision: options.OfSteps = Precision.float32,
    channels_last: options.ChannelsLast = False,
    compile_: options.Compile = False,
    micro_batch: options.MicroBatch = None,
    batch_norm: options.Averages = BatchNorm.joined,
    devices: options.Devices = 1,
    nodes: options.Nodes = 1,
    checkpoint_every: options.CheckpointEvery = None,
    keep_last: options.KeepLast = False,
    executor: options.Where = Executor.local,
    address: options.Address = "auto",
    gpus_per_network: options.GpusPerNetwork = None,
    cpus_per_network: options.CpusPerNetwork = None,
) -> None:
    """Train and measure a study's networks; resumes where it stopped."""
    from goaldriven.commands import running

    runtime = {
        "precision": precision.value,
        "channels_last": channels_last,
        "compile": compile_,
        "micro_batch": micro_batch,
        "batch_norm": batch_norm.value,
    }
    cluster = None
    if executor is Executor.ray:
        cluster = running.ray_options(address, gpus_per_network, cpus_per_network, device, threads)
    running.run(
        study, out, jobs, only, device, threads, keep_checkpoints, measurements, retry_failed,
        running.Hardware(devices, nodes, runtime, checkpoint_every, keep_last), stack, cluster,
    )  # fmt: skip


Url = Annotated[str, typer.Argument(metavar="URL", help="Where the study lives: s3://…, file://…")]
WithCheckpoints = Annotated[bool, typer.Option("--checkpoints", help="The checkpoints as well.")]


@app.command()
def fetch(url: Url, folder: options.StudyDir, checkpoints: WithCheckpoints = False) -> None:
    """Copy a study from a URL to a folder: what is missing there."""
    from goaldriven.commands import copying

    copying.fetch(url, folder, checkpoints)


@app.command()
def push(folder: options.StudyDir, url: Url) -> None:
    """Copy a study's finished networks from a folder to a URL: what is missing there."""
    from goaldriven.commands import copying

    copying.push(folder, url)


@app.command()
def plan(
    study: options.StudyFile,
    only: options.Only = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option("--gpu", metavar="NAME", help="May be repeated; default A100 and H100."),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of products.")] = Precision.tf32,
    utilisation: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, help="Share of the peak; default an assumption."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time a few steps on --device as well.")
    ] = False,
    device: Annotated[str, typer.Option(help="Torch device of --calibrate.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Tell what a study will take before it is run: FLOPs, GPU-hours, memory, disk."""
    from goaldriven.commands import planning

    planning.plan(study, only, gpu or [], precision.value, utilisation, calibrate, device, as_json)


@app.command()
def measure(
    folder: options.StudyDir,
    measurements: Annotated[
        str,
        typer.Argument(
            metavar="MEASUREMENTS", help="A measurements file (YAML) or the name of a shipped one."
        ),
    ],
    jobs: options.Jobs = None,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
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
    jobs: options.Jobs = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all; default as in the file.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Database URL, for several machines; default a file in the folder."),
    ] = None,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
) -> None:
    """Search for the settings that score best; resumes where it stopped."""
    from goaldriven.commands import searching

    searching.search(search, out, jobs, trials, storage, device, threads)


@app.command()
def status(
    folder: Annotated[str, typer.Argument(metavar="DIR|URL", help="A study's folder or URL.")],
    networks: Annotated[bool, typer.Option("--networks", help="One line per network.")] = False,
) -> None:
    """Count the networks that are trained, diverged, failed, running and left."""
    from goaldriven.commands import running

    running.show_status(folder, networks)


@app.command()
def identify(
    folder: trajectories.Folder,
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
    jobs: options.Jobs = None,
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


app.add_typer(trajectories.app, name="trajectories")
app.add_typer(synapses.app, name="synapses")
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
    folder: trajectories.Folder,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all that can be run.")
    ] = None,
    grid: Annotated[Grid, typer.Option(help="Hyperparameter grids.")] = Grid.quick,
    splits: Annotated[int, typer.Option(min=1, help="Train/test splits of each kind.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the splits and classifiers.")] = 0,
    jobs: options.Jobs = None,
) -> None:
    """Run experiments on a study's trajectories; nothing is fitted twice."""
    from goaldriven.commands import experimenting

    experimenting.run_experiments(folder, names or [], grid.value, splits, seed, jobs)


@app.command()
def report(folder: trajectories.Folder) -> None:
    """Write DIR/report.html: one self-contained page."""
    from goaldriven.commands import identifying

    identifying.report(folder)


@app.command()
def show(
    folder: trajectories.Folder,
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
