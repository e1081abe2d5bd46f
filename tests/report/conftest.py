"""Made-up studies, shared by the tests of the report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
from made_up import (
    make_accuracies,
    make_confusions,
    make_importances,
    make_network,
    make_study,
    save_identification,
    write_study,
)

from goaldriven.report import write_report
from goaldriven.specs import Study


@pytest.fixture(scope="session")
def study() -> Study:
    return make_study()


@pytest.fixture(scope="session")
def networks(study: Study) -> list[xr.Dataset]:
    made = [make_network(spec) for spec in study.networks()]
    return [*made[:-1], make_network(study.networks()[-1], diverges_at=12)]


@pytest.fixture(scope="session")
def accuracies() -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_accuracies()


@pytest.fixture(scope="session")
def confusions() -> pd.DataFrame:
    return make_confusions()


@pytest.fixture(scope="session")
def importance_table() -> pd.DataFrame:
    return make_importances()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 48 networks, one diverged, one failed, identified, with its report written."""
    path = tmp_path_factory.mktemp("study")
    write_study(path, make_study(), diverged=1, failed=1)
    save_identification(path)
    write_report(path)
    return path
