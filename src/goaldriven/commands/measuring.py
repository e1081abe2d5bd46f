"""``goaldriven measure``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress

from goaldriven.commands.running import progress_bar
from goaldriven.specs import NetworkSpec
from goaldriven.studies.devices import check_device
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.measuring import load_measurements, measure_study, plan_measuring
from goaldriven.studies.runner import usable_cores


def measure(path: Path, source: str, jobs: int | None, device: str, threads: int) -> None:
    """Measure from checkpoints what is not measured yet; a progress bar counts checkpoints."""
    measurements = load_measurements(source)
    specs = measurements.specs()
    check_device(device)
    folder = StudyFolder.open(path)
    console = Console(stderr=True)
    plan = plan_measuring(folder, specs)
    console.print(
        f"{measurements.name}: {len(specs)} measurements of {len(plan.left)} networks with "
        f"{jobs or usable_cores()} processes, {len(plan.done)} there already → "
        f"{folder.path / 'measurements'}",
        highlight=False,
        soft_wrap=True,
    )
    try:
        with progress_bar(console) as bar:
            summary = measure_study(
                folder,
                specs,
                jobs=jobs,
                threads=threads,
                device=device,
                report=_reporter(bar, console, plan.left),
            )
    except KeyboardInterrupt:
        console.print(
            "stopped; measured networks are kept, the same command goes on from here", style="bold"
        )
        raise
    console.print(
        f"{summary.measured} networks measured, {summary.already_done} there before",
        highlight=False,
    )
    problems = []
    if plan.without_checkpoints:
        problems.append(
            f"{len(plan.without_checkpoints)} trained networks have no checkpoints and were left "
            "out ('goaldriven run --keep-checkpoints' keeps them)"
        )
    if plan.untrained:
        problems.append(f"{len(plan.untrained)} networks of the study are not trained yet")
    if summary.failed:
        problems.append(
            f"{summary.failed} networks failed; their tracebacks are in "
            f"{folder.path / 'unmeasured'}; the same command tries them again"
        )
    for problem in problems:
        console.print(problem, style="bold", soft_wrap=True)
    if problems:
        raise typer.Exit(1)


def _reporter(
    bar: Progress, console: Console, left: Sequence[NetworkSpec]
) -> Callable[[str, NetworkSpec], None]:
    """Advance the bar checkpoint by checkpoint; say aloud what failed or was killed."""
    total = sum(len(n.record_epochs) for n in left)
    task = bar.add_task("measuring", total=total, finished=f"0/{len(left)}")
    records = dict.fromkeys((n.network_id for n in left), 0)
    ended: set[str] = set()

    def report(kind: str, network: NetworkSpec) -> None:
        key = network.network_id
        if kind == "epoch":
            records[key] += 1
        elif kind == "killed":
            records[key] = 0
            console.print(f"a worker was killed at {network.label}; trying it again")
        else:
            records[key] = len(network.record_epochs)
            ended.add(key)
            if kind == "failed":
                console.print(f"failed: {network.label} ({key})")
        bar.update(task, completed=sum(records.values()), finished=f"{len(ended)}/{len(left)}")

    return report
