"""Checkpoints to go on training from: all that the rest of a training depends on.

One file per checkpoint, ``<epoch>.safetensors``: forward and backward weights, buffers, the states
of both optimizers, of the rule and of all generators, and the records so far. Training that goes on
from one gives the bits of training never interrupted, on the same hardware with the same options.

The two last ones are kept. One that cannot be used is named in a warning and left where it is; the
one before is taken, or training begins anew.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from goaldriven.errors import DataError, GoaldrivenError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.runtime import CheckpointEvery
from goaldriven.training.checkpoints import SUFFIX, checkpoint_path
from goaldriven.training.network import Network
from goaldriven.training.ranks import Ranks
from goaldriven.training.record import Record, Recorder
from goaldriven.training.state_files import read_state, write_state

_KEPT = 2


@dataclass(frozen=True)
class Standing:
    """How far training has come, besides the network itself.

    Attributes
    ----------
    epoch : epochs done.
    training_loss : mean over the last.
    records : by epoch.
    seconds, recording_seconds : spent so far.
    """

    epoch: int
    training_loss: float
    records: Mapping[int, Record]
    seconds: float
    recording_seconds: float


UNTRAINED = Standing(-1, math.nan, {}, 0.0, 0.0)
"""Where a newly built network stands."""


class Companion(Protocol):
    """What collects at records, and has a state of its own (`training.measuring.Measurements`)."""

    def state(self) -> Any: ...
    def load_state(self, state: Any, network: Network) -> None: ...


class Checkpoints:
    """The checkpoints of one network in training.

    Parameters
    ----------
    folder : theirs alone.
    every : how often; None to read only.
    companion : whose state is kept in them, too.
    saved : called after each that was written.
    """

    def __init__(
        self,
        folder: Path,
        every: CheckpointEvery | None = None,
        companion: Companion | None = None,
        saved: Callable[[], None] | None = None,
    ) -> None:
        self.folder, self._every, self._companion = folder, every, companion
        self._saved = saved
        self._last = time.monotonic()

    def due(self, epoch: int) -> bool:
        """Whether one is to be made at the end of an epoch."""
        if self._every is None:
            return False
        if self._every.epochs is not None:
            return epoch % self._every.epochs == 0
        return time.monotonic() - self._last >= 60 * (self._every.minutes or 0.0)

    def save(
        self,
        network: Network,
        recorder: Recorder,
        standing: Standing,
        state_of_network: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one, whole or not at all, and drop those before the last two.

        Parameters
        ----------
        state_of_network : what there is instead of `network_state`.

        Raises
        ------
        StudyError : it cannot be written; names path and reason.
        """
        state = {
            "network": network_state(network) if state_of_network is None else state_of_network,
            "before": recorder.state(),
            "standing": {
                **vars(standing),
                "records": {epoch: vars(record) for epoch, record in standing.records.items()},
            },
            "companion": None if self._companion is None else self._companion.state(),
        }
        write_state(checkpoint_path(self.folder, standing.epoch), state, _about(network.spec))
        self._last = time.monotonic()
        for _, path in self.there()[_KEPT:]:
            path.unlink(missing_ok=True)
        if self._saved is not None:
            self._saved()

    def there(self) -> list[tuple[int, Path]]:
        """(epoch, file), the latest first."""
        found = [p for p in self.folder.glob(f"*{SUFFIX}") if p.stem.isdecimal()]
        return sorted(((int(path.stem), path) for path in found), reverse=True)

    def read(self, path: Path, spec: NetworkSpec) -> Any:
        """The state in one of the files.

        Raises
        ------
        DataError : it cannot be read, or is another network's.
        """
        return read_state(path, _about(spec))

    def latest(self, spec: NetworkSpec, ranks: Ranks) -> Iterator[tuple[Path, Any]]:
        """The readable ones, the latest first, as the first rank finds them.

        One that is not is named in a warning.
        """
        there = ranks.told(self.there())
        for _, path in there:
            state = None
            if ranks.first:
                try:
                    state = self.read(path, spec)
                except DataError as error:
                    refuse(error)
            state = ranks.told(state)
            if state is not None:
                yield path, state

    def load(self, path: Path, state: Any, network: Network, recorder: Recorder) -> Standing:
        """Bring a newly built network to where a checkpoint's was.

        Raises
        ------
        DataError : the state is not of this network; nothing is to be done with it then.
        """
        try:
            load_network_state(network, state["network"])
            recorder.load_state(state["before"])
            given = dict(state["standing"])
            records = {epoch: Record(**record) for epoch, record in given.pop("records").items()}
            if self._companion is not None:
                if state["companion"] is None:
                    raise DataError("it was made without measurements")
                self._companion.load_state(state["companion"], network)
            return Standing(**given, records=records)
        except (GoaldrivenError, RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"checkpoint {path} cannot be gone on from: {reason}") from None

    def clear(self) -> None:
        """Remove them, when the network is finished; unless they are to be kept."""
        if self._every is not None and self._every.keep:
            return
        for _, path in self.there():
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def refuse(error: DataError) -> None:
    """Say that a checkpoint is not used."""
    warnings.warn(
        f"{error}; it is left there, and training goes on from the checkpoint before, or begins "
        "anew",
        stacklevel=2,
    )


def network_state(network: Network) -> dict[str, Any]:
    """All of a network that training changes."""
    optimizer = network.optimizer.state_dict()
    return {
        "model": network.model.state_dict(),
        "credit": network.credit.state_dict(),
        "optimizer": {name: part for name, part in optimizer.items() if name != "param_groups"},
        "data": network.data_generator.get_state(),
    }


def load_network_state(network: Network, state: Mapping[str, Any]) -> None:
    """Restore `network_state` in a network of the same specification.

    Raises
    ------
    SpecError, RuntimeError, ValueError, KeyError : the state is not of such a network.
    """
    network.model.load_state_dict(state["model"])
    network.credit.load_state_dict(state["credit"])
    # Settings are the specification's; the rates follow their schedules.
    network.optimizer.load_state_dict({**network.optimizer.state_dict(), **state["optimizer"]})
    network.data_generator.set_state(state["data"])


def _about(spec: NetworkSpec) -> dict[str, str]:
    return {"specification": spec.canonical_json()}
