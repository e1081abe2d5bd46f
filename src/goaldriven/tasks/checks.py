"""Checks on the data of a task, and the choice of the stimuli that a limit keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goaldriven.errors import DataError

Labels = NDArray[Any]
Split = str  # "training" or "validation", as messages say it


def check_data(
    task: str,
    split: Split,
    stimuli: NDArray[np.generic],
    labels: Labels,
    n_classes: int,
) -> None:
    """Refuse data that cannot be learned from.

    Raises
    ------
    DataError : no stimuli, another number of labels, NaN or infinite values, labels that are not
        whole numbers from 0 to ``n_classes`` − 1.
    """
    where = f"task {task}: {split}"
    if len(stimuli) == 0:
        raise DataError(f"{where} stimuli must be at least 1, got 0")
    check_labels(task, split, labels, n_classes)
    if len(stimuli) != len(labels):
        raise DataError(
            f"{where} labels must be as many as the {len(stimuli)} stimuli, got {len(labels)}"
        )
    if np.issubdtype(stimuli.dtype, np.floating):
        bad = np.flatnonzero(~np.isfinite(stimuli.reshape(len(stimuli), -1)).all(axis=1))
        if bad.size:
            what = "NaN" if np.isnan(stimuli[bad[0]]).any() else "infinity"
            raise DataError(
                f"{where} stimuli must be finite, got {what} in stimulus {bad[0]} "
                f"({bad.size} of {len(stimuli)} are not finite)"
            )


def check_labels(task: str, split: Split, labels: Labels, n_classes: int) -> None:
    """Refuse labels that are not whole numbers from 0 to ``n_classes`` − 1.

    Raises
    ------
    DataError : naming the first such label.
    """
    allowed = f"task {task}: {split} labels must be whole numbers from 0 to {n_classes - 1}"
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{allowed}, got {labels.dtype} values")
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if bad.size:
        raise DataError(f"{allowed}, got {labels[bad[0]]} for stimulus {bad[0]}")


def keep(task: str, split: Split, labels: Labels, limit: int | None) -> NDArray[np.int64]:
    """Indices of the stimuli that ``limit`` keeps: all, or the first in a balanced order.

    Raises
    ------
    DataError : ``limit`` exceeds the number of stimuli.
    """
    if limit is None:
        return np.arange(len(labels))
    field = {"training": "train_limit", "validation": "validation_limit"}[split]
    if limit > len(labels):
        raise DataError(
            f"{field} must be at most the {len(labels)} {split} stimuli of task {task}, got {limit}"
        )
    return balanced_order(labels)[:limit]


def balanced_order(labels: Labels) -> NDArray[np.int64]:
    """A fixed order whose every beginning has the classes as evenly as can be.

    The stimuli of each class are shuffled once (fixed seed) and dealt out in turn, so that class
    counts differ by at most one until the smallest class is used up.
    """
    shuffled = np.random.default_rng(0).permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        turn[members] = np.arange(len(members))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[shuffled] = np.arange(len(labels))
    return np.lexsort((rank, turn)).astype(np.int64)
