"""Experiments in the report: what the page says, against the results it comes from."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json

import numpy as np
import pandas as pd
import pytest

from goaldriven.identify.experiments import EXPERIMENTS, load_material, run
from goaldriven.identify.experiments.results import save
from goaldriven.report import write_report
from goaldriven.report.blocks import Heading, Plate, Table
from goaldriven.report.experiments import read_experiments
from goaldriven.report.levels import in_order
from goaldriven.report.sections import outdated as module
from goaldriven.report.sections.experiments import experiments as section
from goaldriven.report.sections.experiments import in_short
from goaldriven.report.sections.outdated import Basis, outdated
from goaldriven.report.study import StudyData
from goaldriven.specs.measurement import MeasurementSpec

from . import planted_experiments as planted
from .html_pages import csv_of, read_page
from .made_up import make_network, make_study, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of 16 networks with planted results, and one experiment that was really run."""
    folder = tmp_path_factory.mktemp("experiments")
    networks = write_study(folder, make_study(architectures=["knet4"]))
    ids = [n.attrs["network_id"] for n in networks]
    for make in (planted.average_results, planted.undersampling_results, planted.thirds_results):
        save(make(ids, ("all", "weight")), folder)
    run(EXPERIMENTS["layer_position"], load_material(folder, n_splits=2))
    return folder


@pytest.fixture(scope="module")
def found(study):
    return read_experiments(study)


@pytest.fixture(scope="module")
def page(study):
    return read_page(write_report(study))


def test_the_page_has_a_part_for_every_experiment_with_results(found, page):
    assert "experiments" in page.sections
    assert page.sections.index("experiments") == page.sections.index("importances") + 1
    names = ["trajectory_average", "layer_position", "undersampling", "thirds"]
    assert [one.experiment.name for one in found] == names
    headings = [text for level, text in page.headings if level == 3]
    assert headings == [EXPERIMENTS[name].title for name in names]
    links = [a["href"][1:] for a in page.links if a["href"].startswith("#experiment-")]
    assert set(links) == {f"experiment-{name.replace('_', '-')}" for name in names}
    assert set(links) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "goaldriven experiment run" not in page.text
    assert not any("cannot be shown" in text for text in page.marked["notice"])


def test_the_page_says_the_questions_and_findings_in_full_and_counts_them(found, page):
    text = " ".join(page.text.split())
    assert "all speak of new networks from the same starts, architectures and tasks" in text
    counts = {"reproduced": 0, "not in the paper": 0}
    for one in found:
        assert one.experiment.question in text
        for finding in one.findings:
            counts[finding.status] += 1
            assert finding.statement in text
            assert finding.paper in text
            assert in_short(finding.statement) in text
    assert counts == {"reproduced": 3, "not in the paper": 1}
    assert "4 experiments with results, 4 findings: 3 reproduced, 1 not in the paper." in text


def test_figures_and_tables_hold_the_numbers_of_the_results(found, page):
    links = {a["download"]: csv_of(a) for a in page.links if "download" in a}
    for one in found:
        figure = next(
            f for f in page.figures
            if f.key == f"experiment-{one.experiment.name.replace('_', '-')}-figure"
        )  # fmt: skip
        [chosen] = one.drawings
        given = csv_of(figure.links[0])
        np.testing.assert_allclose(given["mean"], chosen.table["mean"], rtol=1e-5)
        assert ("random forest; the rest is in the table" in figure.caption) == (
            chosen.held == {"classifier": "random_forest"}
        )
        layers = chosen.table[chosen.table["metric"] == "layer_accuracy"]
        assert f"Lowest {layers['mean'].min():.3f} (" in figure.caption
        assert f"highest {layers['mean'].max():.3f} (" in figure.caption
        whole = links[f"experiment_{one.experiment.name}_summary.csv"]
        np.testing.assert_allclose(whole["high"], one.summary["high"], rtol=1e-5)
    row = found[0].summary.iloc[0]
    told_row = f"{row['mean']:.3f} ± {row['sem']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
    assert told_row in page.text


