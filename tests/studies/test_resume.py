"""Studies: killed networks go on from their checkpoints; several ranks, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque

import numpy as np
import pytest
import xarray as xr

from goaldriven.specs import Study
from goaldriven.specs.runtime import CheckpointEvery, RuntimeOptions
from goaldriven.studies import Settings, StudyFolder, run_study
from goaldriven.studies.runner import Account, put_back
from goaldriven.trajectories import read

TIMES = dict.fromkeys(("seconds", "recording_seconds"), 0.0)


def study(**changes) -> Study:
    fields = {
        "name": "one",
        "tasks": [{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        "architectures": [{"name": "knet4", "width": 0.1}],
        "rules": ["ia"],
        "batch_sizes": [32],
        "epochs": 6,
        "record_every": 2,
    }
    return Study(**fields | changes)


def trajectory(folder: StudyFolder) -> xr.Dataset:
    (network,) = folder.study.networks()
    return read(folder.trajectory_path(network)).assign_attrs(TIMES)


@pytest.mark.slow
def test_a_killed_network_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    """SIGKILL in the fourth epoch; the next worker begins with the third's checkpoint."""
    whole = StudyFolder.create(tmp_path / "whole", study())
    run_study(whole, jobs=1)
    folder = StudyFolder.create(tmp_path / "killed", study())
    (network,) = folder.study.networks()
    events: list[str] = []
    there: list[list[str]] = []

    def report(kind, of):
        events.append(kind)
        if kind == "epoch" and events.count("epoch") == 4 and "killed" not in events:
            there.append(sorted(p.name for p in folder.resume_path(network).iterdir()))
            os.kill(json.loads(folder.running_path(network).read_text())["pid"], signal.SIGKILL)

    settings = Settings(checkpoint_every=CheckpointEvery(epochs=1))
    summary = run_study(folder, settings=settings, jobs=1, report=report)
    assert (summary.finished, summary.failed) == (1, 0)
    assert "killed" in events
    assert there[0][-1] in ("3.safetensors", "4.safetensors")
    xr.testing.assert_identical(trajectory(folder), trajectory(whole))
    assert not folder.resume_path(network).exists(), "finished: nothing to go on from is left"


def test_runtime_options_reach_the_workers(tmp_path):
    folder = StudyFolder.create(tmp_path / "out", study(rules=["fa"], epochs=2))
    runtime = RuntimeOptions(micro_batch=16, precision="bf16")
    run_study(folder, settings=Settings(runtime=runtime), jobs=1)
    found = json.loads(trajectory(folder).attrs["runtime"])
    assert (found["micro_batch"], found["precision"]) == (16, "bf16")


YAML = """
name: one
tasks: [{name: digits, train_limit: 64, validation_limit: 32}]
architectures: [{name: resnet10, width: 0.1}]
rules: [ia]
batch_sizes: [32]
epochs: 2
record_every: 1
"""


@pytest.mark.slow
def test_two_devices_from_the_command_line_give_one_devices_study(tmp_path):
    source = tmp_path / "study.yaml"
    source.write_text(YAML)
    command = [sys.executable, "-m", "goaldriven.cli", "run", str(source)]
    for devices in ("1", "2"):
        options = ["--out", str(tmp_path / devices), "--devices", devices, "--jobs", "1"]
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stderr
    one, two = (StudyFolder.open(tmp_path / devices) for devices in ("1", "2"))
    assert one.study == two.study
    assert (one.count(), two.count()) == ({"trained": 1}, {"trained": 1})
    alone, together = trajectory(one), trajectory(two)
    assert json.loads(together.attrs["runtime"])["ranks"] == 2
    assert alone.attrs["network_id"] == together.attrs["network_id"]
    for name in ("loss", "training_loss", "weight_norm_ratio"):
        np.testing.assert_allclose(together[name], alone[name], rtol=2e-3, err_msg=name)
    assert not any((tmp_path / "2" / "running").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint-every", "often"], "checkpoint-every must be a number of epochs"),
        (["--precision", "float8"], "float8"),
        (["--micro-batch", "0"], "micro-batch"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, tmp_path):
    source = tmp_path / "study.yaml"
    source.write_text(YAML)
    command = [sys.executable, "-m", "goaldriven.cli", "run", str(source), "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kept", [False, True])
def test_a_worker_killed_after_its_network_was_written_leaves_nothing_behind(tmp_path, kept):
    folder = StudyFolder.create(tmp_path / "out", study())
    (network,) = folder.study.networks()
    folder.resume_path(network).mkdir(parents=True)
    told: list[str] = []
    account = Account(deque(), lambda _: True, keeps_resume=kept)
    put_back(folder, account, lambda kind, _: told.append(kind), network, "(exit code -9)")
    assert (told, account.finished) == (["done"], 1)
    assert folder.resume_path(network).exists() == kept
