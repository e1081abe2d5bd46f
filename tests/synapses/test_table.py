"""Tables of synaptic sizes: what they hold, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from goaldriven.errors import DataError
from goaldriven.synapses import table

GOOD = {"size": [[1.0, 0.5, 0.0], [0.0, np.nan, 2.0]], "days": [0, 4, 8], "dendrite": ["a", "b"]}


def test_a_table_keeps_absent_and_unobserved_apart():
    made = table.make_table(**GOOD, group=["pyr", "pv"], animal=["m1", "m2"])
    assert made["size"].values[0, 2] == 0
    assert np.isnan(made["size"].values[1, 1])
    assert table.groups_of(made) == ["pyr", "pv"]
    w, days, clusters = table.weights_of(made, "pv")
    np.testing.assert_array_equal(w, [[0, 2]])  # the day on which nothing was seen is left out
    np.testing.assert_array_equal(days, [0, 8])
    assert clusters.tolist() == ["b"]


def test_input_is_not_changed():
    size = np.array(GOOD["size"])
    made = table.make_table(size, GOOD["days"], GOOD["dendrite"])
    made["size"].values[:] = -1
    np.testing.assert_array_equal(size, GOOD["size"])


BAD = {
    "negative": (
        {"size": [[1, -0.2, 1], [1, 1, 1]]},
        "size must be zero (absent) or above, or NaN (not observed), got -0.2 for synapse 0 on "
        "day 4",
    ),
    "infinite": (
        {"size": [[1, 1, 1], [1, 1, np.inf]]},
        "size must be finite, or NaN (not observed), got inf for synapse 1 on day 8",
    ),
    "no number": ({"size": [[1, "x", 1], [1, 1, 1]]}, "size must be numbers, got 'x'"),
    "ragged": (
        {"size": [[1, 1, 1], [1, 1]]},
        "size must be numbers, got rows of different lengths",
    ),
    "one day": (
        {"size": [[1.0], [1.0]], "days": [0]},
        "day must hold at least two days, got 1",
    ),
    "flat": (
        {"size": [1.0, 2.0]},
        "size must be synapses × days with at least one synapse, got shape (2,)",
    ),
    "no synapse": (
        {"size": np.zeros((0, 3)), "dendrite": []},
        "size must be synapses × days with at least one synapse, got shape (0, 3)",
    ),
    "days of another length": (
        {"days": [0, 4]},
        "day must have one value for each of the 3 columns of size, got shape (2,)",
    ),
    "unsorted days": ({"days": [0, 8, 4]}, "day must increase strictly, got 4 after 8"),
    "a day twice": ({"days": [0, 4, 4]}, "day must increase strictly, got 4 twice"),
    "no day": ({"days": [0, np.nan, 4]}, "day must be finite, got nan"),
    "absent synapse": (
        {"size": [[1, 1, 1], [0, np.nan, 0]]},
        "size must be above 0 in at least one session of every synapse, got 1 of 2 synapses "
        "without one, the first '1'",
    ),
    "all absent": (
        {"size": np.zeros((2, 3))},
        "size must be above 0 in at least one session of every synapse, got 2 of 2 synapses "
        "without one, the first '0'",
    ),
    "too few dendrites": (
        {"dendrite": ["a"]},
        "dendrite must have one value for each of the 2 synapses, got shape (1,)",
    ),
    "a name twice": (
        {"synapse": ["s", "s"]},
        "synapse must name every synapse once, got 's' twice",
    ),
    "a dendrite in two groups": (
        {"dendrite": ["a", "a"], "group": ["pyr", "pv"]},
        "group must be the same for all synapses of a dendrite, got pv, pyr on dendrite 'a'",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_tables_get_one_clear_message(case):
    changes, message = BAD[case]
    with pytest.raises(DataError) as caught:
        table.make_table(**(GOOD | changes), source="t.csv")
    assert str(caught.value) == f"t.csv: {message}"


def test_absent_synapses_can_be_dropped_but_not_all():
    size = [[1, 1, 1], [0, np.nan, 0]]
    made = table.make_table(size, [0, 4, 8], ["a", "b"], drop_absent=True)
    assert made.sizes["synapse"] == 1
    assert made.attrs["dropped_absent"] == 1
    with pytest.raises(DataError, match="got 2 of 2 synapses without one"):
        table.make_table(np.zeros((2, 3)), [0, 4, 8], ["a", "b"], drop_absent=True)


def test_unknown_group_lists_the_known():
    made = table.make_table(**GOOD, group=["pyr", "pv"])
    with pytest.raises(DataError) as caught:
        table.select_group(made, "pir")
    assert str(caught.value) == "group must be one of pv, pyr; got 'pir' (did you mean 'pyr'?)"


def long_frame():
    return pd.DataFrame(
        {
            "synapse": ["s1", "s1", "s2", "s2", "s2"],
            "dendrite": ["a", "a", "b", "b", "b"],
            "cell_type": ["pyr", "pyr", "pv", "pv", "pv"],
            "day": [4, 0, 0, 4, 8],
            "size": [0.5, 1.0, 0.0, 2.0, 3.0],
        }
    )


def test_long_rows_may_come_in_any_order_and_be_missing():
    made = table.from_frame(long_frame())
    np.testing.assert_array_equal(made["size"], [[1, 0.5, np.nan], [0, 2, 3]])
    np.testing.assert_array_equal(made["day"], [0, 4, 8])
    assert made["group"].values.tolist() == ["pyr", "pv"]


def test_wide_tables_are_read_like_long_ones():
    wide = pd.DataFrame(
        {
            "synapse": ["s1", "s2"],
            "dendrite": ["a", "b"],
            "group": ["pyr", "pv"],
            "0": [1.0, 0.0],
            "day 4": [0.5, 2.0],
            "8": [None, 3.0],
        }
    )
    assert table.from_frame(wide).identical(table.from_frame(long_frame()))


def test_a_table_comes_back_from_its_tidy_form(demo):
    again = table.from_frame(table.to_frame(demo))
    assert again.drop_attrs().identical(demo.drop_attrs())


BAD_FRAMES = {
    "no dendrite": (
        lambda f: f.drop(columns="dendrite"),
        "columns must include synapse and dendrite, got synapse, cell_type, day, size (without "
        "dendrite)",
    ),
    "no day": (
        lambda f: f.drop(columns="day"),
        "columns must include day beside size, got synapse, dendrite, cell_type, size",
    ),
    "no size": (
        lambda f: f.drop(columns="size"),
        "columns must include size beside day, got synapse, dendrite, cell_type, day",
    ),
    "word for a size": (
        lambda f: f.assign(size=["1", "2", "big", "4", "5"]),
        "size must be a number, got 'big' in row 3",
    ),
    "word for a day": (
        lambda f: f.assign(day=["0", "4", "0", "monday", "8"]),
        "day must be a number, got 'monday' in row 4",
    ),
    "two sizes on a day": (
        lambda f: f.assign(day=[0, 0, 0, 4, 8]),
        "size must be given once for each synapse and day, got two for synapse 's1' on day 0",
    ),
    "a synapse on two dendrites": (
        lambda f: f.assign(dendrite=["a", "b", "b", "b", "b"]),
        "dendrite, group must be the same in all rows of a synapse, got several for synapse 's1'",
    ),
    "a heading that is no day": (
        lambda f: f.drop(columns=["day", "size"]).assign(notes="x"),
        "columns must be synapse, dendrite, animal, group, and either day and size or one column "
        "per day headed by a number, got 'notes'",
    ),
    "empty": (
        lambda f: f.iloc[:0],
        "size must be synapses × days with at least one synapse, got none",
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES, ids=str)
def test_bad_frames_get_one_clear_message(case):
    change, message = BAD_FRAMES[case]
    with pytest.raises(DataError) as caught:
        table.from_frame(change(long_frame()), source="f.csv")
    assert str(caught.value) == f"f.csv: {message}"


def test_the_column_of_groups_can_be_named():
    frame = long_frame().rename(columns={"cell_type": "kind"})
    assert table.groups_of(table.from_frame(frame, group="kind")) == ["pyr", "pv"]
    with pytest.raises(DataError, match=r"group column must be one of .*; got 'kin' .*'kind'"):
        table.from_frame(frame, group="kin")
