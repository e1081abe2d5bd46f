"""What is drawn is what the tables say; colours are the rules' own everywhere."""

from __future__ import annotations

import dataclasses
import itertools
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from goaldriven.report import figures, identified, tables
from goaldriven.report.names import statistic_label
from goaldriven.report.style import rule_styles

from .made_up import CLASSIFIERS, GROUPS

RULES = ["sgdm", "adam", "fa", "ia"]


def lines_of(axes, colour):
    """Every line of one colour, as (x, y) arrays."""
    return [
        (np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float))
        for line in axes.get_lines()
        if to_hex(line.get_color()) == colour.lower()
    ]


def test_learning_curves_draw_the_medians_in_the_rules_colours(networks):
    curves = tables.learning_curves(networks)
    (axes,) = figures.learning_curves(curves, RULES).axes
    for rule, style in rule_styles(RULES).items():
        ((x, y),) = lines_of(axes, style.colour)
        values = [n["metric"].values for n in networks
                  if n.attrs["rule"] == rule and n.attrs["outcome"] == "trained"]  # fmt: skip
        np.testing.assert_array_equal(x, np.arange(0, 61, 3))
        np.testing.assert_allclose(y, np.median(values, axis=0), rtol=1e-12)


def test_learning_curves_shade_between_the_quartiles(networks):
    curves = tables.learning_curves(networks)
    (axes,) = figures.learning_curves(curves, RULES).axes
    for rule, band in zip(RULES, axes.collections, strict=True):
        values = [n["metric"].values for n in networks
                  if n.attrs["rule"] == rule and n.attrs["outcome"] == "trained"]  # fmt: skip
        corners = band.get_paths()[0].vertices
        for q in (25, 75):
            for epoch, value in zip(range(0, 61, 3), np.percentile(values, q, axis=0), strict=True):
                assert np.isclose(corners, (epoch, value), rtol=1e-9).all(axis=1).any()


def test_task_performance_draws_every_network_once(networks):
    final = tables.final_performance(networks)
    (axes,) = figures.task_performance(final, RULES).axes
    for rule, style in rule_styles(RULES).items():
        drawn = [
            (x, y) for line in axes.get_lines() if line.get_marker() == style.marker
            and to_hex(line.get_color()) == style.colour.lower()
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        ]  # fmt: skip
        mine = final[(final["rule"] == rule) & (final["outcome"] == "trained")]
        for column, architecture in enumerate(["knet4", "knet5_lrn", "resnet10"]):
            expected = np.sort(mine[mine["architecture"] == architecture]["final_metric"])
            found = np.sort([y for x, y in drawn if round(float(x)) == column])
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_task_performance_marks_the_diverged_and_chance(networks):
    (axes,) = figures.task_performance(tables.final_performance(networks), RULES).axes
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [1]
    assert to_hex(crosses[0].get_color()) == rule_styles(RULES)["ia"].colour.lower()
    assert any(set(line.get_ydata()) == {0.1} for line in axes.get_lines())


def test_performance_may_be_perfect_or_unbounded(networks):
    final = tables.final_performance(networks)
    perfect = figures.task_performance(final.assign(final_metric=1.0), RULES).axes[0]
    assert perfect.get_yscale() == "logit"
    assert perfect.get_ylim()[1] < 1
    loss = figures.task_performance(final.assign(final_metric=3.7, chance=np.nan), RULES).axes[0]
    assert loss.get_yscale() == "linear"
    assert loss.get_ylim()[0] < 3.7 < loss.get_ylim()[1]


def test_trajectories_draw_medians_and_single_layers(networks):
    names = ["weight_raw_norm", "activation_abs_mean"]
    single = tables.trajectories(networks, names)
    figure = figures.trajectories(tables.median_trajectories(single), single, RULES)
    assert [axes.get_title("left") for axes in figure.axes] == [
        "weight norm",
        "activation abs mean",
    ]
    for axes, name in zip(figure.axes, names, strict=True):
        for rule, style in rule_styles(RULES).items():
            layers = np.concatenate([
                n["observable"].sel(statistic=name).values.T for n in networks
                if n.attrs["rule"] == rule and n.attrs["outcome"] == "trained"
            ])  # fmt: skip
            ((_, y),) = lines_of(axes, style.colour)
            np.testing.assert_allclose(y, np.median(layers, axis=0), rtol=1e-12)
            (thin,) = [
                c for c in axes.collections if to_hex(c.get_colors()[0]) == style.colour.lower()
            ]
            drawn = np.array([segment[:, 1] for segment in thin.get_segments()])
            np.testing.assert_allclose(drawn, layers, rtol=1e-12)
            assert thin.get_rasterized()


def test_alignment_panels_hold_their_quantity_and_position(networks):
    table = tables.alignment(networks)
    figure = figures.alignment(table, RULES)
    panels = np.array(figure.axes).reshape(3, 3)
    for row, quantity in zip(panels, tables.ALIGNMENT, strict=True):
        for axes, position in zip(row, tables.POSITIONS, strict=True):
            for rule in ("fa", "ia"):
                ((_, y),) = lines_of(axes, rule_styles(RULES)[rule].colour)
                chosen = table[(table["quantity"] == quantity) & (table["position"] == position)
                               & (table["rule"] == rule)]  # fmt: skip
                np.testing.assert_array_equal(y, chosen["median"])
    references = {line.get_ydata()[0] for line in panels[0, 0].get_lines()
                  if len(line.get_ydata()) == 2}  # fmt: skip
    assert {0, 90} <= references


