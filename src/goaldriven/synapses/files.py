"""Tables of synaptic sizes in files: CSV, NPZ, NWB and netCDF."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import xarray as xr

from goaldriven.errors import DataError, unknown
from goaldriven.synapses.nwb import read_nwb
from goaldriven.synapses.published import read_npz, table_of_arrays
from goaldriven.synapses.table import LABELS, from_frame, make_table, to_frame
from goaldriven.trajectories.atomic import write_bytes
from goaldriven.trajectories.files import from_netcdf, to_netcdf


def read_table(
    path: str | Path, *, group: str | None = None, drop_absent: bool = False
) -> xr.Dataset:
    """Read a table of synaptic sizes; the ending names the format.

    - ``.csv``: long or wide, see `from_frame`.
    - ``.npz``: see `table_of_arrays`.
    - ``.nwb``: see `goaldriven.synapses.nwb`; needs ``goaldriven[nwb]``.
    - ``.nc``: what `write_netcdf` wrote.

    Parameters
    ----------
    group : of a CSV file, the column that holds the groups.
    drop_absent : leave out synapses that are present in no session, instead of refusing them
        (always, for NPZ).

    Raises
    ------
    DataError : no such file, an unknown ending, a damaged file, or no valid table.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path}: " + unknown("file's ending", path.suffix, _READERS))
    if not path.is_file():
        raise DataError(f"{path}: file must exist, got none")
    return _READERS[path.suffix.lower()](path, group, drop_absent)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: file must be readable, got {error.strerror or error}") from None


def _read_csv(path: Path, group: str | None, drop_absent: bool) -> xr.Dataset:
    content = _content(path)
    try:
        frame = pd.read_csv(io.BytesIO(content), dtype=str)
        # A size of NA is none; a group, dendrite or synapse of that name is one.
        as_written = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: file must be CSV text with a header, got one that cannot be read "
            f"({str(error).strip()})"
        ) from None
    for column in {"synapse", *LABELS, "cell_type", group} & set(frame.columns):
        frame[column] = as_written[column].where(as_written[column] != "")
    return from_frame(frame, group=group, drop_absent=drop_absent, source=str(path))


def _read_npz(path: Path, group: str | None, drop_absent: bool) -> xr.Dataset:
    return table_of_arrays(read_npz(_content(path), str(path)), source=str(path))


def _read_nwb(path: Path, group: str | None, drop_absent: bool) -> xr.Dataset:
    return read_nwb(path, drop_absent=drop_absent)


def _read_nc(path: Path, group: str | None, drop_absent: bool) -> xr.Dataset:
    content = _content(path)
    try:
        dataset = from_netcdf(content)
        fields = {name: dataset[name].values for name in ("size", "day", "dendrite", "synapse")}
        more = {c: dataset[c].values for c in ("animal", "group") if c in dataset.coords}
    except Exception as error:  # the netCDF library raises many kinds on damaged files
        raise DataError(
            f"{path}: file must be a whole netCDF file with size, day, dendrite and synapse, got "
            f"one that cannot be read ({str(error).strip() or type(error).__name__})"
        ) from None
    return make_table(
        fields.pop("size"),
        fields.pop("day"),
        fields.pop("dendrite"),
        **fields,
        **more,
        drop_absent=drop_absent,
        source=str(path),
    )


_READERS: dict[str, Callable[[Path, str | None, bool], xr.Dataset]] = {
    ".csv": _read_csv,
    ".npz": _read_npz,
    ".nwb": _read_nwb,
    ".nc": _read_nc,
}


def write_csv(table: xr.Dataset, path: str | Path) -> None:
    """Write the tidy long form (see `to_frame`); numbers come back bit for bit.

    Raises
    ------
    StudyError : the file cannot be written; nothing half-written is left.
    """
    write_bytes(path, to_frame(table).to_csv(index=False).encode("utf-8"))


def write_netcdf(table: xr.Dataset, path: str | Path) -> None:
    """Write a table as netCDF4.

    Raises
    ------
    StudyError : the file cannot be written; nothing half-written is left.
    """
    write_bytes(path, to_netcdf(table))
