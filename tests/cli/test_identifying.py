"""`goaldriven identify`: verdicts on other networks, and what is said where it cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from goaldriven import cli
from goaldriven.specs import Study
from goaldriven.studies import StudyFolder
from goaldriven.trajectories import read, write
from trajectories.made_up import make_network

EFFECT = {"fa": 3.0, "ia": -3.0, "sgdm": 0.0}


def goaldriven(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process; (exit code, standard output, standard error)."""
    monkeypatch.setattr("sys.argv", ["goaldriven", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0), *capsys.readouterr()


def make(path: Path, rules: list[str], seeds: int, first: int = 0, *, without: str = ""):
    """A study of networks whose statistics tell their rules; without a measure, if named."""
    study = Study(
        name="made-up", tasks=["digits"], architectures=["knet4"], rules=rules,
        model_seeds=list(range(first, first + seeds)), epochs=2, record_every=1,
    )  # fmt: skip
    folder = StudyFolder.create(path, study)
    for number, spec in enumerate(study.networks()):
        rule, seed = spec.rule.name, spec.model_seed
        plain = make_network(
            spec.network_id, rule=rule, n_layers=2, epochs=(0, 1, 2), model_seed=seed
        )
        rng = np.random.default_rng([first, number])
        values = rng.normal(size=plain["observable"].shape) + EFFECT[rule]
        values[..., plain["measure"].values == without] = np.nan
        write(
            plain.assign(observable=(plain["observable"].dims, values)),
            folder.trajectory_path(spec),
        )
    return folder


ASK = ["--splits", 1, "--jobs", 1, "--classifier", "random_forest"]


@pytest.fixture(scope="module")
def identified(tmp_path_factory):
    """Identified with fa and ia alone."""
    folder = make(tmp_path_factory.mktemp("known") / "known", ["fa", "ia"], 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["goaldriven", "identify", str(folder.path), *map(str, ASK)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
    assert not caught.value.code
    return folder


@pytest.mark.slow
def test_verdicts_on_other_networks(identified, tmp_path, monkeypatch, capsys):
    other = make(tmp_path / "other", ["fa", "ia", "sgdm"], 4, first=100)
    code, shown, error = goaldriven(
        monkeypatch, capsys, "identify", identified.path, "--verdicts-on", other.path,
        "--alpha", 0.2,
    )  # fmt: skip
    assert code == 0
    place = identified.path / "identify" / "verdicts_on" / "other.csv"
    assert str(place) in error.replace("\n", "")
    table = pd.read_csv(place, keep_default_na=False)
    assert len(table) == 12
    assert set(table["classifier"]) == {"random_forest"}
    assert set(table["alpha"]) == {0.2}
    said = {rule: part["verdict"].tolist() for rule, part in table.groupby("rule")}
    assert set(said["fa"]) <= {"fa", "none of these"}
    assert set(said["ia"]) <= {"ia", "none of these"}
    # sgdm lies between the two that it was trained on: the forest is not sure of either.
    assert said["sgdm"] == ["none of these"] * 4
    n = (table["verdict"] == "none of these").sum()
    assert f"random forest: {n} of 12 none of these" in shown
    assert "rules not ruled out at 0.2" in shown
    assert table["network"].iloc[0] in shown


@pytest.mark.slow
def test_verdicts_that_cannot_be_given(identified, tmp_path, monkeypatch, capsys):
    def refused(*arguments: object) -> str:
        code, _, error = goaldriven(monkeypatch, capsys, "identify", *arguments)
        assert code == 2
        return error.splitlines()[-1]

    fresh = make(tmp_path / "fresh", ["fa", "ia"], 2, first=100)
    assert refused(fresh.path, "--verdicts-on", identified.path) == (
        f"goaldriven: {fresh.path / 'identify'} must hold a complete identification "
        "(identification.json), got none"
    )
    assert refused(identified.path, "--verdicts-on", identified.path).startswith(
        "goaldriven: networks must be new to the classifier, got 24 that it was trained on ("
    )
    assert refused(identified.path, "--verdicts-on", fresh.path, "--classifier", "svm") == (
        f"goaldriven: classifier must be one that the identification of {identified.path} kept "
        "(random_forest), got svm"
    )
    assert refused(identified.path, "--verdicts-on", fresh.path, "--alpha", 0.001) == (
        "goaldriven: calibration networks must be at least 999 for alpha = 0.001 (1/alpha − 1), "
        "got 24"
    )
    lacking = make(tmp_path / "lacking", ["fa", "ia"], 2, first=100, without="activation")
    assert "must be finite" in refused(identified.path, "--verdicts-on", lacking.path)


@pytest.mark.slow
def test_results_of_another_version(identified, tmp_path, monkeypatch, capsys):
    record = identified.path / "identify" / "identification.json"
    content = record.read_text()
    record.write_text(json.dumps(json.loads(content) | {"format": 1}))
    try:
        asked = identified.path
        for arguments in (["report", asked], ["identify", asked, "--verdicts-on", asked]):
            code, _, error = goaldriven(monkeypatch, capsys, *arguments)
            assert code == 2
            assert error.splitlines()[-1] == (
                f"goaldriven: {record}: format must be 2, got 1: results of another version of "
                "goaldriven; run goaldriven identify again"
            )
    finally:
        record.write_text(content)


@pytest.mark.parametrize("command", [["identify"], ["experiment", "run"]])
def test_too_few_networks_for_a_split(command, tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "few", ["fa", "ia"], 3)
    names = ["separability"] if command[0] == "experiment" else []
    code, _, error = goaldriven(monkeypatch, capsys, *command, folder.path, *names, "--jobs", 1)
    assert code == 2
    assert error.splitlines()[-1] == (
        "goaldriven: rule fa must have at least 4 networks for 75%/25% splits, got 3"
    )


@pytest.mark.parametrize("command", [["identify"], ["experiment", "run"]])
def test_a_rule_with_one_network(command, tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "one", ["fa", "ia"], 4)
    for spec in [s for s in folder.study.networks() if s.rule.name == "ia"][1:]:
        folder.trajectory_path(spec).unlink()
    names = ["layer_position"] if command[0] == "experiment" else []
    code, _, error = goaldriven(monkeypatch, capsys, *command, folder.path, *names, "--jobs", 1)
    assert code == 2
    assert error.splitlines()[-1] == (
        "goaldriven: rule ia must have at least 4 networks for 75%/25% splits, got 1"
    )
    assert "3 of 8 networks of the study are not trained" in error


def test_a_missing_observable(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "silent", ["fa", "ia"], 4, without="activation")
    code, _, error = goaldriven(monkeypatch, capsys, "identify", folder.path, "--jobs", 1)
    assert code == 2
    assert error.splitlines()[-1].startswith(
        "goaldriven: observables: 'activation' must have a statistic among the "
    )


def test_a_study_that_is_still_running(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "busy", ["fa", "ia"], 4)
    spec = folder.study.networks()[0]
    folder.trajectory_path(spec).unlink()
    folder.mark_running(spec)  # by this process, which lives
    code, _, error = goaldriven(monkeypatch, capsys, "identify", folder.path, "--jobs", 1)
    assert code == 2
    assert error.splitlines()[-1] == (
        f"goaldriven: DIR must be a study that is not running, got {folder.path}, where 1 networks "
        "are in training; wait, or stop it (finished networks are kept)"
    )


def interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_is_told(tmp_path, monkeypatch, capsys):
    """One line and exit code 130; an identification that is there stays."""
    folder = make(tmp_path / "stopped", ["fa", "ia"], 4)
    monkeypatch.setattr("goaldriven.identify.jobs._run_job", interrupt)
    code, _, error = goaldriven(
        monkeypatch, capsys, "identify", folder.path, "--jobs", 1, "--classifier", "svm"
    )
    assert code == 130
    assert error.splitlines()[-1].startswith("stopped; finished fits are kept, ")
    assert not list((folder.path / "identify").iterdir())


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["identify"], "identify"),
        (["experiment", "run"], "experiments"),
    ],
)
def test_a_place_that_cannot_be_written(arguments, place, tmp_path, monkeypatch, capsys):
    """It is found out before anything is fitted."""
    folder = make(tmp_path / "full", ["fa", "ia"], 4)
    (folder.path / place).write_text("a file")
    monkeypatch.setattr("goaldriven.identify.selection.choose", interrupt)
    monkeypatch.setattr("goaldriven.trajectories.files.load_networks", interrupt)
    code, _, error = goaldriven(monkeypatch, capsys, *arguments, folder.path, "--jobs", 1)
    assert code == 2
    assert error == f"goaldriven: cannot write {folder.path / place}: File exists\n"


