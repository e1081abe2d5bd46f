"""Measures of experiments other than accuracies: what is drawn is what the tidy tables say."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color, to_hex
from matplotlib.patches import Rectangle

from goaldriven.identify.experiments import EXPERIMENTS, Plot
from goaldriven.identify.experiments.calibration import conformal, reliability
from goaldriven.identify.experiments.degeneracy import degeneracies
from goaldriven.identify.experiments.families import accuracies
from goaldriven.identify.experiments.open_set import strangers
from goaldriven.identify.experiments.results import save
from goaldriven.identify.experiments.spec import Measure
from goaldriven.report import figures
from goaldriven.report.blocks import Plate, Table
from goaldriven.report.drawings import drawing, drawings
from goaldriven.report.experiments import not_drawn, told
from goaldriven.report.sections.experiment_captions import caption
from goaldriven.report.sections.experiments import experiments as section
from goaldriven.report.study import StudyData

from . import planted_measures as planted
from .made_up import make_study


def drawn(results, index=0):
    chosen = all_drawn(results)[index]
    return chosen, figures.experiment(chosen.table, chosen.plot)


def all_drawn(results):
    return drawings(results, results.summary(), EXPERIMENTS[results.experiment].plots)


def marks_of(axes, marker):
    """(x, y) of every mark of this kind, whether joined by a line or not."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return np.array([point for line in lines for point in line.get_xydata()])


def bars_of(axes, colour):
    """Both ends of every interval of this colour."""
    return np.array(
        [
            segment
            for collection in axes.collections
            if same_color(to_hex(collection.get_color()[0]), colour)
            for segment in collection.get_segments()
        ]
    )


def dashed(axes):
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def test_reliability_marks_are_bins_with_their_intervals_and_counts():
    results = planted.calibration_results()
    tidy = reliability(results)
    _, figure = drawn(results, 1)
    curves, counts = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title("left") for axes in curves] == ["random forest", "linear SVM"]
    for axes, below, classifier in zip(curves, counts, ("random_forest", "svm"), strict=True):
        mine = tidy[tidy["classifier"] == classifier]
        for stage, marker in (("as fitted", "o"), ("temperature scaled", "s")):
            rows = mine[mine["stage"] == stage]
            np.testing.assert_allclose(marks_of(axes, marker), rows[["confidence", "accuracy"]])
            colour = next(line for line in axes.lines if line.get_marker() == marker).get_color()
            ends = bars_of(axes, colour)
            np.testing.assert_allclose(ends[:, :, 1], rows[["accuracy_low", "accuracy_high"]])
            heights = [b.get_height() for b in below.patches if same_color(b.get_fc(), colour)]
            np.testing.assert_allclose(heights, rows["count"])
        edges = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in below.patches]
        inside = [(left >= a - 1e-9) and (right <= b + 1e-9) for (left, right), (a, b) in
                  zip(edges, mine[["left", "right"]].to_numpy(), strict=True)]  # fmt: skip
        assert all(inside)
        [diagonal] = dashed(axes)
        np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    # As planted: as fitted right more often than sure by 0.1.
    np.testing.assert_allclose(marks_of(curves[0], "o")[:, 1] - marks_of(curves[0], "o")[:, 0], 0.1)


def test_coverage_is_that_of_all_rules_against_what_is_stated():
    results = planted.calibration_results()
    tidy = conformal(results)
    tidy = tidy[tidy["of_rule"] == "all"]
    chosen, figure = drawn(results, 2)
    assert set(chosen.table["measure"]) == {"covered", "mean_size"}
    above, below = figure.axes[:2], figure.axes[2:]
    for i, classifier in enumerate(("random_forest", "svm")):
        for sets, marker in (("all networks", "o"), ("rule by rule", "s")):
            rows = tidy[(tidy["classifier"] == classifier) & (tidy["sets"] == sets)]
            np.testing.assert_allclose(marks_of(above[i], marker), rows[["coverage", "covered"]])
            np.testing.assert_allclose(marks_of(below[i], marker), rows[["coverage", "mean_size"]])
        [stated] = dashed(above[i])
        np.testing.assert_allclose(stated.get_xydata(), [(0.8, 0.8), (0.9, 0.9)])
        assert not dashed(below[i])
        band = above[i].collections[0].get_paths()[0].vertices[:, 1]
        first = tidy[(tidy["classifier"] == classifier) & (tidy["sets"] == "all networks")]
        assert band.min() == pytest.approx(first["covered_low"].min())
        assert band.max() == pytest.approx(first["covered_high"].max())
    low, high = below[0].get_ylim()
    assert low < tidy["mean_size"].min()
    assert high > tidy["mean_size"].max()  # a size may be above 1


