"""What a Ray task does: train one network on whatever node it landed, and deliver its files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies import remote
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.worker import Message, Settings, perform

TELL_EVERY = 0.25
"""Seconds between the messages on a network's progress, at least."""


@dataclass(frozen=True)
class Order:
    """One network to train.

    Attributes
    ----------
    folder : the study's folder, as the driver sees it.
    token : path of a file that the driver put into the folder; a node that sees it shares the
        folder's file system.
    """

    folder: StudyFolder
    network: NetworkSpec
    settings: Settings
    token: Path


@dataclass(frozen=True)
class Delivery:
    """What became of an order.

    Attributes
    ----------
    message : ``done``, ``failed`` or ``storage``.
    files : (path within the study's folder, content), the trajectory last, where neither a shared
        file system nor a URL has taken them.
    """

    message: Message
    files: tuple[tuple[str, bytes], ...] = ()


class _Channel:
    """Takes the trainer's messages; passes on how many epochs are done, not too often."""

    def __init__(self, tell: Callable[[int], object]) -> None:
        self._tell, self._epochs, self._told = tell, 0, time.monotonic()

    def send(self, message: Message) -> None:
        self._epochs += message.kind == "epoch"
        if (now := time.monotonic()) - self._told >= TELL_EVERY:
            self._told = now
            self._tell(self._epochs)


def fulfil(order: Order, tell: Callable[[int], object]) -> Delivery:
    """Train the network; its files go straight to the folder if that is shared, else to its URL.

    Where there is neither, they are returned. They are written to a temporary folder of this node
    first, so that a node that is lost leaves nothing behind.

    Parameters
    ----------
    tell : called with the epochs done so far, now and then.
    """
    import torch

    torch.set_num_threads(order.settings.threads)
    folder, network, channel = order.folder, order.network, _Channel(tell)
    if folder.url is None and order.token.exists():
        return Delivery(perform(channel, folder, network, order.settings))
    with tempfile.TemporaryDirectory(prefix="goaldriven-") as here:
        local = StudyFolder(Path(here), folder.study)
        message = perform(channel, local, network, order.settings)
        if message.kind != "done":
            return Delivery(message)
        try:
            if folder.url is not None:
                remote.upload_network(remote.Remote(folder.url), local, network)
                return Delivery(message)
            files = remote.files_of(local, network)
            named = ((p.relative_to(local.path).as_posix(), p.read_bytes()) for p in files)
            return Delivery(message, tuple(named))
        except (OSError, StudyError) as error:
            return Delivery(Message("storage", str(error)))
