"""Pairs of rules that a measurement makes one, where it is known which."""

from __future__ import annotations

import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments import experiment, load_material, measured_pairs, run
from goaldriven.identify.experiments.measured_conditions import CLEAN
from goaldriven.specs.measurement import MeasurementSpec

from .planted_measurements import write_study

EFFECT = {"fa": 3.0, "ia": -3.0, "sgdm": 0.0}
ONE_SIGN = {"fa": 3.0, "ia": 3.0, "sgdm": 0.0}
FEW, NOISY = MeasurementSpec(unit_count=10), MeasurementSpec(noise=1.0)
FEW_LABEL, NOISY_LABEL = "10 units, no noise", "all units, noise absolute 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """fa and ia are one rule in the weights of few units; noise leaves nothing of any."""
    path = tmp_path_factory.mktemp("pairs")
    activation = {"activation": EFFECT}
    seen = {FEW: {"weight": ONE_SIGN, **activation}, NOISY: {}}
    write_study(path, 48, {"weight": EFFECT, **activation}, seen)
    return path


@pytest.fixture(scope="module")
def results(folder):
    return run(experiment("degeneracy_measured"), load_material(folder, n_splits=2))


@pytest.mark.slow
def test_pairs_that_a_measurement_makes_one_are_found(results):
    table = measured_pairs.measured_pairs(results)
    same = {
        (observables, measurement): {
            (r["rule_a"], r["rule_b"]) for _, r in part.iterrows() if r["indistinguishable"]
        }
        for (observables, measurement), part in table.groupby(["observables", "measurement"])
    }
    assert same["weight", CLEAN] == same["activation", CLEAN] == set()
    assert same["weight", FEW_LABEL] == {("fa", "ia")}
    assert same["activation", FEW_LABEL] == same["all", FEW_LABEL] == set()
    for observables in ("all", "weight", "activation", "activity_change"):
        assert len(same[observables, NOISY_LABEL]) == 3


@pytest.mark.slow
def test_what_is_lost_is_counted_and_told(results):
    counts = measured_pairs.lost_pairs(results).set_index(["observables", "measurement"])
    assert counts.loc[("weight", FEW_LABEL), "pairs_lost"] == 1
    assert counts.loc[("weight", NOISY_LABEL), "pairs_lost"] == 3
    assert counts.loc[("weight", CLEAN), "pairs_lost"] == 0
    assert counts.loc[("weight", FEW_LABEL), "hardest"] < 0.75
    _, weight, activation, _ = experiment("degeneracy_measured").findings(results)
    assert "under 2 measurements, fa and ia under 2, " in weight.statement
    assert f"the most, 3 of 3, under {NOISY_LABEL}" in weight.statement
    assert "all are told apart under 0." in weight.statement
    assert "all are told apart under 1." in activation.statement


@pytest.mark.slow
def test_both_figures_have_something_to_draw(results):
    from goaldriven.report import figures
    from goaldriven.report.drawings import drawings
    from goaldriven.report.sections.experiment_captions import caption

    plots = experiment("degeneracy_measured").plots
    counts, pairs = drawings(results, results.summary(), plots)
    assert set(counts.table["measurement"]) == {CLEAN, FEW_LABEL, NOISY_LABEL}
    assert set(pairs.table["observables"]) == {"all", "activation"}
    assert "Panels: measurement" in caption(pairs)
    for drawing in (counts, pairs):
        assert figures.experiment(drawing.table, drawing.plot).axes


def test_too_few_networks_are_said_before_anything_is_fitted(folder, tmp_path):
    for name in ("networks", "measurements"):
        (tmp_path / name).mkdir()
        for file in sorted((folder / name).iterdir())[:12]:
            (tmp_path / name / file.name).symlink_to(file)
    with pytest.raises(IdentificationError, match=r"networks of rules .* must be about"):
        run(experiment("degeneracy_measured"), load_material(tmp_path, n_splits=1))
