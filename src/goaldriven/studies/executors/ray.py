"""The Ray executor: one task per network or stack, on as many machines as the cluster has.

Ray's own retries are off: the driver keeps account, as the local pool does. What a *node* was
training that is lost (preempted, powered off) goes back to the queue as often as that happens; a
network whose worker dies by itself `MAX_DEATHS` times is recorded as failed.
"""

from __future__ import annotations

import contextlib
import pickle
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies import resume_files
from goaldriven.studies.executors.code_version import code_version
from goaldriven.studies.executors.ray_board import Files, start_board
from goaldriven.studies.executors.ray_cluster import RayOptions, connected, slots
from goaldriven.studies.executors.ray_entry import entry, refuse_other_code
from goaldriven.studies.executors.ray_pulse import Pulse, in_time, pulse_of
from goaldriven.studies.executors.ray_task import Delivery, Order, TrialOrder
from goaldriven.studies.folder import StudyFolder, clear_partial
from goaldriven.studies.runner import Account, Report, put_back, settle
from goaldriven.studies.stacking import Pending
from goaldriven.studies.worker import Settings
from goaldriven.trajectories.atomic import write_bytes

POLL = 0.25
"""Seconds between looks at the progress, and the most that is spent at a time on states."""
GRACE = 2.0
"""Seconds in which a lost node is found out, after a worker on it has gone."""
NEWS_WITHIN, TAKEN_WITHIN = 10.0, 60.0
"""Seconds that the board has to tell its news, and to hand over a parcel."""

Plan = Callable[..., Pending]
"""`plan_stacks` with all but networks, ``jobs`` and ``find_size``."""


class ClusterGone(StudyError):
    """The cluster has; nothing more is to be asked of it."""


@dataclass
class _Flight:
    """A network, or a stack of them, that has been handed to the cluster."""

    networks: tuple[NetworkSpec, ...]
    key: str
    node: str | None = None
    epochs: dict[str, int] = field(default_factory=dict)
    died: float | None = None  # when its worker did


