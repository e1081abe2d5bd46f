"""Stacks on a real Ray cluster: the study is that of the local pool, whatever is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies import StudyFolder, remote, run_study, stacking
from goaldriven.studies.executors import ray as executor
from goaldriven.studies.executors.ray_cluster import RayOptions, slots
from goaldriven.studies.executors.ray_task import Delivery, Order, fulfil
from goaldriven.studies.worker import Settings

from .ray_nodes import (
    assert_same,
    at_work,
    head_occupied,
    no_token,
    power_off,
    second_node,
    study_of,
    trajectories,
)

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")  # one process runs them all: they share a cluster


def assert_like(folder: StudyFolder, other: StudyFolder) -> None:
    """Up to rounding, as single training and training in stacks are."""
    ours, theirs = trajectories(folder), trajectories(other)
    assert ours.keys() == theirs.keys()
    for network_id, one in ours.items():
        for name in ("loss", "training_loss", "observable"):
            np.testing.assert_allclose(one[name], theirs[network_id][name], rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_stacks_on_a_cluster_that_loses_a_node(joined, brake, cluster, tmp_path):
    """Two stacks of two, and a network that is left over; to the bits of here."""
    study = study_of(6, epochs=600, record_every=300)
    five = study.networks()[:5]
    here = StudyFolder.create(tmp_path / "here", study)
    assert run_study(here, five, jobs=1, stack=2).finished == 5
    folder = StudyFolder.create(tmp_path / "out", study)
    said, kinds, together = [], [], set()
    victim = second_node(cluster)

    def report(kind: str, network: NetworkSpec) -> None:
        kinds.append((kind, network.rule.name))
        marks = (folder.path / "running").glob("*.json")
        together.add(tuple(sorted(_pids(list(marks)))))
        pids = at_work(victim, folder)
        if kind == "epoch" and len(pids) == 2:  # the marks of two networks of one process
            power_off(cluster, victim, pids)
            brake.release()
            free_head()

    brake.slow_from(300)
    with head_occupied(tmp_path) as free_head:
        summary = run_study(folder, five, stack=2, cluster=joined, report=report, say=said.append)
    assert (summary.finished, summary.failed) == (5, 0)
    assert [kind for kind, _ in kinds].count("lost") == 2, "the two of one stack"
    assert not [kind for kind, _ in kinds if kind in ("killed", "apart", "failed")]
    assert any(len(pids) > len(set(pids)) for pids in together), "no stack was seen at work"
    assert said == ["digits/mlp/b32: 5 networks in stacks of 2"]
    assert_same(trajectories(folder), trajectories(here))
    assert not list((folder.path / "running").iterdir())


def _pids(marks: list[Path]) -> list[int]:
    """Of the workers that have marked networks, one for every mark."""
    pids = []
    for mark in marks:
        try:
            pids.append(json.loads(mark.read_text())["pid"])
        except FileNotFoundError:  # it has just finished
            continue
    return [pid for pid in pids if pid != os.getpid()]


@pytest.mark.slow
def test_a_stack_whose_worker_is_killed_is_trained_network_by_network(joined, brake, tmp_path):
    study = study_of(2, epochs=400, record_every=200)
    here = StudyFolder.create(tmp_path / "here", study)
    run_study(here, jobs=1)
    folder, kinds = StudyFolder.create(tmp_path / "out", study), []

    def report(kind: str, network: NetworkSpec) -> None:
        kinds.append(kind)
        if kind == "epoch" and "killed" not in kinds:
            for pid in set(_pids([folder.running_path(network)])):
                with contextlib.suppress(ProcessLookupError):  # the first network's news killed it
                    os.kill(pid, signal.SIGKILL)
                brake.release()

    brake.slow_from(200)
    summary = run_study(folder, jobs=1, stack=2, cluster=joined, report=report)
    assert (summary.finished, summary.failed) == (2, 0)
    assert kinds.count("killed") == 2
    assert_same(trajectories(folder), trajectories(here))


def _no_stacks() -> Callable[[], None]:
    """For a worker, where it travels whole: stacks fail as such, as for want of memory."""

    def hook() -> None:
        from goaldriven.training import stacked

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("CUDA out of memory")

        stacked.train_stack = fail

    return hook


@pytest.mark.slow
def test_a_trial_on_a_worker_and_a_stack_that_fails_there(apart, options, tmp_path, monkeypatch):
    """Nodes that share no disk; nothing is tried on the driver, which may have no GPU."""
    monkeypatch.setattr(executor, "_token", no_token)
    monkeypatch.setattr(stacking, "trial", None)
    study = study_of(2)
    here = StudyFolder.create(tmp_path / "here", study)
    run_study(here, jobs=1)
    ray.init(
        options.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"worker_process_setup_hook": _no_stacks()},
    )
    folder, kinds = StudyFolder.create(tmp_path / "out", study), []
    report = lambda kind, _: kinds.append(kind)  # noqa: E731
    run_study(folder, jobs=1, stack=2, cluster=options, report=report)
    assert (kinds.count("apart"), kinds.count("done")) == (2, 2)
    assert_same(trajectories(folder), trajectories(here))
    tried, said = StudyFolder.create(tmp_path / "tried", study), []
    run_study(tried, jobs=1, stack="auto", cluster=options, say=said.append)
    assert any(line.startswith("stacks tried (networks: ms per network") for line in said), said
    assert_like(tried, here)
    ray.shutdown()


@pytest.fixture
def threads():
    """Tasks set how many threads their process has; here it is that of all tests."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class _Line:
    """A line that nobody listens to."""

    def tell(self, epochs: object) -> None:
        pass


