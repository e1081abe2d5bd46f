"""Measurement files: ``<study>/measurements/<network_id>.nc``, what was measured of one network.

``observable(measurement, epoch, layer, statistic)`` is float64, one chunk a measurement, so that
one is read without the others; the coordinate ``measurement`` holds the ids, ``spec`` the settings
as JSON, and the coordinates of `COORDINATES` the settings one by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr

from goaldriven.errors import DataError, SpecError
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.trajectories.atomic import write_bytes
from goaldriven.trajectories.examples import to_examples
from goaldriven.trajectories.files import from_netcdf, load_networks, read_outcome, to_netcdf

MEASUREMENTS_FOLDER = "measurements"
DIMENSIONS = ("measurement", "epoch", "layer", "statistic")

COORDINATES: tuple[str, ...] = (
    "unit_fraction", "unit_count", "noise", "relative_noise", "noise_kind", "correlation",
    "stimulus_count", "own_units", "through_feedback", "seed", "label", "spec",
)  # fmt: skip
"""Settings by measurement; numbers that are not given are NaN, or 0 where they are counts."""


def measurement_coordinates(
    measurements: Sequence[MeasurementSpec],
) -> dict[str, tuple[str, np.ndarray]]:
    """The coordinates along ``measurement`` that say what was measured."""

    def along(name: str, missing: float | None = None) -> tuple[str, np.ndarray]:
        values = [getattr(m, name) for m in measurements]
        return "measurement", np.array([missing if v is None else v for v in values])

    coordinates = {
        "measurement": along("measurement_id"),
        "unit_fraction": along("unit_fraction", np.nan),
        "unit_count": along("unit_count", 0),
        "stimulus_count": along("stimulus_count", 0),
        "correlation": along("rho"),
        "spec": ("measurement", np.array([m.model_dump_json() for m in measurements])),
    }
    coordinates |= {n: along(n) for n in ("noise", "relative_noise", "noise_kind", "seed", "label")}
    for name in ("own_units", "through_feedback"):  # netCDF has no booleans
        coordinates[name] = ("measurement", along(name)[1].astype(np.int8))
    return coordinates


def write_measured(dataset: xr.Dataset, path: str | Path) -> None:
    """Add a network's measurements to its file, in one step.

    Those there already stay, unless ``dataset`` holds the same ones: then the new values count.

    Raises
    ------
    DataError : the dataset is not measurements, or those on file are of another network.
    StudyError : the file cannot be written; names path and reason, and nothing is left behind.
    """
    _validate(dataset, f"measurements for {path}")
    if Path(path).exists():
        dataset = _merged(read_measured(path), dataset, path)
    sizes = tuple(dataset.sizes[d] for d in DIMENSIONS[1:])
    write_bytes(path, to_netcdf(dataset, {"observable": (1, *sizes)}))


def read_measured(path: str | Path) -> xr.Dataset:
    """All measurements of one network, fully loaded and checked.

    Raises
    ------
    DataError : the file is missing, damaged, or holds no measurements.
    """
    try:
        dataset = from_netcdf(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"cannot read measurements {path}: {error.strerror or error}") from error
    except Exception as error:  # the netCDF library raises many kinds on damaged files
        raise _damaged(path) from error
    _validate(dataset, str(path))
    return dataset


def measured_ids(path: str | Path) -> tuple[str, ...]:
    """Ids of the measurements in a network's file; none where there is no file.

    Raises
    ------
    DataError : the file is damaged.
    """
    if not Path(path).exists():
        return ()
    try:
        with netCDF4.Dataset(path, mode="r") as opened:
            return tuple(map(str, opened.variables["measurement"][:]))
    except (OSError, RuntimeError, KeyError) as error:
        raise _damaged(path) from error


def measurements_of(folder: str | Path) -> tuple[MeasurementSpec, ...]:
    """The measurements that a study folder has of every network that was trained.

    Networks that diverged are not asked. Empty where one network has none.

    Raises
    ------
    DataError : there are no trajectories, or a file cannot be read.
    """
    paths = sorted((Path(folder) / "networks").glob("*.nc"))
    if not paths:
        raise DataError(f"{Path(folder) / 'networks'} must hold trajectories (*.nc), got none")
    trained = [path.name for path in paths if read_outcome(path) == "trained"]
    if not trained:
        raise DataError(f"{folder} must hold a network that did not diverge, got none")
    where = Path(folder) / MEASUREMENTS_FOLDER
    common = set(measured_ids(where / trained[0])).intersection(
        *(measured_ids(where / name) for name in trained[1:])
    )
    if not common:
        return ()
    first = read_measured(where / trained[0])
    specs = [MeasurementSpec(**json.loads(text)) for text in first["spec"].values]
    return tuple(spec for spec in specs if spec.measurement_id in common)


def load_measured_examples(
    folder: str | Path,
    measurement: MeasurementSpec | str,
    *,
    networks: Sequence[xr.Dataset] | None = None,
) -> xr.Dataset:
    """The examples of a study folder as one measurement has them; see `to_examples`.

    Every network that was trained must have been measured; one that diverged and was not is NaN.

    Parameters
    ----------
    folder : a study folder.
    measurement : the condition, or its id.
    networks : the folder's trajectories from `load_networks`, where they are loaded already.

    Raises
    ------
    DataError : a file cannot be read, or a trained network was not measured so.
    """
    if isinstance(measurement, str):
        wanted = label = measurement
    else:
        wanted, label = measurement.measurement_id, f"{measurement.label!r}"
    loaded = load_networks(folder) if networks is None else networks
    replaced, lacking = [], []
    for network in loaded:
        path = Path(folder) / MEASUREMENTS_FOLDER / f"{network.attrs['network_id']}.nc"
        values = _values(path, wanted, network)
        if values is None:
            if network.attrs["outcome"] == "trained":
                lacking.append(network.attrs["network_id"])
            values = np.full(network["observable"].shape, np.nan)
        replaced.append(network.assign(observable=(network["observable"].dims, values)))
    if lacking:
        raise DataError(
            f"measurement {label} must be there for every trained network of {folder}, got none "
            f"for {len(lacking)} of {len(loaded)} ({lacking[0]}, …); 'goaldriven measure' adds it"
        )
    return to_examples(replaced)


def _values(path: Path, wanted: str, network: xr.Dataset) -> np.ndarray | None:
    """One measurement's values (epoch, layer, statistic); None where it is not on file."""
    ids = measured_ids(path)
    if wanted not in ids:
        return None
    try:
        with netCDF4.Dataset(path, mode="r") as opened:
            opened.set_auto_mask(False)
            for dim in DIMENSIONS[1:]:
                there = [str(v) for v in opened.variables[dim][:]]
                if there != [str(v) for v in network[dim].values]:
                    raise DataError(
                        f"{path} must have the '{dim}' coordinate of the network's trajectory, "
                        "got another; remove it and measure again"
                    )
            return np.array(opened.variables["observable"][ids.index(wanted)], dtype=np.float64)
    except (OSError, RuntimeError, KeyError) as error:
        raise _damaged(path) from error


