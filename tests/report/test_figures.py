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

from goaldriven.report import figures, identified, robustness, tables
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
    panels = np.array(figure.axes).reshape(4, 3)
    for row, quantity in zip(panels, tables.ALIGNMENT, strict=True):
        for axes, position in zip(row, tables.POSITIONS, strict=True):
            for rule in RULES if quantity == "update_angle" else ("fa", "ia"):
                ((_, y),) = lines_of(axes, rule_styles(RULES)[rule].colour)
                chosen = table[(table["quantity"] == quantity) & (table["position"] == position)
                               & (table["rule"] == rule)]  # fmt: skip
                np.testing.assert_array_equal(y, chosen["median"])
                assert axes.get_ylim()[0] < y.min()
                assert y.max() < axes.get_ylim()[1]
    references = {line.get_ydata()[0] for line in panels[0, 0].get_lines()
                  if len(line.get_ydata()) == 2}  # fmt: skip
    assert {0, 90} <= references


def test_bands_give_way_to_lines_where_there_are_many_rules(networks):
    curves = tables.learning_curves(networks)
    rules = [f"rule{i}" for i in range(7)]
    many = pd.concat([curves[curves["rule"] == "fa"].assign(rule=rule) for rule in rules])
    few = many[many["rule"] != "rule6"]
    assert len(figures.learning_curves(few).axes[0].collections) == 6
    axes = figures.learning_curves(many).axes[0]
    assert not axes.collections
    for style in rule_styles(rules).values():
        assert len(lines_of(axes, style.colour)) == 1
    table = tables.alignment(networks)
    rows = [table[table["rule"] == "fa"].assign(rule=rule) for rule in rules]
    assert not any(a.collections for a in figures.alignment(pd.concat(rows)).axes)
    assert all(a.collections for a in figures.alignment(pd.concat(rows[:6])).axes)


def points_of(axes):
    """The scattered points of a panel by colour, and the dashed identity's ends."""
    lines = axes.get_lines()
    points = {to_hex(x.get_color()): np.column_stack(x.get_data()) for x in lines
              if x.get_marker() == "o"}  # fmt: skip
    (identity,) = [x for x in lines if x.get_marker() != "o" and x.get_xdata()[0] < -1e-9]
    return points, np.column_stack(identity.get_data())


def test_weight_scatter_draws_the_pairs_of_its_rule_position_and_epoch(networks):
    pairs = tables.weight_pairs(networks)
    panels = np.array(figures.weight_scatter(pairs, RULES).axes).reshape(3, 2)
    colours = ["#c9c9c9", "#56b4e9", "#08306b"]
    for column, rule in enumerate(("fa", "ia")):
        assert panels[0, column].get_title("left") == rule
        for row, position in zip(panels, tables.POSITIONS, strict=True):
            mine = pairs[(pairs["rule"] == rule) & (pairs["position"] == position)]
            points, identity = points_of(row[column])
            for colour, epoch in zip(colours, (0, 30, 60), strict=True):
                expected = mine[mine["epoch"] == epoch][["forward_weight", "backward_weight"]]
                np.testing.assert_array_equal(points[colour], expected)
            np.testing.assert_array_equal(identity[:, 0], identity[:, 1])
            (text,) = [t.get_text() for t in row[column].texts]
            last = mine[mine["epoch"] == 60].iloc[0]
            assert text.startswith(f"{last['weight_angle']:.0f}°")
            assert float(text.split("×")[1]) == pytest.approx(last["weight_norm_ratio"], rel=0.05)


@pytest.mark.parametrize("factor", [1.0, 1e-3, 400.0])
def test_weight_scatter_shows_all_points_whatever_their_scale(networks, factor):
    pairs = tables.weight_pairs(networks)
    pairs["backward_weight"] *= factor
    for axes in figures.weight_scatter(pairs).axes:
        points, _ = points_of(axes)
        reach = np.abs(np.concatenate(list(points.values()))).max(axis=0)
        for limits, extent in zip((axes.get_xlim(), axes.get_ylim()), reach, strict=True):
            assert limits == (-limits[1], limits[1])
            assert extent < limits[1]
        alike = axes.get_xlim() == axes.get_ylim()
        assert alike == (factor == 1.0)
        if not alike:  # each axis has its own scale, and neither is empty
            assert axes.get_ylim()[1] < 1.1 * reach[1]


