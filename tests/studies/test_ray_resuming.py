"""A real Ray cluster whose nodes share no disk with the driver: what was trained is not lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from goaldriven.specs import Study
from goaldriven.specs.runtime import CheckpointEvery
from goaldriven.studies import StudyFolder, remote, resume_files, run_study
from goaldriven.studies.executors import ray as executor
from goaldriven.studies.executors import ray_board, ray_task
from goaldriven.studies.executors.ray_task import Order, fulfil
from goaldriven.studies.worker import Settings
from goaldriven.trajectories.atomic import write_bytes

from .ray_nodes import (
    STORE,
    assert_same,
    busy,
    head_occupied,
    no_token,
    power_off,
    second_node,
    study_of,
    trajectories,
)

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")  # one process runs them all: they share a cluster

LONG = study_of(1, epochs=3000, record_every=1000)
"""Seconds, so that it can be stopped in the middle."""
SETTINGS = Settings(keep_checkpoints=True, checkpoint_every=CheckpointEvery(epochs=100))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> StudyFolder:
    folder = StudyFolder.create(tmp_path_factory.mktemp("resuming") / "here", LONG)
    assert run_study(folder, settings=Settings(keep_checkpoints=True), jobs=1).finished == 1
    return folder


def assert_weights_same(path: Path, undisturbed: StudyFolder) -> None:
    """The kept weights of all recorded epochs, to the byte."""
    names = [p.relative_to(undisturbed.path) for p in undisturbed.path.glob("checkpoints/*/*.s*")]
    assert len(names) == 4
    for name in names:
        assert (path / name).read_bytes() == (undisturbed.path / name).read_bytes()


@pytest.mark.slow
def test_a_network_whose_node_is_lost_goes_on_from_what_it_sent(
    joined, brake, cluster, undisturbed, tmp_path, monkeypatch
):
    folder = StudyFolder.create(tmp_path / "out", LONG)
    (network,) = LONG.networks()
    monkeypatch.setattr(executor, "_token", no_token)
    kinds, states, came = [], [], []
    second_node(cluster)

    def report(kind: str, _: object) -> None:
        kinds.append(kind)
        there = resume_files.states(folder, network)
        if kind == "epoch" and there and int(there[0].stem) > 1000 and "lost" not in kinds:
            for node in cluster.list_all_nodes():
                if node != cluster.head_node and (workers := busy(node)):
                    power_off(cluster, node, workers)
                    brake.release()
                    free_head()
                    states.append(int(there[0].stem))

    def noted(path: Path, content: bytes) -> None:
        came.append((len(states), path.relative_to(folder.path).as_posix()))
        write_bytes(path, content)

    monkeypatch.setattr(executor, "write_bytes", noted)
    brake.slow_from(1200)
    with head_occupied(tmp_path) as free_head:
        run_study(folder, settings=SETTINGS, cluster=joined, report=report)
    assert kinds.count("lost") == 1
    assert "killed" not in kinds
    assert states
    assert_same(trajectories(folder), trajectories(undisturbed))
    assert_weights_same(folder.path, undisturbed)
    assert not folder.resume_path(network).exists()
    kept = f"checkpoints/{network.network_id}"
    before, after = ({name for n, name in came if n == i} for i in (0, 1))
    assert {f"{kept}/0.safetensors", f"{kept}/1000.safetensors"} <= before
    assert f"{kept}/3000.safetensors" in after
    assert f"{kept}/0.safetensors" not in after, "the second attempt began with epoch 0"
    assert f"{kept}/1000.safetensors" not in after


@pytest.mark.slow
def test_a_stack_whose_node_is_lost_goes_on_from_what_it_sent(
    joined, brake, cluster, tmp_path, monkeypatch
):
    """To the bits of here, as the same stack."""
    study = study_of(4, epochs=1500, record_every=500)
    here = StudyFolder.create(tmp_path / "here", study)
    assert run_study(here, settings=Settings(keep_checkpoints=True), jobs=1, stack=4).finished == 4
    folder, networks = StudyFolder.create(tmp_path / "out", study), study.networks()
    monkeypatch.setattr(executor, "_token", no_token)
    kinds, came = [], []
    second_node(cluster)

    def report(kind: str, _: object) -> None:
        kinds.append(kind)
        there = [resume_files.states(folder, network) for network in networks]
        if (
            kind == "epoch"
            and "lost" not in kinds
            and all(p and int(p[0].stem) > 500 for p in there)
        ):
            for node in cluster.list_all_nodes():
                if node != cluster.head_node and (workers := busy(node)):
                    power_off(cluster, node, workers)
                    brake.release()
                    free_head()

    def noted(path: Path, content: bytes) -> None:
        came.append(("lost" in kinds, path.relative_to(folder.path).as_posix()))
        write_bytes(path, content)

    monkeypatch.setattr(executor, "write_bytes", noted)
    brake.slow_from(600)
    with head_occupied(tmp_path) as free_head:
        run_study(folder, settings=SETTINGS, jobs=1, stack=4, cluster=joined, report=report)
    assert kinds.count("lost") == 4
    assert not {"killed", "apart", "failed"} & set(kinds)
    assert_same(trajectories(folder), trajectories(here))
    for network in networks:
        kept = f"checkpoints/{network.network_id}"
        for epoch, after in ((0, False), (500, False), (1500, True)):
            name = f"{kept}/{epoch}.safetensors"
            assert {late for late, one in came if one == name} == {after}, name
            assert (folder.path / name).read_bytes() == (here.path / name).read_bytes()
        assert not folder.resume_path(network).exists()


@pytest.fixture
def url(request, cluster, tmp_path, monkeypatch):
    """Outside of all folders that the driver writes to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "file":
        yield f"file://{tmp_path}/elsewhere/study"
        return
    s3fs = pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("cluster")
    yield "s3://cluster/study"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
