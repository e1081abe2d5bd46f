"""Files come back bit for bit; damaged and foreign ones are named; writes are atomic."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from goaldriven.errors import DataError, StudyError
from goaldriven.trajectories import atomic, load_networks, read, read_outcome, write

from .made_up import diverge, make_network


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "networks" / "0123456789ab.nc"


def bits(dataset: xr.Dataset) -> dict[str, bytes]:
    return {
        str(name): v.values.tobytes()
        for name, v in dataset.variables.items()
        if v.dtype.kind == "f"
    }


@pytest.mark.parametrize(
    "network",
    [
        make_network(),
        diverge(make_network(diagnostics=True), 5),
        make_network(n_layers=1, epochs=(0,)),
        make_network(diagnostics=True),
    ],
    ids=["trained", "diverged", "smallest", "with diagnostics"],
)
def test_round_trip_is_bit_for_bit(network, path):
    awkward = network["observable"].values
    awkward.flat[:6] = [np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308, np.nan]
    write(network, path)
    back = read(path)
    assert back.identical(network)  # values, coordinates, names and attributes
    assert bits(back) == bits(network)  # also the sign of zero, which == does not see
    assert {k: type(v) for k, v in back.attrs.items()} == {
        k: type(v) for k, v in network.attrs.items()
    }
    assert read_outcome(path) == network.attrs["outcome"]


def test_what_was_read_can_be_written_again(path):
    write(make_network(), path)
    write(read(path), path)
    assert read(path).identical(make_network())


def test_more_variables_and_attributes_are_let_through(path):
    network = make_network(remark="mine").assign(extra=("epoch", np.arange(3)))
    write(network, path)
    assert read(path)["extra"].values.tolist() == [0, 1, 2]
    assert read(path).attrs["remark"] == "mine"


def test_pairs_take_little_room(path):
    """Twenty-one records of twelve layers: 200 kB of noise as float32, less where B is fixed."""
    network = make_network(n_layers=12, epochs=tuple(range(21)), diagnostics=True)
    write(network.drop_vars(["forward_weight", "backward_weight"]), path)
    without = path.stat().st_size
    write(network, path)
    assert path.stat().st_size - without < 210_000
    fixed = network.copy(deep=True)
    fixed["backward_weight"][:] = fixed["backward_weight"].values[0]
    write(fixed, path)
    assert path.stat().st_size - without < 130_000


def test_every_truncation_is_found(path):
    write(make_network(n_layers=2, epochs=(0, 5)), path)
    whole = path.read_bytes()
    for length in [0, 1, 8, 47, *range(100, len(whole), 1499), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"0123456789ab\.nc: not a netCDF4 file, or truncated"):
            read(path)


def test_damaged_numbers_are_found(path):
    network = make_network()
    write(network, path)
    damaged = bytearray(path.read_bytes())
    with netCDF4.Dataset(path) as opened:
        assert opened["observable"].filters()["fletcher32"]
    middle = len(damaged) // 2
    damaged[middle : middle + 4000] = os.urandom(4000)
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        read(path)


@pytest.mark.parametrize(
    "content", [b"", b"rubbish" * 999, b"CDF\x01\x00\x00\x00\x00", b"\x89HDF\r\n"]
)
def test_rubbish_is_refused(content, path):
    path.parent.mkdir()
    path.write_bytes(content)
    for function in (read, read_outcome):
        with pytest.raises(DataError, match=r"cannot read trajectory .*0123456789ab\.nc"):
            function(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.nc: No such file or directory"):
        read(tmp_path / "nowhere.nc")
    with pytest.raises(DataError, match=r"nowhere\.nc: No such file or directory"):
        read_outcome(tmp_path / "nowhere.nc")
    with pytest.raises(DataError, match="Is a directory"):
        read(tmp_path)


def test_foreign_netcdf_is_refused(path):
    path.parent.mkdir()
    xr.Dataset({"temperature": ("x", [1.0, 2.0])}).to_netcdf(path)
    with pytest.raises(DataError, match="coordinate 'epoch' is required and was not given"):
        read(path)
    with pytest.raises(DataError, match=r"attribute 'outcome' must be one of diverged, trained"):
        read_outcome(path)


BAD = {
    "no variable": (lambda d: d.drop_vars("loss"), "variable 'loss' is required"),
    "dimensions": (
        lambda d: d.assign(loss=("layer", np.zeros(4))),
        r"variable 'loss' must have dimensions \('epoch',\), got \('layer',\)",
    ),
    "order": (
        lambda d: d.transpose("layer", "epoch", "statistic"),
        r"'observable' must have dimensions",
    ),
    "type": (
        lambda d: d.assign(loss=d["loss"].astype("float32")),
        "variable 'loss' must be float64, got float32",
    ),
    "update angle": (
        lambda d: d.assign(update_angle=("epoch", np.zeros(3))),
        r"'update_angle' must have dimensions \('epoch', 'layer'\) and be float64, got",
    ),
    "pairs of another type": (
        lambda d: d.assign(forward_weight=(("epoch", "layer", "pair"), np.zeros((3, 4, 5)))),
        r"'pair'\) and be float32, got \('epoch', 'layer', 'pair'\) and float64",
    ),
    "half a pair": (
        lambda d: d.assign(
            forward_weight=(("epoch", "layer", "pair"), np.zeros((3, 4, 5), "float32"))
        ),
        "'forward_weight' and 'backward_weight' must both be given, got one",
    ),
    "epochs descend": (
        lambda d: d.assign_coords(epoch=[0, 10, 5]),
        r"coordinate 'epoch' must ascend from 0, got \[0, 10, 5\]",
    ),
    "epochs late": (lambda d: d.assign_coords(epoch=[5, 10, 15]), "must ascend from 0"),
    "epochs float": (lambda d: d.assign_coords(epoch=[0.0, 0.5, 1.0]), "must be integer"),
    "statistic": (
        lambda d: d.assign_coords(statistic=["weight_abs_men", *d["statistic"].values[1:]]),
        r"statistic must be one of .*got 'weight_abs_men' \(did you mean 'weight_abs_mean'\?\)",
    ),
    "layers": (lambda d: d.assign_coords(layer=["a", "a", "b", "c"]), "must not repeat a name"),
    "measure": (
        lambda d: d.assign_coords(measure=("statistic", ["weight"] * 45)),
        "measure of statistic 'activation_raw_norm' must be activation, got 'weight'",
    ),
    "position": (
        lambda d: d.assign_coords(position=("layer", ["early", "mid", "deep", "deep"])),
        "position must be one of deep, early, middle; got 'mid'",
    ),
    "no attribute": (lambda d: d.drop_attrs(), "attribute 'spec' is required and was not given"),
    "attribute": (
        lambda d: d.assign_attrs(batch_size="64"),
        "attribute 'batch_size' must be int, got '64'",
    ),
    "spec": (lambda d: d.assign_attrs(spec="{"), "attribute 'spec' must be a JSON object, got '{'"),
    "outcome": (
        lambda d: d.assign_attrs(outcome="lost"),
        "attribute 'outcome' must be one of diverged, trained; got 'lost'",
    ),
    "empty": (lambda d: d.isel(layer=slice(0)), "dimension 'layer' must not be empty, got 0"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_what_is_not_a_trajectory_is_not_written(change, message, path):
    with pytest.raises(DataError, match=message):
        write(change(make_network()), path)
    assert not path.exists()


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_failed_write_leaves_nothing_and_says_why(path, monkeypatch, step, code):
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, step, fail)
    with pytest.raises(StudyError, match=rf"cannot write .*0123456789ab\.nc: {os.strerror(code)}"):
        write(make_network(), path)
    assert leftovers(path.parent) == []


def test_failed_write_keeps_the_earlier_file(path, monkeypatch):
    write(make_network(seed=1), path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(StudyError, match="No space left on device"):
        write(make_network(seed=2), path)
    assert leftovers(path.parent) == [path.name]
    assert read(path).identical(make_network(seed=1))


def test_interrupted_write_leaves_nothing(path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(make_network(), path)
    assert leftovers(path.parent) == []


def test_a_real_file_size_limit_is_reported(tmp_path):
    """No mock: the operating system itself refuses the bytes."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from goaldriven.trajectories.atomic import write_bytes\n"
        "from goaldriven.errors import StudyError\n"
        f"try: write_bytes({str(tmp_path / 'x.nc')!r}, bytes(5000))\n"
        "except StudyError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == f"cannot write {tmp_path / 'x.nc'}: File too large\n", run.stderr
    assert leftovers(tmp_path) == []


