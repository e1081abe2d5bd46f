"""The page of a collection: what it has, and not a word on what it lacks but one sentence."""

from __future__ import annotations

import re

import numpy as np
import pytest

from goaldriven.errors import DataError, StudyError
from goaldriven.report import write_report
from goaldriven.report.sections.collected import factors_of, lacking
from goaldriven.report.sections.observables import trajectories
from goaldriven.report.study import read_folder
from goaldriven.trajectories import write
from goaldriven.trajectories.collection import collect, merge
from goaldriven.trajectories.published import read_published, write_published

from .html_pages import csv_of, read_page
from .made_up import make_identification, make_network, make_study, write_study

STUDY = make_study(architectures=["knet4", "knet5_lrn"], batch_sizes=[64], epochs=30)
"""16 networks: 4 rules, 2 architectures, 2 model seeds."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A collection imported from a file in the published format, and identified."""
    path = tmp_path_factory.mktemp("imported")
    write_published([make_network(spec) for spec in STUDY.networks()], path / "dataset.pkl")
    networks = read_published(path / "dataset.pkl", record_every=STUDY.record_every)
    collect(networks, path / "published", "dataset.pkl")
    make_identification(networks).save(path / "published" / "identify")
    write_report(path / "published")
    return path / "published"


@pytest.fixture(scope="module")
def page(imported):
    return read_page(imported / "report.html")


def test_it_has_the_sections_that_there_is_something_for(page):
    assert page.sections == [
        "overview", "trajectories", "accuracy", "confusions", "importances", "methods",
    ]  # fmt: skip
    assert [f.key for f in page.figures] == [
        "example-trajectories", "identification-accuracy", "confusion-matrices",
        "statistic-importances",
    ]  # fmt: skip


def test_what_it_lacks_is_said_once(page):
    assert page.text.count("The collection holds no loss, no performance and no backward weights; "
                           "so this page has no learning curves") == 1  # fmt: skip
    # Times and versions are not in the format, and the outcomes are not known.
    for made_up in ("Training and measuring took", "Software", "Versions:", " nan", "at chance"):
        assert made_up not in page.text
    assert "Networks by learning rule and outcome" not in page.text
    assert "imported networks count as trained" in page.text
    assert "activity change through the backward weights" in page.text
    assert "through the forward weights for every rule" not in page.text


def test_it_tells_what_there_is(imported, page):
    assert ("h1", "Collection published") in [(f"h{n}", text) for n, text in page.headings]
    text = re.sub(r"\s+", " ", page.text)
    assert "The collection: 16 networks, from dataset.pkl" in text
    assert factors_of(read_folder(imported)).rows == (
        ("task", "1", "digits (16)"),
        ("architecture", "2", "knet4 (8), knet5_lrn (8)"),
        ("learning rule", "4", "sgdm (4), adam (4), fa (4), ia (4)"),
        ("batch size", "1", "64 (16)"),
        ("model seed", "2", "0 (8), 1 (8)"),
        ("data seed", "1", "0 (16)"),
        ("layers", "72", "4 in knet4, 5 in knet5_lrn"),
        ("records", "11", "at epochs 0 to 30"),
        ("observables", "45", "weight (21), activation (21), activity change (3)"),
    )
    assert "study" not in page.marked["answer"][0]
    assert "These results are of" not in text  # the identification is of these very networks


def test_its_numbers_are_those_of_the_file(imported, page):
    table = csv_of(page.figures[0].links[0])
    networks = read_folder(imported).networks
    of_rule = [n for n in networks if n.attrs["rule"] == "fa"]
    last = [n["observable"].sel(statistic="weight_raw_norm").values[-1] for n in of_rule]
    row = table.query("statistic == 'weight_raw_norm' and rule == 'fa' and epoch == 30")
    assert row["median"].item() == pytest.approx(np.median(np.concatenate(last)), rel=1e-5)
    assert row["layers"].item() == 4 * 2 + 5 * 2


def test_without_identification_it_says_how(tmp_path):
    spec = make_study(architectures=["knet4"], rules=["fa", "ia"], batch_sizes=[64])
    collect([make_network(n) for n in spec.networks()], tmp_path / "c", "somewhere")
    page = read_page(write_report(tmp_path / "c"))
    assert f"goaldriven identify {tmp_path / 'c'}" in page.marked["answer"][0]
    assert "have not been run on this collection" in page.text