@pytest.mark.parametrize("url", ["file", "s3"], indirect=True)
def test_results_at_a_url_and_a_killed_worker(url, joined, brake, cluster, undisturbed, tmp_path):
    folder, place = remote.create(url, LONG), remote.Remote(url)
    (network,) = LONG.networks()
    first = f"checkpoints/{network.network_id}/0.safetensors"
    kinds, killed = [], []

    def made() -> object:
        return place._opened[0].modified(place.path(first))

    def report(kind: str, _: object) -> None:
        kinds.append(kind)
        if kind == "epoch" and not killed and len(kinds) % 100 == 0:
            names = sorted(place.sizes(f"resume/{network.network_id}"))
            if place.exists(first) and names:
                (pid,) = [pid for node in cluster.list_all_nodes() for pid in busy(node)]
                os.kill(pid, signal.SIGKILL)
                brake.release()
                killed.append((made(), names))

    brake.slow_from(500)
    run_study(folder, settings=SETTINGS, cluster=joined, report=report)
    assert kinds.count("killed") == 1
    assert 1 <= len(killed[0][1]) <= resume_files.KEPT + 1
    assert made() == killed[0][0], "the second attempt began with epoch 0"
    assert not place.sizes("resume")
    fetched, _ = remote.fetch(url, tmp_path / "fetched", checkpoints=True)
    assert_same(trajectories(fetched), trajectories(undisturbed))
    assert_weights_same(fetched.path, undisturbed)
    assert run_study(remote.create(url, LONG), cluster=joined).already_done == 1


YAML = """
name: long
tasks: [{name: digits, train_limit: 64, validation_limit: 32}]
architectures: [{name: mlp, hidden: [16]}]
rules: [sgdm]
batch_sizes: [32]
model_seeds: [0, 1, 2]
epochs: 2000
record_every: 1000
"""


