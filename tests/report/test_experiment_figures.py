"""Figures of experiments, against the tables they are drawn from."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color, to_hex

from goaldriven.identify.experiments import EXPERIMENTS, Plot
from goaldriven.report import figures
from goaldriven.report.drawings import drawing
from goaldriven.report.experiments import told
from goaldriven.report.figures import experiments as kinds
from goaldriven.report.sections.experiment_captions import caption, span

from . import planted_experiments as planted


def drawn(results, index=0):
    one = told(EXPERIMENTS[results.experiment], results)
    chosen = one.drawings[index]
    return chosen, figures.experiment(chosen.table, chosen.plot)


def marks_of(axes, marker):
    """(x, y, colour) of every mark of this kind in a panel."""
    return [
        (x, y, to_hex(line.get_color() if marker != "D" else line.get_markeredgecolor()))
        for line in axes.lines
        if line.get_marker() == marker and line.get_linestyle() == "None"
        for x, y in zip(*line.get_data(), strict=True)
    ]


def titles(figure):
    return {axes.get_title("left"): axes for axes in figure.axes if axes.get_visible()}


def test_levels_are_means_intervals_verdicts_and_chance():
    chosen, figure = drawn(planted.average_results())
    panels = titles(figure)
    assert list(panels) == ["random forest", "linear SVM"]
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["all observables", "weight", "activation", "activity change"]
    for name, classifier in (("random forest", "random_forest"), ("linear SVM", "svm")):
        axes, rows = panels[name], chosen.table[chosen.table["classifier"] == classifier]
        for seen, marker in (("trajectory", "o"), ("its average", "s")):
            mine = rows[rows["seen"] == seen]
            layers = mine[mine["metric"] == "layer_accuracy"]
            marks = marks_of(axes, marker)
            np.testing.assert_allclose([x for x, *_ in marks], layers["mean"])
            # Each in the row of its level.
            assert [round(y) for _, y, _ in marks] == [0, 1, 2, 3]
            colour = marks[0][2]
            bars = [
                segment
                for collection in axes.collections
                if same_color(to_hex(collection.get_color()[0]), colour)
                for segment in collection.get_segments()
            ]
            ends = np.array([segment[:, 0] for segment in bars])
            np.testing.assert_allclose(ends, layers[["low", "high"]])
            assert (ends[:, 0] < ends[:, 1]).all()
            networks = mine[mine["metric"] == "network_accuracy"]
            diamonds = [x for x, _, c in marks_of(axes, "D") if c == colour]
            np.testing.assert_allclose(diamonds, networks["mean"])
        chance = [line for line in axes.lines if len(line.get_xdata()) == 2
                  and line.get_linestyle() == "--"]  # fmt: skip
        assert {x for line in chance for x in line.get_xdata()} == {0.25}


def test_levels_have_the_planted_accuracies():
    chosen, _ = drawn(planted.average_results())
    layers = chosen.table[chosen.table["metric"] == "layer_accuracy"].set_index(
        ["observables", "seen", "classifier"]
    )["mean"]
    assert layers["all", "trajectory", "svm"] == pytest.approx(0.9)
    assert layers["all", "its average", "svm"] == pytest.approx(0.5)
    assert layers["weight", "its average", "random_forest"] == pytest.approx(0.7)


def test_lines_are_the_forests_means_over_the_numbers_with_bands():
    chosen, figure = drawn(planted.undersampling_results(groups=("all", "weight")))
    assert chosen.held == {"classifier": "random_forest"}
    layers = chosen.table[chosen.table["metric"] == "layer_accuracy"]
    panels = titles(figure)
    assert list(panels) == ["all observables", "weight"]
    axes = panels["weight"]
    mine = layers[layers["observables"] == "weight"]
    curves = [line for line in axes.lines if line.get_marker() != "None"]
    for line, (spacing, rows) in zip(curves, mine.groupby("spacing", sort=False), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), rows["samples"], err_msg=spacing)
        np.testing.assert_allclose(line.get_ydata(), rows["mean"])
    assert [len(line.get_xdata()) for line in curves] == [4, 3, 2]
    bands = [c for c in axes.collections if len(c.get_paths())]
    edges = bands[0].get_paths()[0].vertices
    dense = mine[mine["spacing"] == "dense"]
    assert edges[:, 1].min() == pytest.approx(dense["low"].min())
    assert edges[:, 1].max() == pytest.approx(dense["high"].max())
    assert figure.get_supxlabel() == "samples of the trajectory"


def test_lines_may_be_logarithmic_with_a_zero_and_have_a_colour_scale():
    results = planted.make_results(
        "noise",
        [{"sigma": s, "fraction": f} for s in (0.0, 0.01, 1.0) for f in (0.1, 0.2, 0.5, 1.0)],
        lambda k: 0.9 - 0.5 * float(k["sigma"]) * (1 - float(k["fraction"])),
    )
    plot = Plot("lines", "sigma", "fraction", None, "σ", log_x=True)
    chosen = drawing(results, results.summary(), plot)
    axes = figures.experiment(chosen.table, plot).axes[0]
    assert axes.get_xscale() == "symlog"
    curves = [line for line in axes.lines if line.get_marker() != "None"]
    assert all(list(line.get_xdata()) == [0.0, 0.01, 1.0] for line in curves)
    axes.figure.canvas.draw()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "0.01", "1"]
    greens = [int(to_hex(line.get_color())[3:5], 16) for line in curves]
    assert greens == sorted(greens)
    assert len(set(greens)) == 4
    positive = chosen.table[chosen.table["sigma"] > 0]
    assert figures.experiment(positive, plot).axes[0].get_xscale() == "log"


def test_a_grid_has_its_numbers_where_they_belong():
    chosen, figure = drawn(planted.thirds_results(groups=("all", "activation")))
    assert chosen.held == {"classifier": "random_forest"}
    axes = titles(figure)["activation"]
    names = ["early", "middle", "late"]
    assert [t.get_text() for t in axes.get_xticklabels()] == names
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == names
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("trained on", "tested on")
    expected = np.full((3, 3), 0.3)
    np.fill_diagonal(expected, 0.9)
    expected[2, 1] = 0.6  # tested late, trained on the middle
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    numbers = {t.xy[::-1]: t.get_text() for t in axes.texts if "–" not in t.get_text()}
    assert numbers == {(i, j): f"{100 * expected[i, j]:.0f}" for i, j in np.ndindex(3, 3)}
    rows = chosen.table[
        (chosen.table["observables"] == "activation")
        & (chosen.table["metric"] == "layer_accuracy")
        & (chosen.table["trained"] == "middle")
        & (chosen.table["tested"] == "late")
    ].iloc[0]
    interval = next(t.get_text() for t in axes.texts if t.xy == (1, 2) and "–" in t.get_text())
    assert interval == f"{100 * rows['low']:.0f}–{100 * rows['high']:.0f}"


def test_many_columns_of_a_grid_run_down():
    pairs = [f"rule{i} or rule{j}" for i, j in itertools.combinations(range(7), 2)]
    results = planted.make_results(
        "rule_pairs",
        [{"pair": p, "observables": g} for p in pairs for g in planted.GROUPS],
        lambda k: 0.9 if k["observables"] == "all" else 0.7,
        splits=1,
        classifiers=("svm",),
    )
    plot = Plot("grid", "pair", "observables")
    figure = figures.experiment(drawing(results, results.summary(), plot).table, plot)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == pairs
    np.testing.assert_allclose(axes.images[0].get_array()[:, :2], [[0.9, 0.7]] * 21)


def test_importances_are_pooled_over_splits_and_sorted():
    kinds_of = {"gini": ("weight_raw_norm", "layer_position", "activation_raw_mean"),
                "gini by epoch": ("layer_position", "epoch 10", "epoch 5")}  # fmt: skip
    results = planted.make_results(
        "importance", [{"importance": "whole", "statistic": "all"}], lambda k: 0.9,
        classifiers=("random_forest",), splits=2,
    )  # fmt: skip
    base = {"experiment": "importance", "classifier": "random_forest", "split_kind": "network"}
    rows = [
        {**base, "importance": kind, "statistic": name, "split": split, "seed": 0,
         "metric": metric, "value": value}
        for kind, names in kinds_of.items()
        for i, name in enumerate(names)
        for split in (0, 1)
        for metric, value in (("importance", 0.1 * (i + 1) + 0.02 * split),
                              ("importance_sd", 0.01), ("importance_n", 50))
    ]  # fmt: skip
    table = pd.concat([results.table, pd.DataFrame(rows)], ignore_index=True)
    results = dataclasses.replace(results, table=table)
    plot = Plot("importances", "statistic", "importance")
    chosen = drawing(results, None, plot)
    figure = figures.experiment(chosen.table, plot)
    by_statistic, by_epoch = figure.axes
    assert [t.get_text() for t in by_statistic.get_yticklabels()] == [
        "activation mean", "layer position", "weight norm",
    ]  # fmt: skip
    assert [t.get_text() for t in by_epoch.get_yticklabels()] == [
        "layer position", "epoch 5", "epoch 10",
    ]  # fmt: skip
    np.testing.assert_allclose([b.get_width() for b in sorted_bars(by_statistic)],
                               [0.31, 0.21, 0.11])  # fmt: skip
    np.testing.assert_allclose([b.get_width() for b in sorted_bars(by_epoch)], [0.11, 0.31, 0.21])
    pooled = np.sqrt((98 * 0.01**2 + 100 * 0.01**2) / 99 / 100)  # within + between, of 100
    np.testing.assert_allclose(chosen.table["sem"], pooled)
    assert "splits (and the trees or permutations in each, where there are any), which share " in (
        caption(chosen)
    )
    assert "not the uncertainty of the ranking over networks" in caption(chosen)
    assert span(chosen) == (
        f"Highest: gini, activation mean (0.3100 ± {pooled:.4f}); gini by epoch, epoch 5 "
        f"(0.3100 ± {pooled:.4f})."
    )


def sorted_bars(axes):
    return sorted(axes.patches, key=lambda bar: bar.get_y())


def test_other_tables_of_importances_are_means_over_splits():
    results = planted.make_results(
        "single", [{"statistic": s} for s in ("weight_raw_norm", "weight_raw_mean")],
        lambda k: (0.9 if k["statistic"] == "weight_raw_mean" else 0.6) - 0.1 * (k["split"] == 0),
    )  # fmt: skip
    plot = Plot("importances", "statistic")
    chosen = drawing(results, results.summary(), plot)
    assert chosen.held == {"classifier": "random_forest"}
    axes = figures.experiment(chosen.table, plot).axes[0]
    assert axes.get_xlabel() == "accuracy on layers\nby itself"
    widths = [b.get_width() for b in sorted_bars(axes)]
    summary = results.summary()
    forest = summary[
        (summary["classifier"] == "random_forest") & (summary["metric"] == "layer_accuracy")
    ]
    np.testing.assert_allclose(widths, forest["mean"].sort_values(ascending=False))


def test_a_column_that_goes_with_another_is_not_held():
    """Held-out levels have a split kind of their own: nothing is to be chosen among them."""
    chosen, figure = drawn(planted.held_out_results())
    assert chosen.held == {}
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["none: by network", "64/0", "64/1", "128/0"]
    assert len(chosen.table) == 4 * 4 * 2 * 2


def test_levels_without_room_are_counted():
    results = planted.make_results(
        "many", [{"x": x, "rules": f"r{i:02d}"} for x in (1, 2) for i in range(15)],
        lambda k: 0.5,
    )  # fmt: skip
    chosen = drawing(results, results.summary(), Plot("lines", "x", "classifier", "rules"))
    assert chosen.left_out == 3
    assert chosen.table["rules"].nunique() == 12


def seen_labels(axis):
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]


@pytest.mark.parametrize(("n", "facets"), [(1, 1), (4, 4), (25, 4), (47, 1), (25, 6)])
def test_labels_do_not_overlap(n, facets):
    table = pd.DataFrame(
        [{"level": f"a rather long level {i}", "panel": f"a panel with a name {j}",
          "classifier": classifier, "metric": metric, "mean": 0.9, "low": 0.8, "high": 0.95,
          "chance": 0.25}
         for i in range(n) for j in range(facets) for classifier in ("random_forest", "svm")
         for metric in ("layer_accuracy", "network_accuracy")]
    )  # fmt: skip
    for plot in (Plot("levels", "level", "classifier", "panel"),
                 Plot("grid", "level", "panel", "classifier")):  # fmt: skip
        figure = figures.experiment(table, plot)
        figure.canvas.draw()
        assert figure.get_figheight() < 14
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                boxes = [t.get_window_extent() for t in seen_labels(axis)]
                for a, b in itertools.pairwise(boxes):
                    assert not a.overlaps(b), (plot.kind, n, facets)
                    assert figure.bbox.padded(1).fully_containsx(a.x0)
        boxes = [a._left_title.get_window_extent() for a in figure.axes if a.get_visible()]
        assert len(boxes) == (facets if plot.facet == "panel" else 2)
        for a, b in itertools.pairwise(boxes):
            assert not a.overlaps(b)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_plot_of_the_catalogue_can_be_drawn(name):
    assert {plot.kind for plot in EXPERIMENTS[name].plots} <= set(kinds._KINDS)
