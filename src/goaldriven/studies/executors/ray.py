"""The Ray executor: one task per network, on as many machines as the cluster has.

Ray's own retries are off: the driver keeps account, as the local pool does. A network whose *node*
is lost (preempted, powered off) goes back to the queue as often as that happens; one whose worker
dies by itself `MAX_DEATHS` times is recorded as failed.
"""

from __future__ import annotations

import contextlib
import pickle
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies.executors.code_version import code_version
from goaldriven.studies.executors.ray_cluster import RayOptions, connected
from goaldriven.studies.executors.ray_task import Delivery, Order
from goaldriven.studies.folder import StudyFolder, clear_partial
from goaldriven.studies.runner import Account, Report, put_back, settle
from goaldriven.studies.worker import Settings
from goaldriven.trajectories.atomic import write_bytes

POLL = 0.25
"""Seconds between looks at the progress."""
GRACE = 2.0
"""Seconds in which a lost node is found out, after a worker on it has gone."""


@dataclass
class _Flight:
    """A network that has been handed to the cluster."""

    network: NetworkSpec
    key: str
    node: str | None = None
    epochs: int = 0
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
    flights: dict[Any, _Flight] = field(default_factory=dict)  # by Ray's reference to the result
    suspects: list[_Flight] = field(default_factory=list)
    attempts: int = 0

    def __post_init__(self) -> None:
        self.task = self.ray.remote(_entry(code_version())).options(
            num_cpus=self.options.cpus_per_network,
            num_gpus=self.options.gpus_per_network,
            max_retries=0,
        )
        self.board = _board(self.ray)

    def run(self) -> None:
        """Until nothing is pending, in flight or suspected."""
        heard = 0.0
        while self.account.pending or self.flights or self.suspects:
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
            network = self.account.pending.popleft()
            assert not isinstance(network, tuple)  # stacks are refused; narrows the type
            self.attempts += 1
            flight = _Flight(network, f"{network.network_id}/{self.attempts}")
            order = pickle.dumps(Order(self.folder, network, self.settings, self.token))
            self.flights[self.task.remote(order, self.board, flight.key)] = flight

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

    def hear(self) -> None:
        """Take the news of all networks in flight from the board."""
        try:
            news = self.ray.get(self.board.news.remote(), timeout=10)
        except self.ray.exceptions.RayError:
            return  # progress is for people; the results do not depend on it
        by_key = {flight.key: flight for flight in self.flights.values()}
        for key, (node, epochs) in news.items():
            flight = by_key.get(key)
            if flight is None:
                continue
            if flight.node is None:
                flight.node = node
                if not self.folder.running_path(flight.network).exists():
                    self.folder.mark_running(flight.network)  # the worker has, in a shared folder
            for _ in range(epochs - flight.epochs):
                self.report("epoch", flight.network)
            flight.epochs = max(flight.epochs, epochs)

    def land(self, reference: Any, flight: _Flight) -> None:
        """A task has ended, one way or another."""
        errors = self.ray.exceptions
        network = flight.network
        try:
            delivery: Delivery = self.ray.get(reference)
        except errors.LocalRayletDiedError:  # the one this driver talks to, and all with it
            raise StudyError(
                f"the Ray cluster {self.options.address!r} has gone; what was finished is kept, "
                "run again to go on"
            ) from None
        except (errors.NodeDiedError, errors.ObjectLostError):
            self.lose(flight)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            if isinstance(error, errors.OutOfMemoryError):
                self.bury(flight, "by Ray, as its node had run out of memory")
            else:
                flight.died = time.monotonic()
                self.suspects.append(flight)
        except errors.RayTaskError as error:
            _refuse_other_code(error)
            settle(self.folder, self.account, self.report, network, "failed", str(error))
        else:
            for name, content in delivery.files:
                write_bytes(self.folder.path / name, content)
            kind, text = delivery.message.kind, delivery.message.text
            settle(self.folder, self.account, self.report, network, kind, text)
        self.folder.unmark_running(network)

    def judge(self) -> None:
        """Was it the worker or its node? Wait a little for the cluster to notice."""
        if not self.suspects:
            return
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        for flight in list(self.suspects):
            gone = flight.node is not None and flight.node not in alive
            if gone or time.monotonic() - (flight.died or 0.0) > GRACE:
                self.suspects.remove(flight)
                (self.lose if gone else lambda f: self.bury(f, ""))(flight)

    def lose(self, flight: _Flight) -> None:
        put_back(self.folder, self.account, self.report, flight.network, None)

    def bury(self, flight: _Flight, how: str) -> None:
        put_back(self.folder, self.account, self.report, flight.network, how)

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
) -> None:
    """Train what is pending on a Ray cluster.

    Parameters
    ----------
    jobs : networks handed to the cluster at a time; None for all, which Ray queues.

    Raises
    ------
    StudyError : no cluster can be reached, its nodes run other code, or results cannot be written.
    """
    if settings.device.startswith("cuda") and not options.gpus_per_network:
        raise StudyError(f"gpus_per_network must be above 0 with device {settings.device}, got 0")
    _unmark_all(folder)  # marks of a driver that was killed
    try:
        with connected(options) as (ray, stays), _token(folder) as token:
            driver = _Driver(ray, folder, account, settings, report, options, jobs, token)
            try:
                driver.run()
            finally:
                if stays:
                    driver.stop()
    finally:
        _unmark_all(folder)
    clear_partial(folder.path)


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


_OTHER_CODE = "goaldriven-other-code:"


def _entry(expected: str) -> Callable[[bytes, Any, str], Any]:
    """The task. Being local, it travels whole, and can look before the node's code is trusted."""
    marker = _OTHER_CODE

    def fulfil_order(order: bytes, board: Any, key: str) -> Any:
        import pickle
        import socket

        import ray

        here = f"node {socket.gethostname()} ({ray.util.get_node_ip_address()})"
        try:
            from goaldriven.studies.executors.code_version import code_version
        except ImportError as error:
            raise RuntimeError(f"{marker}{here} has none or an older one ({error})") from None
        if code_version() != expected:
            raise RuntimeError(f"{marker}{here} has {code_version()}")
        from goaldriven.studies.executors.ray_task import fulfil

        node = ray.get_runtime_context().get_node_id()
        board.tell.remote(key, node, 0)
        return fulfil(pickle.loads(order), lambda epochs: board.tell.remote(key, node, epochs))

    return fulfil_order


def _refuse_other_code(error: Exception) -> None:
    text = str(error)
    if _OTHER_CODE in text:
        what = text.rpartition(_OTHER_CODE)[2].strip().split("\n")[0]
        raise StudyError(
            f"all nodes must have the driver's goaldriven, {code_version()}; {what}. Install the "
            "same one everywhere; what was finished is kept, run again to go on"
        )


def _board(ray: ModuleType) -> Any:
    """An actor beside the driver's scheduler to which tasks tell where they are."""

    class Board:
        def __init__(self) -> None:
            self._news: dict[str, tuple[str, int]] = {}

        def tell(self, key: str, node: str, epochs: int) -> None:
            self._news[key] = (node, epochs)

        def news(self) -> dict[str, tuple[str, int]]:
            news, self._news = self._news, {}
            return news

    head = any(node["Resources"].get("node:__internal_head__") for node in ray.nodes())
    where = {"node:__internal_head__": 0.001} if head else {}
    return ray.remote(Board).options(num_cpus=0, resources=where, max_restarts=-1).remote()
