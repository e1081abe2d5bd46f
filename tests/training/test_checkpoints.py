"""Checkpoints give back the network that was recorded, and refuse what is not one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goaldriven.errors import DataError
from goaldriven.specs import RULES, NetworkSpec
from goaldriven.training import build, train
from goaldriven.training.checkpoints import checkpoint_path, load_checkpoint, save_checkpoint
from goaldriven.training.loop import train_epoch
from goaldriven.training.record import measure


def spec(**changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 128, "validation_limit": 64},
        "architecture": {"name": "resnet10", "width": 0.125},
        "rule": "ia",
        "batch_size": 32,
        "epochs": 2,
        "record_every": 1,
    }
    return NetworkSpec(**small | changes)


@pytest.mark.parametrize("rule", ["sgdm", "fa", "ia", "kp", "usf", "frsf", "npf", "wp", "dfa"])
def test_a_checkpoint_records_as_the_trained_network_did(rule, tmp_path):
    one = spec(rule=rule)
    trajectory = train(
        one, on_record=lambda e, network: save_checkpoint(network, checkpoint_path(tmp_path, e))
    )
    for epoch in (0, 1, 2):
        restored = load_checkpoint(checkpoint_path(tmp_path, epoch), one)
        record = measure(restored, float("nan"))
        there = trajectory.sel(epoch=epoch)
        np.testing.assert_array_equal(record.observables, there["observable"])
        np.testing.assert_array_equal(record.weight_angle, there["weight_angle"])
        np.testing.assert_array_equal(record.gradient_angle, there["gradient_angle"])
        assert record.metric == float(there["metric"])
    assert not torch.equal(
        next(build(one).model.parameters()), next(restored.model.parameters())
    ), "training moved the weights, and the checkpoint has them"


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"wp", "np"}))
def test_backward_weights_come_back(rule, tmp_path):
    network, path = build(spec(rule=rule)), checkpoint_path(tmp_path, 0)
    train_epoch(network, 0)
    save_checkpoint(network, path)
    restored = load_checkpoint(path, network.spec)
    assert restored.credit.backward_weights.keys() == network.credit.backward_weights.keys()
    for name, there in network.credit.backward_weights.items():
        assert torch.equal(restored.credit.backward_weights[name], there), name


def test_what_is_no_checkpoint_of_this_network_is_refused(tmp_path):
    path, one = checkpoint_path(tmp_path, 0), spec()
    with pytest.raises(DataError, match="got none at"):
        load_checkpoint(path, one)
    save_checkpoint(build(one), path)
    with pytest.raises(DataError, match="another specification"):
        load_checkpoint(path, spec(model_seed=1))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        load_checkpoint(path, one)
