"""A study's folder: what lies where, and what its files say of every network.

DIR/study.json             the study, canonical
DIR/networks/<id>.nc       one trajectory per finished network (trained or diverged)
DIR/checkpoints/<id>/      its weights at every recorded epoch, where they are kept
DIR/resume/<id>/           what an interrupted training goes on from, where it is stored
DIR/measurements/<id>.nc   its observables under measurement conditions, where they were asked for
DIR/unmeasured/<id>.json   the traceback of a network whose measurement failed
DIR/failed/<id>.json       the traceback of a network that failed
DIR/running/<id>.json      which process, of which machine, is at work on a network
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from goaldriven.errors import DataError, SpecError, StudyError
from goaldriven.specs import NetworkSpec, Study
from goaldriven.trajectories.atomic import PARTIAL_SUFFIX, write_bytes

State = Literal["trained", "diverged", "failed", "running", "left", "broken"]
_URL_AS_PATH = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")
STATES: tuple[State, ...] = ("trained", "diverged", "failed", "running", "left", "broken")
"""``broken``: its trajectory is there and cannot be read."""


@dataclass(frozen=True)
class StudyFolder:
    """A folder that belongs to one study; the mirror of a ``url`` where the study lives at one."""

    path: Path
    study: Study
    url: str | None = None

    @property
    def place(self) -> str:
        """Where the study lives, for people."""
        return self.url or str(self.path)

    @classmethod
    def create(cls, path: str | Path, study: Study) -> StudyFolder:
        """Open ``path`` for ``study``, making it where it does not exist.

        Raises
        ------
        StudyError : the folder cannot be written, holds another study, or holds other files.
        """
        path = Path(path)
        record = path / "study.json"
        if record.exists():
            folder = cls.open(path)
            if folder.study != study:
                raise StudyError(other_study(path, folder.study, study))
        else:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise StudyError(
                    f"out must be an empty or new folder or this study's own, got {str(path)!r}, "
                    "which holds other files"
                )
            folder = cls(path, study)
        try:
            for part in ("networks", "failed", "running"):
                (path / part).mkdir(parents=True, exist_ok=True)
            if not record.exists():
                write_bytes(record, study.model_dump_json(indent=1).encode())
            clear_partial(path)
        except OSError as error:
            raise StudyError(f"out must be a folder that can be written, got {str(path)!r}: "
                             f"{error.strerror}") from None  # fmt: skip
        return folder

    @classmethod
    def open(cls, path: str | Path) -> StudyFolder:
        """Open an existing study folder.

        Raises
        ------
        StudyError : there is no such folder, or it holds no readable study.
        """
        path = Path(path)
        if not path.is_dir() and _URL_AS_PATH.match(str(path)):
            raise StudyError(
                f"DIR must be a folder, got what looks like a URL, {str(path)!r}; "
                "'goaldriven fetch URL DIR' copies a study to a folder"
            )
        if not path.is_dir():
            raise StudyError(f"DIR must be a study folder, got {str(path)!r}, which does not exist")
        record = path / "study.json"
        try:
            fields = json.loads(record.read_text(encoding="utf-8"))
            return cls(path, Study(**fields))
        except FileNotFoundError:
            raise StudyError(
                f"DIR must be a study folder (with a study.json), got {str(path)!r}"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            kind = "holds no valid study" if isinstance(error, SpecError) else "cannot be read"
            raise StudyError(f"{record} {kind}: {error}") from None

    def trajectory_path(self, network: NetworkSpec) -> Path:
        return self.path / "networks" / f"{network.network_id}.nc"

    def checkpoints_path(self, network: NetworkSpec) -> Path:
        return self.path / "checkpoints" / network.network_id

    def resume_path(self, network: NetworkSpec) -> Path:
        return self.path / "resume" / network.network_id

    def measurements_path(self, network: NetworkSpec) -> Path:
        return self.path / "measurements" / f"{network.network_id}.nc"

    def failure_path(self, network: NetworkSpec, part: str = "failed") -> Path:
        return self.path / part / f"{network.network_id}.json"

    def running_path(self, network: NetworkSpec) -> Path:
        return self.path / "running" / f"{network.network_id}.json"

    def state(self, network: NetworkSpec) -> State:
        """What the files say of a network now.

        Raises
        ------
        DataError : its trajectory is there and cannot be read; says what helps.
        """
        trajectory = self.trajectory_path(network)
        if trajectory.exists():
            from goaldriven.trajectories import read_outcome

            return read_outcome(trajectory)
        if self.failure_path(network).exists():
            return "failed"
        return "running" if self._is_running(network) else "left"

    def states(self) -> dict[NetworkSpec, State]:
        """The state of every network of the study; ``broken`` where its file cannot be read."""
        return {network: self._state_or_broken(network) for network in self.study.networks()}

    def _state_or_broken(self, network: NetworkSpec) -> State:
        try:
            return self.state(network)
        except DataError:
            return "broken"

    def count(self) -> Counter[State]:
        """How many networks are in each state."""
        return Counter(self.states().values())

    def is_finished(self, network: NetworkSpec) -> bool:
        return self.trajectory_path(network).exists()

    def record_failure(self, network: NetworkSpec, traceback: str, part: str = "failed") -> None:
        content = {"label": network.label, "spec": json.loads(network.canonical_json())}
        content["traceback"] = traceback
        write_bytes(self.failure_path(network, part), json.dumps(content).encode())

    def mark_running(self, network: NetworkSpec) -> None:
        who = {"pid": os.getpid(), "host": socket.gethostname()}
        write_bytes(self.running_path(network), json.dumps(who).encode())

    def unmark_running(self, network: NetworkSpec) -> None:
        self.running_path(network).unlink(missing_ok=True)

    def _is_running(self, network: NetworkSpec) -> bool:
        try:
            who = json.loads(self.running_path(network).read_text())
            if who.get("host", here := socket.gethostname()) != here:
                return True  # of another machine's processes only their marks can be known
            pid = int(who["pid"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
        return process_alive(pid)

    def find(self, network_id: str) -> NetworkSpec:
        """The study's network with this id, or with this unambiguous beginning of it.

        Raises
        ------
        StudyError : no network, or more than one, has it.
        """
        matches = [n for n in self.study.networks() if n.network_id.startswith(network_id)]
        if len(matches) != 1 or not network_id:
            found = "none" if not matches else f"{len(matches)} of them"
            raise StudyError(
                f"NETWORK_ID must be the id of one network of study {self.study.name!r} or its "
                f"first letters (see 'goaldriven status {self.path} --networks'), got "
                f"{network_id!r}, which is that of {found}"
            )
        return matches[0]


def process_alive(pid: int) -> bool:
    """Whether a process of this machine runs under ``pid``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def clear_partial(path: Path) -> None:
    """Remove what killed writers left behind; only while nobody writes."""
    for leftover in path.rglob(f".*{PARTIAL_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def other_study(place: str | Path, there: Study, given: Study) -> str:
    """The message for a place that belongs to another study."""
    old, new = there.model_dump(mode="json"), given.model_dump(mode="json")
    differing = [field for field in new if new[field] != old[field]]
    return (
        f"out must be a folder of study {given.name!r} as it stands in the file; {str(place)!r} "
        f"belongs to study {there.name!r}, which differs in {', '.join(differing)}; "
        "give another --out"
    )
