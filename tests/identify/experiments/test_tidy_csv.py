"""Results come back from disk as they were: every experiment's, whatever rules are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from goaldriven.errors import DataError
from goaldriven.identify.candidates import Forest
from goaldriven.identify.classifiers import Grid
from goaldriven.identify.experiments import (
    EXPERIMENTS,
    calibration,
    controls,
    engine,
    experiment,
    families,
    generalisation,
    load,
    load_material,
    measured,
    run,
    separability,
    undersampling,
)
from goaldriven.identify.experiments.material import OBSERVABLES
from goaldriven.identify.experiments.results import FORMAT, Results, save
from goaldriven.identify.experiments.tidy_csv import columns_of_numbers
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.trajectories import write
from goaldriven.trajectories.measured import measurement_coordinates, write_measured

from .planted_networks import planted

RULES = ("NA", "0010", "1e5")
SPECS = (
    MeasurementSpec(unit_count=10),
    MeasurementSpec(noise=1.0),
    MeasurementSpec(through_feedback=True),
)


def _write(path: Path) -> None:
    networks = planted(16, RULES, tasks=("digits", "words"), n_layers=2)
    for i, plain in enumerate(networks):
        network = plain.assign_attrs(network_id=f"{i:04}")
        write(network, path / "networks" / f"{i:04}.nc")
        noise = np.random.default_rng(i).normal(size=(len(SPECS), *plain["observable"].shape))
        coords = {n: plain[n] for n in ("epoch", "layer", "statistic", "position", "measure")}
        seen = xr.Dataset(
            {"observable": (("measurement", *plain["observable"].dims), noise)},
            coords={**measurement_coordinates(list(SPECS)), **coords},
            attrs={"network_id": f"{i:04}"},
        )
        write_measured(seen, path / "measurements" / f"{i:04}.nc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ids that look like numbers, rules that look like nothing, and all that experiments ask."""
    path = tmp_path_factory.mktemp("study")
    _write(path)
    return path


@pytest.fixture
def small(monkeypatch):
    """Five trees in place of every classifier: what is right matters not here."""
    for module in (controls, generalisation, separability, undersampling):
        monkeypatch.setattr(module, "OBSERVABLES", {"all": OBSERVABLES["all"]})
    monkeypatch.setattr(calibration, "RESAMPLES", 10)
    monkeypatch.setattr(measured, "PUBLISHED_PAIR", RULES[:2])
    grid = Grid((Forest(5, "sqrt"),), "published")
    monkeypatch.setattr(engine, "grid_of", lambda classifier, name: grid)
    family = dict(zip(RULES, (families.BACKPROP, families.BACKPROP, families.RANDOM), strict=True))
    monkeypatch.setattr(families, "families_of", lambda given: family)


def same(one: Results, other: Results) -> None:
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    pd.testing.assert_frame_equal(one.verdicts, other.verdicts, check_exact=True)
    assert one.settings == other.settings


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_results_of_every_experiment_come_back_as_they_were(name, folder, small):
    spec = experiment(name)
    results = run(spec, load_material(folder, n_splits=2))
    back = load(folder, name)
    same(back, results)
    assert {"NA", "0010"} <= set(back.verdicts["rule"])
    assert back.verdicts["network"].str.fullmatch(r"00\d\d").all()
    assert spec.findings(back) == spec.findings(results)


def made_up(**columns: object) -> Results:
    """Four verdicts with these columns of the condition, and their accuracies."""
    fixed = {"experiment": "mine", **columns, "classifier": "svm", "split_kind": "network"}
    table = pd.DataFrame(
        fixed | {"split": [0, 1, np.nan, np.nan], "seed": 3, "metric": "network_accuracy",
                 "value": [1 / 3, 0.1 + 0.2, np.inf, np.nan]}
    )  # fmt: skip
    verdicts = pd.DataFrame(
        fixed | {"split": [0, 1, 0, 1], "network": ["1e5", "0010", "nan", "7"],
                 "rule": ["NA", "null", "None", "1"], "verdict": "1", "cluster": "0010",
                 "correct": [0, 0, 0, 1], "probability": [1 / 3, 0.25, 1.0, 0.1],
                 "layers": 3, "layers_correct": [0, 1, 2, 3]}
    ).drop(columns="experiment")  # fmt: skip
    return Results("mine", table, verdicts, {"numbers": columns_of_numbers([table, verdicts])})


CONDITIONS = {
    "n_units": [10, 300, 1000, 3000],
    "samples": [2, 4, np.nan, np.nan],
    "share": [1.0, 2.0, 1e-7, 1 / 3],
    "shuffled": [True, False, True, True],
    "some": [True, None, False, None],
    "left_out": ["1", "0010", "1e5", "NA"],
    "held_out": ["64", "128", "64", "128"],
    "tested": ["early", np.nan, "nan", np.nan],
}


@pytest.mark.parametrize("column", CONDITIONS)
def test_columns_of_a_condition_come_back_as_they_were(column, tmp_path):
    results = made_up(**{column: CONDITIONS[column]})
    save(results, tmp_path)
    back = load(tmp_path, "mine")
    missing = results.table[column].isna()
    assert back.table[column].isna().equals(missing)
    assert back.table[column][~missing].tolist() == results.table[column][~missing].tolist()
    if column != "some":  # None and NaN are one on disk
        same(back, results)


def test_of_earlier_results_what_numbers_are_is_seen(tmp_path):
    """They did not say which columns hold numbers."""
    results = made_up(**{n: CONDITIONS[n] for n in ("n_units", "samples", "share", "left_out")})
    save(Results("mine", results.table, results.verdicts, {}), tmp_path)
    back = load(tmp_path, "mine")
    pd.testing.assert_frame_equal(back.table, results.table, check_exact=True)
    pd.testing.assert_frame_equal(back.verdicts, results.verdicts, check_exact=True)


def test_damaged_tables_are_said(tmp_path):
    results = made_up(seen="all")
    save(results, tmp_path)
    place = tmp_path / "experiments" / "mine"
    whole = (place / "verdicts.csv").read_text()
    (place / "verdicts.csv").write_text(whole.replace(",0.25,", ",a quarter,"))
    with pytest.raises(DataError, match=r"cannot be read: .*a quarter.*; run the experiment again"):
        load(tmp_path, "mine")
    (place / "verdicts.csv").write_text(whole.replace("rule", "regel"))
    with pytest.raises(DataError, match=r"verdicts\.csv must have a column 'rule', got"):
        load(tmp_path, "mine")
    (place / "settings.json").write_text(json.dumps({"format": FORMAT, "numbers": 3}))
    with pytest.raises(DataError, match="run the experiment again"):
        load(tmp_path, "mine")
