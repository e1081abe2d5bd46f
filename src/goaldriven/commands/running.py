"""``goaldriven run`` and ``goaldriven status``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from goaldriven.commands.output import output, plain_table
from goaldriven.errors import DataError, StudyError
from goaldriven.specs import NetworkSpec, Study
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.specs.runtime import RuntimeOptions, parse_every
from goaldriven.studies import remote
from goaldriven.studies.devices import check_device
from goaldriven.studies.executors.ray_cluster import RayOptions
from goaldriven.studies.files import load_study, parse_selection, select
from goaldriven.studies.folder import STATES, StudyFolder
from goaldriven.studies.measuring import has_checkpoints, is_measured, load_measurements
from goaldriven.studies.runner import Report, RunSummary, run_study, usable_cores
from goaldriven.studies.stacking import parse_stack
from goaldriven.studies.worker import Settings


@dataclass(frozen=True)
class Hardware:
    """How a run computes: ranks, `RuntimeOptions`, checkpoints to resume from."""

    devices: int = 1
    nodes: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_every: str | None = None
    keep_last: bool = False


_PLAIN = Hardware()

GPUS_PER_NETWORK = 0.25
"""Of a GPU, by default."""


def run(
    source: str,
    out: str | None,
    jobs: int | None,
    only: str | None,
    device: str,
    threads: int,
    keep_checkpoints: bool,
    measurements: str | None,
    retry_failed: bool,
    hardware: Hardware = _PLAIN,
    stack: str = "off",
    cluster: RayOptions | None = None,
) -> None:
    """Train and measure; a progress bar counts epochs, so that its time left is honest early."""
    stack_size = parse_stack(stack)
    study = load_study(source)
    runtime = RuntimeOptions(**hardware.options)
    every = None
    if hardware.checkpoint_every is not None:
        every = parse_every(hardware.checkpoint_every, hardware.keep_last)
    measured = () if measurements is None else load_measurements(measurements).specs()
    networks = select(study, parse_selection(only))
    check_device(device, here=cluster is None)
    settings = Settings(device, threads, keep_checkpoints, measured, runtime, every)
    if hardware.devices * hardware.nodes > 1:
        if cluster is not None:
            raise StudyError(
                f"devices and nodes must be 1 with --executor ray, got {hardware.devices} and "
                f"{hardware.nodes}"
            )
        path = _local(out or str(Path("results") / study.name))
        _run_on_ranks(path, study, networks, settings, hardware, retry_failed)
        return
    folder = _create(out or str(Path("results") / study.name), study)
    left = [n for n in networks if not folder.is_finished(n)]
    if not retry_failed:
        left = [n for n in left if not folder.failure_path(n).exists()]
    console = Console(stderr=True)
    console.print(
        f"study {study.name}: {_counts(folder, networks, left)} {_means(jobs, cluster)} "
        f"→ {folder.place}",
        highlight=False,
        soft_wrap=True,
    )
    there = [n for n in networks if folder.is_finished(n)]
    _warn_unmeasured(folder, there, measured, console)
    if keep_checkpoints:
        _warn_unkept(folder, there, console)
    try:
        with progress_bar(console) as bar:
            summary = run_study(
                folder,
                networks,
                settings,
                jobs=jobs,
                retry_failed=retry_failed,
                report=_reporter(bar, console, left),
                stack=stack_size,
                say=lambda text: console.print(text, soft_wrap=True, highlight=False),
                cluster=cluster,
            )
    except KeyboardInterrupt:
        _say_stopped(console)
        raise
    _say_done(folder, summary, console)


def _run_on_ranks(
    path: Path,
    study: Study,
    networks: Sequence[NetworkSpec],
    settings: Settings,
    hardware: Hardware,
    retry_failed: bool,
) -> None:
    """Train each network on several devices; all ranks come here, the first one speaks."""
    from goaldriven.studies.on_ranks import run_on_ranks

    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:

        def begin(folder: StudyFolder, left: list[NetworkSpec]) -> Report:
            console.print(
                f"study {study.name}: {_counts(folder, networks, left)}, each on "
                f"{hardware.nodes} × {hardware.devices} devices → {folder.path}",
                highlight=False,
            )
            bar = stack.enter_context(progress_bar(console))
            return _reporter(bar, console, left)

        try:
            summary = run_on_ranks(
                path, study, networks, settings, begin,
                devices=hardware.devices, nodes=hardware.nodes, retry_failed=retry_failed,
            )  # fmt: skip
        except KeyboardInterrupt:
            _say_stopped(console)
            raise
    if summary is not None:
        _say_done(StudyFolder.open(path), summary, console)


def _say_stopped(console: Console) -> None:
    console.print(
        "stopped; finished networks are kept, the same command goes on from here", style="bold"
    )


def _say_done(folder: StudyFolder, summary: RunSummary, console: Console) -> None:
    """What there is now; exit code 1 where networks failed, or files cannot be read."""
    broken = status(folder, networks=False)
    if summary.failed or summary.skipped_failed:
        console.print(
            f"{summary.failed + summary.skipped_failed} networks failed; their tracebacks are in "
            f"{folder.place}/failed; --retry-failed trains them again",
            style="bold",
            soft_wrap=True,
        )
    if broken or summary.failed or summary.skipped_failed:
        raise typer.Exit(1)


def ray_options(
    address: str, gpus: float | None, cpus: float | None, device: str, threads: int
) -> RayOptions:
    """What the command line's options ask of a Ray cluster."""
    if gpus is None:
        gpus = GPUS_PER_NETWORK if device.startswith("cuda") else 0.0
    return RayOptions(address, gpus, float(threads) if cpus is None else cpus)


