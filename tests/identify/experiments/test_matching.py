"""Performance-matched networks: what tells rules by performance alone is gone, the rest stays."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify.candidates import Forest
from goaldriven.identify.classifiers import Grid
from goaldriven.identify.experiments import (
    controls,
    engine,
    experiment,
    matching,
    material,
    run,
)
from goaldriven.identify.experiments.above_chance import ONCE_IN, chance_limit
from goaldriven.identify.experiments.matching import CURVE, FINAL, MIN_SETS, RANGE, SET

from .planted_networks import Network, pattern, planted, rising

SPEC = experiment("performance_matched")


@pytest.fixture(autouse=True)
def _one_small_forest(monkeypatch):
    """Nothing to choose among: quicker, and matching is no less matching."""
    grid = Grid((Forest(40, "sqrt"),), "published")
    monkeypatch.setattr(engine, "grid_of", lambda classifier, name: grid)


TWO = ("adam", "sgdm")


def top_of(network: Network, step=0.03):
    """A final metric that is higher under later rules by ``step``, with s.d. 0.02 besides."""
    own = np.random.default_rng([network.index, network.number]).normal()
    return 0.8 + step * network.index + 0.02 * own


def by_rule(network, rng):
    return np.linspace(0.1, top_of(network), len(network.epochs))


def few(n_per_rule=40, rules=TWO, n_splits=4, **kwargs):
    trajectories = planted(n_per_rule, rules, n_layers=2, n_epochs=4, **kwargs)
    return material(trajectories, n_splits=n_splits)


def only(**levels):
    """The experiment with these conditions alone."""

    def cells(given):
        return [c for c in SPEC.cells(given) if all(c.condition[k] == v for k, v in levels.items())]

    return dataclasses.replace(SPEC, cells=cells)


def accuracies(given, **levels):
    """Of the whole of the splits, networks named right by what is seen."""
    spec = only(matched=FINAL, tolerance=0.01, sets="matched", **levels)
    rows = run(spec, given).summary()
    return rows[rows["metric"] == "network_accuracy"].set_index("seen")


def separable(given):
    """How often the final metric, and all observables, name networks that are not matched."""
    spec = experiment("performance")

    def cells(given):
        return [
            c
            for c in spec.cells(given)
            if c.condition["seen"] in ("final metric", "observables")
            and c.classifier == "random_forest"
        ]

    rows = run(dataclasses.replace(spec, cells=cells), given).summary()
    return rows[rows["metric"] == "network_accuracy"].set_index("seen")["mean"]


def test_performance_alone_no_longer_tells_the_rules():
    """Observables that are noise, metrics that differ: above chance before, at chance after."""
    given = few(metric=by_rule)
    assert separable(given)["final metric"] > 0.65
    rows = accuracies(given)
    assert set(rows.index) == {"observables", "final metric", "metric curve"}
    assert (rows["chance"] == 0.5).all()
    # Some 20 pairs: within three standard errors of their networks.
    assert (np.abs(rows["mean"] - 0.5) < 3 * (rows["high"] - rows["low"]) / 4).all()


def test_observables_that_follow_performance_do_not_either():
    """Every observable is the final metric, scaled, and noise: nothing else can be told."""

    def follow(network):
        return (top_of(network) - 0.8) / 0.01

    given = few(metric=by_rule, signal=follow, noise=0.1)
    assert separable(given)["observables"] > 0.65
    rows = accuracies(given, seen="observables")
    assert abs(rows["mean"].iloc[0] - 0.5) < 0.2


def test_observables_that_differ_still_tell_them():
    rows = accuracies(few(signal=pattern(2.0)))
    assert rows.loc["observables", "mean"] > 0.95
    assert np.abs(rows["mean"].drop("observables") - 0.5).max() < 0.2


def test_sets_share_everything_but_the_rule():
    given = few(60, ("adam", "fa", "sgdm"), metric=by_rule, batch_sizes=(64, 128), n_splits=1)
    cells = SPEC.cells(given)
    assert {c.condition["matched"] for c in cells} == {FINAL, CURVE}
    assert {c.condition["rules"] for c in cells} == {
        "all", "adam or fa", "adam or sgdm", "fa or sgdm",
    }  # fmt: skip
    final = dict(
        zip(
            given.curves["network"].values.tolist(),
            given.curves["value"].values[:, -1, 1].tolist(),
            strict=True,
        )
    )
    for cell in cells:
        examples, condition = cell.train, cell.condition
        n_rules = 3 if condition["rules"] == "all" else 2
        sets = examples[SET].values
        assert len(np.unique(sets)) >= MIN_SETS
        assert not np.intersect1d(sets[cell.split.train], sets[cell.split.test]).size
        for number in np.unique(sets):
            here = examples.isel(example=np.flatnonzero(sets == number))
            networks, first = np.unique(here["network"].values, return_index=True)
            assert len(networks) == n_rules == len(set(here["rule"].values[first].tolist()))
            for name in str(condition["within"]).split(" × "):
                assert len(set(here[name].values.tolist())) == 1
            if condition["sets"] == "matched" and condition["matched"] == FINAL:
                range_ = np.ptp([final[n] for n in networks])
                assert range_ <= condition["tolerance"] + 1e-9
                assert range_ == pytest.approx(here[RANGE].values[0])


def test_random_sets_are_as_many_from_the_same_strata():
    cells = SPEC.cells(few(metric=by_rule, batch_sizes=(64, 128)))
    chosen = {}
    for cell in cells:
        if cell.condition["seen"] == "observables" and cell.number == 0:
            key = tuple(cell.condition[k] for k in ("matched", "rules", "tolerance"))
            chosen.setdefault(key, {})[cell.condition["sets"]] = cell.train
    assert chosen
    wider = 0
    for both in chosen.values():
        strata = {
            how: sorted(
                zip(e["rule"].values, e["architecture"].values, e["batch_size"].values, strict=True)
            )
            for how, e in both.items()
        }
        assert strata["matched"] == strata["at random"]
        wider += both["at random"][RANGE].values.max() > both["matched"][RANGE].values.max()
    assert wider > len(chosen) / 2


def test_matching_within_batch_sizes_only_where_there_are_enough():
    many = few(12, batch_sizes=(16, 32, 64, 128, 256, 512), metric=alike)
    assert {c.condition["within"] for c in SPEC.cells(many)} == {"task × architecture × batch_size"}
    sizes = iter(range(10_000))
    apart = planted(12, TWO, n_layers=2, n_epochs=4, metric=alike)
    for network in apart:  # no two networks share a batch size
        network.attrs["batch_size"] = next(sizes)
    cells = SPEC.cells(material(apart, n_splits=1))
    assert {c.condition["within"] for c in cells} == {"task × architecture"}


def alike(network, rng):
    return rising(network, np.random.default_rng(network.number // 12))


def test_a_rule_that_performs_otherwise_is_left_out():
    """ia's networks match none: the three others are compared, and the finding says so."""

    def metric(network, rng):
        return (0.5 if network.rule == "ia" else 1.0) * rising(network, rng)

    given = few(16, ("adam", "fa", "ia", "sgdm"), metric=metric, n_splits=1)
    results = run(only(tolerance=0.05, matched=FINAL, sets="matched"), given)
    names = set(results.table["rules"])
    assert names == {"adam or fa or sgdm", "adam or fa", "adam or sgdm", "fa or sgdm"}


