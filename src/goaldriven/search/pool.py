"""Units of work for a pool of worker processes, or for this process alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal, Protocol

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.search import ScoreOn

MAX_DEATHS = 2
"""A unit during which this many workers were killed has failed."""
_TICK = 5.0
"""Seconds of silence after which the source is told that time has passed."""

Scorer = Callable[[NetworkSpec, ScoreOn, Callable[[], None]], float]
"""A network, what to score it on, what to call after every epoch → its score."""


@dataclass(frozen=True)
class Unit:
    """One network to score; ``number`` and ``step`` say whose it is."""

    number: int
    step: int
    network: NetworkSpec
    score_on: ScoreOn


class Source(Protocol):
    """Hands out units and takes their outcomes; all calls come from one process and thread."""

    def next(self) -> Unit | None:
        """Another unit, or None while there is none (an outcome may bring more)."""
        ...

    def scored(self, unit: Unit, score: float) -> None: ...
    def failed(self, unit: Unit, reason: str) -> None: ...
    def epoch(self, unit: Unit) -> None: ...
    def killed(self, unit: Unit) -> None:
        """The unit's worker was killed; the unit is tried again."""
        ...

    def tick(self) -> None:
        """Called every few seconds at least."""
        ...


def score_here(source: Source, scorer: Scorer) -> None:
    """Score the source's units one after another in this process."""
    while True:
        with interrupts_deferred():
            unit = source.next()
        if unit is None:
            return
        score, reason = 0.0, ""
        try:
            score = scorer(unit.network, unit.score_on, partial(_epoch, source, unit))
        except Exception:
            reason = traceback.format_exc()
        with interrupts_deferred():
            source.failed(unit, reason) if reason else source.scored(unit, score)
            source.tick()


def _epoch(source: Source, unit: Unit) -> None:
    with interrupts_deferred():
        source.epoch(unit)
        source.tick()


@dataclass(frozen=True)
class _Message:
    kind: Literal["epoch", "scored", "failed"]
    score: float = 0.0
    text: str = ""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    unit: Unit | None = None
    heard_of: bool = False


@dataclass
class _Pool:
    source: Source
    scorer: Scorer
    workers: list[_Worker] = field(default_factory=list)
    again: deque[Unit] = field(default_factory=deque)
    deaths: dict[Unit, int] = field(default_factory=dict)

    def next(self) -> Unit | None:
        return self.again.popleft() if self.again else self.source.next()


def score_in_processes(source: Source, scorer: Scorer, jobs: int) -> None:
    """Score the source's units with up to ``jobs`` processes.

    A worker that is killed costs its unit's work so far; the unit is tried again, and failed when
    it has cost `MAX_DEATHS` workers.

    Raises
    ------
    StudyError : workers end before they do any work.
    KeyboardInterrupt : after the workers have been stopped.
    """
    pool = _Pool(source, scorer)
    try:
        while True:
            with interrupts_deferred():
                if not _hand_out(pool, jobs):
                    return
            busy = {w.connection: w for w in pool.workers if w.unit is not None}
            ready = multiprocessing.connection.wait(list(busy), timeout=_TICK)
            with interrupts_deferred():
                for connection in ready:
                    _hear(pool, busy[connection])  # type: ignore[index]
                source.tick()
    finally:
        for worker in pool.workers:
            worker.process.terminate()
        for worker in pool.workers:
            worker.process.join()
            worker.connection.close()


def _hand_out(pool: _Pool, jobs: int) -> bool:
    """Give every idle worker a unit, starting workers as long as there are units; any busy?"""
    while True:
        idle = [w for w in pool.workers if w.unit is None]
        if not idle and len(pool.workers) >= jobs:
            return True
        unit = pool.next()
        if unit is None:
            return any(w.unit is not None for w in pool.workers)
        worker = idle[0] if idle else _start(pool)
        worker.unit = unit
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # heard of as a death
            worker.connection.send(unit)


def _start(pool: _Pool) -> _Worker:
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, pool.scorer), daemon=True)
    with _interrupts_blocked():  # inherited: Ctrl-C is the parent's to handle, not a worker's
        process.start()
    theirs.close()
    worker = _Worker(process, ours)
    pool.workers.append(worker)
    return worker


def _work(connection: Connection, scorer: Scorer) -> None:
    """A worker's life: score units until the connection ends."""
    try:
        while True:
            unit: Unit = connection.recv()
            try:
                epoch = partial(connection.send, _Message("epoch"))
                score = scorer(unit.network, unit.score_on, epoch)
                answer = _Message("scored", score=score)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception:
                answer = _Message("failed", text=traceback.format_exc())
            connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone; what it had recorded is in the database


def _hear(pool: _Pool, worker: _Worker) -> None:
    unit = worker.unit
    assert unit is not None  # only busy workers are listened to; narrows the type
    try:
        message: _Message = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        _bury(pool, worker, unit)
        return
    worker.heard_of = True
    if message.kind == "epoch":
        pool.source.epoch(unit)
        return
    worker.unit = None
    if message.kind == "scored":
        pool.source.scored(unit, message.score)
    else:
        pool.source.failed(unit, message.text)


def _bury(pool: _Pool, worker: _Worker, unit: Unit) -> None:
    """A worker died: its unit is tried again, unless it has killed one before."""
    pool.workers.remove(worker)
    worker.process.join()
    worker.connection.close()
    code = worker.process.exitcode
    if code is not None and code > 0 and not worker.heard_of:  # no signal: it could not start
        raise StudyError(f"a worker process ended with exit code {code}; see its message above")
    deaths = pool.deaths[unit] = pool.deaths.get(unit, 0) + 1
    if deaths >= MAX_DEATHS:
        pool.source.failed(unit, f"its worker was killed {deaths} times (exit code {code})\n")
    else:
        pool.again.append(unit)
        pool.source.killed(unit)


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, so that it never finds a transaction half done.

    A transaction that is left open locks the database for the very run that must record, on its
    way out, what it leaves behind. Only the main thread hears of Ctrl-C; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that starts inside never hears of Ctrl-C; this one hears of it afterwards."""
    resource_tracker.ensure_running()  # which would unblock it, were it started inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
