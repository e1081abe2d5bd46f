"""Synaptic sizes in NWB (Neurodata Without Borders) files.

Layout: processing module ``synapses`` with two `DynamicTable`\\ s.

- ``sessions``: one row per imaging session; column ``day`` (float, days since the first).
- ``synapse_sizes``: one row per synapse; columns ``synapse``, ``dendrite`` and optionally
  ``animal`` and ``group`` (text), and ``size`` (float, one value per session; 0 = absent,
  NaN = not observed).

One file holds the whole longitudinal table, so a session here is an imaging day.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from goaldriven.errors import DataError, StudyError
from goaldriven.synapses.table import make_table

MODULE, SESSIONS, SIZES = "synapses", "sessions", "synapse_sizes"
_TEXTS = {
    "synapse": "name of the synapse",
    "dendrite": "dendrite on which it lies",
    "animal": "animal",
    "group": "cell type of the dendrite",
}


def read_nwb(path: str | Path, *, drop_absent: bool = False) -> xr.Dataset:
    """Read a table from an NWB file of the layout above.

    Raises
    ------
    DataError : pynwb is not installed, the file is damaged or has another layout, and all that
        `make_table` refuses.
    """
    pynwb = _pynwb()
    try:
        with pynwb.NWBHDF5IO(str(path), mode="r") as stream:
            fields = _fields(stream.read())
    except Exception as error:  # h5py, hdmf and pynwb raise many kinds on damaged files
        raise DataError(
            f"{path}: file must be NWB with tables {MODULE}/{SESSIONS} (day) and {MODULE}/{SIZES} "
            f"(synapse, dendrite, size), got one that cannot be read so ({_line(error)})"
        ) from None
    return make_table(
        fields.pop("size"),
        fields.pop("day"),
        fields.pop("dendrite"),
        **fields,
        drop_absent=drop_absent,
        source=str(path),
    )


def _fields(file: Any) -> dict[str, Any]:
    module = file.processing[MODULE]
    table = module[SIZES]
    texts = {name: np.asarray(table[name][:]) for name in _TEXTS if name in table.colnames}
    return {
        "size": np.asarray(table["size"][:]),
        "day": np.asarray(module[SESSIONS]["day"][:]),
        "dendrite": np.asarray(table["dendrite"][:]),
        **texts,
    }


def write_nwb(
    table: xr.Dataset,
    path: str | Path,
    *,
    session_start: datetime.datetime,
    description: str = "sizes of synapses over days",
    identifier: str = "synapses",
) -> None:
    """Write a table as an NWB file of the layout above, whole or not at all.

    Parameters
    ----------
    session_start : when the first session began, with its time zone.

    Raises
    ------
    DataError : pynwb is not installed.
    StudyError : the file cannot be written.
    """
    pynwb = _pynwb()
    from hdmf.common import DynamicTable, VectorData

    file = pynwb.NWBFile(
        session_description=description,
        identifier=identifier,
        session_start_time=session_start,
    )
    days = [float(d) for d in table["day"].values]
    columns = [
        VectorData(name=name, description=text, data=table[name].values.astype(str).tolist())
        for name, text in _TEXTS.items()
        if name in table.coords
    ]
    size = VectorData(
        name="size",
        description="size in each session of the table 'sessions'; 0: absent, NaN: not observed",
        data=table["size"].values.astype(float),
    )
    day = VectorData(name="day", description="days since the first session", data=days)
    module = file.create_processing_module(MODULE, "synapses followed over days")
    module.add(DynamicTable(name=SESSIONS, description="imaging sessions", columns=[day]))
    module.add(
        DynamicTable(
            name=SIZES, description="sizes of synapses by session", columns=[*columns, size]
        )
    )
    target = Path(path)
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial.nwb")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with pynwb.NWBHDF5IO(str(partial), mode="w") as stream:
            stream.write(file)
        os.replace(partial, target)
    except OSError as error:
        raise StudyError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _pynwb() -> Any:
    try:
        import pynwb
    except ImportError:
        raise DataError(
            "NWB files need pynwb, got none installed; install goaldriven[nwb]"
        ) from None
    return pynwb


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