def test_findings(monkeypatch):
    monkeypatch.setattr(matching, "TOLERANCES", (0.0003, 0.02))
    given = few(20, ("fa", "ia", "sgdm"), signal=pattern(2.0), n_splits=2)
    results = run(only(matched=FINAL), given)
    together, pairs, _, _, published, control, left_out = SPEC.findings(results)
    assert "Networks of all rules" in together.statement
    assert "within 0.02 (" in together.statement
    assert "from all observables 1.000" in together.statement
    assert "as many networks at random 1.000" in together.statement
    assert "0.02 (3 pairs) from all observables 1.000" in pairs.statement
    assert published.status == "reproduced"
    assert "in none is it above chance by 2.5 standard errors" in control.statement  # of 4
    assert "all by final metric within 0.0003;" in left_out.statement
    assert "; all by learning curve;" in left_out.statement


def test_findings_on_two_rules_that_are_not_those_of_the_paper():
    given = few(16, metric=alike, n_splits=1)
    findings = SPEC.findings(run(only(tolerance=0.05), given))
    assert findings[0].statement.endswith("the study has two.")
    assert findings[4].status == "not testable here"


def test_findings_say_where_matching_failed(monkeypatch):
    """So wide a tolerance that the metric still tells the rules."""
    monkeypatch.setattr(matching, "TOLERANCES", (0.4,))

    def metric(network, rng):
        return np.linspace(0.1, 0.5 + 0.3 * network.index + 0.01 * rng.normal(), 4)

    control = SPEC.findings(run(SPEC, few(16, metric=metric, n_splits=2)))[5]
    assert "in 2 it still tells the rules" in control.statement
    assert "adam or sgdm by final metric within 0.4 (1.00)" in control.statement