def test_merged_studies_have_all_that_was_recorded(tmp_path):
    for seed in (0, 1):
        write_study(tmp_path / f"s{seed}", make_study(batch_sizes=[64], model_seeds=[seed]))
    merge([tmp_path / "s0", tmp_path / "s1"], tmp_path / "out")
    data = read_folder(tmp_path / "out")
    assert data.rules == ["sgdm", "adam", "fa", "ia"]
    assert lacking(data) == ""
    page = read_page(write_report(tmp_path / "out"))
    assert {"performance", "robustness", "alignment"} <= set(page.sections)
    assert "Training and measuring took" in page.text
    assert "Networks by learning rule and outcome" in page.text
    curves = csv_of(next(f for f in page.figures if f.key == "learning-curves").links[0])
    assert (curves["networks"] == 6).all()  # 3 architectures × 2 seeds


def test_networks_without_performance_are_counted_and_left_out(imported, tmp_path):
    """Of a study and an imported file: one has performance and weights, the other has not."""
    own = make_study(
        architectures=["knet4"], rules=["sgdm"], batch_sizes=[64], epochs=STUDY.epochs,
        model_seeds=[5, 6, 7],
    )  # fmt: skip
    write_study(tmp_path / "own", own, diverged=1)
    merge([imported, tmp_path / "own"], tmp_path / "out")
    page = read_page(write_report(tmp_path / "out"))
    assert "Without performance, and so not shown here: 16 networks." in page.text
    assert "Without alignment, and so not shown here: 16 networks." in page.text
    assert "No rule of these networks has backward weights of its own" in page.text
    assert "robustness" not in page.sections
    final = csv_of(next(f for f in page.figures if f.key == "final-performance").links[0])
    assert set(final["model_seed"]) == {5, 6, 7}
    assert "Software: goaldriven 0.1.0" in page.text
    assert "of the networks that were not imported" in page.text
    assert "1 diverged network of 19 in the collection" in page.text.lower()


def test_rules_that_are_not_in_the_catalogue_and_infinite_values(tmp_path):
    networks = [make_network(spec) for spec in STUDY.networks()]
    for network in networks:
        network["observable"].loc[{"statistic": "weight_raw_norm"}][-1] = np.inf
        if network.attrs["rule"] == "ia":
            network.attrs["rule"] = "hebb"
    write_published(networks, tmp_path / "dataset.pkl")
    collect(read_published(tmp_path / "dataset.pkl"), tmp_path / "out", "dataset.pkl")
    assert read_folder(tmp_path / "out").rules == ["sgdm", "adam", "fa", "hebb"]
    page = read_page(write_report(tmp_path / "out"))
    assert "44 are finite for every layer" in page.text


def test_few_statistics_and_unknown_batch_size(tmp_path):
    """A file need not have all statistics, nor the fields of ``meta`` that are optional."""
    chosen = ["weight_raw_skew", "weight_raw_kurtosis"]
    for spec in STUDY.networks():
        network = make_network(spec).sel(statistic=chosen)
        network.attrs |= {"batch_size": 0, "model_seed": -1}
        network.attrs["network_id"] = spec.network_id
        write(network, tmp_path / "in" / "networks" / f"{spec.network_id}.nc")
    merge([tmp_path / "in"], tmp_path / "out")
    data = read_folder(tmp_path / "out")
    rows = {name: which for name, _, which in factors_of(data).rows}
    assert rows["batch size"] == "not known (16)"
    assert rows["model seed"] == "none (16)"
    [plate] = trajectories(data).blocks
    assert set(plate.downloads[0].data["statistic"]) == set(chosen)


def test_damaged_records_are_named(tmp_path):
    collect([make_network(STUDY.networks()[0])], tmp_path / "c", "x")
    (tmp_path / "c" / "collection.json").write_text("{")
    with pytest.raises(StudyError, match=r"collection.json cannot be read"):
        write_report(tmp_path / "c")
    (tmp_path / "c" / "collection.json").write_text('{"sources": []}')
    for path in (tmp_path / "c" / "networks").glob("*.nc"):
        path.unlink()
    with pytest.raises(DataError, match="must hold trajectories"):
        write_report(tmp_path / "c")
