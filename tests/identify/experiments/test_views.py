"""Examples seen otherwise, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from goaldriven.errors import IdentificationError
from goaldriven.identify.experiments import views

from ..made_up import make_examples


def values(examples):
    return examples["value"].transpose("example", "epoch", "statistic").values


def test_over_time_is_the_mean_of_each_trajectory():
    examples = make_examples(8, n_epochs=6)
    seen = views.over_time(examples)
    np.testing.assert_allclose(values(seen)[:, 0], values(examples).mean(axis=1))
    assert seen.sizes["epoch"] == 1


def test_records_are_a_part_of_the_trajectory_with_time_from_nought():
    examples = make_examples(8, n_epochs=6)
    seen = views.records(examples, 2, 5)
    np.testing.assert_array_equal(values(seen), values(examples)[:, 2:5])
    assert seen["epoch"].values.tolist() == [0, 5, 10]
    with pytest.raises(IdentificationError, match=r"records must lie in 0…6, got 4…7"):
        views.records(examples, 4, 7)


def test_samples_lie_a_step_apart_from_a_uniform_start():
    examples = make_examples(400, n_layers=2, n_epochs=21, statistics=["weight_raw_mean"])
    index = np.broadcast_to(np.arange(21.0)[None, :, None], examples["value"].shape)
    examples = examples.assign(value=(examples["value"].dims, index.copy()))
    seen = values(views.sampled(examples, 5, 3, seed=1))[..., 0]
    np.testing.assert_array_equal(np.diff(seen, axis=1), 5)
    counts = np.bincount(seen[:, 0].astype(int), minlength=11)
    assert len(counts) == 11, "starts 0 … 20 − 2·5"
    assert stats.chisquare(counts).pvalue > 1e-3
    with pytest.raises(IdentificationError, match="fit into 21 records, got 6, 5 apart"):
        views.sampled(examples, 5, 6)


def test_a_sample_does_not_depend_on_the_other_examples():
    examples = make_examples(12, n_epochs=9)
    some = examples.isel(example=[3, 17, 20])
    np.testing.assert_array_equal(
        values(views.sampled(some, 2, 3)), values(views.sampled(examples, 2, 3))[[3, 17, 20]]
    )


def test_permuted_labels_keep_networks_whole_and_the_counts():
    examples = make_examples(40)
    seen = views.permuted_labels(examples, seed=3)
    networks = examples["network"].values
    per_network = {n: set(seen["rule"].values[networks == n]) for n in np.unique(networks)}
    assert all(len(rules) == 1 for rules in per_network.values())
    assert sorted(seen["rule"].values) == sorted(examples["rule"].values)
    agreement = np.mean(seen["rule"].values == examples["rule"].values)
    assert agreement < 0.6


def test_positions_alone_hold_nothing_else():
    seen = views.positions_alone(make_examples(8))
    assert values(seen).shape == (24, 1, 1)
    assert not values(seen).any()


def test_relabelled_names_several_rules_alike_and_leaves_out_the_others():
    examples = make_examples(8)
    seen = views.relabelled(examples, {"adam": "backprop", "sgdm": "backprop", "fa": "feedback"})
    assert set(seen["rule"].values) == {"backprop", "feedback"}
    assert seen.sizes["example"] == 18
    assert views.only_rules(examples, ["fa"]).sizes["example"] == 6
    assert set(views.only_networks(examples, ["net003"])["layer"].values) == {
        "layer0", "layer1", "layer2",
    }  # fmt: skip


def test_views_leave_what_they_are_given_as_it_is():
    examples = make_examples(8, n_epochs=6)
    before = examples.copy(deep=True)
    views.over_time(examples)
    views.sampled(examples, 2, 2)
    views.permuted_labels(examples, 0)
    views.positions_alone(examples)
    assert examples.identical(before)