def of_networks(excess):
    """Summary rows of pairs matched in the final metric, s.e. 0.04, so many s.e. above chance."""
    means = 0.5 + 0.04 * np.array(excess)
    return pd.DataFrame(
        {"sets": "matched", "matched": FINAL, "seen": "final metric", "tolerance": 0.01,
         "rules": [f"a{i} or b{i}" for i in range(len(means))], "mean": means, "sem": 0.01,
         "low": means - 0.08, "high": means + 0.08, "chance": 0.5}
    )  # fmt: skip


def test_among_many_conditions_one_may_be_two_standard_errors_above_chance():
    statement = matching._control(of_networks([2.5, *np.linspace(-2, 2, 35)])).statement
    assert "of 36 conditions" in statement
    assert "in none is it above chance by 3.2 standard errors" in statement
    statement = matching._control(of_networks([2.5])).statement
    assert "in 1 it still tells the rules, above chance by 2.0 standard errors" in statement
    statement = matching._control(of_networks([3.5, *np.linspace(-2, 2, 35)])).statement
    assert "in 1 it still tells" in statement
    assert "a0 or b0 by final metric within 0.01 (0.64)" in statement


def test_what_splits_scatter_counts_where_it_is_more_than_that_of_networks():
    rows = of_networks([3.5, *np.linspace(-2, 2, 35)]).assign(sem=0.08)
    assert "in none" in matching._control(rows).statement


def test_no_effect_in_any_condition_is_called_one_once_in_forty_experiments():
    """Conditions at chance: how many experiments call one above it, by simulation."""
    rng = np.random.default_rng(0)
    experiments = rng.normal(size=(4000, 36)).max(axis=1)
    called = np.mean(experiments > chance_limit(36))
    assert called == pytest.approx(1 / ONCE_IN, abs=3 * np.sqrt(0.025 / 4000))
    assert np.mean(experiments > 2) > 0.5, "what two standard errors would do"


def test_the_limit_is_that_of_the_other_controls():
    summary = of_networks(np.zeros(8)).assign(metric="layer_accuracy")
    results = SimpleNamespace(summary=lambda: summary)
    statement = controls._no_better_than_chance(results, {}, "Nothing").statement
    assert f"none of 8 is above chance by {chance_limit(8):.1f} standard errors" in statement


def test_equal_at_the_end_but_not_on_the_way():
    """sgdm learns slowly: matched at the end the curve still tells; no curves match."""

    def metric(network, rng):
        t = np.linspace(0, 1, len(network.epochs))
        return 0.1 + (0.8 + 0.002 * rng.normal()) * t ** (1 if network.rule == "adam" else 3)

    results = run(only(tolerance=0.01), few(16, metric=metric, n_splits=2))
    rows = results.summary()
    assert set(rows["matched"]) == {FINAL}
    seen = rows[(rows["metric"] == "network_accuracy") & (rows["sets"] == "matched")]
    seen = seen.set_index("seen")["mean"]
    assert seen["metric curve"] == 1.0
    assert seen["final metric"] < 0.8
    left_out = SPEC.findings(results)[-1].statement
    assert "; adam or sgdm by learning curve. " in left_out


def test_no_networks_that_perform_alike():
    def metric(network, rng):
        return np.full(len(network.epochs), 0.2 + 0.3 * network.index)

    with pytest.raises(IdentificationError, match=r"at least 8 sets .* at most 0.05 .* got 0"):
        SPEC.cells(few(8, metric=metric))


def test_thresholds_are_used(monkeypatch):
    """One condition per tolerance."""
    monkeypatch.setattr(matching, "TOLERANCES", (0.02, 0.3))
    cells = SPEC.cells(few(10, metric=alike, n_splits=1))
    assert {c.condition["tolerance"] for c in cells} == {0.02, 0.3}
