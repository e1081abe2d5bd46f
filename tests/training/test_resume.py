"""Interrupted and gone on from a checkpoint: the same bits as never interrupted."""

from __future__ import annotations

import copy
import errno
import os

import numpy as np
import pytest
import torch
import xarray as xr

from goaldriven.errors import DataError, SpecError, StudyError
from goaldriven.specs import RULES, NetworkSpec
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.specs.runtime import CheckpointEvery, RuntimeOptions, parse_every
from goaldriven.training import build, train
from goaldriven.training.loop import train_epoch
from goaldriven.training.measuring import Measurements
from goaldriven.training.resume import Checkpoints, load_network_state, network_state
from goaldriven.training.state_files import read_state, write_state

EVERY = CheckpointEvery(epochs=1)
TIMES = dict.fromkeys(("seconds", "recording_seconds"), 0.0)
NOISY = {"name": "adam", "learning_rate": 0.01, "update_noise": 0.1}
CASES = {
    **{rule: rule for rule in RULES},
    "noisy updates": {"name": "mine", "credit": "backprop", "optimizer": NOISY},
    "noisy backward updates": {"name": "sa", "credit": {"optimizer": NOISY}},
}


class Killed(BaseException):
    """As a signal would end it: nothing on the way out may catch it."""


def spec(rule="ia", **changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 64, "validation_limit": 16},
        "architecture": {"name": "knet4", "width": 0.1},
        "rule": rule,
        "batch_size": 32,
        "epochs": 4,
        "record_every": 2,
    }
    return NetworkSpec(**small | changes)


def killed_at(epoch: int):
    def progress(done: int, total: int) -> None:
        if done == epoch:
            raise Killed

    return progress


def interrupted(one: NetworkSpec, folder, epoch: int = 4, **options) -> Checkpoints:
    """Trained until ``epoch``, at whose end it is killed, before its checkpoint."""
    checkpoints = Checkpoints(folder, EVERY)
    with pytest.raises(Killed):
        train(one, checkpoints=checkpoints, progress=killed_at(epoch), **options)
    return checkpoints


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same(a: xr.Dataset, b: xr.Dataset) -> None:
    xr.testing.assert_identical(a.assign_attrs(TIMES), b.assign_attrs(TIMES))


@pytest.mark.parametrize("case", CASES)
def test_gone_on_from_a_checkpoint_gives_the_bits_of_never_interrupted(case, tmp_path):
    one = spec(CASES[case])
    whole = train(one)
    interrupted(one, tmp_path)
    assert files(tmp_path) == ["2.safetensors", "3.safetensors"]
    told: list[int] = []
    again = train(one, checkpoints=Checkpoints(tmp_path), progress=lambda d, _: told.append(d))
    assert_same(again, whole)
    assert told == [1, 2, 3, 4]


@pytest.mark.parametrize("task", ["digits_simclr", "spoken_digits"])
@pytest.mark.parametrize("architecture", ["resnet10", "knet5_lrn"])
def test_with_batch_norm_and_other_tasks_too(task, architecture, tmp_path):
    one = spec(
        task={"name": task, "train_limit": 64, "validation_limit": 16},
        architecture={"name": architecture, "width": 0.1},
        epochs=3,
        record_every=1,
    )
    interrupted(one, tmp_path, epoch=3)
    assert_same(train(one, checkpoints=Checkpoints(tmp_path)), train(one))


def test_weights_laid_out_otherwise_come_back_so(tmp_path):
    options = {"runtime": RuntimeOptions(channels_last=True)}
    for rule in ("dfa", "kp"):
        one = spec(rule)
        interrupted(one, tmp_path / rule, **options)
        again = train(one, checkpoints=Checkpoints(tmp_path / rule), **options)
        assert_same(again, train(one, **options))


def test_it_did_go_on_from_there(tmp_path):
    """A checkpoint whose weights were changed shows in the end."""
    one = spec("sgdm")
    interrupted(one, tmp_path)
    path, about = tmp_path / "3.safetensors", {"specification": one.canonical_json()}
    state = read_state(path, about)
    state["network"]["model"]["conv1.weight"].mul_(2.0)
    write_state(path, state, about)
    again = train(one, checkpoints=Checkpoints(tmp_path))
    assert not np.allclose(again["loss"][-1], train(one)["loss"][-1], rtol=1e-6)


def test_measurements_made_before_are_kept(tmp_path):
    asked = [MeasurementSpec(unit_count=4, noise=0.5)]
    one = spec("fa", record_every=1)
    before, whole = Measurements(one, asked), Measurements(one, asked)
    train(one, on_record=whole)
    with pytest.raises(Killed):
        train(
            one,
            checkpoints=Checkpoints(tmp_path, EVERY, before),
            on_record=before,
            progress=killed_at(4),
        )
    after = Measurements(one, asked)
    train(one, checkpoints=Checkpoints(tmp_path, EVERY, after), on_record=after)
    xr.testing.assert_identical(after.dataset(), whole.dataset())


