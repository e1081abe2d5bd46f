"""The published data: layout of the shipped file, and the demonstration table."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import resources
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.synapses.table import keep_common_sessions, make_table

FILE = "synapse_sizes_melander2021.npz"
_SUFFIX = "_dendrite"
_SIZES: dict[str, tuple[str, ...]] = {"normalised": ("_norm", "_size", ""), "raw": ("_green_raw",)}

Channel = Literal["normalised", "raw"]


def load_demo(channel: Channel = "normalised", *, common_sessions: bool = True) -> xr.Dataset:
    """The synapses of Melander et al. 2021 as a table; groups ``"pyr"`` and ``"pv"``.

    Synapses present in none of the sessions (one of each cell type) are left out.

    Parameters
    ----------
    channel : ``"normalised"`` sizes, the authors', or ``"raw"`` PSD-95 fluorescence.
    common_sessions : of PV synapses keep the first seven sessions, in which all their dendrites
        were imaged (day 28 is then not observed). This is what the paper's counts are made of:
        45 additions, 50 eliminations, 190 synapses in the middle half of the persistent.

    Source: Cell Reports 37, 109972; see ``goaldriven/data/README.md``.
    """
    with resources.files("goaldriven").joinpath("data", FILE).open("rb") as stream:
        arrays = read_npz(stream.read(), FILE)
    table = table_of_arrays(arrays, channel=channel, source=FILE)
    animal = np.array([name[:2] for name in table["dendrite"].values])
    table = table.assign_coords(animal=("synapse", animal))
    return keep_common_sessions(table) if common_sessions else table


def read_npz(content: bytes, source: str) -> dict[str, NDArray]:
    """The arrays of an NPZ file, without unpickling anything.

    Raises
    ------
    DataError : not an NPZ file, truncated, or it holds Python objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as opened:
            if not isinstance(opened, np.lib.npyio.NpzFile):
                raise ValueError("one array")
            return {name: opened[name] for name in opened.files}
    except (BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
        raise DataError(
            f"{source}: file must be a whole NPZ file of plain arrays, got one that cannot be read "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None


def table_of_arrays(
    arrays: Mapping[str, NDArray], *, channel: Channel = "normalised", source: str = "arrays"
) -> xr.Dataset:
    """A table from the arrays of an NPZ file: ``days``, and for each group X ``X_dendrite`` with
    ``X_norm`` (or ``X_size``, or ``X``) and optionally ``X_animal``; for one group without a name
    ``dendrite`` with ``size`` and optionally ``animal``.

    Synapses present in no session are left out (the published file has some).

    Raises
    ------
    DataError : an array is missing, and all that `make_table` refuses.
    """
    if "days" not in arrays:
        raise DataError(f"{source}: arrays must include days, got {', '.join(sorted(arrays))}")
    names = [n.removesuffix(_SUFFIX) for n in arrays if n.endswith(_SUFFIX)]
    if not names and "dendrite" not in arrays:
        raise DataError(
            f"{source}: arrays must include dendrite, or GROUP_dendrite for each group, got "
            f"{', '.join(sorted(arrays))}"
        )
    parts = []
    for name in names or [""]:
        size = _sizes_of(arrays, name, channel, source)
        prefix = f"{name}_" if name else ""
        n = len(size)
        parts.append(
            make_table(
                size,
                arrays["days"],
                arrays[f"{prefix}dendrite"],
                synapse=[f"{prefix}{i}" for i in range(n)],
                animal=arrays.get(f"{prefix}animal"),
                group=[name] * n if name else None,
                drop_absent=True,
                source=f"{source}: {name}" if name else source,
            )
        )
    table = xr.concat(parts, dim="synapse", data_vars="minimal", coords="minimal", join="exact")
    return table.assign_attrs(dropped_absent=sum(p.attrs["dropped_absent"] for p in parts))


def _sizes_of(arrays: Mapping[str, NDArray], group: str, channel: str, source: str) -> NDArray:
    allowed = [f"{group}{s}" for s in _SIZES[channel]] if group else ["size"]
    for name in allowed:
        if name in arrays:
            return arrays[name]
    raise DataError(
        f"{source}: arrays must include {' or '.join(a for a in allowed if a)}, got "
        f"{', '.join(sorted(arrays))}"
    )
