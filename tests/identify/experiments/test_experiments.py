"""Experiments on made-up networks whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from goaldriven.errors import DataError, IdentificationError
from goaldriven.identify.experiments import (
    EXPERIMENTS,
    controls,
    experiment,
    load,
    run,
    separability,
    undersampling,
    with_results,
)
from goaldriven.identify.experiments.material import OBSERVABLES
from goaldriven.identify.experiments.results import interval, save
from goaldriven.identify.experiments.undersampling import counts
from goaldriven.identify.splits import SAME_START

from ..made_up import make_examples


def with_signal(examples, pattern, seed=1):
    """Add rule × pattern(epoch, statistic): a known place and time of what tells the rules."""
    rng = np.random.default_rng(seed)
    strength = dict(zip(np.unique(examples["rule"]), rng.permutation([-3, -1, 1, 3]), strict=True))
    rule = np.array([strength[r] for r in examples["rule"].values])
    value = examples["value"].transpose("example", "epoch", "statistic").values
    return examples.assign(
        value=(("example", "epoch", "statistic"), value + rule[:, None, None] * pattern)
    )


def mean_of(results, metric="layer_accuracy", **levels):
    summary = results.summary()
    chosen = summary[summary["metric"] == metric]
    for column, level in levels.items():
        chosen = chosen[chosen[column] == level]
    assert len(chosen), levels
    return chosen["mean"].mean()


ALL = {"observables": "all", "classifier": "random_forest"}


def test_a_signal_of_late_epochs_makes_early_fail(material_of, lean):
    late = np.zeros((12, 6))
    late[8:] = 1.0
    given = material_of(with_signal(make_examples(48, n_epochs=12), late))
    results = run(experiment("thirds"), given)
    assert mean_of(results, trained="late", tested="late", **ALL) > 0.9
    assert mean_of(results, trained="early", tested="early", **ALL) < 0.4
    assert mean_of(results, trained="late", tested="early", **ALL) < 0.4


def test_a_signal_tied_to_the_architecture_fails_when_it_is_held_out(material_of, lean):
    examples = make_examples(64)
    sign = np.where(examples["architecture"].values == "knet4", 1.0, -1.0)[:, None, None]
    seen = np.array([1.0, 1, 1, 1, 1, 0])  # the last statistic tells the architecture instead
    value = with_signal(examples.assign(value=examples["value"] * 0), np.ones((5, 1)) * seen)
    tied = examples.assign(value=examples["value"] + sign * value["value"] + 9 * sign * (1 - seen))
    results = run(experiment("held_out_architecture"), material_of(tied))
    assert mean_of(results, held_out="none: by network", **ALL) > 0.7
    assert mean_of(results, held_out="knet4", **ALL) < 0.3
    (finding,) = experiment("held_out_architecture").findings(results)
    assert finding.status == "not reproduced"


def test_a_signal_free_of_the_architecture_survives(material_of, lean):
    given = material_of(with_signal(make_examples(64), np.ones((5, 6))))
    results = run(experiment("held_out_architecture"), given)
    assert mean_of(results, held_out="knet5", **ALL) > 0.9
    (finding,) = experiment("held_out_architecture").findings(results)
    assert finding.status == "reproduced"


def test_an_oscillation_is_lost_in_the_average(material_of, monkeypatch):
    monkeypatch.setattr(controls, "OBSERVABLES", {"all": OBSERVABLES["all"]})
    oscillation = np.where(np.arange(6)[:, None] % 2, 1.0, -1.0) * np.ones((6, 6))
    given = material_of(with_signal(make_examples(64, n_epochs=6), oscillation))
    results = run(experiment("trajectory_average"), given)
    for classifier in ("random_forest", "svm"):
        levels = {"observables": "all", "classifier": classifier}
        assert mean_of(results, seen="trajectory", **levels) > 0.9
        assert mean_of(results, seen="its average", **levels) < 0.4


def test_performance_alone_tells_rules_that_differ_in_nothing_else(material_of, lean):
    examples = make_examples(48)
    first = np.sort(np.unique(examples["network"].values, return_index=True)[1])
    one = examples.isel(example=first, statistic=[0, 1]).assign_coords(
        statistic=["loss", "metric"], measure=("statistic", ["performance"] * 2)
    )
    curves = with_signal(one, np.array([[0.0, 5.0]] * 5))
    results = run(experiment("performance"), material_of(examples, curves))
    forest = {"classifier": "random_forest", "metric": "network_accuracy"}
    assert mean_of(results, seen="final metric", **forest) > 0.9
    assert mean_of(results, seen="loss curve", **forest) < 0.45
    assert mean_of(results, seen="observables", **forest) < 0.45
    (finding,) = experiment("performance").findings(results)
    assert finding.status == "not testable here"


def test_labels_dealt_out_anew_are_at_chance_where_true_ones_are_not(material_of, monkeypatch):
    for family in (controls, separability):
        monkeypatch.setattr(family, "OBSERVABLES", {"all": OBSERVABLES["all"]})
    given = material_of(with_signal(make_examples(96), np.ones((5, 6))))
    true = run(experiment("rule_pairs"), given)
    assert mean_of(true, **ALL) > 0.95
    results = run(experiment("permuted_labels"), given)
    assert abs(mean_of(results, **ALL) - 0.25) < 0.1
    (finding,) = experiment("permuted_labels").findings(results)
    assert "LEAK" not in finding.statement


def test_a_leak_into_the_initial_networks_is_called_one(material_of, lean):
    leak = np.zeros((5, 6))
    leak[0] = 1.0
    results = run(experiment("initialisation"), material_of(with_signal(make_examples(64), leak)))
    finding, _ = experiment("initialisation").findings(results)
    assert "LEAK" in finding.statement
    clean = run(experiment("initialisation"), material_of(make_examples(64)))
    assert "LEAK" not in experiment("initialisation").findings(clean)[0].statement


def test_unequal_rules_are_no_leak(material_of):
    """What always names the commonest rule is right more often than guessing is."""
    examples = make_examples(96)
    rare = np.isin(examples["rule"].values, ["fa", "ia"]) & (examples["model_seed"].values > 6)
    few = examples.isel(example=np.flatnonzero(~rare))
    results = run(experiment("layer_position"), material_of(few))
    (finding,) = experiment("layer_position").findings(results)
    assert "LEAK" not in finding.statement
    names = few["rule"].values
    shares = []
    for split in material_of(few).splits("network"):
        rules, counts = np.unique(names[split.train], return_counts=True)
        tested = [np.mean(names[split.test] == rule) for rule in rules]
        guessing = float(counts / counts.sum() @ tested)
        shares.append((guessing, np.mean(np.array(tested)[counts == counts.max()])))
    guessing, constant = np.mean(shares, axis=0)
    assert constant > guessing + 0.03
    assert results.summary()["chance"].mean() == pytest.approx(np.max(shares, axis=1).mean())


def test_a_held_out_level_with_a_rule_of_its_own_is_named(material_of):
    examples = make_examples(48)
    elsewhere = (examples["rule"].values == "ia") & (examples["architecture"].values == "knet4")
    given = material_of(examples.isel(example=np.flatnonzero(~elsewhere)))
    with pytest.raises(IdentificationError, match="'ia' must have at least 2 networks outside of "
                       "architecture knet5"):  # fmt: skip
        run(experiment("held_out_architecture"), given)


def test_twins_of_equal_start_on_both_sides_push_accuracy_below_chance(material_of, lean):
    """Networks of one start are alike under every rule: the nearest one has another rule."""
    examples = make_examples(96, n_layers=2)
    start = [f"{a}{m}" for a, m in zip(examples["architecture"].values,
                                       examples["model_seed"].values, strict=True)]  # fmt: skip
    rng = np.random.default_rng(3)
    drawn = {key: rng.normal(size=(5, 6)) for key in sorted(set(start))}
    value = np.array([drawn[key] for key in start]) + 0.01 * examples["value"].values
    twins = examples.assign(value=(examples["value"].dims, value))
    results = run(experiment("initialisation"), material_of(twins, n_splits=6))
    together = mean_of(results, split_kind="task+architecture+model_seed", **ALL)
    apart = mean_of(results, split_kind="network", **ALL)
    assert apart < 0.15 < together
    columns = [twins[name].values.astype(str) for name in SAME_START]
    starts = {"/".join(row) for row in zip(*columns, strict=True)}
    assert set(results.verdicts["cluster"]) == starts
    later = run(experiment("permuted_labels"), material_of(twins, n_splits=2)).verdicts
    assert later["cluster"].equals(later["network"])


def test_pairs_find_the_two_rules_that_are_one(material_of, lean):
    examples = make_examples(64)
    strength = {"adam": 1.0, "sgdm": 1.0, "fa": 3.0, "ia": -2.0}
    rule = np.array([strength[r] for r in examples["rule"].values])
    alike = examples.assign(value=examples["value"] + rule[:, None, None])
    results = run(experiment("rule_pairs"), material_of(alike))
    assert mean_of(results, pair="adam or sgdm", **ALL) < 0.65
    assert mean_of(results, pair="fa or ia", **ALL) > 0.95
    (finding,) = experiment("rule_pairs").findings(results)
    assert finding.status == "reproduced"
    assert "Hardest pair: adam or sgdm" in finding.statement


def test_sparse_samples_are_better_where_change_is_slow(material_of, lean):
    """A drift: the difference between two samples grows with the time between them."""
    drift = np.arange(21.0)[:, None] * np.array([[0.15, 0, 0, 0, 0, 0]])
    given = material_of(with_signal(make_examples(64, n_epochs=21), drift), n_splits=2)
    results = run(experiment("undersampling"), given)
    dense = mean_of(results, spacing="dense", samples=2, **ALL)
    assert mean_of(results, spacing="sparse", samples=4, **ALL) > dense
    assert mean_of(results, spacing="dense", samples=21, **ALL) > 0.8
    assert set(results.table["samples"]) == set(counts(21, 1))
    (finding,) = experiment("undersampling").findings(results)
    assert finding.status == "reproduced"
    assert "from 2 samples: dense" in finding.statement
    assert "; 4 samples: dense" in finding.statement
    gained = undersampling.sparse_against_dense(results, [2, 4])
    gains = [
        mean_of(results, spacing="sparse", samples=n, **ALL)
        - mean_of(results, spacing="dense", samples=n, **ALL)
        for n in (2, 4)
    ]
    # Networks weigh the same there, those tested twice more here.
    assert gained.value == pytest.approx(np.mean(gains), abs=0.05)
    assert 0 < gained.low < gained.value < gained.high
    assert f"over these counts: {gained.told}" in finding.statement


def test_results_come_back_from_disk(material_of, tmp_path):
    given = material_of(make_examples(32), folder=tmp_path)
    results = run(experiment("layer_position"), given)
    assert with_results(tmp_path, list(EXPERIMENTS)) == ("layer_position",)
    back = load(tmp_path, "layer_position")
    assert back.summary().equals(results.summary())
    assert back.settings["networks"] == results.settings["networks"]
    assert results.table.columns.tolist() == [
        "experiment", "seen", "classifier", "split_kind", "split", "seed", "metric", "value",
    ]  # fmt: skip
    (tmp_path / "experiments" / "layer_position" / "settings.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="of another; run the experiment again"):
        load(tmp_path, "layer_position")
    with pytest.raises(DataError, match="experiment 'thirds', got none"):
        load(tmp_path, "thirds")


def test_the_interval_is_of_networks(material_of, lean):
    """A proportion, of networks tested twice each under splits that share what they train on."""
    results = run(experiment("permuted_labels"), material_of(make_examples(96), n_splits=8))
    verdicts = results.verdicts[results.verdicts["classifier"] == "random_forest"]
    low, high = interval(verdicts, "network_accuracy")
    per_network = verdicts.groupby(["rule", "network"])["correct"].mean()
    within = per_network.groupby("rule").var(ddof=0) / per_network.groupby("rule").size()
    weight = per_network.groupby("rule").size() / len(per_network)
    error = np.sqrt((weight**2 * within).sum())
    shared = np.sqrt(1 / 2 + 1 / 0.75)
    assert high - low == pytest.approx(2 * 1.96 * error * shared, rel=0.15, abs=0.01)
    assert low - 1e-12 <= per_network.mean() <= high + 1e-12


def test_networks_of_one_cluster_are_drawn_together():
    """Sixteen clusters, each named right or wrong as a whole: 64 networks are no more than 16."""
    rows = [
        {"network": f"{cluster}{rule}", "cluster": str(cluster), "rule": rule, "layers": 3,
         "layers_correct": 3 * (cluster % 2), "correct": cluster % 2}
        for cluster in range(16)
        for rule in "abcd"
    ]  # fmt: skip
    verdicts = pd.DataFrame(rows)
    low, high = interval(verdicts, "layer_accuracy")
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 16 / 0.75), rel=0.2)
    low, high = interval(verdicts.drop(columns="cluster"), "layer_accuracy")
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 64 / 0.75), rel=0.1)


def test_what_a_study_cannot_answer_is_said():
    with pytest.raises(IdentificationError, match="did you mean 'separability'"):
        experiment("seperability")


def test_too_few_levels_networks_and_records(material_of):
    few = make_examples(48)
    with pytest.raises(IdentificationError, match="at least 2 levels of task to hold one out"):
        run(experiment("held_out_task"), material_of(few))
    with pytest.raises(IdentificationError, match="at least 6 records"):
        run(experiment("thirds"), material_of(few))
    with pytest.raises(IdentificationError, match="must have at least 4 networks"):
        run(experiment("layer_position"), material_of(make_examples(8)))
    with pytest.raises(IdentificationError, match="at least 2 learning rules, got fa"):
        material_of(make_examples(8, rules=["fa"]))
    only = material_of(few.sel(statistic=["activation_raw_norm", "activation_abs_mean"]))
    with pytest.raises(IdentificationError, match="a statistic of weight, got those of activ"):
        run(experiment("separability"), only)


def test_a_full_disk_is_said(material_of, tmp_path, monkeypatch):
    from goaldriven.errors import StudyError
    from goaldriven.trajectories import atomic

    def full(*_):
        raise OSError(28, "No space left on device")

    results = run(experiment("layer_position"), material_of(make_examples(32)))
    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StudyError, match="No space left on device"):
        save(results, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))


def test_performance_asks_for_learning_curves(material_of):
    """Data that hold observables alone, as the published file does."""
    given = material_of(make_examples())
    n = given.curves.sizes["example"]
    of_three = given.curves.where(np.arange(n)[:, None, None] < 3)
    for curves, told in ((given.curves * np.nan, "none"), (of_three, "3")):
        without = replace(given, curves=curves)
        for name in ("performance", "performance_matched"):
            with pytest.raises(
                IdentificationError, match=f"must have a loss and a metric, got {told} of {n} with"
            ):
                experiment(name).cells(without)
