"""Material of made-up examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from goaldriven.identify.experiments import (
    Material,
    controls,
    generalisation,
    separability,
    undersampling,
)
from goaldriven.identify.experiments.material import OBSERVABLES


@pytest.fixture
def material_of() -> Callable[..., Material]:
    """Examples → material; the learning curves are noise unless they are given."""

    def make(examples: xr.Dataset, curves: xr.Dataset | None = None, **settings) -> Material:
        if curves is None:
            first = np.unique(examples["network"].values, return_index=True)[1]
            one = examples.isel(example=np.sort(first), statistic=[0, 1])
            noise = np.random.default_rng(7).normal(size=one["value"].shape)
            curves = one.assign(value=(one["value"].dims, noise)).assign_coords(
                statistic=["loss", "metric"], measure=("statistic", ["performance"] * 2)
            )
        return Material(examples, curves, **{"n_splits": 4} | settings)

    return make


@pytest.fixture
def lean(monkeypatch) -> None:
    """The forest on all observables together, where the answer is the same for the others."""
    for family in (controls, generalisation, separability, undersampling):
        monkeypatch.setattr(family, "OBSERVABLES", {"all": OBSERVABLES["all"]})
        if hasattr(family, "CLASSIFIERS") and family is not separability:
            monkeypatch.setattr(family, "CLASSIFIERS", ("random_forest",))
