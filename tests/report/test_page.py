"""The page as a file: whole, self-contained, escaped, and true to the data."""

from __future__ import annotations

import dataclasses
import os
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from goaldriven.errors import StudyError
from goaldriven.report import identified, robustness, tables, write_report
from goaldriven.report.blocks import Paragraph, Plate
from goaldriven.report.sections.answer import answer
from goaldriven.report.sections.identification import identification
from goaldriven.report.study import read_study
from goaldriven.trajectories import load_networks

from .html_pages import csv_of, read_page
from .made_up import make_accuracies, make_identification, make_study, write_study

SECTIONS = [
    "overview", "performance", "robustness", "trajectories", "accuracy", "confusions",
    "importances", "alignment", "methods",
]  # fmt: skip
FIGURES = [
    "final-performance", "learning-curves", "robustness-by-architecture", "example-trajectories",
    "identification-accuracy", "confusion-matrices", "statistic-importances", "alignment-angles",
    "weight-scatter",
]  # fmt: skip

# Of one architecture, without identification.
PLAIN_SECTIONS = [key for key in SECTIONS if key != "robustness"]
PLAIN_FIGURES = ["final-performance", "learning-curves", "example-trajectories"]


@pytest.fixture(scope="module")
def page(folder):
    return read_page(folder / "report.html")


@pytest.fixture(scope="module")
def networks(folder):
    """As they come back from the files, in the order of the grid."""
    by_id = {n.attrs["network_id"]: n for n in load_networks(folder)}
    order = [spec.network_id for spec in make_study().networks()]
    return [by_id[i] for i in order if i in by_id]


def test_all_sections_are_there_in_order(page):
    assert page.sections == SECTIONS
    assert [f.key for f in page.figures] == FIGURES


def test_the_spread_of_importances_is_not_taken_for_their_uncertainty(page):
    (figure,) = [f for f in page.figures if f.key == "statistic-importances"]
    assert "over trees or repeats and splits by network, which share networks" in figure.caption
    assert "not the uncertainty of the ranking over networks" in figure.caption


def test_of_which_networks_the_numbers_speak_is_said(page):
    (figure,) = [f for f in page.figures if f.key == "identification-accuracy"]
    assert "new networks from the same starts, architectures and tasks as these" in figure.caption
    assert "from the same starts (initial weights), architectures and tasks" in page.text


def test_headings_do_not_skip_and_contents_lead_somewhere(page):
    assert [level for level, _ in page.headings] == [1] + [2] * len(SECTIONS)
    assert len(page.ids) == len(set(page.ids))
    targets = [a["href"][1:] for a in page.links if a["href"].startswith("#")]
    assert targets == SECTIONS
    assert ("html", "lang", "en") in page.attributes
    labels = [v for _, name, v in page.attributes if name == "aria-labelledby"]
    assert labels
    assert set(labels) <= set(page.ids)


def test_nothing_is_loaded_from_elsewhere(folder, page):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "url(" not in text
    assert "@import" not in text
    for tag, name, value in page.attributes:
        if name in {"src", "href", "srcset", "poster", "data", "action"}:
            assert value.startswith(("data:", "#")), (tag, name, value[:60])
    for figure in page.figures:
        for element in ElementTree.fromstring(figure.svg()).iter():
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith(("#", "data:image/png;base64"))


def test_every_figure_is_described_captioned_numbered_and_has_its_numbers(page):
    for number, figure in enumerate(page.figures, start=1):
        assert figure.caption.startswith(f"Figure {number}. ")
        assert len(figure.caption) > 120
        assert len(figure.image["alt"]) > 40
        assert int(figure.image["width"]) > 300
        root = ElementTree.fromstring(figure.svg())
        assert root.tag.endswith("svg")
        assert figure.links
        for link in figure.links:
            assert link["download"].endswith(".csv")
            assert len(csv_of(link)) > 0


def expected_tables(networks):
    shown = [
        "weight_raw_norm", "weight_abs_median", "weight_raw_var", "activation_raw_norm",
        "activation_abs_mean", "activation_raw_median", "activity_change_raw",
        "activity_change_abs", "activity_change_sq",
    ]  # fmt: skip
    made_up = make_identification(networks)
    return {
        "networks.csv": tables.network_table(networks),
        "final_performance.csv": tables.final_performance(networks),
        "learning_curves.csv": tables.learning_curves(networks),
        "median_trajectories.csv": tables.median_trajectories(tables.trajectories(networks, shown)),
        "alignment.csv": tables.alignment(networks),
        "robustness.csv": robustness.by_architecture(networks).replace("", np.nan),
        "gaps_to_backprop.csv": robustness.gaps(networks).replace("", np.nan),
        "accuracy.csv": made_up.summary(),
        "confusion.csv": identified.confusion_table(made_up.confusion),
        "importances.csv": identified.importance_table(made_up.importances),
    }