def _merged(old: xr.Dataset, new: xr.Dataset, path: str | Path) -> xr.Dataset:
    alike = all(
        np.array_equal(old[dim].values, new[dim].values) for dim in DIMENSIONS[1:]
    ) and (old.attrs.get("network_id") == new.attrs.get("network_id"))  # fmt: skip
    if not alike:
        raise DataError(
            f"{path} must hold measurements of network {new.attrs.get('network_id')} at the same "
            "epochs and layers, got others; remove it"
        )
    kept = ~np.isin(old["measurement"].values, new["measurement"].values)
    return xr.concat(
        [old.isel(measurement=np.flatnonzero(kept)), new],
        dim="measurement",
        data_vars="minimal",
        coords="minimal",
        compat="equals",
        join="exact",
        combine_attrs="override",
    ).assign_attrs(new.attrs)


def _validate(dataset: xr.Dataset, source: str) -> None:
    if "observable" not in dataset or dataset["observable"].dims != DIMENSIONS:
        raise DataError(f"{source}: variable 'observable' must be there with {DIMENSIONS}")
    if dataset["observable"].dtype != np.float64:
        raise DataError(
            f"{source}: 'observable' must be float64, got {dataset['observable'].dtype}"
        )
    for name in ("measurement", *COORDINATES, *DIMENSIONS[1:], "position", "measure"):
        if name not in dataset.coords:
            raise DataError(f"{source}: coordinate '{name}' is required and was not given")
    ids = dataset["measurement"].values.tolist()
    if len(set(ids)) != len(ids):
        raise DataError(f"{source}: coordinate 'measurement' must not repeat one, got {ids}")
    try:
        specs = [MeasurementSpec(**json.loads(text)) for text in dataset["spec"].values]
    except (SpecError, ValueError) as error:
        raise DataError(f"{source}: coordinate 'spec' must hold measurements: {error}") from None
    if [spec.measurement_id for spec in specs] != ids:
        raise DataError(f"{source}: coordinate 'measurement' must hold the ids of 'spec'")


def _damaged(path: str | Path) -> DataError:
    return DataError(
        f"cannot read measurements {path}: not a netCDF4 file, or truncated or damaged; delete it "
        "and measure again"
    )