@pytest.mark.parametrize("n", [1, 6, 13])
def test_weight_scatter_has_room_for_every_rule(networks, n):
    one = tables.weight_pairs(networks)
    one = one[one["rule"] == "fa"]
    rules = [f"rule{i}" for i in range(n)]
    figure = figures.weight_scatter(pd.concat([one.assign(rule=r) for r in rules]), rules)
    assert len(figure.axes) == 3 * n
    titles = [a.get_title("left") for a in figure.axes if a.get_title("left")]
    assert sorted(titles) == sorted(rules)
    figure.canvas.draw()
    assert min(a.get_window_extent().width / figure.dpi for a in figure.axes) > 0.7
    assert figure.get_figwidth() <= 7
    assert figure.get_figheight() < 13


def test_robustness_connects_the_medians_of_every_rule(networks):
    table = robustness.by_architecture(networks)
    upper, lower = figures.robustness(table, RULES).axes
    architectures = ["knet4", "knet5_lrn", "resnet10"]
    assert [t.get_text() for t in upper.get_xticklabels()] == architectures
    for rule, style in rule_styles(RULES).items():
        mine = table[table["rule"] == rule].set_index("architecture").loc[architectures]
        panels = [(upper, mine["median"])]
        if mine["reference"].iloc[0]:
            panels.append((lower, 100 * mine["gap_median"]))
        for axes, expected in panels:
            ((x, y),) = [line for line in lines_of(axes, style.colour) if len(line[0]) == 3]
            np.testing.assert_allclose(y, expected, rtol=1e-12)
            np.testing.assert_array_equal(np.round(x), [0, 1, 2])
    assert not [x for x in lower.get_lines() if x.get_color() == rule_styles(RULES)["sgdm"].colour]
    crosses = [line for line in upper.get_lines() if line.get_marker() == "x"]
    assert [round(float(c.get_xdata()[0])) for c in crosses] == [2]
    zero = [line for line in lower.get_lines() if set(line.get_ydata()) == {0}]
    assert len(zero) == 1


def test_accuracy_bars_are_means_with_standard_errors(identification):
    figure = figures.accuracy(identification.summary())
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
        shared = np.sqrt(1 / 10 + 78 / 234)  # splits overlap
        np.testing.assert_allclose(errors, [v.std(ddof=1) * shared for v in values], rtol=1e-9)
        middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
        assert [round(x) for x in middles] == [0, 1, 2, 3] * 4


def test_accuracy_diamonds_are_verdicts_on_networks(identification):
    by_network, by_layer = figures.accuracy(identification.summary()).axes
    diamonds = [line.get_ydata()[0] for line in by_network.get_lines() if line.get_marker() == "D"]
    groups = identification.network_accuracy.groupby(["observables", "classifier"], sort=False)
    np.testing.assert_allclose(diamonds, groups["accuracy"].mean())
    assert not [line for line in by_layer.get_lines() if line.get_marker() == "D"]


def test_chance_is_drawn_where_the_table_has_it(identification):
    uneven = dataclasses.replace(
        identification, accuracy=identification.accuracy.assign(chance=0.4)
    )
    of_layers = uneven.summary()
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


def test_many_rules_get_larger_matrices_in_more_rows(identification):
    few = identified.confusion_table(identification.confusion)
    rules = [f"rule{i:02}" for i in range(15)]
    pairs = pd.MultiIndex.from_product([rules, rules], names=["true", "predicted"])
    one = pairs.to_frame(index=False).assign(fraction=1 / 15, count=1)
    kinds = few[["classifier", "split_kind"]].drop_duplicates()
    figure = figures.confusion(kinds.merge(one, how="cross"), rules)
    assert len(figure.axes) == 8
    for axes in figure.axes:
        inches = axes.get_position().width * figure.get_figwidth()
        assert inches / 15 > 0.125
        assert axes.get_position().x1 <= 1
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


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
        "scatter": figures.weight_scatter(tables.weight_pairs(networks), RULES),
        "robustness": figures.robustness(robustness.by_architecture(networks), RULES),
        "accuracy": figures.accuracy(identification.summary()),
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
