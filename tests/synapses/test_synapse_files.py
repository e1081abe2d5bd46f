"""Tables in files: what is written comes back; what is damaged is said to be."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from goaldriven.errors import DataError
from goaldriven.synapses import files, nwb, published, table


@pytest.fixture
def small():
    size = [[1.25, 0.1 + 0.2, 0.0], [0.0, np.nan, 2.0]]
    return table.make_table(
        size, [0, 4, 8.5], ["a", "b"], synapse=["s1", "s2"], group=["pyr", "pv"], animal=["m", "n"]
    )


def write_any(made, path):
    if path.suffix == ".csv":
        files.write_csv(made, path)
    elif path.suffix == ".nc":
        files.write_netcdf(made, path)
    elif path.suffix == ".nwb":
        pytest.importorskip("pynwb")
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        nwb.write_nwb(made, path, session_start=start)
    else:
        arrays = {"size": made["size"].values, "days": made["day"].values,
                  "dendrite": made["dendrite"].values, "animal": made["animal"].values}  # fmt: skip
        np.savez(path, **arrays)


@pytest.mark.parametrize("ending", ["csv", "nc", "nwb"])
def test_what_is_written_comes_back_bit_for_bit(small, tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    write_any(small, path)
    again = files.read_table(path)
    assert again.drop_attrs().identical(small.drop_attrs())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_npz_of_one_group(small, tmp_path):
    write_any(small, tmp_path / "t.npz")
    again = files.read_table(tmp_path / "t.npz")
    np.testing.assert_array_equal(again["size"], small["size"])
    assert again["animal"].values.tolist() == ["m", "n"]
    assert table.groups_of(again) == ["all"]


@pytest.mark.parametrize("ending", ["csv", "npz", "nwb", "nc"])
def test_a_truncated_file_is_one_message(small, tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    write_any(small, path)
    content = path.read_bytes()
    # Half a CSV file is often a valid one; a cut in the middle of its header is not.
    path.write_bytes(content[: 12 if ending == "csv" else len(content) // 2])
    with pytest.raises(DataError) as caught:
        files.read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "must" in str(caught.value)
    assert ", got " in str(caught.value)


def test_other_endings_and_missing_files(tmp_path):
    with pytest.raises(DataError) as caught:
        files.read_table(tmp_path / "t.mat")
    assert str(caught.value) == (
        f"{tmp_path / 't.mat'}: file's ending must be one of .csv, .nc, .npz, .nwb; got '.mat'"
    )
    with pytest.raises(DataError, match=r"none\.csv: file must exist, got none"):
        files.read_table(tmp_path / "none.csv")


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, size=np.array([{"a": 1}], dtype=object), days=[0, 1])
    with pytest.raises(DataError, match="must be a whole NPZ file of plain arrays"):
        files.read_table(path)


def test_npz_without_days_or_sizes(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, pyr_norm=np.ones((1, 2)), pyr_dendrite=["a"])
    with pytest.raises(DataError) as caught:
        files.read_table(path)
    assert str(caught.value) == (f"{path}: arrays must include days, got pyr_dendrite, pyr_norm")
    np.savez(path, pyr=np.ones((1, 2)), days=[0, 1])
    with pytest.raises(DataError, match="arrays must include dendrite, or GROUP_dendrite"):
        files.read_table(path)
    np.savez(path, pyr_dendrite=["a"], days=[0, 1])
    with pytest.raises(DataError, match="arrays must include pyr_norm or pyr_size or pyr, got"):
        files.read_table(path)


def test_the_published_file_holds_what_the_paper_counts(demo):
    """Synapses 721 of 722 and 468 of 469 present at some time; 14 + 21 dendrites, 4 + 7 animals."""
    whole = published.load_demo(common_sessions=False)
    groups = whole["group"].values
    assert [int((groups == g).sum()) for g in ("pyr", "pv")] == [721, 468]
    assert whole.attrs["dropped_absent"] == 2
    for group, dendrites, animals in (("pyr", 14, 4), ("pv", 21, 7)):
        part = table.select_group(demo, group)
        assert len(np.unique(part["dendrite"])) == dendrites
        assert len(np.unique(part["animal"])) == animals
    assert table.weights_of(demo, "pv").days.tolist() == [0, 4, 8, 12, 16, 20, 24]


def test_the_shipped_file_is_read_by_its_path(tmp_path):
    from importlib import resources

    with resources.as_file(resources.files("goaldriven") / "data" / published.FILE) as path:
        read = files.read_table(path)
    whole = published.load_demo(common_sessions=False)
    np.testing.assert_array_equal(read["size"], whole["size"])


@pytest.mark.parametrize("column", ["group", "cell_type", "line"])
def test_names_that_look_like_nothing_are_names(column, tmp_path):
    """Sizes of NA are none, as R writes them; groups, dendrites and synapses may be called so."""
    path = tmp_path / "synapses.csv"
    rows = [
        f"{synapse},{dendrite},{group},{day},{'NA' if synapse == 'null' and day == 2 else 1.5}"
        for synapse, dendrite, group in (("NA", "None", "NA"), ("null", "None", "NA"),
                                         ("0010", "1e5", "null"))
        for day in (0, 2, 4)
    ]  # fmt: skip
    path.write_text("\n".join([f"synapse,dendrite,{column},day,size", *rows]))
    read = files.read_table(path, group=column if column == "line" else None)
    assert read["synapse"].values.tolist() == ["NA", "null", "0010"]
    assert read["dendrite"].values.tolist() == ["None", "None", "1e5"]
    assert read["group"].values.tolist() == ["NA", "NA", "null"]
    missing = np.isnan(read["size"].values)
    assert np.argwhere(missing).tolist() == [[1, 1]]  # of synapse "null" on day 2