def in_shared_folder(folder: StudyFolder, settings: Settings) -> None:
    """The study as one stack, by a task that sees the folder itself."""
    shared = folder.path / "study.json"
    delivery = fulfil(Order(folder, folder.study.networks(), settings, shared), _Line())
    assert isinstance(delivery, Delivery)
    assert delivery.files == ()
    assert folder.count() == {"trained": len(folder.study.networks())}


def test_all_files_of_a_stack_are_delivered(threads, tmp_path):
    study = study_of(4)
    here, out = (StudyFolder.create(tmp_path / name, study) for name in ("here", "out"))
    settings = Settings(keep_checkpoints=True)
    in_shared_folder(here, settings)
    order = Order(out, study.networks(), settings, tmp_path / "nothing")
    delivery = fulfil(order, _Line())
    assert isinstance(delivery, Delivery)
    assert {m.network_id for m in delivery.messages} == {n.network_id for n in study.networks()}
    assert {m.kind for m in delivery.messages} == {"done"}
    assert [name.partition("/")[0] for name, _ in delivery.files].count("networks") == 4
    assert [name.partition("/")[0] for name, _ in delivery.files].count("checkpoints") == 4 * 3
    for name, content in delivery.files:
        if name.startswith("checkpoints"):
            assert (here.path / name).read_bytes() == content


def test_a_stack_is_uploaded_to_its_url(threads, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    study = study_of(2)
    here = StudyFolder.create(tmp_path / "here", study)
    in_shared_folder(here, Settings())
    url = f"file://{tmp_path}/place"
    order = Order(remote.create(url, study), study.networks(), Settings(), tmp_path / "nothing")
    delivery = fulfil(order, _Line())
    assert isinstance(delivery, Delivery)
    assert ([m.kind for m in delivery.messages], delivery.files) == (["done", "done"], ())
    fetched, _ = remote.fetch(url, tmp_path / "fetched")
    assert_same(trajectories(fetched), trajectories(here))


class _Nodes:
    """What Ray says of a cluster."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self._nodes = [{"Alive": True, "Resources": r} for r in resources]

    def nodes(self) -> list[dict[str, object]]:
        return [*self._nodes, {"Alive": False, "Resources": {"CPU": 99, "GPU": 99}}]


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [
        (1, 0, (12, 8)),
        (3, 0, (3, 2)),
        (0, 0, (12, 8)),
        (1, 0.25, (12, 4)),
        (2, 0.25, (6, 4)),
        (0, 0.5, (6, 2)),
        (1, 1, (3, 1)),
        (1, 2, (1, 1)),
    ],
)
def test_how_many_tasks_run_at_once_and_share_a_device(cpus, gpus, expected):
    """A node of 8 cores and 2 GPUs, and one of 4 cores and 1; tasks need both kinds."""
    nodes = _Nodes({"CPU": 8, "GPU": 2}, {"CPU": 4, "GPU": 1})
    options = RayOptions(cpus_per_network=cpus, gpus_per_network=gpus)
    assert slots(nodes, options) == expected


def test_devices_and_ray_together_are_refused(tmp_path):
    from goaldriven.commands.running import Hardware, run

    with pytest.raises(StudyError, match="devices and nodes must be 1 with --executor ray, got 2"):
        run("demo", str(tmp_path / "out"), None, None, "cpu", 1, False, None, False,
            Hardware(devices=2), cluster=RayOptions())  # fmt: skip
