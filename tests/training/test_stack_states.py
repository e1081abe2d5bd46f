"""Stacks interrupted and gone on from checkpoints, together or one by one."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.specs.runtime import CheckpointEvery
from goaldriven.training import loop, train
from goaldriven.training.measuring import Measurements
from goaldriven.training.resume import Checkpoints
from goaldriven.training.stacked import train_stack
from goaldriven.training.state_files import read_state, write_state

from .stacked_networks import build_double, networks, spec

EVERY = CheckpointEvery(epochs=1)
TIMES = dict.fromkeys(("seconds", "recording_seconds"), 0.0)
EPOCHS = 4
NOISY = {
    "name": "noisy_aa",
    "like": "aa",
    "optimizer": {"update_noise": 1e-3},
    "credit": {"optimizer": {"update_noise": 1e-3}},
}
EARLY = {"name": "early_aa", "like": "aa", "credit": {"delay_epochs": 2}}
STACKS = {
    "optimizers": ("knet4", "digits", ["sgdm", "adam", "fa", "ia"]),
    "signs": ("knet4_lrn", "digits", ["usf", "frsf", "brsf"]),
    "alignment": ("knet4", "digits", ["kp", "wm", "sa", EARLY, NOISY]),
    "perturbation": ("knet4", "digits", ["dfa", "wp", "np", "npf"]),
    "batch norm": ("resnet10", "digits", ["ia", "dfa", "npf"]),
    "two views": ("knet4", "digits_simclr", ["ia", "brsf"]),
    "dropout": ("alexnet", "digits", ["sgdm", "ia", "np"]),
}


class Killed(BaseException):
    """As a signal would end it: nothing on the way out may catch it."""


def longer(specs):
    return [one.model_copy(update={"epochs": EPOCHS, "record_every": 2}) for one in specs]


def run(specs, folder=None, every=EVERY, killed_at=None, companions=None, **options):
    """Trajectories by network; killed at the end of an epoch, before its checkpoints."""
    found, told = {}, dict.fromkeys(specs, 0)

    def progress(one):
        told[one] += 1
        if told[one] == killed_at:
            raise Killed

    companions = companions or {}
    checkpoints = {
        one: Checkpoints(folder / one.network_id, every, companions.get(one)) for one in specs
    } if folder else None  # fmt: skip
    train_stack(
        specs,
        finished=lambda one, trajectory: found.__setitem__(one, trajectory),
        progress=progress,
        on_record=lambda epoch, network: (
            companions[network.spec](epoch, network) if companions else None
        ),
        checkpoints=checkpoints,
        **options,
    )
    assert set(told.values()) == {EPOCHS}
    return found


def interrupt(specs, folder, **options):
    with pytest.raises(Killed):
        run(specs, folder, killed_at=EPOCHS, **options)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for one, trajectory in theirs.items():
        xr.testing.assert_identical(ours[one].assign_attrs(TIMES), trajectory.assign_attrs(TIMES))


def assert_close(ours, theirs):
    for one, trajectory in theirs.items():
        assert ours[one].attrs["outcome"] == trajectory.attrs["outcome"]
        for name in ("loss", "training_loss", "update_angle"):
            np.testing.assert_allclose(ours[one][name], trajectory[name], rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(
            ours[one]["observable"].sel(statistic="weight_raw_norm"),
            trajectory["observable"].sel(statistic="weight_raw_norm"),
            rtol=1e-12,
        )


@pytest.mark.parametrize("case", STACKS)
def test_a_stack_gone_on_from_its_checkpoints_gives_the_bits_of_never_interrupted(case, tmp_path):
    specs = longer(networks(*STACKS[case]))
    whole = run(specs)
    interrupt(specs, tmp_path)
    for one in specs:
        names = sorted(path.name for path in (tmp_path / one.network_id).iterdir())
        assert names == ["2.safetensors", "3.safetensors"]
    again = run(specs, tmp_path)
    assert_same(again, whole)
    for one in specs:
        assert again[one].attrs["seconds"] > again[one].attrs["recording_seconds"] > 0


@pytest.mark.parametrize("rules", [["adam", "ia", NOISY], ["dfa", "npf", "brsf"]], ids=str)
def test_networks_leave_a_stack_and_come_to_one(rules, tmp_path, monkeypatch):
    """The checkpoints of a stack are those of single training, in float64 to rounding."""
    monkeypatch.setattr(loop, "build", build_double)
    specs = longer(networks("knet4", "digits", rules))
    whole = {one: train(one) for one in specs}
    interrupt(specs, tmp_path / "stack", build=build_double)
    alone = {
        one: train(one, checkpoints=Checkpoints(tmp_path / "stack" / one.network_id))
        for one in specs
    }
    assert_close(alone, whole)
    for one in specs:
        with pytest.raises(Killed):
            train(
                one,
                checkpoints=Checkpoints(tmp_path / "single" / one.network_id, EVERY),
                progress=lambda done, total: _kill(done == EPOCHS),
            )
    assert_close(run(specs, tmp_path / "single", build=build_double), whole)


def _kill(now):
    if now:
        raise Killed


@pytest.mark.parametrize(
    ("where", "rule"),
    [("optimizer", "sgdm"), ("optimizer", "adam"), ("credit", "ia"), ("credit", "npf")],
)
def test_momenta_of_forward_and_backward_weights_are_gone_on_from(where, rule, tmp_path):
    """One network's, changed in its checkpoint, change its end and leave its neighbour's."""
    specs = longer(networks("knet4", "digits", [rule]))
    whole = run(specs)
    interrupt(specs, tmp_path)
    path, about = tmp_path / specs[1].network_id / "3.safetensors", {
        "specification": specs[1].canonical_json()
    }  # fmt: skip
    state = read_state(path, about)
    held = state["network"][where]
    momenta = (held["optimizer"] if where == "credit" else held)["state"]
    assert momenta
    for kept in momenta.values():
        for name, tensor in kept.items():
            if name != "step":
                tensor.mul_(4.0)
    write_state(path, state, about)
    again = run(specs, tmp_path)
    assert_same({specs[0]: again[specs[0]]}, {specs[0]: whole[specs[0]]})
    assert float(again[specs[1]]["loss"][-1]) != float(whole[specs[1]]["loss"][-1])


def test_a_network_without_the_latest_checkpoint_takes_the_stack_to_the_one_before(tmp_path):
    """As where the power went while they were written."""
    specs = longer(networks("knet4", "digits", ["ia"]))
    whole = run(specs)
    interrupt(specs, tmp_path)
    (tmp_path / specs[0].network_id / "3.safetensors").unlink()
    assert_same(run(specs, tmp_path, every=None), whole)


def test_a_checkpoint_cut_short_is_named_and_the_one_before_taken(tmp_path):
    specs = longer(networks("knet4", "digits", ["fa"]))
    whole = run(specs)
    interrupt(specs, tmp_path)
    path = tmp_path / specs[1].network_id / "3.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=f"{path} cannot be read"):
        again = run(specs, tmp_path)
    assert_same(again, whole)


def test_networks_of_other_epochs_begin_anew(tmp_path):
    specs = longer(networks("knet4", "digits", ["fa"]))
    whole = run(specs)
    interrupt(specs, tmp_path)
    for path in (tmp_path / specs[0].network_id).iterdir():
        path.unlink()
    assert_same(run(specs, tmp_path, every=None), whole)


def test_checkpoints_by_the_clock_are_made_of_all_networks_at_one_epoch(tmp_path, monkeypatch):
    """However long writing the first ones takes."""
    now = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: 7.0 * next(now))
    specs = longer(networks("knet4", "digits", ["fa"]))
    interrupt(specs, tmp_path, every=CheckpointEvery(minutes=0.5))
    names = [sorted(p.name for p in (tmp_path / one.network_id).iterdir()) for one in specs]
    assert names[0]
    assert names[0] == names[1]


def test_measurements_and_networks_that_diverged_before_are_kept(tmp_path):
    wild = {"name": "wild", "like": "sgdm", "optimizer": {"learning_rate": 1e30, "schedule": {}}}
    specs = longer([spec(rule="sgdm"), spec(rule=wild), spec(rule="fa")])
    asked = [MeasurementSpec(unit_count=4, noise=0.5)]
    whole = run(longer([specs[0], specs[2]]))
    before = {one: Measurements(one, asked) for one in specs}
    ended = []
    with pytest.raises(Killed):
        train_stack(
            specs,
            finished=lambda one, _: ended.append(one),
            progress=lambda one: _kill(len(before[one].dataset()["epoch"]) > 1),
            on_record=lambda epoch, network: before[network.spec](epoch, network),
            checkpoints={o: Checkpoints(tmp_path / o.network_id, EVERY, before[o]) for o in specs},
        )
    assert ended == [specs[1]]
    left = [specs[0], specs[2]]
    after = {one: Measurements(one, asked) for one in left}
    again = run(left, tmp_path, companions=after)
    assert_close(again, whole)
    for one in left:
        measured = after[one].dataset()
        assert list(measured["epoch"].values) == [0, 2, 4]
        assert np.isfinite(measured["observable"]).all()
