"""``goaldriven plan``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from goaldriven.commands.output import output, plain_table
from goaldriven.planning import plan_study
from goaldriven.planning.calibration import Calibration, calibrated
from goaldriven.planning.estimate import NetworkCost, StudyPlan
from goaldriven.planning.gpus import (
    DEFAULT_GPUS,
    SECONDS_PER_OPERATION,
    UTILISATION,
    Gpu,
    Precision,
    gpu_named,
)
from goaldriven.studies.devices import check_device
from goaldriven.studies.files import load_study, parse_selection, select

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def plan(
    source: str,
    only: str | None,
    gpus: Sequence[str],
    precision: Precision,
    utilisation: float | None,
    calibrate: bool,
    device: str,
    as_json: bool,
) -> None:
    """Print what a study takes, as tables or as JSON."""
    study = load_study(source)
    named = [gpu_named(name) for name in gpus or DEFAULT_GPUS]
    networks = select(study, parse_selection(only))
    if calibrate:
        check_device(device)
    planned = plan_study(study.name, networks)
    measured = calibrated(networks, device) if calibrate else None
    share = UTILISATION[precision] if utilisation is None else utilisation
    if as_json:
        print(json.dumps(_content(planned, named, precision, share, measured), indent=1))
        return
    console = output()
    _print(console, planned)
    console.print(_gpu_table(planned, named, precision, share))
    if measured is not None:
        console.print(_measured_line(planned, measured), highlight=False, soft_wrap=True)
    console.print(_remarks(planned, precision, share), highlight=False)


def _print(console: Console, planned: StudyPlan) -> None:
    console.print(
        f"study {planned.study}: {planned.networks:,} networks, {planned.epochs:,} epochs, "
        f"{si(planned.flops)}FLOP in all (an estimate); on disk {si(planned.trajectory_bytes)}B of "
        f"trajectories, {si(planned.checkpoint_bytes)}B of checkpoints if they are kept; up to "
        f"{si(planned.memory)}B of memory per network",
        highlight=False,
        soft_wrap=True,
    )
    table = plain_table("task", "architecture", "rule", "batch")
    for name in ("networks", "parameters", "stimuli", "FLOP each", "of which records", "memory"):
        table.add_column(name, justify="right", overflow="fold")
    for cost in planned.costs:
        table.add_row(
            cost.task, cost.architecture, cost.rule, str(cost.batch_size),
            str(cost.networks), si(cost.parameters), f"{cost.stimuli:,}", si(cost.flops),
            f"{cost.recording.flops / cost.flops:.0%}", f"{si(cost.memory)}B",
        )  # fmt: skip
    console.print(table)
    console.print()


def _gpu_table(
    planned: StudyPlan, gpus: Sequence[Gpu], precision: Precision, share: float
) -> Table:
    table = Table("GPU", box=None, pad_edge=False)
    for name in ("peak FLOP/s", "assumed", "GPU-hours", "longest network", "networks at a time"):
        table.add_column(name, justify="right", overflow="fold")
    for gpu in gpus:
        longest = max(cost.seconds(gpu, precision, share) for cost in planned.costs)
        table.add_row(
            gpu.name, si(gpu.peak(precision)), f"{share:.0%}",
            _hours(planned.hours(gpu, precision, share)), f"{_hours(longest / 3600)} h",
            str(int(gpu.memory // planned.memory)) or "0",
        )  # fmt: skip
    return table


def _measured_line(planned: StudyPlan, measured: Calibration) -> str:
    hours = measured.seconds(planned) / 3600
    return (
        f"measured on this machine's {measured.device} with one thread: {si(measured.slowest)} to "
        f"{si(measured.fastest)}FLOP/s; the study would take it {_hours(hours)} hours"
    )


def _remarks(planned: StudyPlan, precision: Precision, share: float) -> str:
    said = [
        f"GPU-hours: {precision} products at {share:.0%} of the peak and at least "
        f"{SECONDS_PER_OPERATION * 1e6:g} µs per operation, both assumed (--utilisation, "
        "--calibrate); loading, augmentation and measurements are not in them."
    ]
    tables = sorted({cost.task for cost in planned.costs if cost.facts_from == "table"})
    if tables:
        said.append(f"Numbers of stimuli as published, the data not being here: {tables}.")
    return "\n".join(said)


def _content(
    planned: StudyPlan,
    gpus: Sequence[Gpu],
    precision: Precision,
    share: float,
    measured: Calibration | None,
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "study": planned.study,
        "networks": planned.networks,
        "epochs": planned.epochs,
        "flops": planned.flops,
        "trajectory_bytes": planned.trajectory_bytes,
        "checkpoint_bytes": planned.checkpoint_bytes,
        "memory_bytes": planned.memory,
        "precision": precision,
        "assumed_utilisation": share,
        "gpus": [
            {
                "name": gpu.name,
                "peak_flops_per_second": gpu.peak(precision),
                "gpu_hours": planned.hours(gpu, precision, share),
                "networks_at_a_time": int(gpu.memory // planned.memory),
            }
            for gpu in gpus
        ],
        "kinds": [_kind(cost) for cost in planned.costs],
    }
    if measured is not None:
        content["calibration"] = {
            "device": measured.device,
            "flops_per_second": {" ".join(kind): rate for kind, rate in measured.rates.items()},
            "hours": measured.seconds(planned) / 3600,
        }
    return content


def _kind(cost: NetworkCost) -> dict[str, Any]:
    return {
        "task": cost.task,
        "architecture": cost.architecture,
        "rule": cost.rule,
        "batch_size": cost.batch_size,
        "networks": cost.networks,
        "epochs": cost.epochs,
        "passes_per_epoch": cost.passes_per_epoch,
        "stimuli": cost.stimuli,
        "stimuli_from": cost.facts_from,
        "parameters": cost.parameters,
        "flops": cost.flops,
        "recording_flops": cost.recording.flops,
        "memory_bytes": cost.memory,
        "trajectory_bytes": cost.trajectory_bytes,
        "checkpoint_bytes": cost.checkpoint_bytes,
    }


def si(value: float) -> str:
    """Three digits and a prefix, ready for a unit.

    >>> si(1.5e9), si(0.2), si(12345)
    ('1.5 G', '0.2 ', '12.3 k')
    """
    for prefix in _PREFIXES:
        if value < 1000 or prefix == _PREFIXES[-1]:
            return f"{value:.3g} {prefix}"
        value /= 1000
    raise AssertionError  # the last prefix returns


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"
