"""Measuring a study's networks from the checkpoints that they left."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from goaldriven.errors import SpecError, StudyError
from goaldriven.specs import NetworkSpec, files
from goaldriven.specs.measurement import MeasurementSet, MeasurementSpec, unique
from goaldriven.studies.devices import check_device
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.runner import Account, Report, serve, usable_cores
from goaldriven.studies.worker import MeasureSettings
from goaldriven.trajectories.locking import locked

_LIBRARY = Path(__file__).parents[1] / "measurements" / "library"


def shipped_measurements() -> dict[str, Path]:
    """The measurement files that come with the package, by name."""
    return files.shipped(_LIBRARY)


def load_measurements(source: str | Path) -> MeasurementSet:
    """Read measurements from a YAML file, or by the name of a file that ships with the package.

    Raises
    ------
    SpecError : the file is missing, is not YAML, or describes no valid measurements; the message
        names the file and the field.
    """
    return files.load(
        source,
        "measurements",
        shipped_measurements(),
        lambda text: MeasurementSet(**files.fields_of(text, "set of measurements")),
    )


@dataclass(frozen=True)
class MeasureSummary:
    """What one run did.

    Attributes
    ----------
    measured : networks measured now.
    failed : networks whose measurement failed now.
    already_done : networks that had all the measurements before.
    """

    measured: int
    failed: int
    already_done: int


@dataclass(frozen=True)
class MeasurePlan:
    """Which networks of a study can be measured now.

    Attributes
    ----------
    left : networks with checkpoints that lack a measurement.
    done : networks that have all of them.
    without_checkpoints : networks that were trained, lack a measurement, and left no checkpoints,
        or not those of all their records.
    untrained : networks without a trajectory.
    """

    left: tuple[NetworkSpec, ...]
    done: tuple[NetworkSpec, ...]
    without_checkpoints: tuple[NetworkSpec, ...]
    untrained: tuple[NetworkSpec, ...]


def plan_measuring(folder: StudyFolder, measurements: Sequence[MeasurementSpec]) -> MeasurePlan:
    """What there is to measure.

    Raises
    ------
    DataError : a trajectory or a file of measurements cannot be read.
    """
    sorted_out: dict[str, list[NetworkSpec]] = {k: [] for k in ("left", "done", "bare", "new")}
    for network in folder.study.networks():
        if not folder.is_finished(network):
            sorted_out["new"].append(network)
        elif is_measured(folder, network, measurements):
            sorted_out["done"].append(network)
        elif has_checkpoints(folder, network):
            sorted_out["left"].append(network)
        else:
            sorted_out["bare"].append(network)
    return MeasurePlan(*map(tuple, sorted_out.values()))


def is_measured(
    folder: StudyFolder, network: NetworkSpec, measurements: Sequence[MeasurementSpec]
) -> bool:
    """Whether all the measurements of a network are on disk."""
    from goaldriven.trajectories.measured import measured_ids

    there = set(measured_ids(folder.measurements_path(network)))
    return all(m.measurement_id in there for m in measurements)


def has_checkpoints(folder: StudyFolder, network: NetworkSpec) -> bool:
    """Whether they are there for all records: of a network that diverged, at least the first."""
    where = folder.checkpoints_path(network)
    epochs = network.record_epochs if folder.state(network) == "trained" else (0,)
    return all((where / f"{epoch}.safetensors").exists() for epoch in epochs)


def measure_study(
    folder: StudyFolder,
    measurements: Sequence[MeasurementSpec],
    *,
    jobs: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    report: Report | None = None,
) -> MeasureSummary:
    """Make the measurements that are not there yet, of every network that left checkpoints.

    One process per job; a network's measurements are added to its file in one step. Whatever kills
    a worker, the runner or the machine, at most the networks in flight are lost, and the next call
    goes on from there. A network that raises is recorded with its traceback in DIR/unmeasured.

    Parameters
    ----------
    folder : the study's folder.
    measurements : what to measure.
    jobs, threads, device : as for `run_study`.
    report : called at every event: ``epoch`` for each checkpoint measured, ``done``, ``failed``,
        ``killed``.

    Raises
    ------
    SpecError : no measurements.
    StudyError : the device is not there; no network of the study has been trained, or none that
        was has checkpoints; the folder is in use, or cannot be written.
    KeyboardInterrupt : after the workers have been stopped.
    """
    if not measurements:
        raise SpecError("measurements must hold at least one, got none")
    if jobs is not None and jobs < 1:
        raise StudyError(f"jobs must be at least 1, got {jobs}")
    check_device(device)
    chosen = unique(measurements)
    with locked(folder.path, "measured"):
        plan = plan_measuring(folder, chosen)
        _check(folder, plan)
        account = Account(
            deque(plan.left), lambda network: is_measured(folder, network, chosen), "unmeasured"
        )
        if plan.left:
            n_workers = min(jobs or usable_cores(), len(plan.left))
            settings = MeasureSettings(chosen, device, threads)
            serve(folder, account, n_workers, settings, report or (lambda *_: None))
    return MeasureSummary(account.finished, account.failed, len(plan.done))


def _check(folder: StudyFolder, plan: MeasurePlan) -> None:
    if plan.left or plan.done:
        return
    if not plan.without_checkpoints:
        raise StudyError(
            f"{folder.path} must hold networks that have been trained, got none; 'goaldriven run' "
            "with --measurements or --keep-checkpoints trains and measures them"
        )
    raise StudyError(
        f"{folder.path} must hold checkpoints to measure, got none for its "
        f"{len(plan.without_checkpoints)} trained networks; train them with 'goaldriven run "
        "--keep-checkpoints', or measure during training with 'goaldriven run --measurements', "
        "into another folder (--out)"
    )
