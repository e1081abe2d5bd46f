"""Measurement files: written whole, added to, read one condition at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from goaldriven.errors import DataError
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.trajectories import load_examples, load_networks, write
from goaldriven.trajectories.measured import (
    load_measured_examples,
    measured_ids,
    measurement_coordinates,
    measurements_of,
    read_measured,
    write_measured,
)

from .made_up import diverge, make_network

A, B, C = (
    MeasurementSpec(unit_count=10, noise=0.1),
    MeasurementSpec(unit_fraction=0.5, relative_noise=0.3, noise_kind="shared"),
    MeasurementSpec(stimulus_count=5, through_feedback=True, own_units=True),
)


def measured(network: xr.Dataset, specs: list[MeasurementSpec], seed: int = 0) -> xr.Dataset:
    """Made-up measurements of a network."""
    values = np.random.default_rng(seed).normal(size=(len(specs), *network["observable"].shape))
    values[0, -1, -1, 0] = np.nan
    coords = {n: network[n] for n in ("epoch", "layer", "statistic", "position", "measure")}
    return xr.Dataset(
        {"observable": (("measurement", *network["observable"].dims), values)},
        coords={**measurement_coordinates(specs), **coords},
        attrs={"network_id": network.attrs["network_id"]},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two trained networks and one that diverged, unmeasured."""
    networks = [make_network(f"{i}" * 12, seed=i) for i in range(3)]
    networks[2] = diverge(networks[2], 5)
    for network in networks:
        write(network, tmp_path / "networks" / f"{network.attrs['network_id']}.nc")
    return tmp_path


def add(folder: Path, which: int, specs: list[MeasurementSpec], seed: int = 0) -> xr.Dataset:
    network = load_networks(folder)[which]
    dataset = measured(network, specs, seed)
    write_measured(dataset, folder / "measurements" / f"{network.attrs['network_id']}.nc")
    return dataset


def test_a_file_gives_back_what_was_written(folder):
    dataset = add(folder, 0, [A, B, C])
    there = read_measured(folder / "measurements" / f"{'0' * 12}.nc")
    np.testing.assert_array_equal(there["observable"], dataset["observable"])
    assert there["unit_count"].values.tolist() == [10, 0, 0]
    np.testing.assert_array_equal(there["unit_fraction"], [np.nan, 0.5, np.nan])
    assert there["noise"].values.tolist() == [0.1, 0, 0]
    assert there["relative_noise"].values.tolist() == [0, 0.3, 0]
    assert there["correlation"].values.tolist() == [0, 0.5, 0]
    assert there["stimulus_count"].values.tolist() == [0, 0, 5]
    assert there["through_feedback"].values.tolist() == [0, 0, 1]
    assert there["label"].values.tolist() == [A.label, B.label, C.label]
    assert there.attrs["network_id"] == "0" * 12
    assert list((folder / "measurements").iterdir()) == [
        folder / "measurements" / f"{'0' * 12}.nc"
    ], "nothing partial is left"


def test_measurements_are_added_and_the_newer_counts(folder):
    first = add(folder, 0, [A, B], seed=1)
    second = add(folder, 0, [C, B], seed=2)
    path = folder / "measurements" / f"{'0' * 12}.nc"
    assert measured_ids(path) == (A.measurement_id, C.measurement_id, B.measurement_id)
    values = read_measured(path)["observable"].values
    np.testing.assert_array_equal(values[0], first["observable"][0])
    np.testing.assert_array_equal(values[1:], second["observable"])


def test_examples_are_those_of_the_study_with_the_measured_values(folder):
    values = [add(folder, i, [B, A], seed=i)["observable"].values[1] for i in (0, 1)]
    plain, got = load_examples(folder), load_measured_examples(folder, A)
    want = plain.copy(deep=True)
    want["value"].values[:4] = values[0].swapaxes(0, 1)
    want["value"].values[4:8] = values[1].swapaxes(0, 1)
    want["value"].values[8:] = np.nan  # diverged and not measured
    xr.testing.assert_identical(got, want)
    by_id = load_measured_examples(folder, A.measurement_id, networks=load_networks(folder))
    xr.testing.assert_identical(by_id, want)


def test_what_all_trained_networks_have_is_listed(folder):
    assert measurements_of(folder) == ()
    add(folder, 0, [A, B, C])
    assert measurements_of(folder) == ()
    add(folder, 1, [C, A])
    assert measurements_of(folder) == (A, C)


def test_bad_files_are_named(folder, tmp_path):
    add(folder, 0, [A])
    with pytest.raises(DataError, match=r"'10 units.*' must be there for every trained network"):
        load_measured_examples(folder, A)
    add(folder, 1, [A])
    path = folder / "measurements" / f"{'1' * 12}.nc"
    whole = path.read_bytes()
    other = make_network("1" * 12, epochs=(0, 5, 15))
    with pytest.raises(DataError, match="at the same epochs and layers, got others"):
        write_measured(measured(other, [B]), path)
    assert path.read_bytes() == whole
    path.unlink()
    write_measured(measured(other, [A]), path)
    with pytest.raises(DataError, match="must have the 'epoch' coordinate"):
        load_measured_examples(folder, A)
    path.write_bytes(whole[:-200])
    for read in (lambda: load_measured_examples(folder, A), lambda: measurements_of(folder),
                 lambda: read_measured(path)):  # fmt: skip
        with pytest.raises(DataError, match=f"cannot read measurements {path}"):
            read()
    with pytest.raises(DataError, match="must hold trajectories"):
        measurements_of(tmp_path / "nothing")


def test_what_is_no_set_of_measurements_is_not_written(folder):
    dataset = measured(load_networks(folder)[0], [A])
    path = folder / "measurements" / "x.nc"
    for broken, complaint in (
        (dataset.drop_vars("label"), "coordinate 'label' is required"),
        (dataset.isel(measurement=[0, 0]), "must not repeat one"),
        (dataset.assign_coords(measurement=["abc"]), "must hold the ids of 'spec'"),
        (dataset.rename(epoch="time"), "'observable' must be there with"),
    ):
        with pytest.raises(DataError, match=complaint):
            write_measured(broken, path)
    assert not path.exists()