def test_levels_without_enough_networks_have_no_figure():
    one = told(EXPERIMENTS["calibration"], planted.calibration_results(covered=False))
    assert [d.plot.kind for d in one.drawings] == ["levels", "reliability"]


def test_open_set_panels_are_measures_with_what_is_stated():
    results = planted.open_set_results()
    tidy = strangers(results)
    _, figure = drawn(results)
    axes = np.array(figure.axes).reshape(2, 3)
    assert [a.get_title("left") for a in axes[:, 0]] == ["random forest", "linear SVM"]
    columns = {"auroc": 0.5, "detection": None, "false_alarm": 0.1}
    markers = {"conformal": "o", "max_probability": "s", "distance": "D"}
    for i, classifier in enumerate(("random_forest", "svm")):
        for j, (measure, reference) in enumerate(columns.items()):
            for method, marker in markers.items():
                rows = tidy[(tidy["classifier"] == classifier) & (tidy["method"] == method)]
                marks = marks_of(axes[i, j], marker)
                np.testing.assert_allclose(marks[:, 0], rows[measure])
                assert [round(y) for y in marks[:, 1]] == [0, 1, 2, 3]
                colour = next(
                    line for line in axes[i, j].lines if line.get_marker() == marker
                ).get_color()
                ends = bars_of(axes[i, j], colour)[:, :, 0]
                np.testing.assert_allclose(ends, rows[[f"{measure}_low", f"{measure}_high"]])
            positions = [x for line in dashed(axes[i, j]) for x in line.get_xdata()]
            assert positions == pytest.approx([] if reference is None else 8 * [reference])
    labels = [t.get_text() for t in axes[0, 0].get_yticklabels()]
    assert labels == ["adam", "fa", "ia", "sgdm"]


def test_open_set_shows_known_accuracy_and_not_the_common_one(tmp_path):
    results = planted.open_set_results()
    chosen, figure = drawn(results, 1)
    known = chosen.table.sort_values(["classifier", "left_out"])["mean"]
    np.testing.assert_allclose(known, 2 * [0.9, 0.89, 0.88, 0.87])
    np.testing.assert_allclose(marks_of(figure.axes[0], "o")[:, 0], [0.9, 0.89, 0.88, 0.87])
    save(results, tmp_path)
    [page] = section(StudyData(tmp_path, make_study(), (), {}))
    tables = [b for b in page.blocks if isinstance(b, Table) and b.folded]
    assert not any("accuracies" in table.caption for table in tables)
    assert not any(d.filename.endswith("summary.csv") for t in tables for d in t.downloads)
    first = tables[0]
    assert first.header == ("rule left out", "method", "classifier", "AUROC of strangers",
                            "strangers detected", "known called strangers")  # fmt: skip
    assert first.rows[0] == ("adam", "conformal", "random forest", "0.900 (0.850–0.950)",
                             "0.600 (0.550–0.650)", "0.080 (0.030–0.130)")  # fmt: skip
    pd.testing.assert_frame_equal(first.downloads[0].data, strangers(results))
    plates = [b.title for b in page.blocks if isinstance(b, Plate)]
    assert plates == ["None of these: strangers detected, and false alarms",
                      "None of these: networks of the other rules"]  # fmt: skip


