"""Tidy tables from CSV, as they were before they were written: nothing is taken for what it isn't.

Rules may be called NA, and network ids may look like numbers, so every column is read as text, and
those of numbers are made numbers again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from goaldriven.errors import DataError

NUMBERS = ("value", "split", "seed", "correct", "probability", "layers", "layers_correct")
"""Columns of numbers in every experiment."""

TEXTS = (
    "experiment", "classifier", "split_kind", "metric", "network", "cluster", "rule", "verdict",
)  # fmt: skip
"""Columns of text in every experiment, which no row lacks."""

_NUMERIC = ("boolean", "integer", "floating", "mixed-integer-float")


def columns_of_numbers(tables: Iterable[pd.DataFrame]) -> list[str]:
    """The columns that hold numbers or truth values alone, besides what rows lack."""
    found = [
        str(column)
        for table in tables
        for column in table
        if pd.api.types.infer_dtype(table[column], skipna=True) in _NUMERIC
    ]
    return list(dict.fromkeys(found))


def read_table(
    path: Path, required: Sequence[str], numbers: Collection[str] | None = None
) -> pd.DataFrame:
    """A table that was written by pandas, without its index.

    Parameters
    ----------
    path : of the CSV file.
    required : columns that it must have.
    numbers : columns of numbers, besides `NUMBERS`; None where that was not recorded: then the
        columns whose entries all are as numbers are written.

    Raises
    ------
    DataError : a column is missing.
    OSError, ValueError : the file cannot be read, or has no number where one must be.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [column for column in required if column not in table]
    if missing:
        raise DataError(f"{path} must have a column '{missing[0]}', got {list(table)}")
    numeric = {*NUMBERS, *(_looking_so(table) if numbers is None else numbers)} - set(TEXTS)
    for column in table:
        if column in numeric:
            table[column] = [_number(text) for text in table[column]]
        elif column not in TEXTS:  # a column of the condition, which some rows may lack
            table[column] = table[column].where(table[column] != "", np.nan)
    return table


def _looking_so(table: pd.DataFrame) -> list[str]:
    """Columns that were numbers to all appearances: no 0010, no 1e5, no nan."""
    others = [str(column) for column in table if column not in TEXTS]
    return [c for c in others if all(map(_is_number, table[c])) and (table[c] != "").any()]


def _is_number(text: str) -> bool:
    try:
        return text == "" or (text != "nan" and text == str(_number(text)))
    except ValueError:
        return False


def _number(text: str) -> float | int | bool:
    """
    >>> [_number(text) for text in ("3", "0.1", "True", "")]
    [3, 0.1, True, nan]
    """
    if text in ("True", "False"):
        return text == "True"
    # Python's float() gives back the very bits that were written.
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text or "nan")