@pytest.mark.slow
def test_a_head_that_is_lost_ends_the_run_with_one_message(tmp_path):
    """Ray itself would abort the driver after a minute. The cluster is one of its own."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE, include_dashboard=False)
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(YAML)
    options = {"out": out, "executor": "ray", "address": cluster.address, "checkpoint-every": 50}
    command = [sys.executable, "-m", "goaldriven.cli", "run", str(study)]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (list(out.glob("networks/*.nc")) and list(out.glob("resume/*/*"))):
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.02)
    power_off_all(node)
    lost = time.monotonic()
    printed, said = driver.communicate(timeout=90)
    cluster.shutdown()
    assert driver.returncode == 2
    assert time.monotonic() - lost < 45, "well before Ray's own minute"
    (message,) = [line for line in said.splitlines() if line.startswith("goaldriven: ")]
    assert "has gone (Connection refused from " in message
    begun = len({path.parent for path in out.glob("resume/*/*")})
    assert f"and states to go on from of {begun} that were in training; the same command" in message
    for noise in ("Traceback", "GCS", "Check failed"):
        assert noise not in said + printed
    folder = StudyFolder.open(out)
    finished = folder.count()["trained"]
    assert 1 <= finished < 3
    assert run_study(folder, jobs=1).finished == 3 - finished


def power_off_all(node: object) -> None:
    """With what works on it, which might finish its network in the time it takes to notice."""
    workers = busy(node)
    for processes in node.all_processes.values():  # type: ignore[attr-defined]
        for one in processes:
            one.process.kill()
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class _Local:
    """Enough of the ``ray`` module to have a board in this process."""

    nodes = staticmethod(list)

    @staticmethod
    def remote(kind: type) -> SimpleNamespace:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=kind))


def test_the_board_holds_no_more_than_it_has_room_for(monkeypatch):
    monkeypatch.setattr(ray_board, "ROOM", 100)
    board = ray_board.start_board(_Local)
    assert board.ask("a", 60)
    assert not board.ask("b", 60), "the room is given to a"
    assert board.ask("b", 40)
    assert not board.ask("a", 1), "one at a time"
    board.post("a", 7, {"x": b"1"})
    assert board.news()[2] == ["a"]
    assert not board.ask("a", 1), "not yet taken"
    assert board.taken("a") == []
    assert board.show("a") == board.show("a") == (7, {"x": b"1"})
    board.take("a", 6)
    assert board.news()[2] == ["a"]
    board.take("a", 7)
    assert board.show("a") == (-1, {})
    assert board.taken("a") == [7]
    assert board.ask("a", 60)
    board.forget("a")
    board.post("a", 8, {"x": b"2"})  # too late: its task has been given up
    assert board.news()[2] == []
    assert board.ask("c", 60)


def test_a_state_is_handed_to_who_asked_for_it():
    board = ray_board.start_board(_Local)
    board.supply("a", {"x": b"1"})  # nobody asked
    assert board.want("a") is None
    assert board.news()[3] == ["a"]
    board.supply("a", {"x": b"2"})
    assert board.news()[3] == []
    assert board.want("a") == {"x": b"2"}


def test_states_at_a_url_are_the_last_two(tmp_path):
    place = remote.Remote(f"file://{tmp_path}/place")
    folder = StudyFolder(tmp_path / "here", LONG)
    (network,) = LONG.networks()
    for epoch in (2, 10, 9):
        name = folder.resume_path(network) / f"{epoch}.safetensors"
        write_bytes(name, b"%d" % epoch)
        if epoch != 9:
            resume_files.upload(place, folder, network)
    assert [p.stem for p in resume_files.states(folder, network)] == ["10", "9", "2"]
    write_bytes(folder.resume_path(network) / "11.safetensors", b"11")
    resume_files.upload(place, folder, network)
    other = StudyFolder(tmp_path / "other", LONG, place.url)
    assert resume_files.download(place, other, network)
    assert [p.read_bytes() for p in resume_files.states(other, network)] == [b"11", b"10"]
    resume_files.drop(other, network)
    assert not place.sizes("resume")
    assert not resume_files.download(place, other, network)


class _Line:
    """A task's line in this process: keeps what is posted, hands over what it has."""

    def __init__(self, state: dict[str, bytes] | None = None, taken: bool = False) -> None:
        self.state, self.all_taken = state or {}, taken
        self.posted: list[dict[str, bytes]] = []
        self.notes: list[str] = []

    def tell(self, epochs: object) -> None:
        pass

    def want(self) -> dict[str, bytes]:
        return self.state

    def ask(self, size: int) -> bool:
        return True

    def taken(self) -> list[int]:
        return list(range(len(self.posted))) if self.all_taken else []

    def post(self, number: int, files: dict[str, bytes]) -> None:
        assert number == len(self.posted)
        self.posted.append(files)

    def note(self, text: str) -> None:
        self.notes.append(text)


SHORT = study_of(1, epochs=6, record_every=1)


PAIR = study_of(2, epochs=6, record_every=1)