def test_accuracy_bars_are_means_with_standard_errors(identification):
    figure = figures.accuracy(identified.accuracy_table(identification))
    classifiers, groups = list(CLASSIFIERS), list(GROUPS)
    for axes, kind in zip(figure.axes, ("network", "layer"), strict=True):
        layers = identification.accuracy
        values = [
            layers[(layers["split_kind"] == kind) & (layers["observables"] == group)
                   & (layers["classifier"] == classifier)]["accuracy"].to_numpy()
            for group in groups for classifier in classifiers
        ]  # fmt: skip
        heights = [bar.get_height() for bar in axes.patches]
        np.testing.assert_allclose(heights, [v.mean() for v in values])
        errors = [
            np.ptp(segment[:, 1]) / 2
            for collection in axes.collections for segment in collection.get_segments()
        ]  # fmt: skip
        np.testing.assert_allclose(errors, [v.std(ddof=1) / np.sqrt(10) for v in values], rtol=1e-9)
        middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
        assert [round(x) for x in middles] == [0, 1, 2, 3] * 4


def test_accuracy_diamonds_are_verdicts_on_networks(identification):
    by_network, by_layer = figures.accuracy(identified.accuracy_table(identification)).axes
    diamonds = [line.get_ydata()[0] for line in by_network.get_lines() if line.get_marker() == "D"]
    groups = identification.network_accuracy.groupby(["observables", "classifier"], sort=False)
    np.testing.assert_allclose(diamonds, groups["accuracy"].mean())
    assert not [line for line in by_layer.get_lines() if line.get_marker() == "D"]


def test_chance_is_the_better_of_two_ways_of_guessing(identification):
    table = identified.accuracy_table(identification)
    assert (table["chance"] == 0.25).all()  # one rule in four; always naming one gives 0.2
    uneven = dataclasses.replace(
        identification, accuracy=identification.accuracy.assign(chance=0.4)
    )
    of_layers = identified.accuracy_table(uneven)
    assert set(of_layers[of_layers["unit"] == "layer"]["chance"].round(12)) == {0.4}
    drawn = figures.accuracy(of_layers).axes[0].get_lines()
    assert any(np.allclose(line.get_ydata(), 0.4) for line in drawn)


def test_confusion_rows_are_shares_of_the_true_rule(identification):
    counts = identification.confusion
    figure = figures.confusion(identified.confusion_table(counts), RULES)
    panels = [(kind, name) for kind in ("network", "layer") for name in CLASSIFIERS]
    for axes, (kind, classifier) in zip(figure.axes, panels, strict=True):
        chosen = counts[
            (counts["split_kind"] == kind) & (counts["classifier"] == classifier)
            & (counts["observables"] == "all")
        ]  # fmt: skip
        summed = pd.crosstab(chosen["true"], chosen["predicted"], chosen["count"], aggfunc="sum")
        expected = summed.div(summed.sum(axis=1), axis=0).loc[RULES, RULES].to_numpy()
        np.testing.assert_allclose(axes.images[0].get_array(), expected, rtol=1e-12)
        np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1)


def test_importances_are_sorted_and_share_their_rows(identification):
    given = identification.importances
    left, right = figures.importances(identified.importance_table(given)).axes
    forest = given[given["classifier"] == "random_forest"]
    gini = forest[forest["kind"] == "gini"].set_index("statistic")["mean"]
    permuted = forest[forest["kind"] == "permutation"].set_index("statistic")["mean"]
    order = gini.sort_values(ascending=False).index
    labels = [t.get_text() for t in left.get_yticklabels()]
    assert labels == [statistic_label(name) for name in order]
    for axes, expected in ((left, gini), (right, permuted)):
        widths = {round(b.get_y() + b.get_height() / 2): b.get_width() for b in axes.patches}
        np.testing.assert_allclose([widths[i] for i in range(len(order))], expected[order])


def test_importances_are_of_a_forest_whichever_there_is(identification):
    renamed = identification.importances.replace({"classifier": {"random_forest": "extra_trees"}})
    assert set(identified.importance_table(renamed)["classifier"]) == {"extra_trees"}
    linear = renamed[renamed["classifier"] == "svm"]
    assert identified.importance_table(linear).empty


@pytest.mark.parametrize("n", [1, 2, 4, 7, 8, 20, 28])
def test_any_number_of_rules_can_be_told_apart(n):
    styles = rule_styles([f"rule{i}" for i in range(n)])
    assert len({(s.colour, str(s.dashes)) for s in styles.values()}) == n


def test_catalogue_rules_keep_their_colours_in_any_company():
    alone = rule_styles(["ia"])["ia"]
    assert rule_styles(["mine", "ia", "other"])["ia"] == alone
    assert rule_styles(["sgdm", "adam", "fa", "ia"])["ia"] == alone


def test_figures_leave_matplotlibs_settings_and_pyplot_alone(networks):
    before = dict(mpl.rcParams)
    figure = figures.learning_curves(tables.learning_curves(networks))
    assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_labels_do_not_overlap_in_any_figure(networks, identification):
    single = tables.trajectories(networks, ["weight_raw_norm", "activation_abs_mean"])
    drawn = {
        "performance": figures.task_performance(tables.final_performance(networks), RULES),
        "curves": figures.learning_curves(tables.learning_curves(networks), RULES),
        "trajectories": figures.trajectories(tables.median_trajectories(single), single, RULES),
        "alignment": figures.alignment(tables.alignment(networks), RULES),
        "accuracy": figures.accuracy(identified.accuracy_table(identification)),
        "confusion": figures.confusion(identified.confusion_table(identification.confusion), RULES),
    }
    for name, figure in drawn.items():
        figure.canvas.draw()
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
                for a, b in itertools.pairwise(boxes):
                    assert not a.overlaps(b), (name, axes.get_title("left"))
                    assert figure.bbox.padded(1).fully_containsx(a.x0), name