def test_pairs_have_a_classifier_on_each_side_and_outlines():
    results = planted.degeneracy_results()
    tidy = degeneracies(results).set_index(["observables", "classifier", "rule_a", "rule_b"])
    chosen, figure = drawn(results)
    panels = {axes.get_title("left"): axes for axes in figure.axes}
    assert list(panels) == ["all observables", "weight", "activation", "activity change"]
    for title, group in zip(panels, planted.GROUPS, strict=True):
        cells = np.ma.filled(panels[title].images[0].get_array(), np.nan)
        assert np.isnan(np.diag(cells)).all()
        for (i, a), (j, b) in itertools.combinations(enumerate(planted.RULES), 2):
            forest = tidy.loc[(group, "random_forest", a, b), "pair_accuracy"]
            svm = tidy.loc[(group, "svm", a, b), "pair_accuracy"]
            assert (cells[j, i], cells[i, j]) == (pytest.approx(forest), pytest.approx(svm))
            numbers = {t.xy[::-1]: t.get_text() for t in panels[title].texts}
            assert numbers[j, i] == f"{100 * forest:.0f}"
        outlined = [
            (round(p.get_y() + p.get_height() / 2), round(p.get_x() + p.get_width() / 2))
            for p in panels[title].patches if isinstance(p, Rectangle)
        ]  # fmt: skip
        assert outlined == ([(1, 2)] if group == "activity_change" else [])
    assert chosen.table["indistinguishable"].sum() == 1
    text = caption(chosen)
    assert "below the diagonal random forest and above the diagonal linear SVM" in text
    assert "lowest 0.52 (fa, ia, linear SVM, activity change)" in text
    assert "indistinguishable: 1 of 48 cells." in text


def test_families_beside_rules_are_means_with_the_intervals_of_each_way():
    results = planted.family_results()
    tidy = accuracies(results).set_index(["named", "classifier", "metric"])
    forest = tidy.loc[("families, of the rule called", "random_forest", "layer_accuracy")]
    assert forest["mean"] == pytest.approx(0.81)
    assert forest["sem"] == pytest.approx(0.01)
    assert (forest["low"], forest["high"]) == (pytest.approx(0.7), pytest.approx(0.9))
    network = tidy.loc[("families, trained on families", "svm", "network_accuracy")]
    assert network["mean"] == pytest.approx(0.86)
    common = results.summary().set_index(["level", "classifier", "metric"])
    rules = common.loc[("rules", "svm", "layer_accuracy")]
    mine = tidy.loc[("rules", "svm", "layer_accuracy")]
    assert mine[["mean", "low", "high"]].tolist() == rules[["mean", "low", "high"]].tolist()
    _, figure = drawn(results)
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["rules", "families, summed over rules", "families, of the rule called",
                      "families, trained on families"]  # fmt: skip
    layers = tidy.xs("layer_accuracy", level="metric").xs("random_forest", level="classifier")
    np.testing.assert_allclose(marks_of(figure.axes[0], "o")[:, 0], layers["mean"])


def test_each_family_has_its_recall_by_classifier():
    _, figure = drawn(planted.family_results(), 1)
    panels = {axes.get_title("left"): axes for axes in figure.axes}
    assert list(panels) == ["random forest", "linear SVM"]
    summed = marks_of(panels["linear SVM"], "o")
    np.testing.assert_allclose(summed[:, 0], [0.75, 0.72, 0.69])
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == list(planted.FAMILIES)


def test_measurements_are_sorted_by_units_and_noise():
    results = planted.measurement_results()
    chosen, figure = drawn(results)
    columns = [t.get_text().replace("\n", " ") for t in figure.axes[0].get_xticklabels()]
    assert columns == ["none", "0.3 s.d.", "1 s.d.", "constant 0.3 s.d."]
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == ["all units", "30 units", "100 units", "1000 units", "0.1% of units",
                    "10% of units"]  # fmt: skip
    layers = chosen.table[chosen.table["metric"] == "layer_accuracy"]
    of = layers[layers["observables"] == "weight"].set_index(["units", "noise"])["mean"]
    expected = [[of[u, n] for n in columns] for u in rows]
    weight = next(a for a in figure.axes if a.get_title("left") == "weight")
    np.testing.assert_allclose(weight.images[0].get_array(), expected)


