"""What the data tell: intervals against theory, and verdicts on planted differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from goaldriven.identify.experiments import experiment
from goaldriven.identify.experiments.comparisons import (
    Estimate,
    decided,
    over_splits,
    redrawn,
    shared_training,
)

from .planted_results import N_LAYERS, RULES, drawn, together, with_rows

SEEDS = range(10)


def seen(a, b, seed, **settings):
    share = {"a": a, "b": b}
    return drawn("x", [{"seen": "a"}, {"seen": "b"}], lambda k: share[k["seen"]], seed, **settings)


BOTH = {"a": {"seen": "a"}, "b": {"seen": "b"}}


def test_the_error_of_a_difference_is_that_of_stratified_sampling():
    results = seen(0.8, 0.6, 0)
    found = redrawn(results, BOTH).difference("a", "b")
    share = results.verdicts["layers_correct"] / results.verdicts["layers"]
    keys = [results.verdicts[name] for name in ("rule", "network", "seen")]
    wide = share.groupby(keys).mean().unstack("seen")
    gain = wide["a"] - wide["b"]
    # One test per network, four splits: f² = 1 + 1/(1 − ¼).
    of_rules = gain.groupby("rule").var(ddof=1) / gain.groupby("rule").size()
    error = np.sqrt(of_rules.sum() / len(RULES) ** 2) * np.sqrt(1 + 4 / 3)
    assert found.value == pytest.approx(gain.mean())
    assert found.error == pytest.approx(error, rel=0.1)
    assert found.dof == len(gain) - len(RULES)
    assert found.high - found.value == pytest.approx(t.isf(0.025, found.dof) * found.error)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_pairs_count_not_their_scatter():
    """Networks that differ much from one another, and by 0.1 between conditions each."""
    results = seen(0.5, 0.5, 0)
    difficulty = pd.Series(
        np.random.default_rng(0).integers(1, 6, 160), results.verdicts["network"].unique()
    )
    right = results.verdicts["network"].map(difficulty) + (results.verdicts["seen"] == "a")
    results.verdicts["layers_correct"] = right
    found = redrawn(results, BOTH)
    assert found.difference("a", "b").value == pytest.approx(1 / N_LAYERS)
    assert found.difference("a", "b").error == pytest.approx(0, abs=1e-12)
    assert found.estimate(lambda x: x["a"]).error > 0.01


def test_networks_seen_under_one_condition_alone_are_no_pairs():
    """Errors of conditions without a common network add up."""
    results = seen(
        0.8, 0.6, 0, tested=lambda k, i: k["split"] == 0 and (i < 20) == (k["seen"] == "a")
    )
    found = redrawn(results, BOTH)
    alone = [found.estimate(lambda x, name=name: x[name]).error for name in "ab"]
    assert found.difference("a", "b").error == pytest.approx(np.hypot(*alone), rel=0.1)


def test_shared_training_widens():
    levels = {"seen": "a"}
    four, eight, one = (seen(0.8, 0.8, 0, n_splits=n) for n in (4, 8, 1))
    assert shared_training(four, levels) == pytest.approx(np.sqrt(1 + 4 / 3))
    assert shared_training(eight, levels) == pytest.approx(np.sqrt(1 / 2 + 4 / 3))
    assert shared_training(one, levels) == pytest.approx(np.sqrt(4 / 3))


def test_too_few_networks_for_an_error_have_none():
    found = redrawn(seen(1.0, 0.0, 0, n_per_rule=4, n_splits=1), BOTH).difference("a", "b")
    assert (found.value, found.error) == (1.0, np.inf)
    assert decided(found) == "undecided"
    assert "no interval" in found.told


def test_the_error_over_training_parts_is_the_jackknife():
    """Means of three quarters of the data: their spread tells the error of the mean of all."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=400)
    parts = pd.Series([rng.permutation(data)[:300].mean() for _ in range(4000)])
    found = over_splits(parts, 3)
    assert found.error == pytest.approx(data.std(ddof=1) / np.sqrt(400), rel=0.05)


def test_the_error_over_test_parts_is_that_of_nadeau_and_bengio():
    found = over_splits(pd.Series([0.1, 0.2, 0.3]), 1 / 3)
    assert found.error == pytest.approx(0.1 * np.sqrt(1 / 3 + 1 / 3))
    assert (found.value, found.dof) == (pytest.approx(0.2), 2)
    assert decided(over_splits(pd.Series([5.0]), 1 / 3)) == "undecided"


def test_a_claim_of_several_parts_holds_with_all_and_falls_with_one():
    yes, no, open_ = Estimate(3, 1), Estimate(-3, 1), Estimate(1, 1)
    assert decided(yes, yes) == "reproduced"
    assert decided(yes, no, open_) == "not reproduced"
    assert decided(yes, open_) == "undecided"
    weak = Estimate(-2.1, 1)  # beyond 1.96 standard errors, not beyond the 2.24 of two
    assert decided(weak) == "not reproduced"
    assert decided(weak, yes) == "undecided"
    assert decided() == "undecided"


