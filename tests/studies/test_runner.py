"""Studies on disk: resumed equals uninterrupted, killed workers lose nothing that was finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from goaldriven.errors import StudyError
from goaldriven.specs import Study
from goaldriven.studies import StudyFolder, run_study
from goaldriven.trajectories import read

TIMES = ("seconds", "recording_seconds")


def without_times(trajectory: xr.Dataset) -> xr.Dataset:
    return trajectory.assign_attrs(dict.fromkeys(TIMES, 0.0))


def trajectories(folder: StudyFolder) -> dict[str, xr.Dataset]:
    return {
        n.network_id: without_times(read(folder.trajectory_path(n)))
        for n in folder.study.networks()
    }


def assert_same(a: dict[str, xr.Dataset], b: dict[str, xr.Dataset]) -> None:
    assert a.keys() == b.keys()
    for network_id in a:
        xr.testing.assert_identical(a[network_id], b[network_id])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> StudyFolder:
    study = Study(
        name="tiny",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=["sgdm", "fa"],
        batch_sizes=[32],
        model_seeds=[0, 1],
        epochs=2,
        record_every=1,
    )
    folder = StudyFolder.create(tmp_path_factory.mktemp("study") / "whole", study)
    summary = run_study(folder, jobs=1)
    assert (summary.finished, summary.failed, summary.already_done) == (4, 0, 0)
    return folder


def test_every_network_has_one_file_and_nothing_else_is_left(uninterrupted):
    names = sorted(p.name for p in (uninterrupted.path / "networks").iterdir())
    assert names == sorted(f"{n.network_id}.nc" for n in uninterrupted.study.networks())
    assert not list((uninterrupted.path / "running").iterdir())
    assert uninterrupted.count() == {"trained": 4}


def test_worker_processes_give_the_same_bits_as_one(uninterrupted, tmp_path):
    folder = StudyFolder.create(tmp_path / "two", uninterrupted.study)
    run_study(folder, jobs=2)
    assert_same(trajectories(folder), trajectories(uninterrupted))


def test_resumed_equals_uninterrupted(uninterrupted, tmp_path):
    folder = StudyFolder.create(tmp_path / "parts", uninterrupted.study)
    first = folder.study.networks()[:1]
    assert run_study(folder, first, jobs=1).finished == 1
    stamp = folder.trajectory_path(first[0]).stat().st_mtime_ns
    summary = run_study(folder, jobs=1)
    assert (summary.finished, summary.already_done) == (3, 1)
    assert folder.trajectory_path(first[0]).stat().st_mtime_ns == stamp
    assert_same(trajectories(folder), trajectories(uninterrupted))


def test_killing_a_worker_loses_nothing_finished(uninterrupted, tmp_path):
    """SIGKILL while a network is in flight: it is trained again, with the same result."""
    folder = StudyFolder.create(tmp_path / "killed", uninterrupted.study)
    events: list[tuple[str, str]] = []
    killed: list[int] = []

    def report(kind, network):
        events.append((kind, network.network_id))
        marker = folder.running_path(network)
        if kind == "epoch" and not killed and len(events) > 3 and marker.exists():
            killed.append(json.loads(marker.read_text())["pid"])
            os.kill(killed[0], signal.SIGKILL)

    summary = run_study(folder, jobs=1, report=report)
    assert killed
    assert any(kind == "killed" for kind, _ in events)
    assert (summary.finished, summary.failed) == (4, 0)
    assert_same(trajectories(folder), trajectories(uninterrupted))


def test_a_network_that_kills_its_workers_is_recorded_as_failed(tiny_study, tmp_path):
    folder = StudyFolder.create(tmp_path / "out", tiny_study)
    victim = tiny_study.networks()[0]

    def report(kind, network):
        if kind == "epoch" and network == victim:
            pid = json.loads(folder.running_path(network).read_text())["pid"]
            os.kill(pid, signal.SIGKILL)

    summary = run_study(folder, tiny_study.networks()[:2], jobs=1, report=report)
    assert (summary.finished, summary.failed) == (1, 1)
    assert folder.state(victim) == "failed"
    assert "killed 2 times" in json.loads(folder.failure_path(victim).read_text())["traceback"]
    again = run_study(folder, [victim], jobs=1)
    assert (again.finished, again.skipped_failed) == (0, 1)
    retried = run_study(folder, [victim], jobs=1, retry_failed=True)
    assert (retried.finished, folder.state(victim)) == (1, "trained")
    assert not folder.failure_path(victim).exists()


def test_a_network_that_raises_keeps_its_traceback_and_the_others_go_on(tmp_path):
    study = Study(
        name="broken",
        tasks=[
            {"name": "fashion_mnist", "source": str(tmp_path / "nothing-here")},
            {"name": "digits", "train_limit": 64, "validation_limit": 32},
        ],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=["sgdm"],
        batch_sizes=[32],
        epochs=1,
        record_every=1,
    )
    folder = StudyFolder.create(tmp_path / "out", study)
    summary = run_study(folder, jobs=1)
    assert (summary.finished, summary.failed) == (1, 1)
    broken = study.networks()[0]
    assert "nothing-here" in json.loads(folder.failure_path(broken).read_text())["traceback"]
    assert folder.count() == {"failed": 1, "trained": 1}


def test_a_diverged_network_is_stored_and_marked(tmp_path):
    study = Study(
        name="wild",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=[{"name": "sgdm", "optimizer": {"learning_rate": 1e30}}],
        batch_sizes=[32],
        epochs=3,
        record_every=1,
    )
    folder = StudyFolder.create(tmp_path / "out", study)
    assert run_study(folder, jobs=1).finished == 1
    (network,) = study.networks()
    assert folder.state(network) == "diverged"
    trajectory = read(folder.trajectory_path(network))
    assert np.isfinite(trajectory["loss"].values[0])
    assert not np.isfinite(trajectory["loss"].values[-1])
    assert trajectory.sizes["epoch"] == 4


def test_two_runs_of_one_folder_are_refused(tiny_study, tmp_path):
    folder = StudyFolder.create(tmp_path / "out", tiny_study)

    def report(kind, network):
        with pytest.raises(StudyError, match=f"is being run by process {os.getpid()}"):
            run_study(folder, jobs=1)

    run_study(folder, tiny_study.networks()[:1], jobs=1, report=report)


@pytest.mark.slow
def test_interrupt_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    """SIGINT to the whole process group, as Ctrl-C in a terminal sends it."""
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: long\ntasks: [{name: digits, train_limit: 64, validation_limit: 32}]\n"
        "architectures: [{name: knet4, width: 0.1}]\nrules: [sgdm]\nbatch_sizes: [32]\n"
        f"model_seeds: {list(range(200))}\nepochs: 4\nrecord_every: 1\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "goaldriven.cli", "run", str(study), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--jobs", "1"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("networks/*.nc"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished networks are kept" in errors
    assert "Traceback" not in errors
    finished = list(out.glob("networks/*.nc"))
    assert 2 <= len(finished) < 200
    for path in finished:
        read(path)
    assert not list(out.rglob(".*.partial"))
    assert not list(out.glob("running/*"))
