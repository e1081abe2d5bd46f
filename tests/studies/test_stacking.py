"""Stacks of a study's networks: how they are put together, and that the folder is the same."""

from __future__ import annotations

import json
import os
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr

from goaldriven.errors import StudyError
from goaldriven.specs import Study
from goaldriven.specs.runtime import CheckpointEvery
from goaldriven.specs.stacking import stack_key
from goaldriven.studies import (
    Settings,
    StudyFolder,
    resume_files,
    run_study,
    stack_worker,
    worker,
)
from goaldriven.studies.stacking import parse_stack, plan_stacks
from goaldriven.training import train
from goaldriven.training.checkpoints import checkpoint_path, load_checkpoint
from goaldriven.trajectories import read
from goaldriven.trajectories.atomic import write_bytes


def grid(**changes) -> Study:
    fields = {
        "name": "tiny",
        "tasks": [{"name": "digits", "train_limit": 32, "validation_limit": 16}],
        "architectures": [{"name": "knet4", "width": 0.1}],
        "rules": ["sgdm", "fa"],
        "batch_sizes": [16],
        "model_seeds": [0, 1],
        "epochs": 2,
        "record_every": 1,
    }
    return Study(**fields | changes)


def test_stacks_hold_every_network_once_and_only_what_goes_together():
    study = grid(
        rules=["sgdm", "fa", "ia", "np"], batch_sizes=[8, 16], model_seeds=[0, 1, 2], data_seeds=[0]
    )
    said: list[str] = []
    pending = list(plan_stacks(study.networks(), 4, "cpu", 1, jobs=1, say=said.append))
    stacks = [item for item in pending if isinstance(item, tuple)]
    singles = [item for item in pending if not isinstance(item, tuple)]
    together = [network for stack in stacks for network in stack] + singles
    assert sorted(n.network_id for n in together) == sorted(n.network_id for n in study.networks())
    assert not singles
    for stack in stacks:
        assert 2 <= len(stack) <= 4
        assert len({stack_key(network) for network in stack}) == 1
        assert len({network.rule.name == "ia" for network in stack}) == 1
        assert len({network.rule.name == "np" for network in stack}) == 1
    # per batch size: six of sgdm and fa as 3 + 3, three of ia, three of np
    assert len(stacks) == 2 * (2 + 1 + 1)
    assert "digits/knet4/b8: 6 networks in stacks of 4" in said


def test_there_are_stacks_for_all_jobs():
    pending = plan_stacks(grid(model_seeds=range(4)).networks(), 64, "cpu", 1, jobs=2)
    assert [len(item) for item in pending] == [4, 4]


def test_networks_of_a_stack_can_go_on_from_one_epoch(tmp_path):
    study = grid(model_seeds=range(6), rules=["sgdm"])
    folder, networks = StudyFolder.create(tmp_path / "out", study), study.networks()
    there = ([], [5, 6], [6, 7], [], [6], [4])
    for network, epochs in zip(networks, there, strict=True):
        for epoch in epochs:
            write_bytes(folder.resume_path(network) / f"{epoch}.safetensors", b"")
    found = resume_files.epochs_of(folder, networks)
    assert found == {n: set(epochs) for n, epochs in zip(networks, there, strict=True)}
    pending = list(plan_stacks(networks, 6, "cpu", 1, jobs=1, epochs=found))
    assert pending.pop() == networks[5]
    together = [{networks.index(network) for network in stack} for stack in pending]
    assert together == [{1, 2, 4}, {0, 3}]


def test_off_leaves_the_networks_as_they_are():
    networks = grid().networks()
    assert tuple(plan_stacks(networks, "off", "cpu", 1, jobs=1)) == networks
    assert tuple(plan_stacks(networks, 1, "cpu", 1, jobs=1, say=None)) != ()
    assert all(not isinstance(item, tuple) for item in plan_stacks(networks, 1, "cpu", 1, jobs=1))


def test_sizes_are_read_from_the_command_line():
    assert [parse_stack(text) for text in ("off", "auto", "8")] == ["off", "auto", 8]
    for wrong in ("0", "-1", "many", "2.5", ""):
        with pytest.raises(StudyError, match="stack must be off, auto or a number of at least 1"):
            parse_stack(wrong)