@dataclass
class _Driver:
    ray: ModuleType
    folder: StudyFolder
    account: Account
    settings: Settings
    report: Report
    options: RayOptions
    jobs: int | None
    token: Path
    pulse: Pulse
    flights: dict[Any, _Flight] = field(default_factory=dict)  # by Ray's reference to the result
    suspects: list[_Flight] = field(default_factory=list)
    attempts: int = 0

    def __post_init__(self) -> None:
        self.code = code_version()
        self.tasks = self.ray.remote(entry(self.code))
        self.shares = {
            "num_cpus": self.options.cpus_per_network,
            "num_gpus": self.options.gpus_per_network,
        }
        self.task = self.tasks.options(**self.shares, max_retries=0)
        self.board = start_board(self.ray)

    def run(self) -> None:
        """Until nothing is pending, in flight or suspected."""
        heard = 0.0
        while self.account.pending or self.flights or self.suspects:
            self.feel()
            self.launch()
            ready = self.wait()
            if ready or time.monotonic() - heard >= POLL:
                heard = time.monotonic()
                self.hear()
            for reference in ready:
                self.land(reference, self.flights.pop(reference))
            self.judge()

    def launch(self) -> None:
        while self.account.pending and (self.jobs is None or len(self.flights) < self.jobs):
            item = self.account.pending.popleft()
            networks = _together(item)
            self.attempts += 1
            flight = _Flight(networks, f"{networks[0].network_id}/{self.attempts}")
            has_state = any(resume_files.states(self.folder, network) for network in networks)
            order = Order(self.folder, networks, self.settings, self.token, has_state)
            reference = self.task.remote(pickle.dumps(order), self.board, flight.key)
            self.flights[reference] = flight

    def wait(self) -> list[Any]:
        """Results that have arrived; all that have as soon as there is one."""
        if not self.flights:
            time.sleep(POLL)
            return []
        references = list(self.flights)
        ready, _ = self.ray.wait(references, num_returns=1, timeout=POLL)
        if ready:
            ready, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        return list(ready)

    def fetch(self, reference: Any, within: float) -> Any:
        """Wait for something, but not for a cluster that has gone.

        Raises
        ------
        RayError : it cannot be had, or not in time.
        ClusterGone : the cluster has.
        """
        deadline = time.monotonic() + within
        while not self.ray.wait([reference], timeout=POLL)[0]:
            self.feel()
            if time.monotonic() > deadline:
                raise self.ray.exceptions.GetTimeoutError(f"not within {within:g} s")
        return self.ray.get(reference)

    def feel(self) -> None:
        """End the run where the cluster has gone."""
        trouble = self.pulse.trouble()
        if trouble is not None:
            raise self.gone(trouble)

    def gone(self, trouble: str) -> ClusterGone:
        kept = f"all finished networks, {self.account.finished} of this run among them"
        if self.settings.checkpoint_every is not None and self.folder.url is None:
            flying = (n for f in self.flights.values() for n in f.networks)
            begun = sum(bool(resume_files.states(self.folder, n)) for n in flying)
            kept += f", and states to go on from of {begun} that were in training"
        elif self.settings.checkpoint_every is not None:
            kept += ", and the states that those in training have uploaded"
        return ClusterGone(
            f"the Ray cluster {self.options.address!r} has gone ({trouble}); kept are {kept}; the "
            "same command goes on, on this cluster when it is back or on another by its --address"
        )

    def hear(self) -> None:
        """Take the news of all that is in flight from the board."""
        try:
            news = self.fetch(self.board.news.remote(), NEWS_WITHIN)
            by_key = {flight.key: flight for flight in self.flights.values()}
            progress, notes, parcels, wanted = news
            for key, (node, epochs) in progress.items():
                if key in by_key:
                    self.follow(by_key[key], node, epochs)
            for text in notes:
                warnings.warn(text, stacklevel=2)
            for key in wanted:
                if key in by_key:
                    self.board.supply.remote(key, self.state(by_key[key]))
            started = time.monotonic()
            for key in parcels:
                if key in by_key and time.monotonic() - started < POLL:
                    self.take(by_key[key])
        except self.ray.exceptions.RayError:
            return  # progress is for people; the results do not depend on it

    def follow(self, flight: _Flight, node: str, epochs: dict[str, int]) -> None:
        """A flight has started, or come further."""
        if flight.node is None:
            flight.node = node
            for network in flight.networks:
                if not self.folder.running_path(network).exists():
                    self.folder.mark_running(network)  # the worker has, in a shared folder
        for network in flight.networks:
            now = epochs.get(network.network_id, 0)
            before = flight.epochs.get(network.network_id, 0)
            for _ in range(now - before):
                self.report("epoch", network)
            flight.epochs[network.network_id] = max(now, before)

    def state(self, flight: _Flight) -> Files:
        """The states of networks that the driver's folder has: the latest of one, of a stack all.

        The latest of a stack's may be of different epochs, where its networks were put together.
        """
        paths = [p for n in flight.networks for p in resume_files.states(self.folder, n)]
        paths = paths[:1] if len(flight.networks) == 1 else paths
        return {p.relative_to(self.folder.path).as_posix(): p.read_bytes() for p in paths}

    def take(self, flight: _Flight) -> None:
        """What a network in training has sent that may be lost, on to the disk."""
        number, parcel = self.fetch(self.board.show.remote(flight.key), TAKEN_WITHIN)
        for name, content in parcel.items():
            write_bytes(self.folder.path / name, content)
        if parcel:
            self.board.take.remote(flight.key, number)
            for network in flight.networks:
                resume_files.prune(self.folder, network)

    def land(self, reference: Any, flight: _Flight) -> None:
        """A task has ended, one way or another."""
        errors = self.ray.exceptions
        try:
            delivery: Delivery = self.ray.get(reference)
        except errors.LocalRayletDiedError:  # the one this driver talks to, and all with it
            raise self.gone("its node here has died") from None
        except (errors.NodeDiedError, errors.ObjectLostError):
            self.lose(flight)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            if isinstance(error, errors.OutOfMemoryError):
                self.bury(flight, "by Ray, as its node had run out of memory")
            else:
                flight.died = time.monotonic()
                self.suspects.append(flight)
        except errors.RayTaskError as error:
            refuse_other_code(error, self.code)
            kind = "failed" if len(flight.networks) == 1 else "apart"
            for network in flight.networks:
                self.settle(network, kind, str(error))
        else:
            for name, content in delivery.files:
                write_bytes(self.folder.path / name, content)
            by_id = {n.network_id: n for n in flight.networks}
            for message in delivery.messages:
                self.settle(by_id[message.network_id], message.kind, message.text)
        if flight not in self.suspects:
            self.board.forget.remote(flight.key)
        for network in flight.networks:
            self.folder.unmark_running(network)

    def settle(self, network: NetworkSpec, kind: str, text: str) -> None:
        """As a worker of the local pool; what its stack has failed is trained by itself."""
        if kind == "done" and self.account.keeps_resume:
            resume_files.prune(self.folder, network)
        elif kind == "done":
            resume_files.drop_here(self.folder, network)  # those at a URL its worker has
        settle(self.folder, self.account, self.report, network, kind, text)
        if kind == "apart":
            self.account.pending.append(network)

    def judge(self) -> None:
        """Was it the worker or its node? Wait a little for the cluster to notice."""
        if not self.suspects:
            return
        try:
            nodes = in_time(self.ray.nodes, NEWS_WITHIN)
        except TimeoutError:
            return  # the pulse will tell
        alive = {node["NodeID"] for node in nodes if node["Alive"]}
        for flight in list(self.suspects):
            gone = flight.node is not None and flight.node not in alive
            if gone or time.monotonic() - (flight.died or 0.0) > GRACE:
                self.suspects.remove(flight)
                self.lose(flight) if gone else self.bury(flight, "")
                self.board.forget.remote(flight.key)

    def lose(self, flight: _Flight) -> None:
        """Its node is gone: all that was not finished goes back, as it was."""
        self.save(flight)
        left = tuple(n for n in flight.networks if not self.account.is_done(n))
        for network in flight.networks:
            if network not in left or len(left) == 1:
                put_back(self.folder, self.account, self.report, network, None)
        if len(left) > 1:
            self.account.pending.append(left)
            for network in left:
                self.report("lost", network)

    def bury(self, flight: _Flight, how: str) -> None:
        """Its worker died by itself; networks of a stack go back one by one."""
        self.save(flight)
        alone = len(flight.networks) == 1
        for network in flight.networks:
            put_back(self.folder, self.account, self.report, network, how, counts=alone)

    def save(self, flight: _Flight) -> None:
        """What of it is still on the board."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.take(flight)

    def find_size(
        self,
        group: Sequence[NetworkSpec],
        device: str,
        threads: int,
        jobs: int,
        tell: Callable[[str], None],
    ) -> int:
        """What ``--stack auto`` comes to, by a trial on a node; see `stacking.trial`."""
        _, sharing = slots(self.ray, self.options)
        order = pickle.dumps(TrialOrder(tuple(group), device, threads, min(jobs, sharing)))
        task = self.tasks.options(**self.shares, max_retries=3)
        try:
            reference = task.remote(order, self.board, "trial")
            size, text = self.fetch(reference, float("inf"))
        except self.ray.exceptions.RayError as error:
            refuse_other_code(error, self.code)
            size, text = 1, "the trial of stacks failed; networks train one by one"
        tell(text)
        return int(size)

    def plan(self, plan: Plan) -> None:
        """Put pending networks together to stacks."""
        at_once, _ = slots(self.ray, self.options)
        networks = [n for item in self.account.pending for n in _together(item)]
        jobs = min(self.jobs or at_once, at_once, len(networks))
        self.account.pending = plan(networks, jobs=jobs, find_size=self.find_size)

    def stop(self) -> None:
        """Leave nothing running on a connection that stays; one that ends takes all with it.

        Tasks are interrupted, not killed: a task that is killed as it ends makes Ray 2.60 abort
        the driver ("Tried to complete task that was not pending").
        """
        for reference in self.flights:
            with contextlib.suppress(Exception):
                self.ray.cancel(reference)
        with contextlib.suppress(Exception):
            self.ray.kill(self.board)


def serve(
    folder: StudyFolder,
    account: Account,
    jobs: int | None,
    settings: Settings,
    report: Report,
    options: RayOptions,
    plan: Plan | None = None,
) -> None:
    """Train what is pending on a Ray cluster.

    Parameters
    ----------
    jobs : networks or stacks handed to the cluster at a time; None for all, which Ray queues.
    plan : `plan_stacks` for this run; None for no stacks.

    Raises
    ------
    StudyError : no cluster can be reached, it goes away, its nodes run other code, or results
        cannot be written.
    """
    if settings.device.startswith("cuda") and not options.gpus_per_network:
        raise StudyError(f"gpus_per_network must be above 0 with device {settings.device}, got 0")
    _unmark_all(folder)  # marks of a driver that was killed
    try:
        with (
            connected(options) as (ray, stays),
            _token(folder) as token,
            pulse_of(ray, options.address) as pulse,
        ):
            driver = _Driver(ray, folder, account, settings, report, options, jobs, token, pulse)
            try:
                if plan is not None:
                    driver.plan(plan)
                driver.run()
            except ClusterGone:
                ray.shutdown()  # a connection that stayed would have Ray end this process
                raise
            finally:
                if stays and ray.is_initialized():
                    driver.stop()
    finally:
        _unmark_all(folder)
    clear_partial(folder.path)


def _together(item: NetworkSpec | tuple[NetworkSpec, ...]) -> tuple[NetworkSpec, ...]:
    """What is trained by one task."""
    return item if isinstance(item, tuple) else (item,)


def _unmark_all(folder: StudyFolder) -> None:
    for mark in (folder.path / "running").glob("*.json"):
        mark.unlink(missing_ok=True)


@contextlib.contextmanager
def _token(folder: StudyFolder) -> Iterator[Path]:
    """A file by which nodes know that they see the driver's folder itself."""
    token = folder.path / "running" / f".driver-{secrets.token_hex(8)}"
    write_bytes(token, b"")
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)
