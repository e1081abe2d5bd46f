"""The trials of a search as units of work: drawn, scored variation by variation, judged."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from goaldriven.errors import SpecError
from goaldriven.search.events import Event, Kind, Report
from goaldriven.search.pool import Unit
from goaldriven.search.sampling import draw
from goaldriven.specs import NetworkSpec
from goaldriven.specs.search import SearchSpec
from goaldriven.studies.folder import process_alive

HEARTBEAT = 60.0
"""Seconds between the signs of life that a run leaves on its trials."""
SILENCE = 10 * HEARTBEAT
"""A run on another machine that has left no sign for so long is taken for dead."""


@dataclass
class _Open:
    """A trial that runs: its networks in order, and the scores of those that are done."""

    trial: optuna.Trial
    networks: tuple[NetworkSpec, ...]
    scores: list[float]
    seen: float = field(default_factory=time.monotonic)


@dataclass
class Trials:
    """Brings a study to ``target`` trials; what the pool calls a source.

    ``exclusive``: no other run shares the database, so every trial that runs in it is a dead
    run's. Those are taken up where they stopped, before new ones are drawn.
    """

    search: SearchSpec
    study: optuna.Study
    target: int
    exclusive: bool
    report: Report
    record_failure: Callable[[int, str], None]
    _open: dict[int, _Open] = field(default_factory=dict)
    _waiting: deque[int] = field(default_factory=deque)

    def __post_init__(self) -> None:
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        stale = [trial for trial in running if self.exclusive or _is_abandoned(trial)]
        self._say("begin", len(stale) + self.left)
        for frozen in stale:
            # the constructor that `Study.ask` uses: a trial by its number in the database
            trial = optuna.Trial(self.study, frozen._trial_id)
            self._begin(trial, reported=len(frozen.intermediate_values))

    @property
    def left(self) -> int:
        """Trials that this run may still draw."""
        states = [t.state for t in self.study.get_trials(deepcopy=False)]
        return max(0, self.target - sum(state != TrialState.WAITING for state in states))

    def _say(self, kind: Kind, number: int, step: int = 0) -> None:
        self.report(Event("search", kind, number, step))

    def next(self) -> Unit | None:
        while not self._waiting and self.left:
            self._begin(self.study.ask())
        if not self._waiting:
            return None
        number = self._waiting.popleft()
        opened = self._open[number]
        step = len(opened.scores)
        return Unit(number, step, opened.networks[step], self.search.score_on)

    def scored(self, unit: Unit, score: float) -> None:
        opened = self._open[unit.number]
        opened.scores.append(score)
        mean = sum(opened.scores) / len(opened.scores)
        try:
            opened.trial.set_user_attr("scores", opened.scores)
            opened.trial.report(mean, unit.step)
            self._say("scored", unit.number, unit.step)
            self._judge(unit.number)
        except optuna.exceptions.UpdateFinishedTrialError:
            self._give_up(unit.number)

    def failed(self, unit: Unit, reason: str) -> None:
        try:
            self._fail(unit.number, self._open[unit.number].trial, reason)
        except optuna.exceptions.UpdateFinishedTrialError:
            self._give_up(unit.number)

    def epoch(self, unit: Unit) -> None:
        self._say("epoch", unit.number, unit.step)

    def killed(self, unit: Unit) -> None:
        self._say("killed", unit.number, unit.step)

    def tick(self) -> None:
        """Leave a sign of life on every open trial, now and then."""
        now = time.monotonic()
        for opened in self._open.values():
            if now - opened.seen > HEARTBEAT:
                opened.seen = now
                with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                    opened.trial.set_user_attr("owner", _owner())

    def release(self) -> None:
        """Leave the open trials to the next run, which need not wait for them to look dead."""
        for opened in self._open.values():
            with contextlib.suppress(Exception):  # on the way out of an error or Ctrl-C
                opened.trial.set_user_attr("owner", None)
        self._open.clear()
        self._waiting.clear()

    def _begin(self, trial: optuna.Trial, reported: int = 0) -> None:
        """Draw the settings (what a dead run drew already stays) and line the trial up."""
        number = trial.number
        trial.set_user_attr("owner", _owner())
        values = draw(trial, self.search)
        trial.set_user_attr("values", values)
        try:
            networks = tuple(self.search.network(values, v) for v in self.search.over)
        except SpecError as error:
            self._fail(number, trial, f"the settings make no valid network: {error}\n")
            return
        scores = list(trial.user_attrs.get("scores", []))[: len(networks)]
        for step in range(reported, len(scores)):  # the run died between the two
            trial.report(sum(scores[: step + 1]) / (step + 1), step)
        self._open[number] = _Open(trial, networks, scores)
        self._judge(number)

    def _judge(self, number: int) -> None:
        """End a trial that is complete or not worth going on with; else line it up again."""
        opened = self._open[number]
        scores = opened.scores
        if len(scores) == len(opened.networks):
            self._end(number, "done", TrialState.COMPLETE, sum(scores) / len(scores))
        elif scores and opened.trial.should_prune():
            self._end(number, "pruned", TrialState.PRUNED)
        elif scores:
            self._waiting.appendleft(number)  # what has begun before what has not
        else:
            self._waiting.append(number)

    def _give_up(self, number: int) -> None:
        """Another run took this one for dead, and has ended the trial meanwhile."""
        self._open.pop(number, None)
        self._say("done", number)

    def _end(self, number: int, kind: Kind, state: TrialState, value: float | None = None) -> None:
        opened = self._open.pop(number)
        self.study.tell(opened.trial, value, state=state)
        self._say(kind, number)

    def _fail(self, number: int, trial: optuna.Trial, reason: str) -> None:
        self._open.pop(number, None)
        trial.set_user_attr("failure", reason)
        self.study.tell(trial, state=TrialState.FAIL)
        self.record_failure(number, reason)
        self._say("failed", number)


def _owner() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "seen": time.time()}


def _is_abandoned(trial: FrozenTrial) -> bool:
    """Whether the run that drew a trial has let go of it, or is dead."""
    owner = trial.user_attrs.get("owner")
    if owner is None:  # released, or its run died before it could sign
        began = trial.datetime_start
        return "owner" in trial.user_attrs or (
            began is not None and time.time() - began.timestamp() > SILENCE
        )
    if owner["host"] == socket.gethostname() and not process_alive(owner["pid"]):
        return True
    return time.time() - owner["seen"] > SILENCE
