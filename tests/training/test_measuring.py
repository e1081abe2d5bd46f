"""Measured during training or from checkpoints: the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from goaldriven.errors import DataError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.training import train
from goaldriven.training.checkpoints import checkpoint_path, save_checkpoint
from goaldriven.training.measuring import Measurements, measure_checkpoints

CONDITIONS = [
    MeasurementSpec(),
    MeasurementSpec(through_feedback=True),
    MeasurementSpec(unit_count=20, relative_noise=0.3, own_units=True, seed=1),
    MeasurementSpec(unit_fraction=0.1, noise=0.1, through_feedback=True),
    MeasurementSpec(relative_noise=1, noise_kind="shared", stimulus_count=20),
    MeasurementSpec(noise=0.1, noise_kind="constant"),
]


def spec(**changes) -> NetworkSpec:
    small = {
        "task": {"name": "digits", "train_limit": 64, "validation_limit": 40},
        "architecture": {"name": "resnet10", "width": 0.125},
        "rule": "ia",
        "batch_size": 32,
        "epochs": 2,
        "record_every": 1,
    }
    return NetworkSpec(**small | changes)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Trajectory, measured during training, measured from checkpoints."""
    one, folder = spec(), tmp_path_factory.mktemp("checkpoints")
    collected = Measurements(one, CONDITIONS)

    def on_record(epoch, network):
        save_checkpoint(network, checkpoint_path(folder, epoch))
        collected(epoch, network)

    trajectory = train(one, on_record=on_record)
    return trajectory, collected.dataset(), measure_checkpoints(one, folder, CONDITIONS)


def test_from_checkpoints_as_during_training_bit_for_bit(both):
    _, during, later = both
    xr.testing.assert_identical(during, later)
    assert np.isfinite(during["observable"].sel(statistic="weight_raw_norm")).all()


def test_the_plain_condition_is_the_trajectory(both):
    trajectory, during, _ = both
    np.testing.assert_array_equal(during["observable"][0], trajectory["observable"])
    feedback, true = during["observable"][1], during["observable"][0]
    np.testing.assert_array_equal(feedback[..., :42], true[..., :42])
    assert (feedback[..., 42] != true[..., 42]).any(), "ia has a B of its own"


def test_training_does_not_notice(both):
    xr.testing.assert_equal(train(spec()), both[0])


def test_networks_have_noise_of_their_own():
    noisy = [MeasurementSpec(noise=1.0, unit_count=50)]
    values = []
    for data_seed in (0, 1):  # the same initial network: only the noise can tell them apart
        one = spec(epochs=1, data_seed=data_seed)
        collected = Measurements(one, noisy)
        train(one, on_record=lambda e, n, c=collected: c(e, n) if e == 0 else None)
        values.append(collected.dataset()["observable"].values[0, 0, :, 0])
    assert (values[0] != values[1]).all()


def test_without_checkpoints_it_is_said_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"must have checkpoints.*--keep-checkpoints"):
        measure_checkpoints(spec(), tmp_path, CONDITIONS)
    with pytest.raises(DataError, match="'measurements' must hold at least one"):
        Measurements(spec(), [])
    with pytest.raises(DataError, match="must have been measured before"):
        Measurements(spec(), CONDITIONS).dataset()