def test_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "networks").write_text("a file is in the way")
    with pytest.raises(StudyError, match=r"cannot write .*x\.nc: (File exists|Not a directory)"):
        write(make_network(), tmp_path / "networks" / "x.nc")


def test_replacing_is_atomic(path, monkeypatch):
    """Until the rename the target is the old file, whole; after it the new one, whole."""
    old, new = make_network(seed=1), make_network(seed=2)
    write(old, path)
    seen = []
    rename = os.replace

    def spy(source: Path, target: Path) -> None:
        seen.append(read(path))
        rename(source, target)

    monkeypatch.setattr(atomic.os, "replace", spy)
    write(new, path)
    assert seen[0].identical(old)
    assert read(path).identical(new)


def test_loading_a_folder(tmp_path):
    for i in (2, 0, 1):
        write(make_network(f"net{i}", seed=i), tmp_path / "networks" / f"net{i}.nc")
    (tmp_path / "networks" / ".net3.nc.77.partial").write_bytes(b"killed while writing")
    assert [n.attrs["network_id"] for n in load_networks(tmp_path)] == ["net0", "net1", "net2"]
    (tmp_path / "networks" / "net1.nc").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot read trajectory .*net1\.nc"):
        load_networks(tmp_path)
    with pytest.warns(UserWarning, match=r"left out: cannot read trajectory .*net1\.nc"):
        rest = load_networks(tmp_path, skip_unreadable=True)
    assert [n.attrs["network_id"] for n in rest] == ["net0", "net2"]


def test_folders_without_networks(tmp_path):
    with pytest.raises(DataError, match=r"networks must hold trajectories \(\*\.nc\), got none"):
        load_networks(tmp_path)
    write(make_network("a"), tmp_path / "networks" / "a.nc")
    write(make_network("a"), tmp_path / "networks" / "b.nc")
    with pytest.raises(DataError, match=r"b\.nc: network a is already in another file"):
        load_networks(tmp_path)
