"""What experiments are made of: a study's examples, and its networks' learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from goaldriven.errors import IdentificationError
from goaldriven.identify.classifiers import GRIDS
from goaldriven.identify.experiments.cells import Cell, Scalar
from goaldriven.identify.identification import OBSERVABLES
from goaldriven.identify.splits import SAME_START, Split, by_layer, by_network
from goaldriven.trajectories import admissible, load_networks, to_examples, trained

CURVES = ("loss", "metric")


@dataclass(frozen=True, eq=False)
class Material:
    """One study's trained networks, and how experiments on it are to be run.

    Attributes
    ----------
    examples : of trained networks, with statistics that are finite everywhere.
    curves : the networks' validation loss and metric, as examples of one "layer" each.
    grid : of the classifiers' settings.
    n_splits : 75/25 splits of each kind.
    seed : of splits, folds and classifiers.
    folder : the study's, for measurements made apart; None without.
    """

    examples: xr.Dataset
    curves: xr.Dataset
    grid: str = "quick"
    n_splits: int = 10
    seed: int = 0
    folder: Path | None = field(default=None)

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise IdentificationError(f"grid must be one of {', '.join(GRIDS)}, got {self.grid!r}")
        if self.n_splits < 1:
            raise IdentificationError(f"n_splits must be at least 1, got {self.n_splits}")
        if len(self.rules) < 2:
            raise IdentificationError(
                "examples must come from at least 2 learning rules, got "
                f"{', '.join(self.rules) or 'none'}"
            )

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.examples["rule"].values.tolist())))

    def performance(self) -> xr.Dataset:
        """The learning curves, where all networks have them.

        Raises
        ------
        IdentificationError : networks lack them, as where data hold observables alone.
        """
        recorded = np.isfinite(self.curves["value"].values).any(axis=(1, 2))
        if not recorded.all():
            raise IdentificationError(
                "networks must have a loss and a metric, got "
                f"{recorded.sum() or 'none'} of {len(recorded)} with them (the published format "
                "has none)"
            )
        return self.curves

    def observables(self, name: str) -> xr.Dataset:
        """The examples with one group of observables, a key of `OBSERVABLES`."""
        from goaldriven.identify.experiments.views import of_measures

        return self._observables.setdefault(name, of_measures(self.examples, OBSERVABLES[name]))

    @cached_property
    def _observables(self) -> dict[str, xr.Dataset]:
        return {}

    def splits(self, kind: str, examples: xr.Dataset | None = None) -> tuple[Split, ...]:
        """75/25 splits of the examples by ``"network"``, ``"layer"`` or ``"start"``.

        ``"start"`` keeps together the networks that start from the same forward weights.
        """
        given = self.examples if examples is None else examples
        if kind == "layer":
            return by_layer(given, self.n_splits, self.seed)
        group = ("network",) if kind == "network" else SAME_START
        return by_network(given, self.n_splits, self.seed, group)

    def cells(
        self,
        examples: xr.Dataset,
        classifiers: Sequence[str],
        kind: str = "network",
        **condition: Scalar,
    ) -> list[Cell]:
        """One cell per classifier and split: trained and tested on the same examples."""
        return [
            Cell(condition, classifier, examples, split, number)
            for classifier in classifiers
            for number, split in enumerate(self.splits(kind, examples))
        ]


def material(
    networks: Sequence[xr.Dataset],
    *,
    grid: str = "quick",
    n_splits: int = 10,
    seed: int = 0,
    folder: Path | None = None,
) -> Material:
    """What experiments need of these trajectories; diverged networks are left out.

    Raises
    ------
    DataError : no network, or none that trained.
    IdentificationError : fewer than two rules.
    """
    examples = trained(to_examples(networks))
    usable = examples.sel(statistic=list(admissible(examples)))
    return Material(usable, curves_of(networks), grid, n_splits, seed, folder)


def load_material(
    folder: str | Path, *, grid: str = "quick", n_splits: int = 10, seed: int = 0
) -> Material:
    """The material of a study's folder; see `material`."""
    path = Path(folder)
    return material(load_networks(path), grid=grid, n_splits=n_splits, seed=seed, folder=path)


def curves_of(networks: Sequence[xr.Dataset]) -> xr.Dataset:
    """Validation loss and metric of each trained network, in the form of examples of one layer."""
    kept = [n for n in networks if n.attrs["outcome"] == "trained"]
    stacked = to_examples([n.isel(layer=[0]) for n in kept])
    values = np.stack([[n[name].values for n in kept] for name in CURVES], axis=-1)
    return xr.Dataset(
        {"value": (("example", "epoch", "statistic"), values)},
        coords={
            **{n: c for n, c in stacked.coords.items() if c.dims == ("example",)},
            "epoch": stacked["epoch"].values,
            "statistic": list(CURVES),
            "measure": ("statistic", ["performance"] * len(CURVES)),
        },
    )
