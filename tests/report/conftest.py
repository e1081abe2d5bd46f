"""Made-up studies, shared by the tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

from goaldriven.identify import Identification
from goaldriven.report import write_report
from goaldriven.specs import Study

from .made_up import make_identification, make_network, make_study, write_study


@pytest.fixture(scope="session")
def study() -> Study:
    return make_study()


@pytest.fixture(scope="session")
def networks(study: Study) -> list[xr.Dataset]:
    made = [make_network(spec) for spec in study.networks()]
    return [*made[:-1], make_network(study.networks()[-1], diverges_at=12)]


@pytest.fixture(scope="session")
def identification(networks: list[xr.Dataset]) -> Identification:
    return make_identification(networks)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 48 networks, one diverged, one failed, identified, with its report written."""
    path = tmp_path_factory.mktemp("study")
    written = write_study(path, make_study(), diverged=1, failed=1)
    make_identification(written).save(path / "identify")
    write_report(path)
    return path