def statuses(plant, *args, of=0, seeds=SEEDS):
    found = [plant(*args, seed) for seed in seeds]
    return [experiment(one.experiment).findings(one)[of].status for one in found]


def assert_told(plant, true, false, equal, of=0):
    """The status where the claim is true, where it is false, and where neither is."""
    assert set(statuses(plant, *true, of=of, seeds=range(3))) == {"reproduced"}
    assert set(statuses(plant, *false, of=of, seeds=range(3))) == {"not reproduced"}
    assert statuses(plant, *equal, of=of).count("undecided") >= 8


def ordered(forest, conv1d, svm, seed):
    share = {"random_forest": forest, "conv1d": conv1d, "svm": svm}
    parts = [
        drawn("separability", [{"observables": "all"}], lambda k: share[k["classifier"]], seed,
              classifiers=tuple(share), kind=kind)
        for kind in ("layer", "network")
    ]  # fmt: skip
    return with_rows(together(*parts), confusions(10, 10, seed))


def confusions(optimizers, feedback, seed):
    """Of 100 layers of a rule in each split, this many are called the other of its pair."""
    rng = np.random.default_rng(seed)
    wrong = dict.fromkeys(("adam", "sgdm"), optimizers) | dict.fromkeys(("fa", "ia"), feedback)
    pair = {"adam": "sgdm", "sgdm": "adam", "fa": "ia", "ia": "fa"}
    for split in range(4):
        for rule in RULES:
            other = rng.binomial(100, wrong[rule] / 100)
            count = dict.fromkeys(RULES, 0) | {rule: 100 - other, pair[rule]: other}
            for called, value in count.items():
                yield {
                    "observables": "all", "classifier": "random_forest", "split_kind": "network",
                    "split": split, "metric": f"layers {rule} called {called}", "value": value,
                }  # fmt: skip


def test_the_order_of_classifiers():
    assert_told(ordered, (0.9, 0.8, 0.7), (0.7, 0.8, 0.9), (0.8, 0.8, 0.8))


def test_confusions_of_optimizers_and_of_feedback():
    def plant(optimizers, feedback, seed):
        parts = ordered(0.9, 0.8, 0.7, seed)
        table = parts.table[~parts.table["metric"].str.startswith("layers ")]
        parts = type(parts)(parts.experiment, table, parts.verdicts, parts.settings)
        return with_rows(parts, confusions(optimizers, feedback, seed))

    assert_told(plant, (30, 5), (5, 30), (10, 10), of=1)
    assert statuses(plant, 0, 0, of=1, seeds=range(3)) == ["undecided"] * 3


def test_the_hardest_pair():
    def plant(adam_sgdm, others, seed):
        pairs = [f"{a} or {b}" for i, a in enumerate(RULES) for b in RULES[i + 1 :]]
        return drawn(
            "rule_pairs", [{"observables": "all", "pair": pair} for pair in pairs],
            lambda k: adam_sgdm if k["pair"] == "adam or sgdm" else others, seed,
            rules_of=lambda k: k["pair"].split(" or "),
        )  # fmt: skip

    assert_told(plant, (0.6, 0.9), (0.9, 0.6), (0.8, 0.8))


def test_what_averaging_costs():
    def plant(forest, svm, seed):
        lost = {"random_forest": forest, "svm": svm}
        return drawn(
            "trajectory_average",
            [{"observables": "all", "seen": s} for s in ("trajectory", "its average")],
            lambda k: 0.9 - lost[k["classifier"]] * (k["seen"] != "trajectory"), seed,
            classifiers=tuple(lost),
        )  # fmt: skip

    assert_told(plant, (0.05, 0.3), (0.3, 0.05), (0.1, 0.1))


def perform(observed, curve, seed, n_per_rule=100):
    """sgdm and ia called each other when they are named wrong."""
    share = {"observables": observed, "metric curve": curve}
    return drawn(
        "performance", [{"seen": s} for s in share], lambda k: share[k["seen"]], seed,
        n_per_rule=n_per_rule, called={"ia": "sgdm", "sgdm": "ia"},
    )  # fmt: skip


def test_told_apart_though_they_perform_alike():
    assert_told(perform, (1.0, 0.5), (0.7, 0.5), (1.0, 0.75))


def test_rules_that_performance_tells_do_not_test_that_they_perform_alike():
    assert set(statuses(perform, 1.0, 1.0, seeds=range(3))) == {"not testable here"}
    assert set(statuses(perform, 0.7, 1.0, seeds=range(3))) == {"not testable here"}


def test_no_exchange_among_few_networks_is_not_enough():
    assert experiment("performance").findings(perform(1.0, 0.5, 0, 8))[0].status == "undecided"


