"""The whole way on real data, by the commands a user types: run, status, identify, report, show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

import goaldriven as gd
from goaldriven.identify import experiments

STUDY = """\
name: small
description: Three rules & one architecture, <for the test>.
tasks: [{name: digits, train_limit: 640}]
architectures: [{name: knet4, width: 0.25}]
rules: [sgdm, adam, fa]
batch_sizes: [32]
model_seeds: [0, 1, 2, 3]
data_seeds: [0, 1]
epochs: 72
record_every: 9
"""


def goaldriven(*arguments: object) -> str:
    command = [sys.executable, "-m", "goaldriven.cli", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("end-to-end")
    (base / "small.yaml").write_text(STUDY)
    goaldriven("run", base / "small.yaml", "--out", base / "out")
    goaldriven("identify", base / "out", "--splits", 3)
    goaldriven("experiment", "run", base / "out", "initialisation", "thirds", "--splits", 3)
    goaldriven("report", base / "out")
    return base / "out"


@pytest.mark.slow
def test_everything_was_trained_and_learned(folder):
    counts = goaldriven("status", folder).splitlines()[-1].split()
    assert counts == ["all", "24", "0", "0", "0", "0", "24"]
    for network in gd.load_networks(folder):
        floor = 0.5 if network.attrs["rule"] == "fa" else 0.8
        assert network["metric"].values[-1] > floor, network.attrs["rule"]
        assert network["loss"].values[-1] < network["loss"].values[0]


@pytest.mark.slow
def test_the_rules_are_told_apart_by_network(folder):
    accuracy = pd.read_csv(folder / "identify" / "network_accuracy.csv")
    chosen = accuracy.query("classifier == 'random_forest' and observables == 'all'")
    assert len(chosen) == 3
    assert chosen["accuracy"].mean() > 0.8  # chance 1/3


@pytest.mark.slow
def test_initial_networks_do_not_tell_the_rules_and_trained_ones_do(folder):
    initial = experiments.load(folder, "initialisation").summary()
    apart = initial[initial["split_kind"] == "task+architecture+model_seed"]
    assert apart["mean"].mean() < 0.5  # chance 1/3
    thirds = experiments.load(folder, "thirds").summary()
    same = thirds[(thirds["trained"] == thirds["tested"]) & (thirds["observables"] == "all")]
    assert same["mean"].mean() > 0.6


@pytest.mark.slow
def test_the_saved_classifier_names_the_rules_of_networks_it_was_not_fitted_on(folder):
    results = gd.identify.load(folder / "identify")
    fitted = results.classifier("random_forest", "all", "network", 0)
    split = next(s for s in results.splits if s.kind == "network")
    tested = gd.load_examples(folder).isel(example=list(split.test))
    named = [fitted.rules[i] for i in fitted.probabilities(tested).argmax(axis=1)]
    share = (pd.Series(named).to_numpy() == tested["rule"].values).mean()
    table = results.accuracy.query(
        "classifier == 'random_forest' and observables == 'all' and split_kind == 'network' "
        "and split == 0"
    )
    assert share == pytest.approx(table["accuracy"].item())


@pytest.mark.slow
def test_the_report_is_one_file_with_the_answer(folder):
    page = (folder / "report.html").read_text()
    assert "&lt;for the test&gt;" in page
    assert "<for the test>" not in page
    assert page.count("<figure") >= 6


@pytest.mark.slow
def test_show_prints_spec_curve_and_layers(folder):
    network = gd.load_networks(folder)[0].attrs["network_id"]
    text = goaldriven("show", folder, network[:8])
    for expected in (network, "learning curve", "batch_size: 32", "conv3", "weight_raw_norm"):
        assert expected in text


@pytest.mark.slow
def test_running_again_trains_nothing(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.glob("networks/*.nc")}
    goaldriven("run", folder.parent / "small.yaml", "--out", folder)
    assert {p: p.stat().st_mtime_ns for p in folder.glob("networks/*.nc")} == before


@pytest.fixture(scope="module")
def published(folder) -> Path:
    """The same networks, by way of a file in the published format, from file to page."""
    file, out = folder.parent / "dataset.pkl", folder.parent / "published"
    goaldriven("trajectories", "export", folder, file)
    goaldriven("trajectories", "import", file, "--out", out, "--record-every", 9)
    goaldriven("identify", out, "--splits", 2, "--classifier", "svm")
    goaldriven("experiment", "run", out, "initialisation", "--splits", 2)
    goaldriven("report", out)
    return out


@pytest.mark.slow
def test_imported_networks_are_the_same_examples(folder, published):
    ours, theirs = gd.load_examples(folder), gd.load_examples(published)
    xr.testing.assert_identical(ours["value"], theirs["value"])


@pytest.mark.slow
def test_the_report_of_a_collection_has_what_there_is(published):
    page = (published / "report.html").read_text()
    assert "Collection published" in page
    assert 'id="experiment-initialisation"' in page
    assert page.count("The collection holds no loss, no performance and no backward weights") == 1
    accuracy = pd.read_csv(published / "identify" / "accuracy.csv")
    chosen = accuracy.query("observables == 'all' and split_kind == 'network'")["accuracy"]
    said = re.search(r"names the learning rule that trained the layer with ([\d.]+)", page)
    assert said is not None
    assert float(said[1]) == pytest.approx(100 * chosen.mean(), abs=0.051)
    for section in ("performance", "alignment", "robustness"):
        assert f'<section id="{section}"' not in page


@pytest.mark.slow
def test_show_prints_what_there_is_of_an_imported_network(published):
    network = gd.load_networks(published)[0].attrs["network_id"]
    text = goaldriven("show", published, network[:8])
    assert network in text
    assert "weight_raw_norm" in text
    assert "learning curve" not in text
