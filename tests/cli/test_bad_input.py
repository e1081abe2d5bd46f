"""Bad input: one clear message (what field, what was given, what is allowed), exit code 2."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from goaldriven import specs
from goaldriven.specs import Study
from goaldriven.studies import StudyFolder
from goaldriven.studies.files import shipped_studies

from .command_line import goaldriven

BASE = "name: s\ntasks: [digits]\narchitectures: [knet4]\nrules: [sgdm]\n"
FACTORS = "architecture, batch_size, data_seed, model_seed, rule, task"
RULES, STUDIES = (", ".join(sorted(names)) for names in (specs.RULES, shipped_studies()))


@pytest.fixture
def study() -> Study:
    return Study(
        name="tiny",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=["sgdm", "fa"],
        batch_sizes=[32],
        epochs=1,
        record_every=1,
    )


@pytest.fixture
def folder(study, tmp_path) -> StudyFolder:
    return StudyFolder.create(tmp_path / "out", study)


def expect(outcome: tuple[int, str], message: str) -> None:
    code, error = outcome
    assert code == 2
    assert error == f"goaldriven: {message}\n"


def test_missing_study_file(monkeypatch, capsys):
    expect(
        goaldriven(monkeypatch, capsys, "run", "nowhere.yaml"),
        f"study must be a YAML file or one of {STUDIES}; got 'nowhere.yaml'",
    )


def test_study_file_that_is_no_text(tmp_path, monkeypatch, capsys):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    code, error = goaldriven(monkeypatch, capsys, "run", path)
    assert code == 2
    assert error.startswith(f"goaldriven: study '{path}' cannot be read: ")


def test_folder_of_another_study(folder, tmp_path, monkeypatch, capsys):
    path = tmp_path / "other.yaml"
    path.write_text(BASE)
    expect(
        goaldriven(monkeypatch, capsys, "run", path, "--out", folder.path),
        f"out must be a folder of study 's' as it stands in the file; '{folder.path}' belongs to "
        "study 'tiny', which differs in name, tasks, architectures, rules, batch_sizes, epochs, "
        "record_every; give another --out",
    )


def test_folder_with_other_files(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    expect(
        goaldriven(monkeypatch, capsys, "run", "demo", "--out", tmp_path),
        f"out must be an empty or new folder or this study's own, got '{tmp_path}', which holds "
        "other files",
    )


def test_folder_that_is_a_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "file"
    path.write_text("x")
    code, error = goaldriven(monkeypatch, capsys, "run", "demo", "--out", path)
    assert code == 2
    assert f"got '{path}'" in error


def test_no_permission_to_write(tmp_path, monkeypatch, capsys):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    out = tmp_path / "out"
    expect(
        goaldriven(monkeypatch, capsys, "run", "demo", "--out", out),
        f"out must be a folder that can be written, got '{out}': Permission denied",
    )


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("rule", "only must be factor=level[,factor=level…], got 'rule'"),
        ("role=ia", f"only: factor must be one of {FACTORS}; got 'role' (did you mean 'rule'?)"),
        ("rule=ai", "only: rule must be one of adam, fa, ia, sgdm; got 'ai' (did you mean 'ia'?)"),
        ("rule=fa,rule=ia", "only must give each factor once, got rule twice"),
    ],
)
def test_bad_selections(only, message, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    expect(goaldriven(monkeypatch, capsys, "run", "demo", "--out", out, "--only", only), message)


@pytest.mark.parametrize("command", ["status", "identify", "report"])
def test_folder_that_is_not_there(command, tmp_path, monkeypatch, capsys):
    nowhere = tmp_path / "nowhere"
    expect(
        goaldriven(monkeypatch, capsys, command, nowhere),
        f"DIR must be a study folder, got '{nowhere}', which does not exist",
    )


@pytest.mark.parametrize("command", ["status", "identify", "report"])
def test_folder_without_a_study(command, tmp_path, monkeypatch, capsys):
    expect(
        goaldriven(monkeypatch, capsys, command, tmp_path),
        f"DIR must be a study folder (with a study.json), got '{tmp_path}'",
    )


def test_damaged_study_record(folder, monkeypatch, capsys):
    record = folder.path / "study.json"
    record.write_text(record.read_text()[:40])
    code, error = goaldriven(monkeypatch, capsys, "status", folder.path)
    assert code == 2
    assert error.startswith(f"goaldriven: {record} cannot be read: ")


def test_study_record_with_an_unknown_rule(folder, monkeypatch, capsys):
    record = folder.path / "study.json"
    fields = json.loads(record.read_text()) | {"rules": ["hebb"]}
    record.write_text(json.dumps(fields))
    expect(
        goaldriven(monkeypatch, capsys, "status", folder.path),
        f"{record} holds no valid study: rules[0]: rule must be one of {RULES}; got 'hebb'",
    )


def test_unknown_network(folder, monkeypatch, capsys):
    expect(
        goaldriven(monkeypatch, capsys, "show", folder.path, "zzz"),
        "NETWORK_ID must be the id of one network of study 'tiny' or its first letters (see "
        f"'goaldriven status {folder.path} --networks'), got 'zzz', which is that of none",
    )


def test_network_without_a_trajectory(folder, study, monkeypatch, capsys):
    network = study.networks()[0].network_id
    expect(
        goaldriven(monkeypatch, capsys, "show", folder.path, network),
        f"network {network} has no trajectory yet: it is left",
    )


@pytest.mark.parametrize("command", ["identify", "report"])
@pytest.mark.parametrize("content", [b"", b"not netCDF at all", "truncated"])
def test_unreadable_trajectories(command, content, folder, study, monkeypatch, capsys):
    from goaldriven.training import train
    from goaldriven.trajectories import write

    for network in study.networks():
        path = folder.trajectory_path(network)
        write(train(network), path)
    if content == "truncated":
        content = path.read_bytes()[: os.path.getsize(path) // 2]
    path.write_bytes(content)
    code, error = goaldriven(monkeypatch, capsys, command, folder.path)
    assert code == 2
    assert str(path) in error
    assert re.search("not a netCDF4 file, or truncated or damaged", error)
    assert "Traceback" not in error


def test_identify_before_anything_is_trained(folder, monkeypatch, capsys):
    code, error = goaldriven(monkeypatch, capsys, "identify", folder.path)
    assert code == 2
    assert f"{folder.path / 'networks'} must hold trajectories" in error


def test_unknown_statistics(folder, study, monkeypatch, capsys):
    from goaldriven.training import train
    from goaldriven.trajectories import write

    for network in study.networks():
        write(train(network), folder.trajectory_path(network))
    code, error = goaldriven(
        monkeypatch, capsys, "identify", folder.path, "--statistics", "admissable"
    )
    assert code == 2
    assert error == (
        "goaldriven: statistics, if not a list, must be one of admissible, published; got "
        "'admissable' (did you mean 'admissible'?)\n"
    )


def test_one_network_per_rule_is_too_few(folder, study, monkeypatch, capsys):
    from goaldriven.training import train
    from goaldriven.trajectories import write

    for network in study.networks():
        write(train(network), folder.trajectory_path(network))
    code, error = goaldriven(monkeypatch, capsys, "identify", folder.path)
    assert code == 2
    assert "networks" in error
    assert len(error.splitlines()) == 1


def test_nan_images(tmp_path, monkeypatch, capsys):
    """Data with NaN fail the network with the reason on record; the run says where to look."""
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    spoiled = images.copy()
    spoiled[:, 3] = np.nan
    monkeypatch.setattr("goaldriven.tasks.digits.load_digits", lambda return_X_y: (spoiled, labels))
    from goaldriven import DataError, NetworkSpec, tasks

    spec = NetworkSpec(
        task={"name": "digits", "train_limit": 71}, architecture="knet4", rule="sgdm"
    )
    with pytest.raises(DataError, match="finite"):
        tasks.load(spec.task)


@pytest.mark.parametrize(
    "arguments", [["run"], ["frobnicate"], ["list", "rulez"], ["run", "--jobs", "0", "demo"]]
)
def test_usage_errors(arguments, monkeypatch, capsys):
    code, error = goaldriven(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "Traceback" not in error