def test_synapses_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr("goaldriven.commands.synapses.analyse", interrupt)
    out = tmp_path / "out" / "demo"
    code, _, error = goaldriven(monkeypatch, capsys, "synapses", "demo", "--out", out)
    assert code == 2
    assert error == f"goaldriven: cannot write {out}: Not a directory\n"


def test_ctrl_c_in_synapses(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("goaldriven.commands.synapses.analyse", interrupt)
    code, _, error = goaldriven(monkeypatch, capsys, "synapses", "demo", "--out", tmp_path / "o")
    assert code == 130
    assert error.splitlines()[-1] == "stopped; nothing was written"


def test_what_is_replaced_is_told(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "twice", ["fa", "ia"], 4)
    ask = ["identify", folder.path, "--jobs", 1, "--classifier", "logistic_regression"]
    assert "replaces" not in goaldriven(monkeypatch, capsys, *ask, "--splits", 2)[2]
    assert "replaces" not in goaldriven(monkeypatch, capsys, *ask, "--splits", 2)[2]
    monkeypatch.setattr("goaldriven.identify.jobs._run_job", interrupt)
    code, _, error = goaldriven(
        monkeypatch, capsys, *ask, "--classifier", "svm", "--splits", 1, "--seed", 3
    )
    assert code == 130
    said = [line for line in error.splitlines() if line.startswith("replaces")]
    assert said == [
        f"replaces the identification in {folder.path / 'identify'}: splits of each kind 2 → 1; "
        "classifiers logistic regression → logistic regression, svm; seed 0 → 3"
    ]


@pytest.mark.parametrize("command", [["identify"], ["experiment", "run"]])
def test_networks_that_are_not_finite_are_named(command, tmp_path, monkeypatch, capsys):
    """One network of NaN vetoes every statistic."""
    folder = make(tmp_path / "spoiled", ["fa", "ia"], 4)
    culprit = spoil(folder)
    code, _, error = goaldriven(monkeypatch, capsys, *command, folder.path, "--jobs", 1)
    assert code == 2
    assert error == (
        "goaldriven: examples must have a statistic that is finite for every network that trained, "
        f"got none; not finite where most networks are: network {culprit}\n"
    )


def test_a_network_without_activations_is_named(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "spoiled", ["fa", "ia"], 4)
    culprit = spoil(folder, "activation")
    code, _, error = goaldriven(monkeypatch, capsys, "identify", folder.path, "--jobs", 1)
    assert code == 2
    assert error.splitlines()[-1].endswith(f"not finite where most networks are: network {culprit}")
    code, shown, error = goaldriven(monkeypatch, capsys, "trajectories", "validate", folder.path)
    assert code == 0
    assert "8 trajectories, all whole" in shown
    assert error.splitlines()[-1].startswith("warning: 1 trained networks have statistics that are")
    assert error.splitlines()[-1].endswith(culprit)


def spoil(folder: StudyFolder, measure: str = "") -> str:
    """Make a network's statistics NaN, or those of a measure."""
    path = folder.trajectory_path(folder.study.networks()[2])
    network = read(path)
    chosen = network["measure"].values == measure if measure else slice(None)
    network["observable"].values[..., chosen] = np.nan
    write(network, path)
    return str(network.attrs["network_id"])
