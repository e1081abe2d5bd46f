"""What a running search tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["begin", "epoch", "scored", "killed", "done", "pruned", "failed"]


@dataclass(frozen=True)
class Event:
    """Something happened in a stage of a search.

    ``begin``: ``number`` settings are to be scored in this stage. ``epoch``, ``scored``,
    ``killed``: network ``step`` of trial ``number`` was trained for one more epoch, got its score,
    lost its worker. ``done``, ``pruned``, ``failed``: how trial ``number`` ended.
    """

    stage: Literal["search", "confirm"]
    kind: Kind
    number: int
    step: int = 0


Report = Callable[[Event], None]
