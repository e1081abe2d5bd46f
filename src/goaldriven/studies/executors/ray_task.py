"""What a Ray task does: train a network, or a stack of them, on whatever node it landed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies import remote, resume_files
from goaldriven.studies.executors.ray_board import ROOM, Files, Line
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.stack_worker import train_together
from goaldriven.studies.worker import Message, Settings, train_one

TELL_EVERY = 0.25
"""Seconds between the messages on a task's progress, at least."""
POST_EVERY = 1.0
"""Seconds between the states of a network that are sent through the driver, at least."""


@dataclass(frozen=True)
class Order:
    """What a task is to train.

    Attributes
    ----------
    folder : the study's folder, as the driver sees it.
    networks : one, or several that train as one program.
    token : path of a file that the driver put into the folder; a node that sees it shares the
        folder's file system.
    has_state : whether the driver's folder has states of the networks to go on from.
    """

    folder: StudyFolder
    networks: tuple[NetworkSpec, ...]
    settings: Settings
    token: Path
    has_state: bool = False


@dataclass(frozen=True)
class TrialOrder:
    """A trial of stacks; see `goaldriven.studies.stacking.tried`."""

    group: tuple[NetworkSpec, ...]
    device: str
    threads: int
    jobs: int


@dataclass(frozen=True)
class Delivery:
    """What became of an order.

    Attributes
    ----------
    messages : of its networks: ``done``, ``failed``, ``apart`` or ``storage``.
    files : (path within the study's folder, content), trajectories last, where neither a shared
        file system nor a URL has taken them.
    """

    messages: tuple[Message, ...]
    files: tuple[tuple[str, bytes], ...] = ()


class Away(Protocol):
    """Where files go that are made in a temporary folder of a node."""

    def begin(self) -> None:
        """Fetch the states that the networks can go on from, if there are any."""

    def saved(self) -> None:
        """There is a new state of each network that is not finished."""

    def done(self, network: NetworkSpec) -> None:
        """The network is finished."""

    def files(self, networks: Sequence[NetworkSpec]) -> tuple[tuple[str, bytes], ...]:
        """What is to be returned of finished networks."""


def fulfil(order: Order | TrialOrder, line: Line) -> Delivery | tuple[int, str]:
    """Train what is ordered; files go straight to the folder if that is shared, else to its URL.

    Where there is neither, they are returned. They are written to a temporary folder of this node
    first, so that a node that is lost leaves nothing behind; but where states to go on from are
    stored, they are sent off at once, and with them the weights that are kept.

    Parameters
    ----------
    line : to the driver.
    """
    import torch

    if isinstance(order, TrialOrder):
        from goaldriven.studies.stacking import tried

        return tried(order.group, order.device, order.threads, order.jobs)
    torch.set_num_threads(order.settings.threads)
    folder = order.folder
    if folder.url is None and order.token.exists():
        return Delivery(_train(order, folder, line, None))
    with tempfile.TemporaryDirectory(prefix="goaldriven-") as here:
        local = StudyFolder(Path(here), folder.study)
        away: Away
        if folder.url is not None:
            away = _Uploads(local, remote.Remote(folder.url), line, order)
        else:
            away = _Parcels(local, line, order)
        messages = _train(order, local, line, away)
        done = {m.network_id for m in messages if m.kind == "done"}
        try:
            return Delivery(
                messages, away.files([n for n in order.networks if n.network_id in done])
            )
        except OSError as error:
            return Delivery((Message("storage", str(error), order.networks[0].network_id),))


def _train(order: Order, folder: StudyFolder, line: Line, away: Away | None) -> tuple[Message, ...]:
    """Into a folder of this node; what came of it."""
    channel = _Channel(order.networks, line, away)
    saved = None if away is None else away.saved
    try:
        if away is not None:
            away.begin()
        if len(order.networks) > 1:
            train_together(channel, folder, order.networks, order.settings, saved)
        else:
            (network,) = order.networks
            message = train_one(channel, folder, network, order.settings, saved=saved)
            channel.send(Message(message.kind, message.text, network.network_id))
    except StudyError as error:
        first = order.networks[0].network_id
        channel.messages.append(Message("storage", str(error), first))
    return tuple(channel.messages)