def test_a_checkpoint_cut_short_is_named_and_the_one_before_taken(tmp_path):
    one = spec("ia")
    interrupted(one, tmp_path)
    newest = tmp_path / "3.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"checkpoint .*3\.safetensors cannot be read"):
        again = train(one, checkpoints=Checkpoints(tmp_path))
    assert_same(again, train(one))
    assert newest.exists(), "nothing is thrown away"


def test_checkpoints_of_another_network_are_named_and_training_begins_anew(tmp_path):
    one = spec("ia")
    other = spec("ia", architecture={"name": "resnet10", "width": 0.1})
    interrupted(other, tmp_path)
    with pytest.warns(UserWarning, match="must be of specification"):
        again = train(one, checkpoints=Checkpoints(tmp_path))
    assert_same(again, train(one))
    assert files(tmp_path) == ["2.safetensors", "3.safetensors"]


def test_a_state_that_does_not_fit_is_named_and_training_begins_anew(tmp_path):
    """As of a version that kept another state; the half-restored network is not gone on with."""
    one = spec("ia")
    interrupted(one, tmp_path)
    about = {"specification": one.canonical_json()}
    for path in tmp_path.iterdir():
        state = read_state(path, about)
        state["network"]["credit"].pop("step")
        write_state(path, state, about)
    with pytest.warns(UserWarning, match="cannot be gone on from: state must be of inf"):
        again = train(one, checkpoints=Checkpoints(tmp_path))
    assert_same(again, train(one))


def test_weights_stored_to_be_measured_are_no_checkpoint_to_go_on_from(tmp_path):
    from goaldriven.training.checkpoints import checkpoint_path, save_checkpoint

    one = spec("sgdm")
    save_checkpoint(build(one), checkpoint_path(tmp_path, 2))
    with pytest.warns(UserWarning, match="must be one to go on training from, got another file"):
        train(one, checkpoints=Checkpoints(tmp_path))


def test_finished_ones_are_removed_unless_they_are_to_be_kept(tmp_path):
    one = spec("sgdm")
    for keep in (False, True):
        folder = tmp_path / str(keep)
        checkpoints = Checkpoints(folder, CheckpointEvery(epochs=1, keep=keep))
        train(one, checkpoints=checkpoints)
        assert files(folder) == ["2.safetensors", "3.safetensors"]
        checkpoints.clear()
        assert folder.exists() is keep


def test_no_space_left_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StudyError, match=r"cannot write .*1\.safetensors: No space left"):
        train(spec("sgdm"), checkpoints=Checkpoints(tmp_path, EVERY))
    assert files(tmp_path) == []


def test_all_that_training_changes_is_in_the_state():
    """Two networks, one brought to the other's state after an epoch: equal from there on."""
    for rule in ("kp", "brsf", "npf"):
        a, b = build(spec(rule)), build(spec(rule))
        train_epoch(a, 0)
        load_network_state(b, copy.deepcopy(network_state(a)))
        assert train_epoch(a, 1) == train_epoch(b, 1)
        for name, tensor in a.model.state_dict().items():
            assert torch.equal(tensor, b.model.state_dict()[name]), name


def test_nested_states_come_back_as_they_were(tmp_path):
    laid = torch.arange(16.0).view(1, 2, 2, 4).to(memory_format=torch.channels_last)
    state = {
        "numbers": [1, 2.5, float("inf"), None, True, "text", 2**61 + 1],
        3: {"laid": laid, "scalar": torch.tensor(1.5, dtype=torch.float64)},
        "tuple": (np.arange(3.0), torch.tensor([1, 2], dtype=torch.uint8)),
        "twice": [laid, laid],
        "empty": {},
    }
    write_state(tmp_path / "s", state, {"of": "this"})
    found = read_state(tmp_path / "s", {"of": "this"})
    assert found["numbers"] == state["numbers"]
    assert found[3]["laid"].stride() == laid.stride()
    assert torch.equal(found[3]["laid"], laid)
    assert found[3]["scalar"].dtype == torch.float64
    assert isinstance(found["tuple"], tuple)
    np.testing.assert_array_equal(found["tuple"][0], state["tuple"][0])
    assert found["empty"] == {}
    with pytest.raises(DataError, match="must be of of that, got this"):
        read_state(tmp_path / "s", {"of": "that"})
    with pytest.raises(TypeError, match="must hold tensors"):
        write_state(tmp_path / "t", {"code": print}, {})


@pytest.mark.parametrize("text", ["0", "-1", "often", "1.5", "0min", "min", "nan"])
def test_how_often_is_checked(text):
    with pytest.raises(SpecError, match=f"checkpoint-every must be .*, got '{text}'"):
        parse_every(text)


def test_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("goaldriven.training.resume.time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, parse_every("30min"))
    assert not checkpoints.due(1)
    now[0] = 1801.0
    assert checkpoints.due(2)
    assert not Checkpoints(tmp_path).due(2)
