"""The one table that every analysis of synaptic dynamics starts from, and its checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from goaldriven.errors import DataError, unknown

Floats = NDArray[np.float64]
Strings = NDArray[np.str_]

LABELS = ("dendrite", "animal", "group")
"""Coordinates of a synapse besides its name."""

SINGLE_GROUP = "all"
"""The group of synapses whose table names none."""


class Weights(NamedTuple):
    """What the analyses take: one group of synapses as plain arrays.

    Attributes
    ----------
    w : (synapse, day) sizes; NaN = not observed, 0 = absent.
    days : (day,) strictly increasing.
    clusters : (synapse,) the dendrite of each synapse.
    """

    w: Floats
    days: Floats
    clusters: Strings


def make_table(
    size: ArrayLike,
    days: ArrayLike,
    dendrite: ArrayLike,
    *,
    synapse: ArrayLike | None = None,
    animal: ArrayLike | None = None,
    group: ArrayLike | None = None,
    drop_absent: bool = False,
    source: str = "table",
) -> xr.Dataset:
    """A table of synaptic sizes, checked.

    Parameters
    ----------
    size : (synapse, day) sizes (weights), 0 where a synapse is absent, NaN where not observed.
    days : (day,) days of the sessions, strictly increasing.
    dendrite : (synapse,) the dendrite on which a synapse lies: the unit of resampling.
    synapse : (synapse,) names; default ``"0"``, ``"1"``, …
    animal : (synapse,) animals, where they are known.
    group : (synapse,) cell types; default one group, ``"all"``.
    drop_absent : leave out synapses that are present in no session, instead of refusing them; the
        attribute ``dropped_absent`` counts them.
    source : what messages call the table.

    Returns
    -------
    Dataset with ``size(synapse, day)`` and the coordinates ``day`` (days), ``synapse``,
    ``dendrite(synapse)``, ``group(synapse)`` and, where given, ``animal(synapse)``.

    Raises
    ------
    DataError : a size is negative, infinite or not a number; fewer than two days; days that are
        not finite and strictly increasing; a synapse absent in every session; a name given twice;
        lengths that differ.

    >>> make_table([[1.0, 0.9], [0.0, 0.2]], [0, 4], ["a", "a"])["size"].sizes
    Frozen({'synapse': 2, 'day': 2})
    """
    w, when = check_weights(size, days, source=source)
    n = len(w)
    names = np.arange(n).astype(str) if synapse is None else _labels(synapse, n, "synapse", source)
    repeated = pd.Series(names)[pd.Series(names).duplicated()]
    if len(repeated):
        raise DataError(
            f"{source}: synapse must name every synapse once, got {str(repeated.iloc[0])!r} twice"
        )
    groups = [SINGLE_GROUP] * n if group is None else group
    coords: dict[str, tuple[str, Strings]] = {
        "dendrite": ("synapse", _labels(dendrite, n, "dendrite", source)),
        "group": ("synapse", _labels(groups, n, "group", source)),
    }
    if animal is not None:
        coords["animal"] = ("synapse", _labels(animal, n, "animal", source))
    _check_nested(coords["dendrite"][1], coords["group"][1], source)
    present = np.asarray((w > 0).any(axis=1))
    if not drop_absent or not present.any():
        _check_present(present, names, source)
    table = xr.Dataset(
        {"size": (("synapse", "day"), w, {"zero": "absent", "nan": "not observed"})},
        coords={"synapse": names, "day": ("day", when, {"units": "days"}), **coords},
        attrs={"dropped_absent": int((~present).sum())},
    )
    return table.isel(synapse=np.flatnonzero(present))


def check_weights(w: ArrayLike, days: ArrayLike, *, source: str = "table") -> tuple[Floats, Floats]:
    """Sizes and days as float arrays, checked as `make_table` says (absent synapses excepted)."""
    values = _numbers(w, "size", source)
    when = _numbers(days, "day", source)
    if values.ndim != 2 or not len(values):
        raise DataError(
            f"{source}: size must be synapses × days with at least one synapse, got shape "
            f"{values.shape}"
        )
    if when.ndim != 1 or len(when) != values.shape[1]:
        raise DataError(
            f"{source}: day must have one value for each of the {values.shape[1]} columns of size, "
            f"got shape {when.shape}"
        )
    if len(when) < 2:
        raise DataError(f"{source}: day must hold at least two days, got {len(when)}")
    _check_days(when, source)
    for bad, what in ((np.isinf(values), "finite"), (values < 0, "zero (absent) or above")):
        if bad.any():
            i, t = (int(k) for k in np.argwhere(bad)[0])
            raise DataError(
                f"{source}: size must be {what}, or NaN (not observed), got {values[i, t]:g} for "
                f"synapse {i} on day {when[t]:g}"
            )
    return values, when


def _check_days(days: Floats, source: str) -> None:
    if not np.isfinite(days).all():
        raise DataError(f"{source}: day must be finite, got {_first(days[~np.isfinite(days)])}")
    steps = np.diff(days)
    if (steps <= 0).any():
        k = int(np.argmax(steps <= 0))
        what = "twice" if steps[k] == 0 else f"after {days[k]:g}"
        raise DataError(f"{source}: day must increase strictly, got {days[k + 1]:g} {what}")


def _check_present(present: NDArray[np.bool_], names: Strings, source: str) -> None:
    """A synapse seen in no session is not one: a row of them is a mistake in the table."""
    if not present.all():
        raise DataError(
            f"{source}: size must be above 0 in at least one session of every synapse, got "
            f"{int((~present).sum())} of {len(names)} synapses without one, the first "
            f"{str(names[~present][0])!r}"
        )


def _check_nested(dendrite: Strings, group: Strings, source: str) -> None:
    pairs = pd.DataFrame({"dendrite": dendrite, "group": group}).drop_duplicates()
    twice = pairs[pairs["dendrite"].duplicated(keep=False)]
    if len(twice):
        name = twice["dendrite"].iloc[0]
        groups = sorted(twice.loc[twice["dendrite"] == name, "group"])
        raise DataError(
            f"{source}: group must be the same for all synapses of a dendrite, got "
            f"{', '.join(groups)} on dendrite {name!r}"
        )


def _numbers(values: ArrayLike, field: str, source: str) -> Floats:
    try:
        return np.array(values, dtype=float)
    except (TypeError, ValueError):
        flat = np.ravel(np.array(values, dtype=object))
        bad = next((v for v in flat if not _is_number(v)), None)
        given = "rows of different lengths" if bad is None or np.ndim(bad) else f"{bad!r}"
        raise DataError(f"{source}: {field} must be numbers, got {given}") from None


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _labels(values: ArrayLike, n: int, field: str, source: str) -> Strings:
    labels = np.asarray(values)
    if labels.shape != (n,):
        raise DataError(
            f"{source}: {field} must have one value for each of the {n} synapses, got shape "
            f"{labels.shape}"
        )
    return labels.astype(str)


def _first(values: Floats) -> str:
    return f"{values[0]:g}"


def groups_of(table: xr.Dataset) -> list[str]:
    """The groups (cell types) of a table, in the order in which they appear."""
    return list(dict.fromkeys(table["group"].values.tolist()))


def select_group(table: xr.Dataset, group: str) -> xr.Dataset:
    """The synapses of one group.

    Raises
    ------
    DataError : the table has no such group.
    """
    known = groups_of(table)
    if group not in known:
        raise DataError(unknown("group", group, known))
    return table.isel(synapse=np.flatnonzero(table["group"].values == group))


def weights_of(table: xr.Dataset, group: str | None = None) -> Weights:
    """A table, or one of its groups, as the arrays that the analyses take.

    Days on which none of the synapses was observed are left out.
    """
    chosen = table if group is None else select_group(table, group)
    w = chosen["size"].values.astype(float)
    imaged = np.isfinite(w).any(axis=0)
    return Weights(
        w[:, imaged],
        chosen["day"].values.astype(float)[imaged],
        chosen["dendrite"].values.astype(str),
    )


def keep_common_sessions(table: xr.Dataset) -> xr.Dataset:
    """The table without the sessions in which not all dendrites of a synapse's group were imaged.

    Their sizes become NaN (not observed); synapses then present in no session are left out and
    counted in ``dropped_absent``.
    """
    size = table["size"].values.copy()
    dendrites = table["dendrite"].values
    for group in groups_of(table):
        mine = table["group"].values == group
        imaged = [np.isfinite(size[dendrites == d]).any(axis=0) for d in np.unique(dendrites[mine])]
        size[np.ix_(mine, ~np.all(imaged, axis=0))] = np.nan
    present = (size > 0).any(axis=1)
    kept = table.assign(size=(("synapse", "day"), size, table["size"].attrs))
    dropped = int(table.attrs.get("dropped_absent", 0)) + int((~present).sum())
    return kept.isel(synapse=np.flatnonzero(present)).assign_attrs(dropped_absent=dropped)


def to_frame(table: xr.Dataset) -> pd.DataFrame:
    """The tidy long form: one row per observed synapse and day.

    Columns synapse, dendrite, animal (where known), group, day, size; what was not observed has
    no row, what is absent has size 0.
    """
    columns = [c for c in ("synapse", *LABELS) if c in table.coords]
    frame = table["size"].to_dataframe().reset_index()
    return frame.dropna(subset=["size"])[[*columns, "day", "size"]].reset_index(drop=True)


def from_frame(
    frame: pd.DataFrame,
    *,
    group: str | None = None,
    drop_absent: bool = False,
    source: str = "table",
) -> xr.Dataset:
    """A table from its tidy form, long or wide.

    Long: columns synapse, dendrite, day, size, and optionally animal and group (or cell_type).
    Wide: synapse, dendrite, the optional ones, and one column per session, headed by its day (a
    number). An empty cell or a missing row is a synapse not observed, 0 one that is absent.

    Parameters
    ----------
    group : the column that holds the groups; default ``group`` or ``cell_type`` if there is one.
    drop_absent, source : see `make_table`.

    Raises
    ------
    DataError : a column is missing, a cell is not a number, a synapse has two sizes on one day or
        two dendrites, and all that `make_table` refuses.
    """
    frame = frame.rename(columns=str)
    if "synapse" not in frame or "dendrite" not in frame:
        missing = [c for c in ("synapse", "dendrite") if c not in frame]
        raise DataError(
            f"{source}: columns must include synapse and dendrite, got {', '.join(frame.columns)} "
            f"(without {' and '.join(missing)})"
        )
    for one, other in (("size", "day"), ("day", "size")):
        if one in frame and other not in frame:
            raise DataError(
                f"{source}: columns must include {other} beside {one}, got "
                f"{', '.join(frame.columns)}"
            )
    if frame.empty:
        raise DataError(
            f"{source}: size must be synapses × days with at least one synapse, got none"
        )
    frame = _with_group(frame, group, source)
    labels = [c for c in LABELS if c in frame]
    wide, days = (
        _long_to_wide(frame, labels, source) if "size" in frame else _wide(frame, labels, source)
    )
    return make_table(
        wide[[c for c in wide.columns if c not in ("synapse", *labels)]].to_numpy(float),
        days,
        wide["dendrite"].to_numpy(),
        synapse=wide["synapse"].to_numpy(),
        animal=wide["animal"].to_numpy() if "animal" in wide else None,
        group=wide["group"].to_numpy() if "group" in wide else None,
        drop_absent=drop_absent,
        source=source,
    )


def _with_group(frame: pd.DataFrame, group: str | None, source: str) -> pd.DataFrame:
    """The frame with its column of groups, if any, under the name ``group``."""
    names = [group] if group else ["group", "cell_type"]
    found = [n for n in names if n in frame]
    if group and not found:
        raise DataError(f"{source}: " + unknown("group column", group, frame.columns))
    if not found or found[0] == "group":
        return frame
    return frame.drop(columns="group", errors="ignore").rename(columns={found[0]: "group"})


def _long_to_wide(
    frame: pd.DataFrame, labels: Sequence[str], source: str
) -> tuple[pd.DataFrame, Floats]:
    frame = frame.assign(
        day=_column(frame["day"], "day", source), size=_column(frame["size"], "size", source)
    )
    repeated = frame[frame.duplicated(["synapse", "day"])]
    if len(repeated):
        row = repeated.iloc[0]
        raise DataError(
            f"{source}: size must be given once for each synapse and day, got two for synapse "
            f"{str(row['synapse'])!r} on day {row['day']:g}"
        )
    who = frame[["synapse", *labels]].drop_duplicates()
    if who["synapse"].duplicated().any():
        name = who.loc[who["synapse"].duplicated(), "synapse"].iloc[0]
        raise DataError(
            f"{source}: {', '.join(labels)} must be the same in all rows of a synapse, got "
            f"several for synapse {str(name)!r}"
        )
    sizes = frame.pivot(index="synapse", columns="day", values="size")
    wide = who.merge(sizes, left_on="synapse", right_index=True, how="left")
    return wide, sizes.columns.to_numpy(float)


def _wide(frame: pd.DataFrame, labels: Sequence[str], source: str) -> tuple[pd.DataFrame, Floats]:
    columns = [c for c in frame.columns if c not in ("synapse", *labels)]
    days = []
    for column in columns:
        name = column.removeprefix("day").strip(" _")
        if not _is_number(name):
            raise DataError(
                f"{source}: columns must be synapse, {', '.join(LABELS)}, and either day and size "
                f"or one column per day headed by a number, got {column!r}"
            )
        days.append(float(name))
    sizes = {c: _column(frame[c], "size", source) for c in columns}
    return frame[["synapse", *labels]].assign(**sizes), np.asarray(days)


def _column(values: pd.Series, field: str, source: str) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    bad = numbers.isna() & values.notna() & (values.astype(str).str.lower() != "nan")
    if field == "day":
        bad |= numbers.isna()
    if bad.any():
        row = int(np.argmax(bad.to_numpy()))
        raise DataError(
            f"{source}: {field} must be a number, got {values.iloc[row]!r} in row {row + 1}"
        )
    return numbers.astype(float)
