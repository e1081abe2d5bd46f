"""Bad data are refused with the reason."""

import numpy as np
import pytest

from goaldriven.errors import DataError
from goaldriven.tasks.checks import balanced_order, check_data, check_labels, keep

GOOD = np.zeros((4, 1, 2, 2), dtype=np.float32)
LABELS = np.array([0, 1, 2, 1])


def spoiled(value):
    stimuli = GOOD.copy()
    stimuli[2, 0, 1, 1] = value
    return stimuli


@pytest.mark.parametrize(
    ("stimuli", "labels", "message"),
    [
        (GOOD[:0], LABELS[:0], "task t: training stimuli must be at least 1, got 0"),
        (GOOD, LABELS[:3], "task t: training labels must be as many as the 4 stimuli, got 3"),
        (spoiled(np.nan), LABELS, "task t: training stimuli must be finite, got NaN in stimulus 2 "
                                  "(1 of 4 are not finite)"),
        (spoiled(-np.inf), LABELS, "task t: training stimuli must be finite, got infinity in "
                                   "stimulus 2 (1 of 4 are not finite)"),
        (GOOD, LABELS + 1, "task t: training labels must be whole numbers from 0 to 2, got 3 for "
                           "stimulus 2"),
        (GOOD, LABELS - 1, "task t: training labels must be whole numbers from 0 to 2, got -1 for "
                           "stimulus 0"),
        (GOOD, LABELS / 2, "task t: training labels must be whole numbers from 0 to 2, got "
                           "float64 values"),
    ],
)  # fmt: skip
def test_messages(stimuli, labels, message):
    with pytest.raises(DataError) as caught:
        check_data("t", "training", stimuli, labels, 3)
    assert str(caught.value) == message


def test_good_data_pass():
    check_data("t", "training", GOOD, LABELS, 3)
    check_data("t", "training", GOOD.astype(np.uint8), LABELS.astype(np.uint8), 3)
    check_labels("t", "validation", LABELS, 3)


def test_balanced_order_is_balanced_from_the_start():
    labels = np.repeat([2, 0, 1], [30, 50, 40])
    order = balanced_order(labels)
    assert sorted(order) == list(range(120))
    for n in range(1, 91):  # 30 of each, the smallest class
        counts = np.bincount(labels[order[:n]], minlength=3)
        assert counts.max() - counts.min() <= 1
    assert len(np.unique(order[:9] // 10)) > 3, "not simply the first of each class"
    np.testing.assert_array_equal(order, balanced_order(labels))


def test_keep():
    assert keep("t", "training", LABELS, None).tolist() == [0, 1, 2, 3]
    assert sorted(LABELS[keep("t", "validation", LABELS, 3)]) == [0, 1, 2]
    with pytest.raises(DataError) as caught:
        keep("t", "validation", LABELS, 5)
    assert str(caught.value) == (
        "validation_limit must be at most the 4 validation stimuli of task t, got 5"
    )