def held_out(name, levels, inside, outside, seed):
    """Every network tested once with nothing held out, and where its level is."""
    first = drawn(name, [{"observables": "all", "held_out": "none: by network"}],
                  lambda k: inside, seed, n_per_rule=80)  # fmt: skip
    parts = drawn(
        name, [{"observables": "all", "held_out": level} for level in levels],
        lambda k: outside[k["held_out"]], seed + 1000, n_splits=1, kind=f"held-out {name}",
        tested=lambda k, i: levels[i % len(levels)] == k["held_out"], n_per_rule=80,
    )  # fmt: skip
    return together(first, parts)


def test_held_out_architectures():
    def plant(inside, outside, seed):
        levels = ("knet4", "knet5")
        return held_out(
            "held_out_architecture", levels, inside, dict.fromkeys(levels, outside), seed
        )

    assert_told(plant, (0.8, 0.85), (0.8, 0.6), (0.8, 0.75))


def test_held_out_tasks():
    def plant(contrastive, supervised, seed):
        outside = {"digits": supervised, "digits_simclr": contrastive, "spoken_digits": supervised}
        return held_out("held_out_task", tuple(outside), 0.95, outside, seed)

    assert_told(plant, (0.5, 0.8), (0.8, 0.5), (0.7, 0.7))


def test_sparse_and_dense_samples():
    def plant(dense, sparse, seed):
        share = {"dense": dense, "intermediate": dense, "sparse": sparse}
        return drawn(
            "undersampling",
            [{"observables": "all", "spacing": s, "samples": n} for s in share for n in (2, 4)],
            lambda k: share[k["spacing"]], seed,
        )  # fmt: skip

    assert_told(plant, (0.6, 0.8), (0.8, 0.6), (0.7, 0.7))


def test_other_thirds():
    def plant(same, near, far, seed):
        thirds = ("early", "middle", "late")

        def right(k):
            if k["trained"] == k["tested"]:
                return same
            return far if "early" in (k["trained"], k["tested"]) else near

        conditions = [
            {"observables": "all", "trained": a, "tested": b} for a in thirds for b in thirds
        ]
        return drawn("thirds", conditions, right, seed)

    assert_told(plant, (0.9, 0.6, 0.4), (0.5, 0.9, 0.9), (0.9, 0.5, 0.5))


def test_what_survives_a_measurement():
    def plant(activation, others, seed):
        def right(k):
            if k["noise"] == "none":
                return 0.9
            return activation if k["observables"] == "activation" else others

        names = ("weight", "activation", "activity_change")
        return drawn(
            "measurement",
            [
                {"observables": o, "units": "all units", "noise": noise}
                for o in names for noise in ("none", "0.1 s.d.", "1 s.d.")
            ],
            right, seed,
        )  # fmt: skip

    assert_told(plant, (0.8, 0.6), (0.6, 0.8), (0.7, 0.7))


def test_matched_networks():
    def plant(observed, final, seed):
        share = {"observables": observed, "final metric": final, "metric curve": final}
        condition = {"matched": "final metric", "rules": "ia or sgdm", "tolerance": 0.01,
                     "within": "task", "sets": "matched"}  # fmt: skip
        results = drawn(
            "performance_matched", [condition | {"seen": s} for s in share],
            lambda k: share[k["seen"]], seed, rules_of=lambda k: ("ia", "sgdm"),
        )  # fmt: skip
        sets = [condition | {"seen": s, "metric": "matched_sets", "value": 40.0} for s in share]
        return with_rows(results, sets)

    assert_told(plant, (0.9, 0.5), (0.5, 0.8), (0.7, 0.7), of=4)


STATISTICS = (
    "layer_position", "weight_abs_median", "weight_abs_norm", "weight_abs_mean",
    "activation_raw_norm", "activation_abs_mean",
)  # fmt: skip


def importances(seed, **means):
    """Gini importances of ten forests: 0.1 unless they are given, ± 0.01."""
    rng = np.random.default_rng(seed)
    rows = []
    for split in range(10):
        for name in STATISTICS:
            value = means.get(name, 0.1) + 0.01 * rng.normal()
            given = {"importance": value, "importance_sd": 0.01, "importance_n": 100}
            rows += [
                {"importance": kind, "statistic": name, "split": split, "metric": m, "value": v}
                for kind in ("gini", "gini by epoch", "permutation by statistic",
                             "permutation by epoch")
                for m, v in given.items()
            ]  # fmt: skip
    empty = drawn("importance", [{"importance": "whole"}], lambda k: 0.5, 0, n_per_rule=4)
    empty.settings["statistics"] = list(STATISTICS)
    return with_rows(empty, rows)


@pytest.mark.parametrize(
    ("of", "true", "false"),
    [
        (0, {"weight_abs_median": 0.4}, {"weight_abs_mean": 0.4}),
        (1, {"weight_abs_median": 0.4}, {"activation_raw_norm": 0.4}),
        (2, {"activation_raw_norm": 0.4}, {"activation_abs_mean": 0.4}),
        (3, {"layer_position": -0.2}, {"layer_position": 0.4}),
    ],
)
def test_the_most_and_the_least_important(of, true, false):
    def plant(means, seed):
        return importances(seed, **means)

    assert_told(plant, (true,), (false,), ({},), of=of)