def test_downloads_hold_the_numbers_of_the_data(page, networks):
    found = {a["download"]: csv_of(a) for a in page.links if "download" in a}
    expected = expected_tables(networks)
    assert set(expected) <= set(found)
    for name, table in expected.items():
        keys = [c for c in table.columns if not pd.api.types.is_float_dtype(table[c])]
        numbers = [c for c in table.columns if c not in keys]
        pd.testing.assert_frame_equal(
            found[name][keys].astype(str), table[keys].astype(str).reset_index(drop=True)
        )
        # Six significant digits are written.
        np.testing.assert_allclose(found[name][numbers], table[numbers], rtol=1e-5)


def test_single_layers_are_the_networks_own_trajectories(page, networks):
    table = next(csv_of(a) for a in page.links if a.get("download") == "single_layers.csv")
    by_id = {n.attrs["network_id"]: n for n in networks}
    epochs = [c for c in table.columns if c.startswith("epoch_")]
    assert epochs == [f"epoch_{e}" for e in range(0, 61, 3)]
    for row in table.sample(40, random_state=0).to_dict("records"):
        truth = by_id[str(row["network_id"])]["observable"].sel(
            layer=row["layer"], statistic=row["statistic"]
        )
        np.testing.assert_allclose([row[e] for e in epochs], truth.values, rtol=1e-5)


def test_scattered_pairs_are_the_networks_own_weights(page, networks):
    table = next(csv_of(a) for a in page.links if a.get("download") == "weight_pairs.csv")
    by_id = {n.attrs["network_id"]: n for n in networks}
    assert len(table) == 2 * (72 + 100 + 100)
    for row in table.sample(40, random_state=0).to_dict("records"):
        network = by_id[str(row["network_id"])].sel(layer=row["layer"])
        for epoch in (0, 30, 60):
            for variable in ("forward_weight", "backward_weight"):
                truth = float(network[variable].sel(epoch=epoch)[int(row["pair"])])
                assert row[f"{variable}_epoch_{epoch}"] == pytest.approx(truth, rel=1e-5)


def test_captions_say_the_numbers_of_the_data(page, networks):
    captions = {f.key: f.caption for f in page.figures}
    for rule in ("sgdm", "adam", "fa", "ia"):
        mine = [n for n in networks
                if n.attrs["rule"] == rule and n.attrs["outcome"] == "trained"]  # fmt: skip
        median = np.median([float(n["metric"][-1]) for n in mine])
        assert f"{rule} {median:.3f}" in captions["final-performance"]
    assert "1 in all" in captions["final-performance"]
    deep = np.median(
        np.concatenate([
            n["weight_angle"].values[-1][n["position"].values == "deep"] for n in networks
            if n.attrs["rule"] == "fa"
        ])
    )  # fmt: skip
    assert re.search(rf"fa [^;]*{deep:.0f}° in deep layers", captions["alignment-angles"])


def test_the_answer_is_two_sentences_with_the_numbers(page):
    (answer,) = page.marked["answer"]
    layers, verdicts = make_accuracies()

    def mean_and_sem(frame, kind):
        values = frame[
            (frame["classifier"] == "random_forest") & (frame["observables"] == "all")
            & (frame["split_kind"] == kind)
        ]["accuracy"].to_numpy()  # fmt: skip
        sem = values.std(ddof=1) * np.sqrt(1 / values.size + 78 / 234)
        return f"{100 * values.mean():.1f} ± {100 * sem:.1f}%"

    first, second = re.split(r"(?<=\.) (?=With)", answer)
    assert mean_and_sem(layers, "network") in first
    assert "chance among 4 rules is 25%" in first
    assert mean_and_sem(layers, "layer") in second
    assert mean_and_sem(verdicts, "network") in second
    assert answer.count(". ") == 1


def test_an_answer_at_chance_says_so(plain):
    """Every accuracy 0.68 lower: the best is then at chance."""
    data = read_study(plain.parent)
    low = identified.results_of(make_identification(data.networks, level=-0.68))
    high = identified.results_of(make_identification(data.networks))
    assert "chance among 4 rules is 25%. This is no better than chance." in answer(data, low)
    assert "no better than chance" not in answer(data, high)


def test_results_of_other_networks_are_called_outdated(plain):
    data = read_study(plain.parent)
    old = identified.results_of(make_identification(data.networks[:5]))
    notice = identification(data, old)[0].blocks[0]
    assert notice.kind == "notice"
    assert "of 5 networks, the study has 8 trained networks (3 not among them)" in notice.text
    current = identified.results_of(make_identification(data.networks))
    first, *_ = blocks = identification(data, current)[0].blocks
    assert isinstance(first, Plate)
    [verdicts] = [b for b in blocks if "none of these" in getattr(b, "caption", "")]
    # 8 of 10 right, 1 none of these; the true rule in 8 sets, which hold 10 rules.
    assert verdicts.rows[0][1].startswith("80% (49")
    assert verdicts.rows[0][2].startswith("10% (1.8")
    assert verdicts.rows[0][3].startswith("80% (")
    assert verdicts.rows[0][4:] == ("1.00", "0.800")
    assert "on 10 networks not trained on" in verdicts.caption