def test_matched_networks_are_shown_at_every_tolerance_beside_others_at_random():
    results = planted.matched_results()
    for index, lost in ((0, 0.0), (1, 0.2)):
        chosen, figure = drawn(results, index)
        assert chosen.held == {}
        panels = {axes.get_title("left"): axes for axes in figure.axes}
        assert list(panels) == ["all rules", "ia or sgdm"]
        lines = {
            line.get_marker(): line for line in panels["ia or sgdm"].lines
            if line.get_marker() != "None"
        }  # fmt: skip
        for marker, value in zip("osD^", (0.9, 0.6, 0.5, 0.95), strict=True):
            line = lines[marker]
            np.testing.assert_array_equal(line.get_xdata(), [0.005, 0.02, 0.05])
            assert line.get_ydata()[0] == pytest.approx(value - lost, abs=0.051)  # whole layers
        layers = chosen.table[
            (chosen.table["metric"] == "layer_accuracy") & (chosen.table["rules"] == "ia or sgdm")
        ].set_index(["seen", "tolerance"])["mean"]
        for marker, seen in zip("o^", ("", ", networks at random"), strict=True):
            np.testing.assert_allclose(lines[marker].get_ydata(), layers[f"observables{seen}"])
        of_all = panels["all rules"].lines[0].get_xdata()
        np.testing.assert_array_equal(of_all, [0.02, 0.05])


def test_rows_of_bins_and_sets_are_left_to_the_csv(tmp_path):
    results = planted.calibration_results()
    one = told(EXPERIMENTS["calibration"], results)
    left = not_drawn(one)
    assert set(left["metric"]) == {"ece", "ece_expected", "ece_p", "brier", "brier_low",
                                   "brier_high", "log", "log_low", "log_high", "temperature",
                                   "temperature_at_bound"}  # fmt: skip
    assert len(left) == 2 * (2 * 9 + 2)
    save(results, tmp_path)
    [page] = section(StudyData(tmp_path, make_study(), (), {}))
    last = page.blocks[-1]
    assert last.caption.startswith(
        f"Other measures of this experiment (24 rows; {len(one.others) - len(left)} rows about "
        "what the figures show: see the CSV)"
    )
    assert ("as fitted", "random forest", "brier", "0.2 (0.15–0.25)") in last.rows
    assert ("temperature scaled", "linear SVM", "temperature", "0.5 ± 0") in last.rows
    assert len(last.downloads[0].data) == len(one.others)


def test_a_level_of_a_column_without_room_is_held_and_said():
    results = planted.open_set_results()
    plot = Plot("levels", "left_out", "method", table=strangers,
                measures=(Measure("auroc", "area"),))  # fmt: skip
    chosen = drawing(results, results.summary(), plot)
    assert chosen.held == {"classifier": "random_forest"}
    assert len(chosen.table) == 12
    assert len(chosen.whole) == 24
    assert "Shown: classifier random forest" in caption(chosen)


def test_a_table_without_the_columns_of_its_figure_is_an_error():
    results = planted.open_set_results()
    [first, *_] = EXPERIMENTS["open_set"].plots
    plot = dataclasses.replace(first, table=lambda r: strangers(r).drop(columns="method"))
    with pytest.raises(KeyError, match="method"):
        drawing(results, results.summary(), plot)


MANY = tuple(f"a_rule_with_a_name_{i:02d}" for i in range(15))


@pytest.mark.parametrize(
    "results",
    [planted.calibration_results(), planted.open_set_results(), planted.degeneracy_results(),
     planted.degeneracy_results(MANY), planted.family_results(), planted.measurement_results()],
    ids=lambda r: r.experiment,
)  # fmt: skip
def test_labels_of_measures_do_not_overlap(results):
    for index, chosen in enumerate(all_drawn(results)):
        figure = figures.experiment(chosen.table, chosen.plot)
        figure.canvas.draw()
        assert figure.get_figheight() < 18
        for axes in (a for a in figure.axes if a.get_visible()):
            assert axes.get_window_extent().width > 60  # the layout found room
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                texts = [tick.label1 for tick in axis.get_major_ticks()
                         if low <= tick.get_loc() <= high and tick.label1.get_visible()
                         and tick.label1.get_text()]  # fmt: skip
                boxes = [text.get_window_extent() for text in texts]
                for a, b in itertools.pairwise(boxes):
                    assert not a.overlaps(b), (results.experiment, index)
                    assert figure.bbox.padded(1).fully_containsx(a.x0)
