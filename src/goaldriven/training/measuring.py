"""Measurements of one network through its training, or from the checkpoints that it left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from goaldriven import observables
from goaldriven.errors import DataError
from goaldriven.specs import STATISTICS, NetworkSpec
from goaldriven.specs.measurement import MeasurementSpec, unique
from goaldriven.training.checkpoints import SUFFIX, checkpoint_path, restore_checkpoint
from goaldriven.training.network import Network, build, layers_of
from goaldriven.training.record import RECORD_BATCH
from goaldriven.training.trajectory import attributes
from goaldriven.trajectories.measured import measurement_coordinates


class Measurements:
    """Collects the measurements of one network; call it at every record.

    It can be given to `goaldriven.training.train` as ``on_record``. Epochs that were not reached
    are NaN.
    """

    def __init__(self, spec: NetworkSpec, measurements: Sequence[MeasurementSpec]) -> None:
        if not measurements:
            raise DataError("'measurements' must hold at least one, got none")
        self._spec, self._measurements = spec, unique(measurements)
        self._values: dict[int, np.ndarray] = {}
        self._network: Network | None = None

    def __call__(self, epoch: int, network: Network) -> None:
        """Measure the network as it stands; it is not changed."""
        self._network = network
        self._values[epoch] = observables.record_measured(
            network.model,
            layers_of(network),
            network.task.validation_batches(RECORD_BATCH),
            self._measurements,
            network_id=network.spec.network_id,
            epoch=epoch,
            n_stimuli=network.task.n_validation,
        )

    def state(self) -> dict[int, np.ndarray]:
        """What has been measured, by epoch, to be kept in checkpoints."""
        return dict(self._values)

    def load_state(self, state: dict[int, np.ndarray], network: Network) -> None:
        """Go on from the `state` of measurements of the same network."""
        self._network = network
        self._values = dict(state)

    def dataset(self) -> xr.Dataset:
        """``observable(measurement, epoch, layer, statistic)``; see `trajectories.measured`.

        Raises
        ------
        DataError : nothing has been measured.
        """
        if self._network is None:
            raise DataError("a network must have been measured before, got none")
        layers = layers_of(self._network)
        epochs = self._spec.record_epochs
        shape = (len(self._measurements), len(layers), len(STATISTICS))
        missing = np.full(shape, np.nan)
        values = np.stack([self._values.get(e, missing) for e in epochs], axis=1)
        return xr.Dataset(
            {"observable": (("measurement", "epoch", "layer", "statistic"), values)},
            coords={
                **measurement_coordinates(self._measurements),
                "epoch": list(epochs),
                "layer": [layer.name for layer in layers],
                "statistic": list(STATISTICS),
                "position": ("layer", [layer.position for layer in layers]),
                "measure": ("statistic", [s.measure for s in STATISTICS.values()]),
            },
            attrs=attributes(self._network),
        )


def measure_checkpoints(
    spec: NetworkSpec,
    folder: Path,
    measurements: Sequence[MeasurementSpec],
    *,
    device: str = "cpu",
    progress: Callable[[], None] | None = None,
) -> xr.Dataset:
    """Measure a network from its checkpoints: the same bits as when measured during training.

    Parameters
    ----------
    spec : the network.
    folder : the folder of its checkpoints.
    progress : called after each.

    Raises
    ------
    DataError : there are none, or one cannot be read or is of another network.
    """
    epochs = [e for e in spec.record_epochs if checkpoint_path(folder, e).exists()]
    if not epochs:
        raise DataError(
            f"network {spec.network_id} must have checkpoints (*{SUFFIX}) in {folder}, got none; "
            "train with --keep-checkpoints, or measure during training with --measurements"
        )
    collected = Measurements(spec, measurements)
    network = build(spec, device)
    for epoch in epochs:
        restore_checkpoint(checkpoint_path(folder, epoch), network)
        collected(epoch, network)
        if progress is not None:
            progress()
    return collected.dataset()
