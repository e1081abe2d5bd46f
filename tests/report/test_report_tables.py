"""Tables behind the figures against plain NumPy and pandas on the same trajectories."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from goaldriven.report import tables
from goaldriven.specs import STATISTICS

EPOCH = 30


def by_rule(networks, rule):
    return [n for n in networks if n.attrs["rule"] == rule and n.attrs["outcome"] == "trained"]


def test_network_table_has_every_network_with_its_last_metric(networks):
    table = tables.network_table(networks)
    assert list(table["network_id"]) == [n.attrs["network_id"] for n in networks]
    for row, network in zip(table.to_dict("records"), networks, strict=True):
        np.testing.assert_equal(row["final_metric"], float(network["metric"][-1]))
        np.testing.assert_equal(row["final_loss"], float(network["loss"][-1]))
        assert row["seconds"] == network.attrs["seconds"]
    assert (table["outcome"] == "diverged").sum() == 1
    assert table["final_metric"].isna().sum() == 1


def test_median_performance_counts_and_leaves_out_the_diverged(networks):
    medians = tables.median_performance(tables.final_performance(networks)).set_index("rule")
    assert list(medians.index) == ["sgdm", "adam", "fa", "ia"]
    for rule in medians.index:
        finals = [float(n["metric"][-1]) for n in by_rule(networks, rule)]
        row = medians.loc[rule]
        assert row["median"] == pytest.approx(np.median(finals), rel=1e-12)
        assert row["lower_quartile"] == pytest.approx(np.quantile(finals, 0.25), rel=1e-12)
        assert row["upper_quartile"] == pytest.approx(np.quantile(finals, 0.75), rel=1e-12)
        assert (row["networks"], row["diverged"]) == (len(finals), 12 - len(finals))
    assert medians.loc["ia", "diverged"] == 1


def test_learning_curves_are_quartiles_over_trained_networks(networks):
    curves = tables.learning_curves(networks)
    assert len(curves) == 4 * 21
    for rule in ("sgdm", "ia"):
        values = np.array([n["metric"].values for n in by_rule(networks, rule)])
        expected = np.percentile(values, [25, 50, 75], axis=0)
        line = curves[curves["rule"] == rule]
        assert list(line["epoch"]) == list(range(0, 61, 3))
        for row, column in zip(expected, ("lower_quartile", "median", "upper_quartile"),
                               strict=True):  # fmt: skip
            np.testing.assert_allclose(line[column], row, rtol=1e-12)
        assert (line["networks"] == len(values)).all()


def test_trajectories_are_the_observables_of_trained_networks(networks):
    names = ["weight_raw_norm", "activity_change_sq"]
    table = tables.trajectories(networks, names)
    trained = [n for n in networks if n.attrs["outcome"] == "trained"]
    assert len(table) == sum(n.sizes["layer"] for n in trained) * 21 * 2
    network = trained[5]
    one = table[(table["network_id"] == network.attrs["network_id"]) & (table["layer"] == "layer2")]
    for name in names:
        line = one[one["statistic"] == name].sort_values("epoch")
        truth = network["observable"].sel(statistic=name, layer="layer2")
        np.testing.assert_array_equal(line["value"], truth)
        assert set(line["position"]) == {str(truth["position"].item())}
        assert set(line["measure"]) == {STATISTICS[name].measure}


def test_median_trajectories_ignore_values_that_are_not_finite(networks):
    broken = [n.copy(deep=True) for n in networks]
    broken[0]["observable"][10, 0, 0] = np.inf
    name = str(broken[0]["statistic"].values[0])
    medians = tables.median_trajectories(tables.trajectories(broken, [name]))
    values = np.concatenate(
        [n["observable"].sel(statistic=name, epoch=EPOCH).values for n in by_rule(broken, "sgdm")]
    )
    row = medians[(medians["rule"] == "sgdm") & (medians["epoch"] == EPOCH)].iloc[0]
    assert np.isinf(values).sum() == 1
    assert row["layers"] == values.size - 1
    assert row["median"] == pytest.approx(np.median(values[np.isfinite(values)]), rel=1e-12)


@pytest.mark.parametrize("quantity", tables.ALIGNMENT)
def test_alignment_is_of_rules_with_backward_weights_only(networks, quantity):
    """But for the updates, whose angle every rule has."""
    table = tables.alignment(networks)
    table = table[table["quantity"] == quantity]
    rules = {"fa", "ia"} | ({"sgdm", "adam"} if quantity == "update_angle" else set())
    assert set(table["rule"]) == rules
    for rule in rules:
        for position in tables.POSITIONS:
            values = np.concatenate(
                [
                    n[quantity].sel(epoch=EPOCH).values[n["position"].values == position]
                    for n in by_rule(networks, rule)
                ]
            )
            row = table[
                (table["rule"] == rule) & (table["position"] == position)
                & (table["epoch"] == EPOCH)
            ].iloc[0]  # fmt: skip
            expected = np.percentile(values, [50, 25, 75])
            found = row[["median", "lower_quartile", "upper_quartile"]].to_numpy(dtype=float)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            assert row["layers"] == values.size


def test_there_is_no_update_at_the_first_record(networks):
    table = tables.alignment(networks)
    assert table[table["quantity"] == "update_angle"]["epoch"].min() == 3
    assert table[table["quantity"] == "weight_angle"]["epoch"].min() == 0


def test_quantities_that_a_rule_or_an_older_file_does_not_have_are_left_out(networks):
    unknown = [n.copy(deep=True) for n in networks if n.attrs["rule"] == "fa"]
    for network in unknown:
        network["weight_angle"][:] = np.nan
    assert set(tables.alignment(unknown)["quantity"]) == set(tables.ALIGNMENT) - {"weight_angle"}
    older = [n.drop_vars("update_angle") for n in networks]
    found = tables.alignment(older)
    assert set(found["quantity"]) == set(tables.ALIGNMENT) - {"update_angle"}
    assert set(found["rule"]) == {"fa", "ia"}
    backprop = [n for n in older if n.attrs["rule"] == "sgdm"]
    assert tables.alignment(backprop).empty


def test_weight_pairs_are_those_of_one_network_per_rule(networks):
    table = tables.weight_pairs(networks)
    assert list(dict.fromkeys(table["rule"])) == ["fa", "ia"]
    for rule, found in table.groupby("rule"):
        network = by_rule(networks, rule)[0]
        assert set(found["network_id"]) == {network.attrs["network_id"]}
        picked = dict(zip(found["position"], found["layer"], strict=True))
        # knet4 has one early, one middle and two deep layers
        assert picked == {"early": "layer0", "middle": "layer1", "deep": "layer3"}
        assert sorted(set(found["epoch"])) == [0, 30, 60]
        for (layer, epoch), rows in found.groupby(["layer", "epoch"]):
            truth = network.sel(layer=layer, epoch=epoch)
            n = 72 if layer == "layer0" else 100
            assert list(rows["pair"]) == list(range(n))
            for column in ("forward_weight", "backward_weight"):
                np.testing.assert_array_equal(rows[column], truth[column].values[:n])
            for column in ("weight_angle", "weight_norm_ratio"):
                assert set(rows[column]) == {float(truth[column])}


def test_weight_pairs_of_layers_that_have_them(networks):
    network = by_rule(networks, "fa")[-1].copy(deep=True)  # twelve layers
    network["backward_weight"][:, [0, 4, 11]] = np.nan
    picked = tables.weight_pairs([network]).drop_duplicates("layer")
    assert dict(zip(picked["position"], picked["layer"], strict=True)) == {
        "early": "layer1", "middle": "layer6", "deep": "layer10",
    }  # fmt: skip
    older = network.drop_vars(["forward_weight", "backward_weight"])
    empty = tables.weight_pairs([older])
    assert empty.empty
    assert list(empty.columns) == list(tables.weight_pairs([network]).columns)


def test_weight_pairs_leave_out_what_is_not_finite(networks):
    network = by_rule(networks, "ia")[0].copy(deep=True)
    network["backward_weight"][-1, 1, :7] = np.inf
    table = tables.weight_pairs([network])
    last = table[(table["layer"] == "layer1") & (table["epoch"] == 60)]
    assert list(last["pair"]) == list(range(7, 100))


def test_not_finite_counts_networks_and_layers(networks):
    broken = [n.copy(deep=True) for n in networks]
    name = "weight_raw_kurtosis"
    for network, layers in ((broken[0], [0, 2]), (broken[20], [1])):
        for layer in layers:
            network["observable"].loc[{"statistic": name, "epoch": EPOCH}][layer] = np.nan
    table = tables.not_finite(broken).set_index("statistic")
    assert len(table) == len(STATISTICS)
    assert tuple(table.loc[name, ["networks", "layers"]]) == (2, 3)
    # The diverged network's NaNs say nothing against a statistic.
    assert table.drop(name)["networks"].sum() == 0


def test_sampling_keeps_whole_layers_evenly_and_at_most_so_many(networks):
    whole = tables.trajectories(networks, ["weight_raw_norm"])
    sample = tables.sample_layers(whole, 10)
    keys = ["rule", "network_id", "layer"]
    assert (sample[keys].drop_duplicates().groupby("rule").size() == 10).all()
    assert (sample.groupby(keys).size() == 21).all()
    merged = sample.merge(whole, on=[*keys, "epoch"], suffixes=("", "_whole"))
    assert len(merged) == len(sample)
    np.testing.assert_array_equal(merged["value"], merged["value_whole"])
    everything = tables.sample_layers(whole, 10_000)
    order = [*keys, "epoch"]
    pd.testing.assert_frame_equal(
        everything.sort_values(order, ignore_index=True),
        whole.sort_values(order, ignore_index=True),
    )


def test_rule_separation_is_eta_squared_of_ranks(networks):
    table = tables.rule_separation(tables.trajectories(networks, ["weight_raw_norm"]))
    trained = [n for n in networks if n.attrs["outcome"] == "trained"]
    groups = [
        np.concatenate([n["observable"].sel(statistic="weight_raw_norm").values[-1]
                        for n in by_rule(trained, rule)])
        for rule in ("sgdm", "adam", "fa", "ia")
    ]  # fmt: skip
    # Kruskal and Wallis: H = (N − 1) η² of the ranks.
    h = stats.kruskal(*groups).statistic
    assert table["share"].iloc[0] == pytest.approx(h / (sum(map(len, groups)) - 1), rel=1e-10)


def test_rule_separation_at_its_ends():
    frame = pd.DataFrame({"statistic": "s", "epoch": 3, "rule": ["a", "a", "b", "b"]})
    apart = tables.rule_separation(frame.assign(value=[1.0, 1.0, 5.0, 5.0]))
    same = tables.rule_separation(frame.assign(value=[1.0, 5.0, 5.0, 1.0]))
    constant = tables.rule_separation(frame.assign(value=1.0))
    assert (apart["share"][0], same["share"][0], constant["share"][0]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("make", [tables.learning_curves, tables.alignment, tables.network_table])
def test_no_networks_give_empty_tables_with_columns(make):
    table = make([])
    assert table.empty
    assert len(table.columns) > 3
