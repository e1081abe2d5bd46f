"""The best settings scored again, on other networks than those they were chosen on."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from goaldriven.search.events import Event, Kind, Report
from goaldriven.search.pool import Unit
from goaldriven.specs.search import SearchSpec

_PREFIX = "confirmed/"


def confirmation_units(search: SearchSpec, number: int, values: dict[str, Any]) -> list[Unit]:
    """The networks on which one setting is scored again."""
    epochs = search.confirm.epochs if search.confirm is not None else None
    return [
        Unit(number, step, search.network(values, variation, epochs), search.score_on)
        for step, variation in enumerate(search.confirm_over)
    ]


def confirmed_scores(study: optuna.Study, units: Sequence[Unit]) -> tuple[float, ...] | None:
    """The scores of all units, or None while one is missing."""
    stored = study.user_attrs
    keys = [_key(unit) for unit in units]
    return tuple(float(stored[k]) for k in keys) if all(k in stored for k in keys) else None


def _key(unit: Unit) -> str:
    """A score belongs to a network and what it was scored on, whichever trial asks for it."""
    text = unit.network.canonical_json() + unit.score_on.model_dump_json()
    return _PREFIX + hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class Confirmation:
    """Scores every unit that has no score yet; what the pool calls a source."""

    study: optuna.Study
    units: Sequence[Unit]
    report: Report
    record_failure: Callable[[int, str], None]
    _waiting: deque[Unit] = field(default_factory=deque)
    _left: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        stored = self.study.user_attrs
        self._waiting.extend(unit for unit in self.units if _key(unit) not in stored)
        self._left.update(unit.number for unit in self._waiting)
        self._say("begin", len(self._left))

    def _say(self, kind: Kind, number: int, step: int = 0) -> None:
        self.report(Event("confirm", kind, number, step))

    def next(self) -> Unit | None:
        return self._waiting.popleft() if self._waiting else None

    def scored(self, unit: Unit, score: float) -> None:
        self.study.set_user_attr(_key(unit), score)
        self._say("scored", unit.number, unit.step)
        self._count(unit)

    def failed(self, unit: Unit, reason: str) -> None:
        """The setting stays without a confirmed score; the next run tries again."""
        self.record_failure(unit.number, reason)
        self._say("failed", unit.number)
        self._count(unit)

    def _count(self, unit: Unit) -> None:
        self._left[unit.number] -= 1
        if not self._left[unit.number]:
            self._say("done", unit.number)

    def epoch(self, unit: Unit) -> None:
        self._say("epoch", unit.number, unit.step)

    def killed(self, unit: Unit) -> None:
        self._say("killed", unit.number, unit.step)

    def tick(self) -> None:
        """Nothing to look after: nobody else waits for these."""