class _Channel:
    """Takes the trainer's messages; passes on how many epochs are done, not too often."""

    def __init__(self, networks: Sequence[NetworkSpec], line: Line, away: Away | None) -> None:
        self._line, self._away, self._told = line, away, time.monotonic()
        self._networks = {n.network_id: n for n in networks}
        self._epochs = dict.fromkeys(self._networks, 0)
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        if message.kind != "epoch":
            if message.kind == "done" and self._away is not None:
                self._away.done(self._networks[message.network_id])
            self.messages.append(message)
            return
        self._epochs[message.network_id or next(iter(self._epochs))] += 1
        if (now := time.monotonic()) - self._told >= TELL_EVERY:
            self._told = now
            self._line.tell(self._epochs)


@dataclass
class _Uploads:
    """To the URL where the study lives."""

    local: StudyFolder
    remote: remote.Remote
    line: Line
    order: Order

    def begin(self) -> None:
        networks = self.order.networks
        there = [resume_files.download(self.remote, self.local, n) for n in networks]
        if not any(there) and self.order.has_state:  # what was begun on the driver's machine
            _write(self.local, self.line.want())

    def saved(self) -> None:
        for network in _saved(self.local, self.order.networks):
            for path in remote.files_of(self.local, network):
                self.remote.upload(path, _name(self.local, path))
                path.unlink()  # kept weights, which leave as they arrive
            resume_files.upload(self.remote, self.local, network)

    def done(self, network: NetworkSpec) -> None:
        remote.upload_network(self.remote, self.local, network)
        if not _keeps_states(self.order.settings):
            resume_files.drop(
                StudyFolder(self.local.path, self.local.study, self.remote.url), network
            )

    def files(self, networks: Sequence[NetworkSpec]) -> tuple[tuple[str, bytes], ...]:
        return ()


@dataclass
class _Parcels:
    """Through the driver, in parcels of a state and what is new since the last that arrived."""

    local: StudyFolder
    line: Line
    order: Order
    sent: dict[int, set[str]] = field(default_factory=dict)  # number of the parcel → names
    posted: float = 0.0
    arrived: set[str] = field(default_factory=set)

    def begin(self) -> None:
        if self.order.has_state:
            _write(self.local, self.line.want())

    def saved(self) -> None:
        if time.monotonic() - self.posted < POST_EVERY:
            return
        self.arrived |= set().union(*(self.sent[number] for number in self.line.taken()))
        paths = [
            path
            for network in _saved(self.local, self.order.networks)
            for path in (*self._new(network), resume_files.states(self.local, network)[0])
        ]
        size = sum(path.stat().st_size for path in paths)
        if size > ROOM:
            self._complain(size)
        elif self.line.ask(size):
            self.posted = time.monotonic()
            parcel = {_name(self.local, path): path.read_bytes() for path in paths}
            number = len(self.sent)
            self.sent[number] = set(parcel)
            self.line.post(number, parcel)

    def done(self, network: NetworkSpec) -> None:
        pass

    def files(self, networks: Sequence[NetworkSpec]) -> tuple[tuple[str, bytes], ...]:
        kept = _keeps_states(self.order.settings)
        paths = [
            path
            for network in networks
            for path in (
                *(resume_files.states(self.local, network) if kept else ()),
                *self._new(network),
            )
        ]
        return tuple((_name(self.local, path), path.read_bytes()) for path in paths)

    def _new(self, network: NetworkSpec) -> list[Path]:
        files = remote.files_of(self.local, network)
        return [path for path in files if _name(self.local, path) not in self.arrived]

    def _complain(self, size: int) -> None:
        self.posted = float("inf")  # once
        first, more = self.order.networks[0].label, len(self.order.networks) - 1
        whose = f"{first} and the {more} stacked with it" if more else first
        self.line.note(
            f"{whose}: the state to go on from has {size / 2**20:.0f} MiB, more than the "
            f"{ROOM / 2**20:.0f} that are sent through the driver; without a shared folder or a "
            "URL training will start anew if its node is lost"
        )


def _saved(folder: StudyFolder, networks: Sequence[NetworkSpec]) -> list[NetworkSpec]:
    """Those of which there are new states: all that are not finished."""
    return [n for n in networks if not folder.is_finished(n)]


def _keeps_states(settings: Settings) -> bool:
    return settings.checkpoint_every is not None and settings.checkpoint_every.keep


def _write(folder: StudyFolder, files: Files) -> None:
    for name, content in files.items():
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _name(folder: StudyFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()
