"""`goaldriven experiment` on a tiny study."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from goaldriven import cli
from goaldriven.identify.experiments import EXPERIMENTS
from goaldriven.specs import Study
from goaldriven.studies import StudyFolder
from goaldriven.training import train
from goaldriven.trajectories import write


def goaldriven(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process; (exit code, standard output, standard error)."""
    monkeypatch.setattr("sys.argv", ["goaldriven", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0), *capsys.readouterr()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> StudyFolder:
    study = Study(
        name="tiny",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=["sgdm", "fa"],
        batch_sizes=[32],
        model_seeds=[0, 1, 2, 3],
        epochs=2,
        record_every=1,
    )
    folder = StudyFolder.create(tmp_path_factory.mktemp("tiny") / "out", study)
    for network in study.networks():
        write(train(network), folder.trajectory_path(network))
    return folder


def test_every_experiment_is_listed(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    code, shown, _ = goaldriven(monkeypatch, capsys, "experiment", "list")
    assert code == 0
    for entry in EXPERIMENTS.values():
        assert entry.name in shown
        assert entry.source in shown


def test_an_experiment_leaves_its_tables(trained, monkeypatch, capsys):
    ask = ["experiment", "run", trained.path, "layer_position", "--splits", 2, "--jobs", 1]
    code, shown, progress = goaldriven(monkeypatch, capsys, *ask)
    assert code == 0
    assert "Layers named by their position alone" in shown
    assert "4/4" in progress, "two classifiers, two splits"
    place = trained.path / "experiments" / "layer_position"
    table = pd.read_csv(place / "results.csv")
    assert set(table["metric"]) == {
        "layer_accuracy", "network_accuracy", "chance", "network_chance",
        "train_layers", "test_layers", "test_networks",
    }  # fmt: skip
    assert table["experiment"].unique().tolist() == ["layer_position"]
    assert json.loads((place / "settings.json").read_text())["rules"] == ["fa", "sgdm"]
    cached = {p: p.stat().st_mtime_ns for p in trained.path.rglob("*.npz")}
    assert len(cached) == 4
    assert goaldriven(monkeypatch, capsys, *ask)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in trained.path.rglob("*.npz")} == cached


def test_a_question_that_the_study_cannot_answer(trained, monkeypatch, capsys):
    code, _, error = goaldriven(
        monkeypatch, capsys, "experiment", "run", trained.path, "held_out_task", "--jobs", 1
    )
    assert code == 2
    assert error.splitlines()[-1] == (
        "goaldriven: experiment 'held_out_task' must have at least 2 levels of task to hold one "
        "out, got 1 (digits)"
    )


def test_an_unknown_experiment(trained, monkeypatch, capsys):
    code, _, error = goaldriven(monkeypatch, capsys, "experiment", "run", trained.path, "third")
    assert code == 2
    assert "got 'third' (did you mean 'thirds'?)" in error


def test_a_study_that_is_still_running(trained, monkeypatch, capsys):
    network = trained.study.networks()[0]
    path = trained.trajectory_path(network)
    aside = path.rename(path.with_suffix(".aside"))
    trained.mark_running(network)  # by this process, which lives
    try:
        code, _, error = goaldriven(
            monkeypatch, capsys, "experiment", "run", trained.path, "layer_position"
        )
    finally:
        trained.unmark_running(network)
        aside.rename(path)
    assert code == 2
    assert "DIR must be a study that is not running" in error
    assert "1 networks are in training" in error
    assert os.path.exists(path)


def test_a_study_without_activations(trained, tmp_path, monkeypatch, capsys):
    """Statistics that are not finite anywhere leave; a group of observables may leave with them."""
    from goaldriven.trajectories import load_networks

    folder = StudyFolder.create(tmp_path / "out", trained.study)
    for trajectory in load_networks(trained.path):
        values = trajectory["observable"].values.copy()
        values[..., trajectory["measure"].values == "activation"] = np.nan
        spoiled = trajectory.assign(observable=(trajectory["observable"].dims, values))
        write(spoiled, folder.path / "networks" / f"{trajectory.attrs['network_id']}.nc")
    code, _, error = goaldriven(
        monkeypatch, capsys, "experiment", "run", folder.path, "permuted_labels", "--jobs", 1
    )
    assert code == 2
    assert "must have a statistic of activation, got those of activity_change, weight" in error