def test_confusions_and_other_measures_are_shown(tmp_path):
    results = planted.make_results(
        "separability", [{"observables": g} for g in planted.GROUPS], lambda k: 0.8,
        kinds=("network", "layer"), classifiers=("random_forest", "svm", "conv1d"),
    )  # fmt: skip
    cells = results.table[results.table["metric"] == "layer_accuracy"]
    more = [
        {**cell, "metric": metric, "value": value}
        for cell in cells.to_dict("records")
        for a, b in itertools.product(planted.RULES, repeat=2)
        for metric, value in ((f"layers {a} called {b}", 6.0 if a == b else 1.0 + (b == "fa")),)
    ]
    more += [{**cell, "metric": "brier", "value": 0.125} for cell in cells.to_dict("records")]
    table = pd.concat([results.table, pd.DataFrame(more)], ignore_index=True)
    save(dataclasses.replace(results, table=table), tmp_path)
    [one] = read_experiments(tmp_path)
    confusion = one.confusions[""]
    row = confusion[(confusion["true"] == "sgdm") & (confusion["predicted"] == "fa")].iloc[0]
    assert row["fraction"] == pytest.approx(2 / 10)
    assert set(one.others["metric"]) == {"brier"}
    [found] = section(StudyData(tmp_path, make_study(), (), {}))
    blocks = [b for b in found.blocks if isinstance(b, Plate | Table)]
    plate = next(b for b in blocks if getattr(b, "key", "").endswith("separability-confusions"))
    assert "Most confused: 20% of the layers of" in plate.caption
    assert "called fa (" in plate.caption
    other = blocks[-1]
    assert other.caption.startswith("Other measures of this experiment (24 rows)")
    assert other.folded
    assert {row[-1] for row in other.rows} == {"0.125 ± 0"}


@pytest.mark.parametrize(
    ("svm", "status"), [(0.4, "reproduced"), (0.1, "undecided"), (0.0, "not reproduced")]
)
def test_the_page_says_what_is_undecided(tmp_path, svm, status):
    """Averaging costs the SVM more than the forest, as much, or nothing."""
    networks = write_study(tmp_path, make_study(architectures=["knet4"]))
    ids = [network.attrs["network_id"] for network in networks]
    save(planted.average_results(ids, ("all",), svm=svm), tmp_path)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert f'<span class="status {status.replace(" ", "-")}">{status}</span>' in html
    assert f"1 experiment with results, 1 finding: 1 {status}." in html
    assert ("Undecided: the 95% interval of what the paper claims" in html) == (
        status == "undecided"
    )


def test_without_experiments_the_page_only_says_how(tmp_path):
    write_study(tmp_path, make_study(architectures=["knet4"], model_seeds=[0]))
    page = read_page(write_report(tmp_path))
    assert "experiments" not in page.sections
    assert f"goaldriven experiment run {tmp_path}" in page.text
    (tmp_path / "experiments" / "cache" / "ab").mkdir(parents=True)
    assert read_experiments(tmp_path) == ()
    alone = tmp_path / "alone"
    write_study(alone, make_study(architectures=["knet4"], model_seeds=[0], rules=["fa"]))
    assert "goaldriven experiment" not in read_page(write_report(alone)).text


def test_results_of_fewer_networks_are_called_so(tmp_path):
    networks = tuple(make_network(spec) for spec in make_study(architectures=["knet4"]).networks())
    ids = [n.attrs["network_id"] for n in networks]
    save(planted.average_results(ids[:12], ["all"]), tmp_path)
    save(planted.thirds_results(ids, ["all"]), tmp_path)
    [found] = section(StudyData(tmp_path, make_study(), networks, {}))
    notices = [b.text for b in found.blocks if getattr(b, "kind", "") == "notice"]
    assert len(notices) == 2
    assert any(
        "These results are of 12 networks, the study has 16 trained networks (4 not among them): "
        f"run goaldriven experiment run {tmp_path} trajectory_average again." in text
        for text in notices
    )
    listed = next(text for text in notices if text.startswith("Of other networks, "))
    assert "Average instead of trajectory" in listed
    assert "Consecutive thirds" not in listed


