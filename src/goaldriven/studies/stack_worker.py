"""What a worker process does with a stack: several networks trained as one program."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.worker import Channel, Message, Settings

if TYPE_CHECKING:
    import xarray as xr

    from goaldriven.training.measuring import Measurements
    from goaldriven.training.network import Network

TrainOne = Callable[[Connection, StudyFolder, NetworkSpec, Settings], Message]


def train_stacked(
    connection: Connection,
    folder: StudyFolder,
    networks: Sequence[NetworkSpec],
    settings: Settings,
    train_one: TrainOne,
) -> None:
    """Train a stack and tell the runner of each of its networks.

    Where the stack as such fails (out of memory, say), what is not finished is trained network by
    network, so that a failure is always that of one network.
    """
    for network in train_together(connection, folder, networks, settings):
        done = train_one(connection, folder, network, settings)
        connection.send(Message(done.kind, done.text, network.network_id))


def train_together(
    connection: Channel,
    folder: StudyFolder,
    networks: Sequence[NetworkSpec],
    settings: Settings,
    saved: Callable[[], None] | None = None,
) -> list[NetworkSpec]:
    """Train a stack and tell of each of its networks that is done.

    Parameters
    ----------
    saved : called when there are new states to go on from, of all networks.

    Returns
    -------
    Those to be trained by themselves, since the stack as such has failed.
    """
    left = dict.fromkeys(networks)
    try:
        _train(connection, folder, networks, settings, left, saved)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except StudyError as error:
        connection.send(Message("storage", str(error), next(iter(left or networks)).network_id))
        return []
    except Exception:
        reason = traceback.format_exc()
        for network in left:
            connection.send(Message("apart", reason, network.network_id))
    finally:
        for network in left:
            folder.unmark_running(network)
    return list(left)


def _train(
    connection: Channel,
    folder: StudyFolder,
    networks: Sequence[NetworkSpec],
    settings: Settings,
    left: dict[NetworkSpec, None],
    saved: Callable[[], None] | None,
) -> None:
    """Take every network out of ``left`` when its trajectory is on disk."""
    from goaldriven.training.checkpoints import checkpoint_path, save_checkpoint
    from goaldriven.training.measuring import Measurements
    from goaldriven.training.resume import Checkpoints
    from goaldriven.training.stacked import train_stack
    from goaldriven.trajectories import write
    from goaldriven.trajectories.measured import write_measured

    measured: dict[NetworkSpec, Measurements] = {
        n: Measurements(n, settings.measurements) for n in networks if settings.measurements
    }
    resume = {
        n: Checkpoints(folder.resume_path(n), settings.checkpoint_every, measured.get(n))
        for n in networks
    }

    def on_record(epoch: int, trained: Network) -> None:
        network = trained.spec
        if settings.keep_checkpoints:
            save_checkpoint(trained, checkpoint_path(folder.checkpoints_path(network), epoch))
        if network in measured:
            measured[network](epoch, trained)

    def finished(network: NetworkSpec, trajectory: xr.Dataset) -> None:
        if network in measured:  # first, since a network with a trajectory counts as finished
            write_measured(measured[network].dataset(), folder.measurements_path(network))
        write(trajectory, folder.trajectory_path(network))
        resume[network].clear()
        folder.unmark_running(network)
        del left[network]
        connection.send(Message("done", network_id=network.network_id))

    for network in networks:
        folder.mark_running(network)
    train_stack(
        networks,
        device=settings.device,
        finished=finished,
        progress=lambda network: connection.send(Message("epoch", network_id=network.network_id)),
        on_record=on_record,
        runtime=settings.runtime,
        checkpoints=resume,
        saved=saved,
    )