def _local(place: str) -> Path:
    """A folder for networks that train on several devices each.

    Raises
    ------
    StudyError : it is a URL.
    """
    if remote.is_url(place):
        raise StudyError(
            f"out must be a folder that all machines share with --devices and --nodes, got {place}"
        )
    return Path(place)


def _create(place: str, study: Study) -> StudyFolder:
    return remote.create(place, study) if remote.is_url(place) else StudyFolder.create(place, study)


def _means(jobs: int | None, cluster: RayOptions | None) -> str:
    if cluster is None:
        return f"with {jobs or usable_cores()} processes"
    shares = f"{cluster.cpus_per_network:g} CPUs and {cluster.gpus_per_network:g} GPUs each"
    return f"on the Ray cluster {cluster.address!r}, {shares}"


def _warn_unmeasured(
    folder: StudyFolder,
    there: Sequence[NetworkSpec],
    measured: Sequence[MeasurementSpec],
    console: Console,
) -> None:
    """Say so where networks were trained without these measurements: they are not trained again."""
    lacking = sum(not is_measured(folder, n, measured) for n in there)
    if lacking:
        console.print(
            f"{lacking} networks were trained before without these measurements; 'goaldriven "
            f"measure {folder.path} …' makes them from checkpoints, where they were kept",
            style="bold",
            soft_wrap=True,
        )


def _warn_unkept(folder: StudyFolder, there: Sequence[NetworkSpec], console: Console) -> None:
    """Say so where networks were trained without keeping checkpoints: none can be had of them.

    A URL keeps them out of its mirror, so that nothing can be said of those.
    """
    states = {} if folder.url else folder.states()
    lacking = sum(
        states.get(n, "broken") != "broken" and not has_checkpoints(folder, n) for n in there
    )
    if lacking:
        console.print(
            f"{lacking} networks were trained before without keeping checkpoints and are not "
            "trained again; with another --out they are, and checkpoints kept",
            style="bold",
            soft_wrap=True,
        )


def _counts(
    folder: StudyFolder, networks: Sequence[NetworkSpec], left: Sequence[NetworkSpec]
) -> str:
    """How many networks are there, failed before and are passed over, and are left."""
    there = sum(map(folder.is_finished, networks))
    failed = len(networks) - there - len(left)
    passed = f"{failed} failed before (--retry-failed trains them again), " if failed else ""
    return f"{len(networks)} networks, {there} there already, {passed}{len(left)} to train"


def progress_bar(console: Console) -> Progress:
    """A bar that counts epochs and says how many networks are finished."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[finished]} networks"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        refresh_per_second=4,
    )


def _reporter(
    bar: Progress, console: Console, left: list[NetworkSpec]
) -> Callable[[str, NetworkSpec], None]:
    """Advance the bar epoch by epoch; say aloud what failed or was killed."""
    task = bar.add_task("training", total=sum(n.epochs for n in left), finished=f"0/{len(left)}")
    epochs = dict.fromkeys((n.network_id for n in left), 0)
    ended: set[str] = set()

    def report(kind: str, network: NetworkSpec) -> None:
        key = network.network_id
        if kind == "epoch":
            epochs[key] += 1
        elif kind == "killed":
            epochs[key] = 0
            console.print(f"a worker was killed at {network.label}; trying it again")
        elif kind == "apart":
            epochs[key] = 0
            console.print(f"a stack failed; training {network.label} by itself")
        elif kind == "lost":
            epochs[key] = 0
            console.print(f"a node was lost with {network.label}; trying it again")
        else:
            epochs[key] = network.epochs
            ended.add(key)
            if kind == "failed":
                console.print(f"failed: {network.label} ({key})")
        finished = f"{len(ended)}/{len(left)}"
        bar.update(task, completed=sum(epochs.values()), finished=finished)

    return report


def show_status(place: str, networks: bool) -> None:
    """`status` of the study in a folder or at a URL; exit code 1 where files cannot be read."""
    folder = remote.open_url(place) if remote.is_url(place) else StudyFolder.open(place)
    if status(folder, networks):
        raise typer.Exit(1)


def status(folder: StudyFolder, networks: bool) -> int:
    """Print how many networks are in each state, by rule, or one line per network.

    Returns how many have a file that cannot be read; these files are named.
    """
    states = folder.states()
    console = output()
    if networks:
        for network, state in states.items():
            console.print(f"{network.network_id}  {state:<8}  {network.label}",
                          highlight=False, soft_wrap=True)  # fmt: skip
    broken = [network for network, state in states.items() if state == "broken"]
    shown = [state for state in STATES if broken or state != "broken"]
    table = plain_table("rule", *shown, "all")
    for column in table.columns[1:]:
        column.justify = "right"
    for rule in [*dict.fromkeys(n.rule.name for n in states), None]:
        of_rule = [s for n, s in states.items() if rule in (None, n.rule.name)]
        counts = [str(of_rule.count(state)) for state in shown]
        table.add_row(rule or "all", *counts, str(len(of_rule)))
    console.print(table)
    _say_broken(folder, broken)
    return len(broken)


def _say_broken(folder: StudyFolder, networks: Sequence[NetworkSpec]) -> None:
    """Name the files that cannot be read, each with what is wrong and what helps."""
    console = Console(stderr=True)
    for network in networks:
        try:
            folder.state(network)
        except DataError as error:
            console.print(str(error), style="bold", highlight=False, soft_wrap=True)