def test_results_of_another_version_or_other_measurements_are_called_so(tmp_path, monkeypatch):
    networks = tuple(make_network(spec) for spec in make_study(architectures=["knet4"]).networks())
    data = StudyData(tmp_path, make_study(), networks, {})
    ids = [n.attrs["network_id"] for n in networks]
    current = Basis(ids, importlib.metadata.version("goaldriven"))
    assert outdated(data, current, "run it again") is None
    old = outdated(data, dataclasses.replace(current, version="0.0.1"), "run it again")
    assert old.startswith("These results are of goaldriven 0.0.1, this page is of ")
    specs = [MeasurementSpec(unit_count=n) for n in (10, 20)]
    monkeypatch.setattr(module, "measurements_of", lambda folder: specs)
    both = [spec.measurement_id for spec in specs]
    assert outdated(data, dataclasses.replace(current, measurement_ids=both), "") is None
    assert outdated(data, dataclasses.replace(current, measurement_ids=both[:1]), "measure") == (
        "These results are of 1 measurement, the study has 2 (1 new, 0 gone): measure."
    )


def cut(folder):
    path = folder / "settings.json"
    path.write_text(path.read_text()[:40])


def other_format(folder):
    path = folder / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


def list_of_settings(folder):
    (folder / "settings.json").write_text("[1, 2]")


def settings_without_networks(folder):
    path = folder / "settings.json"
    content = json.loads(path.read_text())
    del content["networks"]
    path.write_text(json.dumps(content))


def no_table(folder):
    (folder / "results.csv").unlink()


def empty_table(folder):
    (folder / "verdicts.csv").write_text("")


def no_column(folder):
    path = folder / "results.csv"
    pd.read_csv(path).drop(columns="seen").to_csv(path, index=False)


def no_levels(folder):
    for name in ("results", "verdicts"):
        table = pd.read_csv(folder / f"{name}.csv")
        table[table["seen"] != "trajectory"].to_csv(folder / f"{name}.csv", index=False)


def words_for_numbers(folder):
    path = folder / "results.csv"
    table = pd.read_csv(path).astype({"value": object})
    table.loc[0, "value"] = "many"
    table.to_csv(path, index=False)


@pytest.mark.parametrize(
    "damage",
    [cut, other_format, list_of_settings, settings_without_networks, no_table, empty_table,
     no_column, no_levels, words_for_numbers],
)  # fmt: skip
def test_damaged_results_are_one_line_and_the_others_are_shown(tmp_path, damage):
    save(planted.average_results(groups=["all"]), tmp_path)
    save(planted.held_out_results(), tmp_path)
    damage(tmp_path / "experiments" / "trajectory_average")
    found = section(StudyData(tmp_path, make_study(), (), {}))[0]
    [notice] = [b.text for b in found.blocks if "cannot be shown" in getattr(b, "text", "")]
    assert notice.startswith("Experiment trajectory_average cannot be shown: ")
    assert "\n" not in notice
    assert notice.endswith(("run the experiment again.", "got none."))
    assert [b.title for b in found.blocks if isinstance(b, Heading)] == ["Held-out curriculum"]
    assert any(isinstance(b, Plate) for b in found.blocks)


def test_an_experiment_of_another_version_is_named(tmp_path):
    save(planted.make_results("telepathy", [{"seen": "all"}], lambda k: 1.0), tmp_path)
    (tmp_path / "experiments" / "measured").mkdir()
    (tmp_path / "experiments" / "measured" / "settings.json").write_text("{}")  # no results
    [found] = section(StudyData(tmp_path, make_study(), (), {}))
    counts, notice = (block.text for block in found.blocks)
    assert counts.startswith("1 experiment with results, 0 findings. ")
    assert notice == (
        "Experiment telepathy cannot be shown: this version of goaldriven has no such experiment."
    )


def test_levels_are_ordered_by_number_where_they_are_numbers():
    assert in_order(["none", "128/0", "32/1", "32/0"]) == ["none", "32/0", "32/1", "128/0"]
    assert in_order([30, 3, 100]) == [3, 30, 100]
    assert in_order(["b", "a", "b"]) == ["b", "a"]


def test_numbers_among_words_are_sorted_by_size_and_thirds_by_time():
    units = ["1000 units", "all units", "10% of units", "30 units", "1% of units, 50 stimuli"]
    assert in_order(units) == [
        "all units", "30 units", "1000 units", "10% of units", "1% of units, 50 stimuli",
    ]  # fmt: skip
    assert in_order(["late", "middle", "early"]) == ["early", "middle", "late"]
    # Numbers that are part of a name say nothing of its size.
    assert in_order(["svm", "conv1d", "knet5", "knet4"]) == ["svm", "conv1d", "knet5", "knet4"]
    assert in_order(["1e-05", "0.001", "none"]) == ["none", "1e-05", "0.001"]
