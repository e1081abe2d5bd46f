"""A worker process: trains one network after another, as the runner hands them over."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies.folder import StudyFolder


@dataclass(frozen=True)
class Message:
    """What a worker tells the runner.

    ``ready``: waiting for a network; ``epoch``: one more epoch is done; ``done``: the trajectory
    is on disk; ``failed``: ``text`` is the traceback; ``storage``: the folder cannot be written,
    ``text`` says why, and going on is useless.
    """

    kind: Literal["ready", "epoch", "done", "failed", "storage"]
    text: str = ""


@dataclass(frozen=True)
class Settings:
    """How workers train.

    Attributes
    ----------
    device : torch device.
    threads : torch threads of each.
    keep_checkpoints : whether the weights at every recorded epoch are stored.
    """

    device: str = "cpu"
    threads: int = 1
    keep_checkpoints: bool = False


def work(connection: Connection, folder: StudyFolder, settings: Settings) -> None:
    """Serve networks from ``connection`` until it brings None."""
    import torch

    torch.set_num_threads(settings.threads)
    try:
        connection.send(Message("ready"))
        while (network := connection.recv()) is not None:
            connection.send(_train_one(connection, folder, network, settings))
            connection.send(Message("ready"))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the runner is gone; what was finished is on disk


def _train_one(
    connection: Connection, folder: StudyFolder, network: NetworkSpec, settings: Settings
) -> Message:
    from goaldriven.training import train
    from goaldriven.training.checkpoints import checkpoint_path, save_checkpoint
    from goaldriven.training.network import Network
    from goaldriven.trajectories import write

    def keep(epoch: int, trained: Network) -> None:
        save_checkpoint(trained, checkpoint_path(folder.checkpoints_path(network), epoch))

    try:
        folder.mark_running(network)
        trajectory = train(
            network,
            device=settings.device,
            progress=lambda done, total: connection.send(Message("epoch")),
            on_record=keep if settings.keep_checkpoints else None,
        )
        write(trajectory, folder.trajectory_path(network))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except StudyError as error:
        return Message("storage", str(error))
    except Exception:
        return Message("failed", traceback.format_exc())
    finally:
        folder.unmark_running(network)
    return Message("done")
