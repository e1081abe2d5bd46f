"""Experiments on measurements, with networks of which it is known what tells them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments import experiment, load_material, run
from goaldriven.identify.experiments.measured import kind_of
from goaldriven.identify.experiments.measured_conditions import noise_label, units_label
from goaldriven.specs.measurement import MeasurementSpec
from goaldriven.trajectories import write
from goaldriven.trajectories.measured import measurement_coordinates, write_measured
from trajectories.made_up import make_network

EFFECT = {"fa": 3.0, "ia": -3.0, "sgdm": 0.0}
FEW = MeasurementSpec(unit_count=10)
NOISY = [MeasurementSpec(relative_noise=0.3, seed=seed) for seed in (0, 1)]
THROUGH = MeasurementSpec(through_feedback=True)


def values_of(network: xr.Dataset, told_by: tuple[str, ...], seed: int) -> np.ndarray:
    """Noise, and the rule in the statistics of some measures, at all epochs."""
    told = np.isin(network["measure"].values, told_by)
    noise = np.random.default_rng(seed).normal(size=network["observable"].shape)
    return noise + EFFECT[network.attrs["rule"]] * told


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All observables tell the rules; of few units or with noise, activations alone do; the
    activity change does not in the record and does through the backward weights."""
    path = tmp_path_factory.mktemp("measured")
    for i in range(36):
        rule = sorted(EFFECT)[i % 3]
        plain = make_network(
            f"{i:012x}", rule=rule, n_layers=3, epochs=(0, 1, 2, 3, 4, 5), seed=i, model_seed=i // 3
        )
        network = plain.assign(
            observable=(
                plain["observable"].dims, values_of(plain, ("weight", "activation"), 100 + i)
            )
        )  # fmt: skip
        specs = [FEW, *NOISY, THROUGH]
        seen = [values_of(plain, ("activation",), 1000 * k + i) for k in (1, 2, 3)]
        seen.append(values_of(plain, ("activity_change",), 5000 + i))
        coords = {n: plain[n] for n in ("epoch", "layer", "statistic", "position", "measure")}
        dataset = xr.Dataset(
            {"observable": (("measurement", *plain["observable"].dims), np.array(seen))},
            coords={**measurement_coordinates(specs), **coords},
            attrs={"network_id": plain.attrs["network_id"]},
        )
        name = f"{plain.attrs['network_id']}.nc"
        write(network, path / "networks" / name)
        write_measured(dataset, path / "measurements" / name)
    return path


def means(results, **levels) -> float:
    summary = results.summary()
    chosen = summary[summary["metric"] == "layer_accuracy"]
    for column, level in levels.items():
        chosen = chosen[chosen[column].astype(str) == level]
    assert len(chosen), levels
    return float(chosen["mean"].mean())


@pytest.mark.slow
def test_what_survives_the_measurement_is_found(folder):
    results = run(experiment("measurement"), load_material(folder, n_splits=2))
    all_units = {"units": "all units", "noise": "none"}
    assert means(results, observables="weight", **all_units) > 0.9
    for units, noise in (("10 units", "none"), ("all units", "0.3 s.d.")):
        assert means(results, observables="weight", units=units, noise=noise) < 0.5
        assert means(results, observables="activation", units=units, noise=noise) > 0.9
    draws = results.table.query("noise == '0.3 s.d.' and metric == 'chance'")
    assert sorted(set(draws["split"])) == [0, 1, 2, 3], "two splits of each of two draws"
    finding, few, noisy = experiment("measurement").findings(results)
    assert finding.status == "reproduced"
    assert "over 2 measurements: activation" in finding.statement
    assert few.statement.startswith("Fewer units, by number: layers named right weight 0.")
    assert few.statement.endswith("mean over 10 units).")
    assert noisy.statement.startswith("Noise relative to the signal: ")
    rows = results.verdicts.query("noise == '0.3 s.d.' and observables == 'activation'")
    share = rows["layers_correct"].sum() / rows["layers"].sum()
    assert f"activation {share:.3f} (" in noisy.statement


@pytest.mark.slow
def test_the_published_pair_is_taken_alone(folder):
    results = run(experiment("measurement_fa_ia"), load_material(folder, n_splits=2))
    assert set(results.verdicts["rule"]) == {"fa", "ia"}
    assert set(results.table.query("metric == 'chance'")["value"]) == {0.5}


@pytest.mark.slow
def test_the_leak_of_the_backward_weights_is_found(folder):
    entry = experiment("feedback_leak")
    results = run(entry, load_material(folder, n_splits=2))
    forest = {"epoch": "all", "classifier": "random_forest"}
    assert means(results, taken_through="forward weights", **forest) < 0.5
    assert means(results, taken_through="backward weights", **forest) > 0.9
    whole, initial = entry.findings(results)
    assert "Gained by rule" in whole.statement
    assert "what exceeds chance there is B" in initial.statement
    assert set(results.table["epoch"].astype(str)) == {"all", "0", "1", "2", "3", "5"}


def test_a_study_without_measurements_says_how_to_make_them(folder, tmp_path):
    (tmp_path / "networks").symlink_to(folder / "networks")
    given = load_material(tmp_path, n_splits=2)
    with pytest.raises(IdentificationError, match="goaldriven measure DIR quick"):
        run(experiment("measurement"), given)
    with pytest.raises(IdentificationError, match="goaldriven measure DIR through_feedback"):
        run(experiment("feedback_leak"), given)


def test_labels_of_measurements():
    spec = MeasurementSpec(
        unit_count=300, relative_noise=0.1, noise_kind="constant", stimulus_count=50, own_units=True
    )
    assert units_label(spec) == "300 units of its own, 50 stimuli"
    assert noise_label(spec) == "constant 0.1 s.d."
    shared = MeasurementSpec(noise=0.1, noise_kind="shared")
    assert noise_label(shared) == "absolute shared (0.5) 0.1"
    assert (units_label(MeasurementSpec()), noise_label(MeasurementSpec())) == ("all units", "none")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "Everything"),
        ({"unit_fraction": 0.1}, "Fewer units, as a share"),
        ({"unit_count": 10}, "Fewer units, by number"),
        ({"stimulus_count": 10}, "Fewer stimuli"),
        ({"noise": 0.1}, "Noise in the tensor's own units"),
        ({"relative_noise": 0.3}, "Noise relative to the signal"),
        ({"relative_noise": 0.3, "noise_kind": "shared"},
         "Noise relative to the signal, correlated across units"),
        ({"noise": 0.3, "noise_kind": "constant"},
         "Noise in the tensor's own units, constant through learning"),
        ({"unit_count": 10, "relative_noise": 1, "own_units": True, "stimulus_count": 5},
         "Fewer units, by number, and fewer stimuli, and noise relative to the signal"),
    ],
)  # fmt: skip
def test_every_kind_of_measurement_has_a_name(settings, kind):
    spec = MeasurementSpec(**settings)
    assert kind_of(units_label(spec), noise_label(spec)) == kind