def test_results_without_the_usual_parts_are_shown_as_far_as_they_go(plain):
    """Only splits by layer, only weights, no forest, one split."""
    data = read_study(plain.parent)
    whole = make_identification(data.networks)

    def some(table):
        kept = (table["split_kind"] == "layer") & (table["observables"] == "weight")
        kept &= table["classifier"] == "svm"
        return table[kept & (table["split"] == 0)] if "split" in table else table[kept]

    part = dataclasses.replace(
        whole, accuracy=some(whole.accuracy), network_accuracy=some(whole.network_accuracy),
        confusion=some(whole.confusion), importances=some(whole.importances),
    )  # fmt: skip
    results = identified.results_of(part)
    sections = identification(data, results)
    assert [type(s.blocks[0]) for s in sections] == [Plate, Plate, Paragraph]
    text = answer(data, results)
    assert text.startswith("From the trajectories of 21 statistics (weight) of one layer, linear")
    assert "±" not in text


def test_diverged_and_failed_networks_are_named_and_escaped(folder, page):
    notices = " ".join(page.marked["notice"])
    assert "1 network diverged: digits/resnet10/ia (1)" in notices
    assert "Boom: <out of memory> & more" in notices
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<out of memory>" not in text
    assert "&lt;out of memory&gt; &amp; more" in text


HOSTILE = '<script>alert("1")</script> & <b>bold</b>'


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small study that has not been identified, with a description that is not harmless."""
    path = tmp_path_factory.mktemp("plain")
    write_study(path, make_study(description=HOSTILE, architectures=["knet4"], model_seeds=[0]))
    return write_report(path)


def test_user_text_is_escaped(plain):
    assert "<script" not in plain.read_text(encoding="utf-8")
    assert HOSTILE in read_page(plain).text


def test_without_identification_the_page_says_how(plain):
    page = read_page(plain)
    assert page.sections == PLAIN_SECTIONS
    assert [f.key for f in page.figures] == [*PLAIN_FIGURES, "alignment-angles", "weight-scatter"]
    assert f"goaldriven identify {plain.parent}" in page.marked["answer"][0]


def test_the_same_study_gives_the_same_page(plain):
    before = plain.read_bytes()
    assert write_report(plain.parent).read_bytes() == before


def test_one_rule_one_task_one_network(tmp_path):
    study = make_study(architectures=["knet4"], rules=["sgdm"], batch_sizes=[64], model_seeds=[0])
    write_study(tmp_path, study)
    page = read_page(write_report(tmp_path))
    assert [f.key for f in page.figures] == [*PLAIN_FIGURES, "alignment-angles"]  # of updates
    assert "nothing to identify" in page.marked["answer"][0]
    assert "No rule of the trained networks has backward weights" in page.text


def test_every_network_diverged(tmp_path):
    study = make_study(architectures=["knet4"], model_seeds=[0])
    write_study(tmp_path, study, diverged=8)
    page = read_page(write_report(tmp_path))
    assert page.sections == PLAIN_SECTIONS
    assert [f.key for f in page.figures] == ["final-performance"]
    assert "8 networks diverged" in page.marked["notice"][0]
    table = csv_of(page.figures[0].links[0])
    assert table["final_metric"].isna().all()


def test_incomplete_and_empty_studies(tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "none").mkdir()
    study = make_study(architectures=["knet4"])
    write_study(tmp_path / "half", study, left=9)
    half = read_page(write_report(tmp_path / "half"))
    assert "9 of 16 networks are still to be trained" in half.marked["notice"][0]
    # The rules that came first are backprop.
    assert [f.key for f in half.figures] == [*PLAIN_FIGURES, "alignment-angles"]
    write_study(tmp_path / "none", study, left=16)
    none = read_page(write_report(tmp_path / "none"))
    assert none.sections == PLAIN_SECTIONS
    assert none.figures == []


def test_several_tasks_and_many_rules(tmp_path):
    rules = [{"name": f"rule{i}", "like": "fa"} for i in range(9)]
    study = make_study(
        tasks=["digits", "spoken_digits"], architectures=["knet4"], rules=rules,
        batch_sizes=[64], model_seeds=[0], epochs=6,
    )  # fmt: skip
    write_study(tmp_path, study)
    page = read_page(write_report(tmp_path))
    curves = csv_of(page.figures[1].links[0])
    assert set(curves["task"]) == {"digits", "spoken_digits"}
    assert curves["rule"].nunique() == 9


def test_the_page_stays_small(folder, page):
    assert (folder / "report.html").stat().st_size < 5e6


def test_a_page_that_cannot_be_written_leaves_the_old_one(plain, monkeypatch):
    before = plain.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StudyError, match=r"^cannot write .*report.html: No space left"):
        write_report(plain.parent)
    assert plain.read_bytes() == before
    assert not list(plain.parent.glob(".report*"))


def test_folders_that_are_no_studies_are_refused(tmp_path):
    with pytest.raises(StudyError, match=r"DIR must be a study folder, got .*does not exist"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(StudyError, match=r"DIR must be a study folder \(with a study.json\)"):
        write_report(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(StudyError, match=r"study.json cannot be read"):
        write_report(tmp_path)
    (tmp_path / "study.json").write_text('{"name": "x", "tasks": ["digit"]}')
    with pytest.raises(StudyError, match=r"study.json holds no valid study: .*digits"):
        write_report(tmp_path)
