"""Collections: folders of trajectories that no grid of ours describes, imported or merged.

DIR/collection.json        where they come from
DIR/networks/<id>.nc       as in a study's folder
DIR/measurements/<id>.nc   likewise, where the sources have them
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from goaldriven.errors import DataError, GoaldrivenError, StudyError
from goaldriven.trajectories.atomic import write_bytes
from goaldriven.trajectories.examples import FACTORS
from goaldriven.trajectories.files import NETWORKS_FOLDER, read, write
from goaldriven.trajectories.finite import not_finite

RECORD = "collection.json"
MEASUREMENTS_FOLDER = "measurements"
AXES = ("epoch", "statistic")

Step = Callable[[int, int], None]
"""Called with (networks done, in all)."""


def is_collection(path: str | Path) -> bool:
    """Whether a folder is a collection."""
    return (Path(path) / RECORD).is_file()


def sources_of(folder: str | Path) -> tuple[str, ...]:
    """The files and folders that a collection was made from.

    Raises
    ------
    StudyError : its record cannot be read.
    """
    record = Path(folder) / RECORD
    try:
        return tuple(map(str, json.loads(record.read_text(encoding="utf-8"))["sources"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{record} cannot be read: {error}") from None


def collect(
    networks: Iterable[xr.Dataset], out: str | Path, source: str, progress: Step | None = None
) -> int:
    """Write trajectories into a collection, making it where it does not exist; returns their count.

    A network that is there already must be the same; so an import that was stopped goes on.

    Raises
    ------
    StudyError : ``out`` holds other files, or cannot be written.
    DataError : a network of the same id and other numbers is there.
    """
    folder, given = Path(out), list(networks)
    _open(folder, (source,))
    for done, network in enumerate(given, start=1):
        path = folder / NETWORKS_FOLDER / f"{network.attrs['network_id']}.nc"
        if not path.exists():
            write(network, path)
        elif not _same(read(path), network):
            raise DataError(_conflict(network.attrs["network_id"], path, source))
        if progress is not None:
            progress(done, len(given))
    return len(given)


def merge(sources: Sequence[str | Path], out: str | Path, progress: Step | None = None) -> int:
    """Copy the networks of several study folders and collections into one; returns their count.

    A network that is in two of them is kept once; measurements come along. Files are copied as they
    are, each in one step, and nothing is written before all have been read and found to agree.

    Raises
    ------
    DataError : no networks, a file that cannot be read, networks recorded at other epochs or with
        other statistics, or one id with different numbers.
    StudyError : ``out`` holds other files, or cannot be written.
    """
    chosen: dict[str, Path] = {}
    first: tuple[Path, xr.Dataset] | None = None
    for path in [p for source in sources for p in _files(Path(source))]:
        network = read(path)
        network_id = str(network.attrs["network_id"])
        if first is None:
            first = path, network
        _check_axes(first, (path, network))
        if network_id not in chosen:
            chosen[network_id] = path
        elif not _same(read(chosen[network_id]), network):
            raise DataError(_conflict(network_id, chosen[network_id], str(path)))
    folder = Path(out)
    _open(folder, tuple(str(s) for s in sources))
    for done, (network_id, path) in enumerate(chosen.items(), start=1):
        _copy(path, folder / NETWORKS_FOLDER / f"{network_id}.nc")
        measured = path.parent.parent / MEASUREMENTS_FOLDER / path.name
        if measured.exists():
            _copy(measured, folder / MEASUREMENTS_FOLDER / f"{network_id}.nc")
        if progress is not None:
            progress(done, len(chosen))
    return len(chosen)


@dataclass(frozen=True)
class Overview:
    """What a folder of trajectories holds.

    Attributes
    ----------
    networks, layers, diverged : counts.
    levels : factor → its levels with the count of networks.
    epochs : of the records; the same for all, or None.
    statistics : how many, and how many of them are finite for every network that trained.
    broken : file → what is wrong with it.
    not_finite : trained networks that are not finite where most are.
    """

    networks: int
    layers: int
    diverged: int
    levels: dict[str, dict[str, int]]
    epochs: tuple[int, ...] | None
    statistics: int
    finite: int
    broken: dict[str, str]
    not_finite: tuple[str, ...] = ()


def overview(folder: str | Path, progress: Step | None = None) -> Overview:
    """Read every trajectory of a folder, and tell what there is and what cannot be read.

    Raises
    ------
    DataError : there are no trajectory files.
    """
    networks, broken = [], {}
    files = _files(Path(folder))
    for done, path in enumerate(files, start=1):
        try:
            networks.append(_sketch(read(path)))
        except GoaldrivenError as error:
            broken[str(path)] = str(error)
        if progress is not None:
            progress(done, len(files))
    finite: set[str] | None = None
    for network in networks:
        if network.outcome == "trained":
            finite = network.finite if finite is None else finite & network.finite
    epochs = {n.epochs for n in networks}
    return Overview(
        networks=len(networks),
        layers=sum(n.layers for n in networks),
        diverged=sum(n.outcome == "diverged" for n in networks),
        levels={f: dict(sorted(Counter(n.factors[f] for n in networks).items())) for f in FACTORS},
        epochs=epochs.pop() if len(epochs) == 1 else None,
        statistics=max((n.statistics for n in networks), default=0),
        finite=len(finite or ()),
        broken=broken,
        not_finite=not_finite({n.network_id: n.finite for n in networks if n.outcome == "trained"}),
    )


@dataclass(frozen=True)
class _Sketch:
    network_id: str
    layers: int
    outcome: str
    factors: dict[str, str]
    epochs: tuple[int, ...]
    statistics: int
    finite: set[str]


def _sketch(network: xr.Dataset) -> _Sketch:
    values = network["observable"].transpose("statistic", "epoch", "layer").values
    finite = np.isfinite(values).all(axis=(1, 2))
    return _Sketch(
        str(network.attrs["network_id"]),
        network.sizes["layer"],
        network.attrs["outcome"],
        {f: str(network.attrs[f]) for f in FACTORS},
        tuple(network["epoch"].values.tolist()),
        network.sizes["statistic"],
        set(network["statistic"].values[finite].tolist()),
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(
            f"DIR must be a folder of trajectories, got {str(folder)!r}, which does not exist"
        )
    files = sorted((folder / NETWORKS_FOLDER).glob("*.nc"))
    if not files:
        raise DataError(f"{folder / NETWORKS_FOLDER} must hold trajectories (*.nc), got none")
    return files


def _open(folder: Path, added: tuple[str, ...]) -> None:
    known: tuple[str, ...] = ()
    if is_collection(folder):
        known = sources_of(folder)
    elif _holds_files(folder):
        raise StudyError(
            f"out must be an empty or new folder or a collection, got {str(folder)!r}, which "
            "holds other files"
        )
    merged = list(dict.fromkeys((*known, *added)))
    write_bytes(folder / RECORD, json.dumps({"sources": merged}, indent=1).encode())


def _holds_files(folder: Path) -> bool:
    try:
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise StudyError(f"{folder} cannot be read: {error.strerror or error}") from None


def _copy(source: Path, target: Path) -> None:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}") from None
    write_bytes(target, content)


def _same(one: xr.Dataset, two: xr.Dataset) -> bool:
    return one["observable"].identical(two["observable"])


def _check_axes(one: tuple[Path, xr.Dataset], two: tuple[Path, xr.Dataset]) -> None:
    for axis in AXES:
        if not np.array_equal(one[1][axis].values, two[1][axis].values):
            raise DataError(
                f"networks must share their '{axis}' coordinate to be merged; {one[0]} and "
                f"{two[0]} do not"
            )


def _conflict(network_id: str, one: Path, two: str) -> str:
    return f"network {network_id} must have the same observables in {one} and {two}, got others"
