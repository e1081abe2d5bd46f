"""Alignment diagnostics of a record against gradients and angles taken by hand, in NumPy."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from goaldriven.specs import NetworkSpec
from goaldriven.training import build, train
from goaldriven.training.loop import train_epoch
from goaldriven.training.record import PAIRS, Recorder, measure, weight_pairs
from goaldriven.trajectories import read, write


def spec(**changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 96, "validation_limit": 64},
        "architecture": {"name": "knet4", "width": 0.25},
        "rule": "sgdm",
        "batch_size": 32,
        "epochs": 4,
        "record_every": 2,
    }
    return NetworkSpec(**small | changes)


def angle(a, b) -> float:
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    # The half-angle formula keeps its precision near 0 and 180 degrees, unlike arccos.
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))


def kernels(network) -> list[np.ndarray]:
    names = [layer.name for layer in network.model.layers]
    return [network.model.get_submodule(n).weight.detach().numpy().copy() for n in names]


def validation_gradient(network) -> list[np.ndarray]:
    """Of a backprop twin with the same parameters and running averages, over the whole set."""
    twin = build(network.spec.model_copy(update={"rule": spec(rule="sgdm").rule}))
    twin.model.load_state_dict(network.model.state_dict())
    twin.model.eval()
    (batch,) = twin.task.validation_objective_batches(10_000)
    weights = [twin.model.get_submodule(layer.name).weight for layer in twin.model.layers]
    loss = twin.task.loss(twin.model, batch)
    return [g.numpy() for g in torch.autograd.grad(loss, weights)]


def trained_on_its_validation_set(learning_rate: float, **optimizer):
    """One batch is the whole training set, which is the validation set; plain gradient descent."""
    plain = {"learning_rate": learning_rate, "momentum": 0.0, "nesterov": False,
             "weight_decay": 0.0, "reference_batch_size": None}  # fmt: skip
    rule = {"name": "plain", "like": "sgdm", "optimizer": plain | optimizer}
    network = build(spec(rule=rule, batch_size=96))
    task = network.task
    same = dataclasses.replace(
        task,
        validation_stimuli=task.draw(torch.arange(96), torch.Generator()),
        validation_labels=task.train_labels,
    )
    return dataclasses.replace(network, task=same)


def test_full_batch_gradient_descent_goes_down_the_steepest_slope():
    network = trained_on_its_validation_set(learning_rate=0.2)
    recorder = Recorder(network)
    assert np.isnan(recorder.measure(0.0).update_angle).all()
    for epoch in range(2):  # the second is compared with the first, not with the initial network
        train_epoch(network, epoch)
        np.testing.assert_allclose(recorder.measure(0.0).update_angle, 0.0, atol=0.02)


def test_gradient_ascent_goes_up_it():
    network = trained_on_its_validation_set(learning_rate=0.2)
    for group in network.optimizer.param_groups:
        group["maximize"] = True
    recorder = Recorder(network)
    recorder.measure(0.0)
    train_epoch(network, 0)
    np.testing.assert_allclose(recorder.measure(0.0).update_angle, 180.0, atol=0.02)


def test_a_long_way_bends_away_from_the_slope_at_its_beginning():
    network = trained_on_its_validation_set(learning_rate=0.05)
    recorder = Recorder(network)
    recorder.measure(0.0)
    for epoch in range(30):
        train_epoch(network, epoch)
    assert (recorder.measure(0.0).update_angle > 5).all()


@pytest.mark.parametrize("rule", ["adam", "fa", "ia"])
@pytest.mark.parametrize("architecture", ["knet4", "resnet10"])
def test_update_angle_equals_gradients_and_angles_by_hand(rule, architecture):
    network = build(spec(rule=rule, architecture={"name": architecture, "width": 0.25}))
    train_epoch(network, 0)
    recorder = Recorder(network)
    recorder.measure(0.0)
    before, gradient = kernels(network), validation_gradient(network)
    train_epoch(network, 1)
    found = recorder.measure(0.0)
    moves = [now - then for now, then in zip(kernels(network), before, strict=True)]
    expected = [angle(m, -g) if g.any() else np.nan for m, g in zip(moves, gradient, strict=True)]
    np.testing.assert_allclose(found.update_angle, expected, atol=0.05)
    assert np.nanmin(expected) > 1


def test_weights_that_do_not_move_have_no_update_angle():
    delayed = {"name": "delayed", "like": "ia", "credit": {"delay_epochs": 3}}
    network = build(spec(rule=delayed))
    recorder = Recorder(network)
    recorder.measure(0.0)
    train_epoch(network, 0)
    assert np.isnan(recorder.measure(0.0).update_angle).all()


def test_pairs_are_evenly_spaced_entries_of_both_kernels():
    network = build(spec(rule="fa"))
    forward, backward = weight_pairs(network)
    assert forward.shape == backward.shape == (4, PAIRS)
    assert forward.dtype == backward.dtype == np.float32
    for row, layer in enumerate(network.model.layers):
        w = network.model.get_submodule(layer.name).weight.detach().numpy().ravel()
        b = network.credit.backward_weights[layer.name].numpy().ravel()
        k = min(w.size, PAIRS)
        entries = np.floor(np.arange(k) * (w.size / k) + 1e-9).astype(int)
        assert len(set(entries)) == k
        np.testing.assert_array_equal(forward[row, :k], w[entries])
        np.testing.assert_array_equal(backward[row, :k], b[entries])
        assert np.isnan(forward[row, k:]).all()
        assert np.isnan(backward[row, k:]).all()
    assert np.isnan(forward[0]).sum() == PAIRS - 72  # conv1: 8 × 1 × 3 × 3
    assert np.isfinite(forward[1:]).all()


def test_pairs_lie_on_a_line_where_backward_equals_forward():
    network = build(spec(rule="fa"))
    with torch.no_grad():
        for name, backward in network.credit.backward_weights.items():
            backward.copy_(2 * network.model.get_submodule(name).weight)
    forward, backward = weight_pairs(network)
    np.testing.assert_array_equal(backward, 2 * forward)


def test_layers_with_backward_weights_of_another_shape_have_no_pairs():
    network = build(spec(rule="fa"))
    own = network.credit.backward_weights["conv2"]
    direct = SimpleNamespace(backward_weights={"conv2": own, "conv3": torch.zeros(3, 7)})
    forward, backward = weight_pairs(dataclasses.replace(network, credit=direct))
    assert np.isfinite(forward[1]).all()
    assert np.isnan(forward[[0, 2, 3]]).all()
    assert np.isnan(backward[[0, 2, 3]]).all()
    direct.backward_weights = {"conv3": torch.zeros(3, 7)}
    assert weight_pairs(dataclasses.replace(network, credit=direct)) is None


def test_the_trajectory_has_pairs_where_there_are_backward_weights_and_survives_its_file(tmp_path):
    trajectory = train(spec(rule="fa"))
    assert trajectory["forward_weight"].dims == ("epoch", "layer", "pair")
    backward = trajectory["backward_weight"].values
    np.testing.assert_array_equal(backward[0], backward[-1])  # fixed feedback, the same entries
    moved = np.abs(np.diff(trajectory["forward_weight"].values, axis=0))
    assert (np.nanmax(moved, axis=-1) > 0).all()
    assert np.isnan(trajectory["update_angle"].values[0]).all()
    assert np.isfinite(trajectory["update_angle"].values[1:]).all()
    write(trajectory, tmp_path / "one.nc")
    assert read(tmp_path / "one.nc").identical(trajectory)


def test_the_pairs_of_records_that_were_not_reached_are_missing():
    wild = {"name": "wild", "like": "fa", "optimizer": {"learning_rate": 1e30}}
    trajectory = train(spec(rule=wild))
    assert trajectory.attrs["outcome"] == "diverged"
    assert np.isfinite(trajectory["forward_weight"].values[0, 1]).all()
    assert np.isnan(trajectory["forward_weight"].values[-1]).all()


def test_backprop_has_an_update_angle_and_no_pairs():
    trajectory = train(spec(rule="sgdm"))
    assert "forward_weight" not in trajectory
    assert "backward_weight" not in trajectory
    assert (trajectory["weight_angle"] == 0).all()
    assert (trajectory["weight_norm_ratio"] == 1).all()
    assert (trajectory["gradient_angle"] == 0).all()
    angles = trajectory["update_angle"].values
    assert np.isnan(angles[0]).all()
    assert (angles[1:] < 90).all()


def test_a_rule_without_any_backward_pass_has_an_update_angle_only():
    """Perturbation has no B, and says neither that it is Wᵀ nor what it gives."""
    network = build(spec(rule="wp"))
    recorder = Recorder(network)
    recorder.measure(0.0)
    train_epoch(network, 0)
    record = recorder.measure(0.0)
    for values in (record.weight_angle, record.weight_norm_ratio, record.gradient_angle):
        assert np.isnan(values).all()
    assert np.isfinite(record.update_angle).all()
    assert record.forward_weight is None


def test_a_single_record_is_the_first():
    assert np.isnan(measure(build(spec()), 0.0).update_angle).all()