def perform(
    line: _Line, tmp_path: Path, url: str | None = None, study: Study = SHORT, **order: object
):
    """The networks of a study, by a task on a node that shares no disk; what it delivers."""
    settings = Settings(keep_checkpoints=True, checkpoint_every=CheckpointEvery(epochs=1))
    folder, networks = StudyFolder(tmp_path / "nobody-sees-it", study, url), study.networks()
    delivery = fulfil(Order(folder, networks, settings, tmp_path / "nothing", **order), line)
    assert [m.kind for m in delivery.messages] == ["done"] * len(networks), delivery.messages
    return dict(delivery.files)


def kept(names) -> set[int]:
    """The epochs whose weights are among some files."""
    return {int(Path(name).stem) for name in names if name.startswith("checkpoints/")}


@pytest.mark.parametrize(("taken", "delivered"), [(False, {0, 1, 2, 3, 4, 5, 6}), (True, {6})])
def test_what_has_not_arrived_is_sent_again(monkeypatch, tmp_path, taken, delivered):
    """Parcels of a state and the weights since the last that the driver took; the rest at the end.

    The last state is that of the epoch before the last.
    """
    monkeypatch.setattr(ray_task, "POST_EVERY", 0.0)
    line = _Line(taken=taken)
    files = perform(line, tmp_path)
    assert [len([n for n in parcel if n.startswith("resume/")]) for parcel in line.posted] == [
        1
    ] * 5
    sent = [kept(parcel) for parcel in line.posted]
    new = [{0, 1}, {2}, {3}, {4}, {5}]
    assert sent == (new if taken else [set().union(*new[: i + 1]) for i in range(5)])
    # The driver takes the last parcel after the last state, so the task does not know of it.
    assert kept(files) == (delivered | {5})


def test_a_state_made_on_the_drivers_machine_is_gone_on_from_at_a_url(monkeypatch, tmp_path):
    monkeypatch.setattr(ray_task, "POST_EVERY", 0.0)
    first = _Line()
    whole = perform(first, tmp_path)
    (state,) = [(n, c) for n, c in first.posted[3].items() if n.startswith("resume/")]
    assert Path(state[0]).stem == "4"
    url = f"file://{tmp_path}/place"
    assert perform(_Line(dict([state])), tmp_path, url, has_state=True) == {}
    there = remote.Remote(url)
    assert kept(there.sizes("checkpoints")) == {5, 6}, "it did not begin with the state's epoch"
    for name, content in there.read(list(there.sizes("checkpoints"))).items():
        assert content == whole[name]
    assert not there.sizes("resume")


def test_states_of_a_stack_are_sent_together_and_gone_on_from_at_a_url(monkeypatch, tmp_path):
    monkeypatch.setattr(ray_task, "POST_EVERY", 0.0)
    first = _Line()
    whole = perform(first, tmp_path, study=PAIR)
    ids = {network.network_id for network in PAIR.networks()}
    for epoch, parcel in enumerate(first.posted, 1):
        states = {Path(name) for name in parcel if name.startswith("resume/")}
        assert {path.parent.name for path in states} == ids
        assert {path.stem for path in states} == {str(epoch)}
    states = {n: c for n, c in first.posted[3].items() if n.startswith("resume/")}
    url = f"file://{tmp_path}/place"
    assert perform(_Line(states), tmp_path, url, PAIR, has_state=True) == {}
    there = remote.Remote(url)
    assert kept(there.sizes("checkpoints")) == {5, 6}, "it did not begin with the state's epoch"
    for name, content in there.read(list(there.sizes("checkpoints"))).items():
        assert content == whole[name]
    assert {Path(name).stem for name in there.sizes("networks")} == ids
    assert not there.sizes("resume")


def test_a_state_that_is_too_large_is_not_sent(monkeypatch, tmp_path):
    monkeypatch.setattr(ray_task, "POST_EVERY", 0.0)
    monkeypatch.setattr(ray_task, "ROOM", 1000)
    line = _Line()
    files = perform(line, tmp_path)
    assert line.posted == []
    assert kept(files) == {0, 1, 2, 3, 4, 5, 6}
    (note,) = line.notes
    assert "more than the 0 that are sent through the driver; without a shared folder" in note
