"""What the sections say, against the data they say it of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from goaldriven.report.blocks import Table
from goaldriven.report.sections.methods import methods
from goaldriven.report.sections.overview import overview
from goaldriven.report.sections.performance import performance
from goaldriven.report.study import StudyData

from .made_up import make_network, make_study


@pytest.fixture
def data():
    """Eight networks of one architecture, in memory."""
    study = make_study(architectures=["knet4"], model_seeds=[0])
    networks = tuple(make_network(spec) for spec in study.networks())
    return StudyData(Path("somewhere"), study, networks, {})


def table_of(section, word):
    return next(b for b in section.blocks if isinstance(b, Table) and word in b.caption)


def text_of(section):
    return " ".join(getattr(b, "text", "") for b in section.blocks)


def test_statistics_that_are_not_finite_are_named_with_the_reason(data):
    data.networks[1]["observable"].loc[{"statistic": "activation_raw_skew", "epoch": 6}] = np.nan
    data.networks[2]["observable"].loc[{"statistic": "activation_raw_skew", "epoch": 9}][0] = np.nan
    data.networks[2]["observable"].loc[{"statistic": "weight_abs_mean", "epoch": 9}][3] = np.inf
    section = methods(data, None)
    left_out = table_of(section, "left out")
    assert left_out.rows == (
        ("weight abs mean", "1 of 8", "1"),
        ("activation skew", "2 of 8", "5"),
    )
    assert "silent layer" in left_out.caption
    assert "Of the 45 statistics, 43 are finite" in text_of(section)
    assert "weight abs mean is not among them" in text_of(section)
    admissible = table_of(section, "Admissible")
    row = next(r for r in admissible.rows if r[:2] == ("weight", "abs"))
    assert row[2] == "norm, median, third quartile, variance, skew, kurtosis"


def test_the_curves_caption_says_from_when_on_the_median_stays_up(data):
    for network in data.networks:
        network["metric"][:] = np.linspace(0.1, 0.9, 21)
    for network in data.networks[:2]:  # sgdm: up early, down again, up for good
        network["metric"][:] = [0.1, 0.9, *[0.2] * 10, *[0.9] * 9]
    for network in data.networks[2:4]:  # adam: never better than at first
        network["metric"][:] = 0.1
    plate = performance(data)[0].blocks[-1]
    assert "sgdm from epoch 36, fa from epoch 54 and ia from epoch 54." in plate.caption
    assert "adam" not in plate.caption


def test_networks_at_chance_and_diverged_are_counted(data):
    data.networks[4]["metric"][-1] = 0.12  # fa
    study = data.study.networks()
    networks = (*data.networks[:-1], make_network(study[-1], diverges_at=12))
    [found] = performance(dataclasses.replace(data, networks=networks))
    rows = {row[1]: row for row in table_of(found, "Final performance").rows}
    assert rows["fa"][5:] == ("2", "1", "0")
    assert rows["ia"][5:] == ("1", "0", "1")
    assert rows["sgdm"][5:] == ("2", "0", "0")


def test_states_add_up(data):
    labels = [spec.label for spec in data.study.networks()]
    partly = dataclasses.replace(data, networks=data.networks[:5], failed={labels[5]: "Boom"})
    section = overview(partly, "answer")
    rows = table_of(section, "outcome").rows
    assert rows[-1] == ("all rules", "5", "0", "1", "2", "8")
    assert rows[2] == ("fa", "1", "0", "1", "0", "2")
    seconds = sum(n.attrs["seconds"] for n in partly.networks)
    assert f"took {seconds:.0f} s of computing in all" in text_of(section)
    share = 100 * 0.5 * 5 / seconds
    assert f"{share:.0f}% of it went into recording" in text_of(section)


def test_settings_that_are_not_the_default_are_in_the_grid(data):
    study = make_study(architectures=[{"name": "knet4", "width": 0.5}], rules=["ia"])
    section = overview(dataclasses.replace(data, study=study, networks=()), "answer")
    rows = {row[0]: row[2] for row in table_of(section, "grid").rows}
    assert rows["architecture"] == "knet4 (width 0.5)"
    assert rows["learning rule"].startswith("ia (information alignment + ")
    assert rows["training"].endswith("every 3 epochs: 21 records")
