"""Pickles of arrays are read; anything else is refused before it can act."""

import collections
import os
import pickle
import subprocess

import numpy as np
import pytest

from goaldriven.errors import DataError
from goaldriven.trajectories.safe_pickle import load_arrays

RECORDS = np.array([("fa", 1), ("ia", 2)], dtype=[("rule", "U4"), ("seed", "i8")])
CONTENT = {
    "X": np.arange(24.0).reshape(2, 3, 4),
    "names": np.array(["a", "bc"]),
    "bytes": np.array([b"a", b"bc"]),
    "objects": np.array([None, 3, "x"], dtype=object),
    "meta": RECORDS.view(np.recarray),
    "structured": RECORDS,
    "scalar": np.float32(2.5),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "empty": np.empty((0, 3)),
    "plain": [1, 2.5, "x", b"y", None, True, (1, {2}), collections.OrderedDict(a=1)],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_back(protocol, tmp_path):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    read = load_arrays(path)
    assert read.keys() == CONTENT.keys()
    for name, value in CONTENT.items():
        if isinstance(value, np.ndarray):
            assert read[name].dtype == value.dtype
            np.testing.assert_array_equal(read[name], value)
        else:
            assert read[name] == value


# What Python 2.7 with NumPy 1.16 writes, protocol 2, for {'X': array([1., 2.]), 'Y': ['fa']}: str
# is bytes there, and the reconstructor lies in numpy.core.
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x01X"
    + b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
    + b"(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f8K\x00K\x01\x87Rq\x06(K\x03U\x01<NNN"
    + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
    + np.array([1.0, 2.0]).tobytes()
    + b"tbU\x01Y]q\x07U\x02faq\x08au."
)


def test_files_of_python_2(tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(PYTHON_2)
    read = load_arrays(path)
    np.testing.assert_array_equal(read["X"], [1.0, 2.0])
    assert read["Y"] == ["fa"]


class Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch executed",)),
        (eval, ("open('executed', 'w')",)),
        (exec, ("open('executed', 'w')",)),
        (subprocess.check_call, (["touch", "executed"],)),
        (getattr, (object, "__subclasses__")),
        (__import__, ("this",)),
        (np.load, ("executed",)),
        (open, ("executed", "w")),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_executed(function, arguments, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"X": Calls(function, *arguments)}, protocol=protocol))
    with pytest.raises(DataError, match="neither an array nor a plain container"):
        load_arrays(path)
    assert not (tmp_path / "executed").exists()


def test_dotted_names_do_not_lead_out(tmp_path):
    """Protocol 4 lets a name walk attributes; the table knows none of those names."""
    path = tmp_path / "dotted.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.data\x93.")
    with pytest.raises(DataError, match=r"numpy\.ndarray\.data"):
        load_arrays(path)


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1])
def test_truncated_files(cut, tmp_path):
    path = tmp_path / "cut.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol=2)[:cut])
    with pytest.raises(DataError, match="must be a whole pickle of arrays"):
        load_arrays(path)


def test_missing_file_and_other_files(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        load_arrays(tmp_path / "none.pkl")
    (tmp_path / "text.pkl").write_text("epoch,value\n0,1\n")
    with pytest.raises(DataError, match="must be a whole pickle of arrays"):
        load_arrays(tmp_path / "text.pkl")
