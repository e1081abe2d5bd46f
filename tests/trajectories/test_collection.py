"""Collections of trajectories: made, merged, looked into."""

import numpy as np
import pytest

from goaldriven.errors import DataError, StudyError
from goaldriven.trajectories import load_networks, write
from goaldriven.trajectories.collection import collect, is_collection, merge, overview

from .made_up import make_network


def folder_of(path, *networks):
    for network in networks:
        write(network, path / "networks" / f"{network.attrs['network_id']}.nc")
    return path


def test_merging_keeps_each_network_once_and_bit_for_bit(tmp_path):
    a, b, c = (make_network(f"{i:012x}", seed=i) for i in range(3))
    one, two = folder_of(tmp_path / "one", a, b), folder_of(tmp_path / "two", b, c)
    (two / "measurements").mkdir()
    (two / "measurements" / f"{c.attrs['network_id']}.nc").write_bytes(b"measured")
    assert merge([one, two], tmp_path / "out") == 3
    assert is_collection(tmp_path / "out")
    for original, copied in zip((a, b, c), load_networks(tmp_path / "out"), strict=True):
        assert original.identical(copied)
    measured = tmp_path / "out" / "measurements" / f"{c.attrs['network_id']}.nc"
    assert measured.read_bytes() == b"measured"


def test_merging_again_goes_on(tmp_path):
    one = folder_of(tmp_path / "one", make_network("a" * 12))
    merge([one], tmp_path / "out")
    two = folder_of(tmp_path / "two", make_network("b" * 12, seed=1))
    assert merge([one, two], tmp_path / "out") == 2
    assert len(load_networks(tmp_path / "out")) == 2


def test_one_id_with_two_contents_is_refused_before_anything_is_written(tmp_path):
    one = folder_of(tmp_path / "one", make_network("a" * 12))
    two = folder_of(tmp_path / "two", make_network("a" * 12, seed=1))
    with pytest.raises(DataError, match="network aaaaaaaaaaaa must have the same observables in"):
        merge([one, two], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_epochs_are_refused(tmp_path):
    one = folder_of(tmp_path / "one", make_network("a" * 12))
    two = folder_of(tmp_path / "two", make_network("b" * 12, epochs=(0, 1, 2)))
    with pytest.raises(DataError, match="must share their 'epoch' coordinate to be merged"):
        merge([one, two], tmp_path / "out")


def test_foreign_folders_are_left_alone(tmp_path):
    one = folder_of(tmp_path / "one", make_network("a" * 12))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(StudyError, match="which holds other files"):
        merge([one], tmp_path / "out")
    with pytest.raises(DataError, match="which does not exist"):
        merge([tmp_path / "nowhere"], tmp_path / "new")
    with pytest.raises(DataError, match="must hold trajectories"):
        merge([tmp_path / "out"], tmp_path / "new")


def test_collecting_goes_on_and_refuses_others_of_the_same_name(tmp_path):
    networks = [make_network(f"{i:012x}", seed=i) for i in range(2)]
    assert collect(networks[:1], tmp_path / "out", "a.pkl") == 1
    assert collect(networks, tmp_path / "out", "a.pkl") == 2
    with pytest.raises(DataError, match="must have the same observables"):
        collect([make_network(f"{0:012x}", seed=9)], tmp_path / "out", "b.pkl")


def test_overview_counts_what_there_is(tmp_path):
    broken = make_network("c" * 12, seed=3, outcome="diverged")
    networks = [
        make_network("a" * 12, rule="fa"),
        make_network("b" * 12, rule="ia", n_layers=3),
        broken,
    ]
    networks[0]["observable"][-1, 0, 5] = np.inf
    broken["observable"][:] = np.nan
    folder = folder_of(tmp_path, *networks)
    (folder / "networks" / "cut.nc").write_bytes(b"\x89HDF")
    found = overview(folder)
    assert (found.networks, found.layers, found.diverged) == (3, 11, 1)
    assert found.levels["rule"] == {"fa": 1, "ia": 1, "sgdm": 1}
    assert found.epochs == (0, 5, 10)
    assert (found.statistics, found.finite) == (45, 44)
    assert list(found.broken) == [str(folder / "networks" / "cut.nc")]
