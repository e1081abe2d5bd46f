"""A real Ray cluster of two nodes: what is lost comes back, and the results are those of here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec
from goaldriven.studies import Settings, StudyFolder, run_study
from goaldriven.studies.executors import ray as executor
from goaldriven.studies.executors import ray_cluster
from goaldriven.studies.executors.ray_cluster import RayOptions
from goaldriven.trajectories import read

from .ray_nodes import (
    assert_same,
    at_work,
    no_token,
    power_off,
    second_node,
    study_of,
    trajectories,
)

ray = pytest.importorskip("ray")

# One process runs them all: they share a cluster.
pytestmark = pytest.mark.xdist_group("ray")


LONGER = study_of(24, epochs=600, record_every=300)
"""A quarter of a second each, so that a node is at work when it is lost."""


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> StudyFolder:
    """The 24 networks by the local pool."""
    folder = StudyFolder.create(tmp_path_factory.mktemp("ray") / "local", LONGER)
    assert run_study(folder, jobs=1).finished == 24
    return folder


@pytest.mark.slow
def test_a_study_begun_here_ends_on_a_cluster_that_loses_a_node(
    apart, cluster, options, local, tmp_path
):
    folder = StudyFolder.create(tmp_path / "out", local.study)
    begun = folder.study.networks()[:4]
    for network in begun:
        shutil.copy(local.trajectory_path(network), folder.trajectory_path(network))
    stamps = [folder.trajectory_path(n).stat().st_mtime_ns for n in begun]
    victim, kinds = second_node(cluster), []

    def report(kind: str, network: NetworkSpec) -> None:
        kinds.append(kind)
        if kinds.count("done") >= 6 and (workers := at_work(victim, folder)):
            power_off(cluster, victim, workers)

    summary = run_study(folder, report=report, cluster=options)
    assert (summary.finished, summary.failed, summary.already_done) == (20, 0, 4)
    assert kinds.count("done") == 20
    assert "lost" in kinds
    assert "killed" not in kinds
    assert folder.count() == {"trained": 24}
    assert [folder.trajectory_path(n).stat().st_mtime_ns for n in begun] == stamps
    assert not [p for p in folder.path.rglob(".*") if p.name != ".lock"]
    assert not list((folder.path / "running").iterdir())
    assert_same(trajectories(folder), trajectories(local))


@pytest.mark.slow
def test_a_network_that_kills_its_workers_fails_and_no_other_does(joined, tmp_path):
    study = study_of(4, epochs=10_000, record_every=5000)
    folder, (victim, other, *_) = StudyFolder.create(tmp_path / "out", study), study.networks()
    kinds = []

    def report(kind: str, network: NetworkSpec) -> None:
        kinds.append((kind, network))
        if kind == "epoch" and network == victim:
            pid = json.loads(folder.running_path(network).read_text())["pid"]
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)

    summary = run_study(folder, [victim, other], report=report, cluster=joined)
    assert (summary.finished, summary.failed) == (1, 1)
    assert ("killed", victim) in kinds
    said = json.loads(folder.failure_path(victim).read_text())["traceback"]
    assert said == "its worker was killed 2 times"
    assert folder.count() == {"failed": 1, "trained": 1, "left": 2}
    epochs = [n for kind, n in kinds if kind == "epoch"]
    assert 1 <= epochs.count(other) <= 10_000


@pytest.mark.slow
def test_files_of_nodes_that_share_no_disk_come_back_through_the_driver(
    joined, tmp_path, monkeypatch
):
    study = study_of(2)
    folder = StudyFolder.create(tmp_path / "out", study)
    monkeypatch.setattr(executor, "_token", no_token)
    run_study(folder, settings=Settings(keep_checkpoints=True), cluster=joined)
    here = StudyFolder.create(tmp_path / "here", study)
    run_study(here, settings=Settings(keep_checkpoints=True), jobs=1)
    assert_same(trajectories(folder), trajectories(here))
    for path in (here.path / "checkpoints").rglob("*.safetensors"):
        copy = folder.path / path.relative_to(here.path)
        assert copy.read_bytes() == path.read_bytes()
    assert len(list((folder.path / "checkpoints").rglob("*.*"))) == 2 * 3


@pytest.mark.slow
def test_a_folder_that_takes_no_more_ends_the_run_and_loses_nothing(joined, tmp_path):
    """A file in the place of the folder of trajectories: the worker's writes fail, as on a full
    disk."""
    folder = StudyFolder.create(tmp_path / "out", study_of(2))
    first, second = folder.study.networks()
    run_study(folder, [first], cluster=joined)
    (folder.path / "networks").rename(folder.path / "aside")
    (folder.path / "networks").write_text("")
    with pytest.raises(StudyError, match=r"cannot write .*run again to go on"):
        run_study(folder, [second], cluster=joined)
    (folder.path / "networks").unlink()
    (folder.path / "aside").rename(folder.path / "networks")
    summary = run_study(folder, cluster=joined)
    assert (summary.finished, summary.already_done) == (1, 1)


@pytest.mark.slow
def test_nodes_with_other_code_are_refused(joined, tmp_path, monkeypatch):
    folder = StudyFolder.create(tmp_path / "out", study_of(1))
    monkeypatch.setattr(executor, "code_version", lambda: "9.9 (sources 0)")
    with pytest.raises(StudyError, match=r"driver's goaldriven, 9.9 .*; node .* has 0\.\d"):
        run_study(folder, cluster=joined)
    assert folder.count() == {"left": 1}


@pytest.mark.slow
def test_what_no_node_can_hold_is_refused(joined, tmp_path):
    folder = StudyFolder.create(tmp_path / "out", study_of(1))
    too_large = RayOptions(joined.address, cpus_per_network=64)
    with pytest.raises(StudyError, match=r"must fit on a node of the cluster, got 64 and 0"):
        run_study(folder, cluster=too_large)
    with pytest.raises(StudyError, match="gpus_per_network must be above 0 with device cuda"):
        run_study(folder, settings=Settings("cuda"), cluster=joined)


def driver_with_a_network_done(options: RayOptions, tmp_path: Path) -> tuple[Popen, Path]:
    """``goaldriven run`` on a study of four networks of seconds each, the first of them done."""
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(
        "name: long\ntasks: [{name: digits, train_limit: 64, validation_limit: 32}]\n"
        "architectures: [{name: mlp, hidden: [16]}]\nrules: [sgdm]\nbatch_sizes: [32]\n"
        "model_seeds: [0, 1, 2, 3]\nepochs: 4000\nrecord_every: 2000\n"
    )
    command = [sys.executable, "-m", "goaldriven.cli", "run", str(study), "--out", str(out),
               "--executor", "ray", "--address", options.address]  # fmt: skip
    driver = Popen(command, stderr=PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("networks/*.nc")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return driver, out


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_was_stopped_or_killed_goes_on(joined, tmp_path, sent):
    driver, out = driver_with_a_network_done(joined, tmp_path)
    driver.send_signal(sent)
    _, said = driver.communicate(timeout=60)
    finished = {p.name: p.stat().st_mtime_ns for p in out.glob("networks/*.nc")}
    assert 1 <= len(finished) < 4
    for name in finished:
        read(out / "networks" / name)
    if sent == signal.SIGINT:
        assert driver.returncode == 130
        assert "finished networks are kept" in said
        assert "Traceback" not in said
        assert not list(out.glob("running/*"))
    folder = StudyFolder.open(out)
    assert run_study(folder, cluster=joined).finished <= 4 - len(finished)
    assert folder.count() == {"trained": 4}
    assert {n: (out / "networks" / n).stat().st_mtime_ns for n in finished} == finished


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "ray://127.0.0.1:{free}"])
def test_an_address_where_nobody_listens_is_refused_at_once(apart, tmp_path, address):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = address.format(free=reserved.getsockname()[1])
        folder = StudyFolder.create(tmp_path / "out", study_of(1))
        started = time.monotonic()
        with pytest.raises(StudyError, match=r"cluster that can be reached.*Connection refused"):
            run_study(folder, cluster=RayOptions(address))
        assert time.monotonic() - started < 10


def test_a_listener_that_is_no_cluster_is_refused(monkeypatch):
    monkeypatch.setattr(ray_cluster, "ANSWER_WITHIN", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(StudyError, match=r"no answer within 0.5 s; start one \('ray start"):
            ray_cluster._check_address(address)
        answering = threading.Thread(target=_answer_as_a_web_server, args=(mute,))
        answering.start()
        with pytest.raises(StudyError, match="what listens there is not Ray"):
            ray_cluster._check_address(address)
        answering.join()


def _answer_as_a_web_server(server: socket.socket) -> None:
    for _ in range(2):  # the first is that of the call that gave up
        line, _ = server.accept()
        with line:
            line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpus_per_network": 1.5}, "gpus_per_network must be between 0 and 1, or a whole number"),
        ({"cpus_per_network": -1}, "cpus_per_network must be between 0 and 1"),
    ],
)
def test_shares_that_ray_cannot_give_are_refused(arguments, message):
    with pytest.raises(StudyError, match=message):
        RayOptions(**arguments)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(StudyError, match="must be auto, local, HOST:PORT or ray://HOST:PORT"):
        ray_cluster._check_address("somewhere")
