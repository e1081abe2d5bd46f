"""Trajectory files: one netCDF4 file per network, ``<study>/networks/<network_id>.nc``.

Files are built and parsed in memory, and the bytes move through ordinary Python file operations:
disk-full and permission errors then arrive as `OSError` with a reason, which the netCDF library
would hide, and no half-written HDF5 file ever exists on disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore

from goaldriven.errors import DataError, GoaldrivenError, unknown
from goaldriven.trajectories.atomic import write_bytes
from goaldriven.trajectories.contract import OUTCOMES, Outcome, validate
from goaldriven.trajectories.examples import to_examples

NETWORKS_FOLDER = "networks"
_DAMAGED = "not a netCDF4 file, or truncated or damaged"
_REMEDIES = {
    "study.json": "delete it and run the study again: its network is trained anew",
    "collection.json": "delete it and import or merge again",
}
"""File in the folder above → what helps where a trajectory is damaged."""


def write(dataset: xr.Dataset, path: str | Path) -> None:
    """Write one network's trajectory as netCDF4, in one step; see `trajectories.validate`.

    Numbers are stored bit for bit (lossless compression, Fletcher-32 checksums).

    Raises
    ------
    DataError : the dataset is not a trajectory.
    StudyError : the file cannot be written; names path and reason, and nothing is left behind.
    """
    validate(dataset, f"trajectory for {path}")
    write_bytes(path, to_netcdf(dataset))


def read(path: str | Path) -> xr.Dataset:
    """Read one network's trajectory, fully loaded and checked; see `trajectories.validate`.

    Raises
    ------
    DataError : the file is missing, truncated, damaged, not netCDF4 or not a trajectory.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read trajectory {path}: {_reason(error)}") from error
    try:
        dataset = from_netcdf(content)
    except Exception as error:  # the netCDF library raises many kinds on damaged files
        raise DataError(f"cannot read trajectory {path}: {_DAMAGED}{_remedy(path)}") from error
    validate(dataset, str(path))
    return dataset


def read_outcome(path: str | Path) -> Outcome:
    """Whether a trajectory file's network is ``"trained"`` or ``"diverged"``, and nothing else.

    Raises
    ------
    DataError : the file cannot be read or does not say.
    """
    try:
        with netCDF4.Dataset(path, mode="r") as opened:
            outcome = getattr(opened, "outcome", None)
    except (OSError, RuntimeError) as error:
        reason = _reason(error)
        remedy = _remedy(path) if reason == _DAMAGED else ""
        raise DataError(f"cannot read trajectory {path}: {reason}{remedy}") from error
    if outcome == "trained":
        return "trained"
    if outcome == "diverged":
        return "diverged"
    raise DataError(f"{path}: " + unknown("attribute 'outcome'", outcome, OUTCOMES))


def load_networks(folder: str | Path, *, skip_unreadable: bool = False) -> list[xr.Dataset]:
    """All trajectories of a study folder, in the order of their file names.

    Parameters
    ----------
    folder : a study folder, with the files in its ``networks`` folder.
    skip_unreadable : warn about a file that cannot be read and go on, instead of raising.

    Raises
    ------
    DataError : a file cannot be read, there are none, or two hold the same network.
    """
    files = sorted((Path(folder) / NETWORKS_FOLDER).glob("*.nc"))
    networks: dict[str, xr.Dataset] = {}
    for path in files:
        try:
            network = read(path)
        except GoaldrivenError as error:
            if not skip_unreadable:
                raise
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        network_id = network.attrs["network_id"]
        if network_id in networks:
            raise DataError(f"{path}: network {network_id} is already in another file of {folder}")
        networks[network_id] = network
    if not networks:
        what = "readable trajectories" if files else "trajectories (*.nc)"
        raise DataError(f"{Path(folder) / NETWORKS_FOLDER} must hold {what}, got none")
    return list(networks.values())


def load_examples(folder: str | Path, *, skip_unreadable: bool = False) -> xr.Dataset:
    """The examples of a study folder; `load_networks`, then `to_examples`."""
    return to_examples(load_networks(folder, skip_unreadable=skip_unreadable))


def to_netcdf(dataset: xr.Dataset, chunks: Mapping[str, tuple[int, ...]] | None = None) -> bytes:
    """A dataset as the bytes of a netCDF4 file; ``chunks`` sets variables' chunk sizes."""
    encoding: dict[str, dict[str, Any]] = {
        str(name): {"zlib": True, "complevel": 1, "fletcher32": True, "_FillValue": None}
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "fiu" and variable.size
    }
    for name, sizes in (chunks or {}).items():
        encoding[name]["chunksizes"] = sizes
    # Encodings left over from an earlier file (chunk sizes, fill values) must not leak into this.
    clean = dataset.drop_encoding()
    memory = netCDF4.Dataset("trajectory.nc", mode="w", memory=1)
    clean.dump_to_store(NetCDF4DataStore(memory), encoding=encoding)
    return _without_padding(bytes(memory.close()))


def _without_padding(image: bytes) -> bytes:
    """An HDF5 memory image without the zeros after its end; a shorter file is then never whole.

    The end-of-file address is bytes 28–35 of a version 2 or 3 superblock (HDF5 file format
    specification, section II.A); images with another superblock are returned as they are.
    """
    if image[:8] != b"\x89HDF\r\n\x1a\n" or image[8] not in (2, 3):
        return image
    end = int.from_bytes(image[28:36], "little")
    return image[:end] if 36 <= end <= len(image) else image


def from_netcdf(content: bytes) -> xr.Dataset:
    """The dataset in the bytes of a netCDF4 file."""
    memory = netCDF4.Dataset("trajectory.nc", mode="r", memory=content)
    store = NetCDF4DataStore(memory)
    with xr.open_dataset(store, mask_and_scale=False, decode_times=False) as opened:
        loaded = opened.load()
    loaded = loaded.drop_encoding()
    loaded.attrs = {name: _plain(value) for name, value in loaded.attrs.items()}
    strings = {name: v.astype(str) for name, v in loaded.coords.items() if v.dtype.kind in "OTU"}
    return loaded.assign_coords(strings)


def _remedy(path: str | Path) -> str:
    """What to do about a damaged trajectory: deleted, it is made again."""
    folder = Path(path).parent.parent
    return next((f"; {told}" for name, told in _REMEDIES.items() if (folder / name).exists()), "")


def _reason(error: Exception) -> str:
    """The operating system's words; the netCDF library has negative codes, which say less."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return error.strerror or str(error)
    return _DAMAGED


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
