"""What `goaldriven run` says of networks that are there, and of devices that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from goaldriven import cli
from goaldriven.errors import StudyError
from goaldriven.specs import Study
from goaldriven.studies import Settings, StudyFolder, run_study
from goaldriven.studies.measuring import load_measurements, measure_study
from goaldriven.trajectories import write
from trajectories.made_up import make_network

from .command_line import goaldriven

STUDY = """name: tiny
tasks: [{name: digits, train_limit: 64, validation_limit: 32}]
architectures: [{name: knet4, width: 0.1}]
rules: [sgdm, fa]
batch_sizes: [32]
epochs: 1
record_every: 1
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def study(file) -> Study:
    from goaldriven.studies import load_study

    return load_study(file)


@pytest.fixture
def folder(study, tmp_path) -> StudyFolder:
    """All networks are there, and no checkpoints."""
    folder = StudyFolder.create(tmp_path / "out", study)
    for spec in study.networks():
        network = make_network(spec.network_id, rule=spec.rule.name, epochs=(0, 1))
        write(network, folder.trajectory_path(spec))
    return folder


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_devices_that_are_not_there(device, folder, file, tmp_path, monkeypatch, capsys):
    """Refused once, and no network is marked as failed."""
    monkeypatch.setattr("goaldriven.training.devices.devices_here", lambda: ["cpu", "cuda:0"])
    out = tmp_path / "new"
    for ask in (
        ["run", file, "--out", out],
        ["measure", folder.path, "quick"],
        ["search", "digits_ia", "--out", out],
        ["plan", file, "--calibrate"],
    ):
        code, error = goaldriven(monkeypatch, capsys, *ask, "--device", device)
        assert code == 2
        assert error == (
            "goaldriven: device must be one that torch finds on this machine (cpu, cuda:0), got "
            f"{device!r}\n"
        )
    assert not out.exists()
    with pytest.raises(StudyError, match="device must be one"):
        run_study(folder, settings=Settings(device))
    with pytest.raises(StudyError, match="device must be one"):
        measure_study(folder, load_measurements("quick").specs(), device=device)


def test_a_cluster_may_have_other_devices(file, monkeypatch, capsys):
    ask = ["run", file, "--executor", "ray", "--device", "gpu"]
    code, error = goaldriven(monkeypatch, capsys, *ask)
    assert code == 2
    assert error == (
        "goaldriven: device must be one that torch knows, such as cpu or cuda, got 'gpu'\n"
    )


def test_checkpoints_cannot_be_kept_of_trained_networks(folder, file, monkeypatch, capsys):
    ask = ["run", file, "--out", folder.path]
    assert "keeping" not in goaldriven(monkeypatch, capsys, *ask)[1]
    code, error = goaldriven(monkeypatch, capsys, *ask, "--keep-checkpoints")
    assert code == 0
    assert "2 networks were trained before without keeping checkpoints" in error
    for spec in folder.study.networks():
        folder.checkpoints_path(spec).mkdir(parents=True)
        for epoch in (0, 1):
            (folder.checkpoints_path(spec) / f"{epoch}.safetensors").write_bytes(b"")
    assert "without keeping" not in goaldriven(monkeypatch, capsys, *ask, "--keep-checkpoints")[1]


def test_failed_networks_are_not_there_already(folder, file, monkeypatch, capsys):
    failed = folder.study.networks()[0]
    folder.trajectory_path(failed).unlink()
    folder.record_failure(failed, "Traceback: …")
    code, error = goaldriven(monkeypatch, capsys, "run", file, "--out", folder.path)
    assert code == 1
    assert (
        "study tiny: 2 networks, 1 there already, 1 failed before (--retry-failed trains them "
        "again), 0 to train"
    ) in error


def test_a_truncated_trajectory(folder, file, monkeypatch, capsys):
    """The rest is counted, and the file is named with what helps; deleted, it is trained anew."""
    broken = folder.study.networks()[1]
    path = folder.trajectory_path(broken)
    path.write_bytes(path.read_bytes()[:1000])
    message = (
        f"cannot read trajectory {path}: not a netCDF4 file, or truncated or damaged; delete it "
        "and run the study again: its network is trained anew"
    )
    monkeypatch.setattr("sys.argv", ["goaldriven", "status", str(folder.path)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    shown = capsys.readouterr()
    assert caught.value.code == 1
    assert shown.err == message + "\n"
    assert shown.out.split()[:8] == [
        "rule", "trained", "diverged", "failed", "running", "left", "broken", "all",
    ]  # fmt: skip
    assert shown.out.splitlines()[-1].split() == ["all", "1", "0", "0", "0", "0", "1", "2"]
    for ask in (["identify"], ["report"], ["experiment", "run"]):
        code, error = goaldriven(monkeypatch, capsys, *ask, folder.path)
        assert code == 2
        assert error == f"goaldriven: {message}\n"
    ask = ["run", file, "--out", folder.path, "--keep-checkpoints"]
    code, error = goaldriven(monkeypatch, capsys, *ask)
    assert code == 1
    assert message in error
    assert "1 networks were trained before without keeping checkpoints" in error
    path.unlink()
    code, error = goaldriven(monkeypatch, capsys, "run", file, "--out", folder.path, "--jobs", 1)
    assert code == 0
    assert folder.state(broken) == "trained"
