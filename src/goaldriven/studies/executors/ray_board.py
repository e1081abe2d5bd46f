"""The board: an actor beside the scheduler, by which tasks and their driver tell each other things.

Progress, and the states of interrupted trainings where nodes share no disk with the driver. What
is sent is bounded: of a network one parcel is on its way at a time, and all together take no more
than `ROOM`. A state that finds no room is not sent; a later one is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

ROOM = 2**30
"""Bytes of parcels that wait on the board, and so the most that one may have."""
ANSWER_WITHIN = 10.0
"""Seconds that a task waits for the board before it trains on without."""
STATE_WITHIN = 600.0
"""Seconds that a task waits for its driver to hand it a state."""

Progress = dict[str, tuple[str, dict[str, int]]]
"""Task → its node, and its networks' epochs by network id."""
Files = Mapping[str, bytes]
"""Path within the study's folder → content."""


def start_board(ray: ModuleType) -> Any:
    """A board, on the head node where there is one."""
    room = ROOM

    class Board:  # local, so that it travels whole: the head may have no goaldriven
        def __init__(self) -> None:
            self._progress: Progress = {}
            self._notes: list[str] = []
            self._granted: dict[str, int] = {}  # task → bytes of the parcel it may send
            self._parcels: dict[str, tuple[int, Files]] = {}
            self._taken: dict[str, list[int]] = {}
            self._wanted: dict[str, Files | None] = {}

        def tell(self, key: str, node: str, epochs: dict[str, int]) -> None:
            self._progress[key] = (node, epochs)

        def note(self, text: str) -> None:
            self._notes.append(text)

        def news(self) -> tuple[Progress, list[str], list[str], list[str]]:
            """Progress and notes since the last time; who has sent a parcel, who wants a state."""
            progress, self._progress = self._progress, {}
            notes, self._notes = self._notes, []
            wanted = [key for key, given in self._wanted.items() if given is None]
            return progress, notes, list(self._parcels), wanted

        def ask(self, key: str, size: int) -> bool:
            """Whether a task may send a parcel."""
            free = key not in self._granted
            free = free and sum(self._granted.values()) + size <= room
            if free:
                self._granted[key] = size
            return free

        def taken(self, key: str) -> list[int]:
            """Which of a task's parcels the driver has."""
            return self._taken.get(key, [])

        def post(self, key: str, number: int, files: Files) -> None:
            if key in self._granted:  # else its task has been given up
                self._parcels[key] = (number, files)

        def show(self, key: str) -> tuple[int, Files]:
            """A task's parcel, which stays until it is taken; number -1 where there is none."""
            return self._parcels.get(key, (-1, {}))

        def take(self, key: str, number: int) -> None:
            """The driver has it on its disk."""
            if self._parcels.get(key, (-1,))[0] == number:
                del self._parcels[key]
                del self._granted[key]
                self._taken.setdefault(key, []).append(number)

        def want(self, key: str) -> Files | None:
            """What the driver has handed over for a task; None until it has."""
            files = self._wanted.setdefault(key, None)
            if files is not None:
                del self._wanted[key]
            return files

        def supply(self, key: str, files: Files) -> None:
            if key in self._wanted:
                self._wanted[key] = files

        def forget(self, key: str) -> None:
            for table in (self._granted, self._parcels, self._taken, self._wanted, self._progress):
                table.pop(key, None)

    head = any(node["Resources"].get("node:__internal_head__") for node in ray.nodes())
    where = {"node:__internal_head__": 0.001} if head else {}
    return ray.remote(Board).options(num_cpus=0, resources=where, max_restarts=-1).remote()


class Line:
    """A task's line to its driver, over the board.

    Parameters
    ----------
    key : the task's.
    node : Ray's id of the node that it is on.
    """

    def __init__(self, ray: ModuleType, board: Any, key: str, node: str) -> None:
        self._ray, self._board, self._key, self._node = ray, board, key, node

    def tell(self, epochs: Mapping[str, int]) -> None:
        """Epochs done so far, by network id."""
        self._board.tell.remote(self._key, self._node, dict(epochs))

    def note(self, text: str) -> None:
        """Something for people."""
        self._board.note.remote(text)

    def ask(self, size: int) -> bool:
        """Whether a parcel of so many bytes may be sent."""
        return bool(self._asked(self._board.ask.remote(self._key, size), False))

    def taken(self) -> list[int]:
        """Which parcels the driver has."""
        return list(self._asked(self._board.taken.remote(self._key), []))

    def _asked(self, answer: Any, otherwise: Any) -> Any:
        try:
            return self._ray.get(answer, timeout=ANSWER_WITHIN)
        except self._ray.exceptions.RayError:
            return otherwise

    def post(self, number: int, files: Files) -> None:
        """Send a parcel, which `ask` has allowed."""
        self._board.post.remote(self._key, number, dict(files))

    def want(self) -> Files:
        """The state that the driver has for this task; empty where it cannot be had."""
        deadline = time.monotonic() + STATE_WITHIN
        while time.monotonic() < deadline:
            try:
                files = self._ray.get(self._board.want.remote(self._key), timeout=STATE_WITHIN)
            except self._ray.exceptions.RayError:
                break
            if files is not None:
                return dict(files)
            time.sleep(0.1)
        return {}
