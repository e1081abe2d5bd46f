"""The runner: hands a study's networks to worker processes and keeps account of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.stacking import check_stackable
from goaldriven.studies import remote, resume_files
from goaldriven.studies.devices import check_device
from goaldriven.studies.executors.ray_cluster import RayOptions
from goaldriven.studies.folder import StudyFolder, clear_partial
from goaldriven.studies.stacking import Pending, StackSize, plan_stacks
from goaldriven.studies.worker import PLAIN, MeasureSettings, Message, Settings, work
from goaldriven.trajectories.locking import locked

MAX_DEATHS = 2
"""A network during which this many workers were killed is recorded as failed."""

Report = Callable[[str, NetworkSpec], None]
"""Called with (kind, network): ``epoch``, ``done``, ``failed``, ``killed`` (its worker was),
``lost`` (its machine was), or ``apart`` (its stack failed)."""


@dataclass(frozen=True)
class RunSummary:
    """What one run did: networks finished, failed, and there before it began."""

    finished: int
    failed: int
    already_done: int
    skipped_failed: int


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    networks: tuple[NetworkSpec, ...] = ()


@dataclass
class Account:
    """The runner's books.

    ``pending`` holds networks, and tuples of networks that train stacked. ``is_done`` says of a
    network whether its work is on disk; tracebacks of failures go to ``failures``, a part of the
    study's folder. ``keeps_resume``: what a finished network was resumed from stays.
    """

    pending: deque[NetworkSpec | tuple[NetworkSpec, ...]]
    is_done: Callable[[NetworkSpec], bool]
    failures: str = "failed"
    keeps_resume: bool = True
    deaths: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    failed: int = 0


def run_study(
    folder: StudyFolder,
    networks: Sequence[NetworkSpec] | None = None,
    settings: Settings = PLAIN,
    *,
    jobs: int | None = None,
    retry_failed: bool = False,
    report: Report | None = None,
    stack: StackSize = "off",
    say: Callable[[str], None] | None = None,
    cluster: RayOptions | None = None,
) -> RunSummary:
    """Train every network that has no trajectory yet.

    One process per job; a finished network is one file, written whole. Whatever kills a worker, the
    runner or the machine, at most the networks in flight are lost, and with
    ``settings.checkpoint_every`` little of those; the next run goes on from there.
    A network that raises is recorded with its traceback and left alone until ``retry_failed``.

    Parameters
    ----------
    folder : the study's folder, from `StudyFolder.create`.
    networks : those to train; None for all of the study.
    settings : how the networks trained now are trained, and what of them is stored and measured.
    jobs : worker processes; None for one per usable core.
    retry_failed : train again what failed before.
    report : called at every event, for progress bars.
    stack : how many networks train as one program, see `goaldriven.studies.stacking`.
    say : called with what there is to say about stacks.
    cluster : train on this Ray cluster instead of the local pool; ``jobs`` then is how many
        networks or stacks are handed to it at a time, None for all.

    Raises
    ------
    StudyError : the device is not there; the folder is in use by another run, or cannot be written
        any more.
    SpecError : stacks have no such options; see `check_stackable`.
    KeyboardInterrupt : after the workers have been stopped.
    """
    if jobs is not None and jobs < 1:
        raise StudyError(f"jobs must be at least 1, got {jobs}")
    check_device(settings.device, here=cluster is None)
    every = settings.checkpoint_every
    if stack != "off":
        check_stackable(settings.runtime)
    chosen = tuple(networks) if networks is not None else folder.study.networks()
    left = [n for n in chosen if not folder.is_finished(n)]
    failed_before = [n for n in left if folder.failure_path(n).exists()]
    if not retry_failed:
        left = [n for n in left if n not in failed_before]
    keep = every is not None and every.keep
    account = Account(deque(left), partial(remote.is_finished, folder), keeps_resume=keep)
    with locked(folder.path, "run"):
        if left:
            plan = None
            if stack != "off":
                plan = partial(
                    plan_stacks,
                    size=stack,
                    device=settings.device,
                    threads=settings.threads,
                    say=say,
                    epochs=resume_files.epochs_of(folder, left),
                )
            _serve(folder, account, jobs, settings, _publishing(folder, report), cluster, plan)
        remote.refresh(folder)
    return RunSummary(
        finished=account.finished,
        failed=account.failed,
        already_done=sum(folder.is_finished(n) for n in chosen) - account.finished,
        skipped_failed=0 if retry_failed else len(failed_before),
    )


def _publishing(folder: StudyFolder, report: Report | None) -> Report:
    """Upload what is finished before it is reported, where the study lives at a URL."""

    def published(kind: str, network: NetworkSpec) -> None:
        remote.publish(folder, kind, network)
        if report is not None:
            report(kind, network)

    return published


def _serve(
    folder: StudyFolder,
    account: Account,
    jobs: int | None,
    settings: Settings,
    report: Report,
    cluster: RayOptions | None,
    plan: Callable[..., Pending] | None,
) -> None:
    """By the local pool or a Ray cluster; ``plan`` puts networks together to stacks."""
    if cluster is None:
        n_workers = min(jobs or usable_cores(), len(account.pending))
        if plan is not None:
            account.pending = plan(tuple(account.pending), jobs=n_workers)
        serve(folder, account, min(n_workers, len(account.pending)), settings, report)
    else:
        from goaldriven.studies.executors import ray

        ray.serve(folder, account, jobs, settings, report, cluster, plan)


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve(
    folder: StudyFolder,
    account: Account,
    n_workers: int,
    settings: Settings | MeasureSettings,
    report: Report,
) -> None:
    """Keep ``n_workers`` processes busy until nothing is pending or in flight."""
    workers: list[_Worker] = []

    def start() -> _Worker:
        context = multiprocessing.get_context("spawn")  # torch and CUDA do not survive a fork
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, folder, settings), daemon=True)
        with _interrupts_ignored():  # inherited: Ctrl-C is the runner's to handle, not a worker's
            process.start()
        theirs.close()
        return _Worker(process, ours)

    try:
        workers.extend(start() for _ in range(n_workers))
        while workers:
            ready = multiprocessing.connection.wait([w.connection for w in workers])
            for worker in [w for w in workers if w.connection in ready]:
                if _hear(worker, folder, account, report):
                    continue
                workers.remove(worker)
                worker.process.join()
                if account.pending and len(workers) < n_workers:
                    workers.append(start())
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            for network in worker.networks:
                folder.unmark_running(network)
        clear_partial(folder.path)


def _hear(worker: _Worker, folder: StudyFolder, account: Account, report: Report) -> bool:
    """Take one message of a worker; False when it has gone (dismissed or killed)."""
    try:
        message: Message = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        _bury(worker, folder, account, report)
        return False
    if message.kind == "ready":
        item = account.pending.popleft() if account.pending else None
        worker.networks = item if isinstance(item, tuple) else () if item is None else (item,)
        with contextlib.suppress(BrokenPipeError):
            worker.connection.send(item)
        return item is not None
    network = next((n for n in worker.networks if message.network_id in ("", n.network_id)), None)
    if network is None:
        raise RuntimeError(f"a worker without a network reported {message.kind!r}")
    settle(folder, account, report, network, message.kind, message.text)
    if message.kind in ("done", "failed"):
        worker.networks = tuple(n for n in worker.networks if n != network)
    return True


def settle(
    folder: StudyFolder,
    account: Account,
    report: Report,
    network: NetworkSpec,
    kind: str,
    text: str,
) -> None:
    """Keep account of what a worker says of its network, and pass it on.

    Raises
    ------
    StudyError : the worker could not write.
    """
    if kind == "storage":
        raise StudyError(f"{text}; what was finished is kept, run again to go on")
    if kind == "done":
        account.finished += 1
        folder.failure_path(network, account.failures).unlink(missing_ok=True)
    elif kind == "failed":
        account.failed += 1
        folder.record_failure(network, text, account.failures)
    report(kind, network)


def _bury(worker: _Worker, folder: StudyFolder, account: Account, report: Report) -> None:
    """A worker died: its network goes back to the queue, unless it has killed one before.

    Networks of a stack go back one by one, each with both of its tries.
    """
    worker.process.join()
    if not worker.networks:
        if worker.process.exitcode:
            raise StudyError(
                f"a worker process ended with exit code {worker.process.exitcode} before it took "
                "a network; see its message above"
            )
        return
    alone = len(worker.networks) == 1
    for network in worker.networks:
        how = f"(exit code {worker.process.exitcode})"
        put_back(folder, account, report, network, how, counts=alone)


def put_back(
    folder: StudyFolder,
    account: Account,
    report: Report,
    network: NetworkSpec,
    how: str | None,
    counts: bool = True,
) -> None:
    """A network's worker is gone; the network goes back to the queue unless it is done after all.

    Parameters
    ----------
    how : how the worker died, which the network is to answer for: at the `MAX_DEATHS`-th time it
        is recorded as failed. None if the machine was lost, for which it is not.
    counts : whether this death is one of those; not where others of a stack may be to blame.
    """
    folder.unmark_running(network)
    if account.is_done(network):  # killed between the write and the message
        if not account.keeps_resume:
            resume_files.drop(folder, network)
        settle(folder, account, report, network, "done", "")
        return
    if how is None:
        account.pending.append(network)
        report("lost", network)
        return
    deaths = account.deaths.get(network.network_id, 0) + counts
    account.deaths[network.network_id] = deaths
    if deaths >= MAX_DEATHS:
        reason = f"its worker was killed {deaths} times {how}".rstrip()
        settle(folder, account, report, network, "failed", reason)
    else:
        account.pending.append(network)
        report("killed", network)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """SIGINT is ignored inside; only the main thread can arrange it, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
