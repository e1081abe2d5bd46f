"""``goaldriven show``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr
import yaml
from rich.console import Console
from rich.table import Table

from goaldriven.commands.output import output, plain_table
from goaldriven.errors import StudyError
from goaldriven.studies.folder import StudyFolder
from goaldriven.trajectories import read
from goaldriven.trajectories.collection import is_collection
from goaldriven.trajectories.files import NETWORKS_FOLDER
from goaldriven.trajectories.published import is_imported

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN = (
    "weight_raw_norm", "weight_abs_median", "activation_raw_norm", "activation_abs_mean",
    "activity_change_abs",
)  # fmt: skip

_ANGLES = {
    "weight_angle": "angle W, Bᵀ (°)",
    "gradient_angle": "angle of gradients (°)",
    "update_angle": "angle of updates (°)",
}


def show(path: Path, network_id: str) -> None:
    """Print a network's spec, its learning curve and trajectories of its layers.

    Raises
    ------
    StudyError : no network of the folder, or more than one, has this id; or it has no trajectory.
    """
    if is_collection(path):
        _show_collected(path, network_id)
        return
    folder = StudyFolder.open(path)
    network = folder.find(network_id)
    console = output()
    state = folder.state(network)
    console.print(f"[bold]{network.label}[/bold]  {network.network_id}  {state}", highlight=False)
    console.print(yaml.safe_dump(network.model_dump(mode="json"), sort_keys=False).rstrip())
    if state == "failed":
        console.print(folder.failure_path(network).read_text(encoding="utf-8"), markup=False)
        return
    if state not in ("trained", "diverged"):
        raise StudyError(f"network {network.network_id} has no trajectory yet: it is {state}")
    _print_trajectory(read(folder.trajectory_path(network)), console)


def _show_collected(path: Path, network_id: str) -> None:
    """`show` of a collection: what is recorded of the network."""
    files = sorted((path / NETWORKS_FOLDER).glob("*.nc"))
    matches = [file for file in files if file.stem.startswith(network_id)]
    if len(matches) != 1 or not network_id:
        found = "none" if not matches else f"{len(matches)} of them"
        raise StudyError(
            f"NETWORK_ID must be the id of one network of the collection {path} or its first "
            f"letters, got {network_id!r}, which is that of {found}; the ids are the names of the "
            f"files in {path / NETWORKS_FOLDER}"
        )
    trajectory = read(matches[0])
    console = output()
    label = "/".join(str(trajectory.attrs[name]) for name in ("task", "architecture", "rule"))
    outcome = "imported" if is_imported(trajectory) else trajectory.attrs["outcome"]
    console.print(
        f"[bold]{label}[/bold]  {trajectory.attrs['network_id']}  {outcome}", highlight=False
    )
    console.print(yaml.safe_dump(json.loads(trajectory.attrs["spec"]), sort_keys=False).rstrip())
    _print_trajectory(trajectory, console)


def _print_trajectory(trajectory: xr.Dataset, console: Console) -> None:
    """Time taken and learning curve, where they are recorded, and the layers."""
    if trajectory.attrs["seconds"] > 0:
        console.print(f"{trajectory.attrs['seconds']:.1f} s in all, of which recording "
                      f"{trajectory.attrs['recording_seconds']:.1f} s",
                      highlight=False)  # fmt: skip
    if not is_imported(trajectory):
        console.print(_learning_curve(trajectory))
    console.print(_layers(trajectory))


def _learning_curve(trajectory: xr.Dataset) -> Table:
    columns = ("epoch", "training loss", "validation loss", trajectory.attrs["metric_name"])
    table = plain_table(*columns)
    table.title, table.title_justify = "learning curve", "left"
    epochs = trajectory["epoch"].values
    for i in np.unique(np.linspace(0, len(epochs) - 1, 6).round().astype(int)):
        record = trajectory.isel(epoch=int(i))
        table.add_row(
            str(int(epochs[i])),
            *(f"{float(record[name]):.4g}" for name in ("training_loss", "loss", "metric")),
        )
    return table


def _layers(trajectory: xr.Dataset) -> Table:
    columns = ("layer", "position", "trajectory of", "first", "through learning", "last")
    table = plain_table(*columns)
    table.title, table.title_justify = "layers", "left"
    for layer in trajectory["layer"].values:
        one = trajectory.sel(layer=layer)
        known = [name for name in _SHOWN if name in one["statistic"].values]
        rows = {name: one["observable"].sel(statistic=name).values for name in known}
        rows |= {
            label: one[name].values
            for name, label in _ANGLES.items()
            if name in one and np.isfinite(one[name].values).any()
        }
        for i, (name, values) in enumerate(rows.items()):
            first_columns = (str(layer), str(one["position"].item())) if i == 0 else ("", "")
            table.add_row(
                *first_columns, name, _first(values), _sparkline(values), f"{values[-1]:.4g}"
            )
    return table


def _first(values: np.ndarray) -> str:
    """The first value that there is; angles of updates begin at the second record."""
    finite = values[np.isfinite(values)]
    return f"{finite[0]:.4g}" if finite.size else ""


def _sparkline(values: np.ndarray) -> str:
    """A trajectory in one line of text; not finite values are blank."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return ""
    low, span = finite.min(), np.ptp(finite) or 1.0
    return "".join(
        _BLOCKS[1 + round((v - low) / span * 7)] if np.isfinite(v) else " " for v in values
    )