def assert_as_trained_singly(folder: StudyFolder) -> None:
    names = sorted(p.name for p in (folder.path / "networks").iterdir())
    assert names == sorted(f"{n.network_id}.nc" for n in folder.study.networks())
    assert not list((folder.path / "running").iterdir())
    for network in folder.study.networks():
        ours, theirs = read(folder.trajectory_path(network)), train(network)
        assert ours.attrs["spec"] == theirs.attrs["spec"]
        assert ours.attrs["outcome"] == theirs.attrs["outcome"] == "trained"
        for name in ("loss", "training_loss", "observable"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_a_study_run_in_stacks_is_the_same_study(tmp_path):
    """A killed stack loses itself at most; its networks are then trained one by one."""
    study = grid()
    stacked = StudyFolder.create(tmp_path / "stacked", study)
    events: list[str] = []
    killed: list[int] = []

    def report(kind, network):
        events.append(kind)
        if kind == "epoch" and not killed:
            marker = stacked.running_path(network).read_text()
            killed.append(int("".join(filter(str.isdigit, marker))))
            os.kill(killed[0], signal.SIGKILL)

    summary = run_study(
        stacked, settings=Settings(keep_checkpoints=True), jobs=1, stack=4, report=report
    )
    assert (summary.finished, summary.failed) == (4, 0)
    assert events.count("killed") == 4
    assert_as_trained_singly(stacked)
    whole = StudyFolder.create(tmp_path / "whole", study)
    summary = run_study(whole, settings=Settings(keep_checkpoints=True), jobs=1, stack=4)
    assert (summary.finished, summary.failed) == (4, 0)
    assert_as_trained_singly(whole)
    for network in study.networks():
        names = sorted(p.name for p in whole.checkpoints_path(network).iterdir())
        assert names == ["0.safetensors", "1.safetensors", "2.safetensors"]
        kept = load_checkpoint(checkpoint_path(whole.checkpoints_path(network), 2), network)
        norms = [float(kept.model.get_submodule(n.name).weight.norm()) for n in kept.model.layers]
        recorded = read(whole.trajectory_path(network))["observable"]
        np.testing.assert_allclose(
            norms, recorded.sel(epoch=2, statistic="weight_raw_norm"), rtol=1e-5
        )


def without_times(folder: StudyFolder) -> dict[str, xr.Dataset]:
    times = dict.fromkeys(("seconds", "recording_seconds"), 0.0)
    networks = folder.study.networks()
    return {n.network_id: read(folder.trajectory_path(n)).assign_attrs(times) for n in networks}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_networks_of_a_stack_that_ends_go_on_from_their_checkpoints(how, tmp_path):
    """Stopped, they go on as the same stack, to the same bits; killed, network by network."""
    study = grid(epochs=8, record_every=4)
    whole = StudyFolder.create(tmp_path / "whole", study)
    run_study(whole, jobs=1, stack=4)
    folder, kinds = StudyFolder.create(tmp_path / "out", study), []
    first = checkpoint_path(folder.checkpoints_path(study.networks()[0]), 0)
    settings = Settings(keep_checkpoints=True, checkpoint_every=CheckpointEvery(epochs=1))

    def report(kind, network):
        kinds.append(kind)
        if len(kinds) == 4 * 6:
            if how == "stopped":
                raise KeyboardInterrupt
            os.kill(json.loads(folder.running_path(network).read_text())["pid"], signal.SIGKILL)

    def run():
        return run_study(folder, settings=settings, jobs=1, stack=4, report=report)

    with pytest.raises(KeyboardInterrupt) if how == "stopped" else nullcontext():
        run()
    made = first.stat().st_mtime_ns
    if how == "stopped":
        states = {n: resume_files.states(folder, n) for n in study.networks()}
        assert all(states.values())
        assert run().finished == 4
        for network_id, trajectory in without_times(folder).items():
            xr.testing.assert_identical(trajectory, without_times(whole)[network_id])
    else:
        assert kinds.count("killed") == 4
    assert first.stat().st_mtime_ns == made, "begun anew"
    assert_as_trained_singly(folder)
    assert not list((folder.path / "resume").rglob("*.safetensors"))


class Wire:
    """What the worker would send to the runner."""

    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)


def test_a_stack_that_fails_is_trained_network_by_network(tmp_path, monkeypatch):
    study = grid(epochs=1)
    folder = StudyFolder.create(tmp_path / "out", study)

    def fail(*given, **named):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("goaldriven.training.stacked.train_stack", fail)
    wire = Wire()
    networks = study.networks()
    stack_worker.train_stacked(wire, folder, networks, worker.Settings(), worker.train_one)
    apart = [m for m in wire.sent if m.kind == "apart"]
    assert [m.network_id for m in apart] == [n.network_id for n in networks]
    assert "CUDA out of memory" in apart[0].text
    done = [m.network_id for m in wire.sent if m.kind == "done"]
    assert done == [n.network_id for n in networks]
    assert all(folder.is_finished(n) for n in networks)
    assert not list((folder.path / "running").iterdir())
