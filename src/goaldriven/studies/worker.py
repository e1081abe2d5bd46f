"""A worker process: trains or measures one network after another, as the runner hands them over."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Literal, Protocol

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.specs.runtime import DEFAULT, CheckpointEvery, RuntimeOptions
from goaldriven.studies.folder import StudyFolder

if TYPE_CHECKING:
    from goaldriven.training.ranks import Ranks


@dataclass(frozen=True)
class Message:
    """What a worker tells the runner.

    ``ready``: waiting for a network; ``epoch``: one more epoch is done (trained, or measured from
    its checkpoint); ``done``: the trajectory, or the measurements, are on disk; ``failed``:
    ``text`` is the traceback; ``storage``: the folder cannot be written, ``text`` says why, and
    going on is useless; ``apart``: a stack of networks failed, and they are trained one by one.
    ``network_id`` says which network of a stack it is about.
    """

    kind: Literal["ready", "epoch", "done", "failed", "storage", "apart"]
    text: str = ""
    network_id: str = ""


class Channel(Protocol):
    """What takes a worker's messages to its runner."""

    def send(self, message: Message, /) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How workers train.

    Attributes
    ----------
    device : torch device.
    threads : torch threads of each. The same number gives the same bits.
    keep_checkpoints : whether the weights at every recorded epoch are stored, for measurements.
    measurements : what is measured at every recorded epoch besides all units without noise.
    runtime : precision, memory layout, compilation, micro-batches.
    checkpoint_every : how often a network in training is stored, to go on from when interrupted.
    """

    device: str = "cpu"
    threads: int = 1
    keep_checkpoints: bool = False
    measurements: tuple[MeasurementSpec, ...] = ()
    runtime: RuntimeOptions = DEFAULT
    checkpoint_every: CheckpointEvery | None = None


PLAIN = Settings()


@dataclass(frozen=True)
class MeasureSettings:
    """How workers measure networks that have been trained, from their checkpoints."""

    measurements: tuple[MeasurementSpec, ...]
    device: str = "cpu"
    threads: int = 1


def work(connection: Connection, folder: StudyFolder, settings: Settings | MeasureSettings) -> None:
    """Serve networks from ``connection`` until it brings None."""
    import torch

    from goaldriven.studies.stack_worker import train_stacked

    torch.set_num_threads(settings.threads)
    try:
        connection.send(Message("ready"))
        while (network := connection.recv()) is not None:
            if isinstance(network, tuple) and isinstance(settings, Settings):
                train_stacked(connection, folder, network, settings, train_one)
            else:
                connection.send(perform(connection, folder, network, settings))
            connection.send(Message("ready"))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the runner is gone; what was finished is on disk


def perform(
    connection: Channel,
    folder: StudyFolder,
    network: NetworkSpec,
    settings: Settings | MeasureSettings,
) -> Message:
    """Train or measure one network into ``folder``; what came of it."""
    if isinstance(settings, MeasureSettings):
        return _measure_one(connection, folder, network, settings)
    return train_one(connection, folder, network, settings)


def train_one(
    connection: Channel,
    folder: StudyFolder,
    network: NetworkSpec,
    settings: Settings,
    ranks: Ranks | None = None,
    saved: Callable[[], None] | None = None,
) -> Message:
    """Train one network and store what there is of it; with ``ranks``, the first stores.

    Parameters
    ----------
    saved : called when there is a new state to go on from, in the folder's ``resume``.
    """
    from goaldriven.training import train
    from goaldriven.training.checkpoints import checkpoint_path, save_checkpoint
    from goaldriven.training.measuring import Measurements
    from goaldriven.training.network import Network
    from goaldriven.training.ranks import ALONE
    from goaldriven.training.resume import Checkpoints
    from goaldriven.trajectories import write
    from goaldriven.trajectories.measured import write_measured

    measured = Measurements(network, settings.measurements) if settings.measurements else None
    resume = Checkpoints(folder.resume_path(network), settings.checkpoint_every, measured, saved)
    ranks = ranks or ALONE

    def on_record(epoch: int, trained: Network) -> None:
        if settings.keep_checkpoints:
            save_checkpoint(trained, checkpoint_path(folder.checkpoints_path(network), epoch))
        if measured is not None:
            measured(epoch, trained)

    try:
        if ranks.first:
            folder.mark_running(network)
        trajectory = train(
            network,
            device=settings.device,
            progress=lambda done, total: connection.send(Message("epoch")),
            on_record=on_record,
            runtime=settings.runtime,
            ranks=ranks,
            checkpoints=resume,
        )
        if not ranks.first:
            return Message("done")
        if measured is not None:  # first, since a network with a trajectory counts as finished
            write_measured(measured.dataset(), folder.measurements_path(network))
        write(trajectory, folder.trajectory_path(network))
        resume.clear()
    except (BrokenPipeError, ConnectionResetError):
        raise
    except StudyError as error:
        return Message("storage", str(error))
    except Exception:
        return Message("failed", traceback.format_exc())
    finally:
        if ranks.first:
            folder.unmark_running(network)
    return Message("done")


def _measure_one(
    connection: Channel, folder: StudyFolder, network: NetworkSpec, settings: MeasureSettings
) -> Message:
    from goaldriven.training.measuring import measure_checkpoints
    from goaldriven.trajectories.measured import measured_ids, write_measured

    path = folder.measurements_path(network)
    try:
        there = measured_ids(path)
        measured = measure_checkpoints(
            network,
            folder.checkpoints_path(network),
            [m for m in settings.measurements if m.measurement_id not in there],
            device=settings.device,
            progress=lambda: connection.send(Message("epoch")),
        )
        write_measured(measured, path)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except StudyError as error:
        return Message("storage", str(error))
    except Exception:
        return Message("failed", traceback.format_exc())
    return Message("done")
