"""Two Ray nodes on this machine, an S3-compatible store, and the studies that are trained there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import xarray as xr

from goaldriven.specs import Study
from goaldriven.studies import StudyFolder
from goaldriven.trajectories import read

STORE = 78_643_200  # bytes; the least that Ray allows


def study_of(n_networks: int, **changes: object) -> Study:
    """So many tiny networks on a handful of digits, a fraction of a second each."""
    fields = {
        "name": "tiny",
        "tasks": [{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        "architectures": [{"name": "mlp", "hidden": [16]}],
        "rules": ["sgdm", "fa"] if n_networks > 1 else ["sgdm"],
        "batch_sizes": [32],
        "model_seeds": list(range(max(1, n_networks // 2))),
        "epochs": 6,
        "record_every": 3,
    }
    return Study(**fields | changes)


def trajectories(folder: StudyFolder) -> dict[str, xr.Dataset]:
    """By network, without the times that they took."""
    times = {"seconds": 0.0, "recording_seconds": 0.0}
    return {
        n.network_id: read(folder.trajectory_path(n)).assign_attrs(times)
        for n in folder.study.networks()
        if folder.is_finished(n)
    }


def assert_same(a: dict[str, xr.Dataset], b: dict[str, xr.Dataset]) -> None:
    """Bit for bit."""
    assert a
    assert a.keys() == b.keys()
    for network_id in a:
        xr.testing.assert_identical(a[network_id], b[network_id])


@contextmanager
def two_nodes() -> Iterator[object]:
    """A cluster of a head and one more node, of one core each; see `ray.cluster_utils`."""
    cluster = _started(tries=3)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _started(tries: int) -> object:
    """Ray gives a node 30 seconds to start, which a busy machine may overrun."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE}
    for left in reversed(range(tries)):
        cluster = Cluster()
        try:
            cluster.add_node(**node, include_dashboard=False)
            cluster.add_node(**node)
        except Exception:
            cluster.shutdown()
            if not left:
                raise
        else:
            return cluster
    raise AssertionError


@contextmanager
def s3_store() -> Iterator[dict[str, str]]:
    """An S3-compatible store (moto's) on this machine, and what a process needs to reach it.

    Nothing where moto or s3fs is not installed.
    """
    try:
        import s3fs  # noqa: F401
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield {}
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.stop()


class no_token:
    """What a node sees that does not share the driver's disk: no token."""

    def __init__(self, folder: StudyFolder) -> None:
        self.path = folder.path / "nothing"

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        return None


def second_node(cluster: object) -> object:
    """The node that is not the head, a new one if it has been killed."""
    others = cluster.worker_nodes  # type: ignore[attr-defined]
    if not others:
        cluster.add_node(num_cpus=1, object_store_memory=STORE)  # type: ignore[attr-defined]
        others = cluster.worker_nodes  # type: ignore[attr-defined]
    return next(iter(others))


@contextmanager
def head_occupied(folder: Path) -> Iterator[Callable[[], None]]:
    """Take the head's only core, so that training begins on the node that will be lost.

    Parameters
    ----------
    folder : any that the head sees.

    Yields
    ------
    What gives the core back; it is given back in the end whatever happens.
    """
    import ray

    begun, free = folder / "head-occupied", folder / "head-free"

    @ray.remote(num_cpus=1, resources={"node:__internal_head__": 0.001}, max_retries=0)
    def occupy() -> None:
        begun.touch()
        while not free.exists():
            time.sleep(0.05)

    reference, deadline = occupy.remote(), time.monotonic() + 120
    try:
        while not begun.exists():
            assert time.monotonic() < deadline, "the head's core is taken already"
            time.sleep(0.05)
        yield free.touch
    finally:
        free.touch()
        ray.get(reference, timeout=60)


class Brake:
    """Slows training down on the nodes, so that it is not over before the test has acted.

    Parameters
    ----------
    path : of the file by which they are told; they must see it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def slow_from(self, epoch: int) -> None:
        """Fifty epochs a second at the most from there on, until `release`."""
        self._path.write_text(str(epoch))

    def release(self) -> None:
        self._path.unlink(missing_ok=True)

    def hook(self) -> Callable[[], None]:
        """What workers must call as they start; it travels whole, as they have no tests."""
        path = self._path

        def hook() -> None:
            from goaldriven.studies.executors import ray_task

            send = ray_task._Channel.send

            def braked(channel: Any, message: Any) -> None:
                send(channel, message)
                try:
                    slow_from = int(path.read_text())
                except (FileNotFoundError, ValueError):
                    return
                if max(channel._epochs.values()) >= slow_from:
                    time.sleep(0.02)

            ray_task._Channel.send = braked  # type: ignore[method-assign]

        return hook


def at_work(node: object, folder: StudyFolder) -> list[int]:
    """The processes of a node that are training a network now; none where the node has gone."""
    if not node.any_processes_alive():  # type: ignore[attr-defined]
        return []
    raylet, pids = _raylet(node), []
    for mark in (folder.path / "running").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # it has just finished
            pids.append(json.loads(mark.read_text())["pid"])
    return [pid for pid in pids if _parent(pid) == raylet]


def busy(node: object) -> list[int]:
    """The processes of a node that are training now, whether or not they see the folder."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    raylet, pids = _raylet(node), []
    for line in listed.stdout.splitlines():
        pid, parent, command = line.split(maxsplit=2)
        if int(parent) == raylet and command.startswith("ray::fulfil_order"):
            pids.append(int(pid))
    return pids


def power_off(cluster: object, node: object, workers: list[int]) -> None:
    """Kill a node and what works on it at once, as a power cut does."""
    for pid in (_raylet(node), *workers):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)  # type: ignore[attr-defined]


def _raylet(node: object) -> int:
    return int(node.all_processes["raylet"][0].process.pid)  # type: ignore[attr-defined]


@cache
def _parent(pid: int) -> int | None:
    said = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True)
    return int(said.stdout) if said.stdout.strip() else None
