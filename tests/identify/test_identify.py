"""The experiment: what is there is found, what is not there is not, and the tables add up."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import goaldriven as gd
from goaldriven.errors import DataError, IdentificationError
from goaldriven.identify import DEFAULT_CLASSIFIERS, features, identify, jobs
from goaldriven.identify.candidates import probabilities

from .made_up import FEW, make_examples, with_rules

QUICK = {"classifiers": ["logistic_regression"], "observables": ["all"], "permutations": 0}


def accuracy(results, split_kind="network", unit="layer", **where) -> float:
    table = results.summary()
    table = table[(table["split_kind"] == split_kind) & (table["unit"] == unit)]
    for key, value in where.items():
        table = table[table[key] == value]
    (mean,) = table["mean"]
    return float(mean)


def chance_bounds(n: int, chance: float = 0.25) -> tuple[float, float]:
    """Three standard deviations of a binomial share of ``n`` independent networks."""
    width = 3 * np.sqrt(chance * (1 - chance) / n)
    return chance - width, chance + width


def at_chance(value: float, n: int, chance: float = 0.25) -> bool:
    low, high = chance_bounds(n, chance)
    return low < value < high


@pytest.fixture(scope="module")
def found():
    """A planted difference, every classifier, both kinds of split."""
    examples = make_examples(32, rule_effect=3.0, planted=FEW[2:4], n_epochs=6, seed=1)
    return examples, identify(
        examples, observables=["all", "weight", "activation"], n_splits=2, seed=2
    )


def test_a_planted_difference_is_found_by_all(found):
    _, results = found
    for name in DEFAULT_CLASSIFIERS:
        for kind in ("network", "layer"):
            where = {"split_kind": kind, "classifier": name}
            assert accuracy(results, observables="all", **where) > 0.9
            assert accuracy(results, observables="activation", **where) > 0.9
            # Nothing was planted there.
            assert at_chance(accuracy(results, observables="weight", **where), 32)


def test_permuted_labels_are_at_chance():
    examples = make_examples(64, rule_effect=1.0, n_layers=2, seed=3)
    rng = np.random.default_rng(0)
    of_network = rng.permutation(np.repeat(["a", "b", "c", "d"], 16))
    shuffled = with_rules(examples, np.repeat(of_network, 2))
    results = identify(shuffled, splits=["network"], **QUICK)
    assert at_chance(accuracy(results), 64)
    assert at_chance(accuracy(results, unit="network"), 64)
    every_layer = with_rules(examples, rng.permutation(examples["rule"].values))
    results = identify(every_layer, splits=["layer"], **QUICK)
    assert at_chance(accuracy(results, "layer"), 128)
    # The same data with their own labels: not at chance.
    assert accuracy(identify(examples, n_splits=2, **QUICK)) > 0.9


def test_one_rule_under_two_names_is_at_chance():
    """'a' and 'b' are the same rule: they are told from 'c', and not from each other."""
    examples = make_examples(72, rules=("a", "c", "b"), rule_effect=1.0, n_layers=2, seed=5)
    networks = np.unique(examples["network"].values, return_inverse=True)[1]
    a, b = examples["rule"].values == "a", examples["rule"].values == "b"
    same = examples.copy(deep=True)
    rng = np.random.default_rng(1)
    both = np.where(a | b)[0]
    # Give the networks of 'a' and 'b' trajectories of the rule 'a', so the names say nothing.
    source = np.where(a)[0]
    drawn = rng.integers(len(source), size=len(both))
    noise = rng.normal(size=same["value"].values[both].shape)
    same["value"].values[both] = same["value"].values[source[drawn]] + noise
    assert len(np.unique(networks)) == 72
    results = identify(same, splits=["network"], **QUICK)
    counts = results.confusion.groupby(["true", "predicted"])["count"].sum()
    right = counts["a", "a"] + counts["b", "b"]
    confused = counts["a", "b"] + counts["b", "a"]
    assert at_chance(right / (right + confused), 48, chance=0.5)
    assert counts["c", "c"] / counts["c"].sum() > 0.9
    assert (right + confused) / (counts["a"].sum() + counts["b"].sum()) > 0.9


def test_a_fingerprint_is_not_the_rule():
    """Layers share what is their network's own, and the rule means nothing: splits by layer score
    far above chance, splits by network at chance. Why the headline splits by network."""
    examples = make_examples(48, fingerprint=3.0, n_layers=4, n_epochs=10, seed=7)
    results = identify(examples, n_splits=6, **(QUICK | {"classifiers": ["logistic_regression"]}))
    assert accuracy(results, "layer") > 0.9
    assert at_chance(accuracy(results, "network"), 48)
    assert at_chance(accuracy(results, "network", unit="network"), 48)


def test_a_fingerprint_fools_forests_too():
    examples = make_examples(48, fingerprint=3.0, n_layers=4, n_epochs=10, seed=8)
    results = identify(examples, n_splits=3, **(QUICK | {"classifiers": ["random_forest"]}))
    assert accuracy(results, "layer") > 0.8
    assert at_chance(accuracy(results, "network"), 48)


def test_tables_add_up(found):
    examples, results = found
    assert len(results.accuracy) == 5 * 3 * 2 * 2  # classifiers, observables, kinds, splits
    keys = ["classifier", "observables", "split_kind", "split"]
    joined = results.confusion.assign(
        right=results.confusion["count"]
        * (results.confusion["true"] == results.confusion["predicted"])
    )
    sums = joined.groupby(keys)[["count", "right"]].sum()
    table = results.accuracy.set_index(keys)
    assert (sums["count"] == table["n_test"].loc[sums.index]).all()
    np.testing.assert_allclose(sums["right"] / sums["count"], table["accuracy"].loc[sums.index])
    assert (table["n_train"] + table["n_test"] == examples.sizes["example"]).all()
    np.testing.assert_allclose(table["chance"], 0.25)
    chosen = table["cv_accuracy"].dropna()  # where there was something to choose
    assert chosen.between(0, 1).all()
    assert set(chosen.index.get_level_values("classifier")) == {"random_forest", "conv1d"}
    for parameters in table["parameters"]:
        assert isinstance(json.loads(parameters), dict)
    verdicts = results.verdicts.groupby(keys)["correct"].agg(["mean", "size"])
    networks = results.network_accuracy.set_index(keys)
    assert set(networks.index.get_level_values("split_kind")) == {"network"}
    np.testing.assert_allclose(verdicts["mean"], networks["accuracy"].loc[verdicts.index])
    assert (verdicts["size"] == 8).all()  # a quarter of 32 networks
    assert (networks["n_train"] == 24).all()


def test_summary_is_mean_and_standard_error(found):
    _, results = found
    summary = results.summary().set_index(["classifier", "observables", "split_kind", "unit"])
    one = results.accuracy.query(
        "classifier == 'svm' and observables == 'weight' and split_kind == 'layer'"
    )["accuracy"].to_numpy()
    row = summary.loc["svm", "weight", "layer", "layer"]
    assert row["mean"] == pytest.approx(one.sum() / 2)
    assert row["sem"] == pytest.approx(np.sqrt(((one - one.mean()) ** 2).sum() / 1 / 2))
    assert row["splits"] == 2
    assert len(summary) == 5 * 3 * 3


def test_scores_of_the_kept_classifiers_are_those_in_the_tables(found):
    """From the kept classifier of split 0: accuracy, confusions and verdicts, by hand."""
    examples, results = found
    for name in DEFAULT_CLASSIFIERS:
        fitted = results.classifier(name, "all", "network", 0)
        split = next(s for s in results.splits if s.kind == "network")
        tested = examples.isel(example=split.test)
        p = fitted.probabilities(tested)
        x = features(tested, FEW, fitted.layout.views)
        np.testing.assert_array_equal(p, probabilities(fitted.pipeline, x))
        named = np.array(fitted.rules)[p.argmax(axis=1)]
        of_all = results.accuracy.query("classifier == @name and observables == 'all'")
        row = of_all.query("split_kind == 'network' and split == 0").iloc[0]
        assert row["accuracy"] == np.mean(named == tested["rule"].values)
        verdicts = results.verdicts.query(
            "classifier == @name and observables == 'all' and split == 0"
        ).set_index("network")
        for network in np.unique(tested["network"].values):
            mean = p[tested["network"].values == network].mean(axis=0)
            assert verdicts.loc[network, "verdict"] == fitted.rules[mean.argmax()]
            assert verdicts.loc[network, "probability"] == pytest.approx(mean.max())


def test_importances_point_at_what_was_planted(found):
    _, results = found
    table = results.importances
    gini = table[table["kind"] == "gini"]
    assert set(gini["classifier"]) == {"random_forest"}
    assert set(gini["observables"]) == {"all", "weight", "activation"}
    sums = gini.groupby(["observables", "split_kind"])["mean"].sum()
    np.testing.assert_allclose(sums, 1)
    assert (gini["n"] == 2 * 100).all()  # splits × trees
    assert (gini["sem"] > 0).any()
    permuted = table[table["kind"] == "permutation"]
    assert set(permuted["observables"]) == {"all"}
    assert set(permuted["classifier"]) == set(DEFAULT_CLASSIFIERS)
    assert (permuted["n"] == 2).all()  # splits × one repeat
    for _, rows in [*gini.query("observables == 'all'").groupby("split_kind"),
                    *permuted.groupby(["classifier", "split_kind"])]:  # fmt: skip
        assert set(rows.nlargest(2, "mean")["statistic"]) == set(FEW[2:4])
    assert set(table["measure"]) == {
        "layer_position", "weight", "activation", "activity_change",
    }  # fmt: skip


def test_results_do_not_depend_on_jobs(found):
    examples, _ = found
    common = {"observables": ["activation"], "n_splits": 1, "seed": 4, "permutations": 1}
    one, two = (identify(examples, jobs=jobs, **common) for jobs in (1, 2))
    for name in ("accuracy", "network_accuracy", "verdicts", "confusion", "importances"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), check_exact=True)
    tested = examples.isel(example=one.splits[0].test)
    for a, b in zip(one.fitted, two.fitted, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.probabilities(tested), b.probabilities(tested))


def test_a_classifiers_results_do_not_depend_on_the_others(found):
    examples, results = found
    alone = identify(
        examples, classifiers=["random_forest"], observables=["weight"], n_splits=2, seed=2
    )
    query = "classifier == 'random_forest' and observables == 'weight'"
    expected = results.accuracy.query(query).reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.accuracy, expected, check_exact=True)


def test_seeds_change_the_splits(found):
    examples, _ = found
    a, b = (identify(examples, n_splits=1, seed=s, **QUICK) for s in (0, 1))
    assert not np.array_equal(a.splits[0].test, b.splits[0].test)


def test_input_is_left_alone(found):
    examples, _ = found
    before = examples.copy(deep=True)
    identify(examples, n_splits=1, **QUICK)
    assert examples.identical(before)


def test_progress_is_told(found):
    examples, _ = found
    told = []
    identify(examples, n_splits=2, progress=lambda *a: told.append(a), **QUICK)
    assert told == [
        (1, 4, "all, split 1 by network"),
        (2, 4, "all, split 2 by network"),
        (3, 4, "all, split 1 by layer"),
        (4, 4, "all, split 2 by layer"),
    ]


def test_diverged_networks_are_left_out_and_named():
    examples = make_examples(34, rule_effect=1.0)
    lost = np.isin(examples["network"].values, ["net032", "net033"])
    examples["value"].values[lost, 2:] = np.nan
    examples = examples.assign_coords(
        outcome=("example", np.where(lost, "diverged", "trained").astype(str))
    )
    results = identify(examples, n_splits=2, **QUICK)
    assert results.settings["diverged"] == {"net032": "adam", "net033": "fa"}
    assert set(results.settings["networks"]) == {f"net{i:03d}" for i in range(32)}
    without = identify(examples.isel(example=np.flatnonzero(~lost)), n_splits=2, **QUICK)
    pd.testing.assert_frame_equal(results.accuracy, without.accuracy, check_exact=True)
    assert without.settings["diverged"] == {}


def test_settings_say_what_was_fitted_on_what(found):
    examples, results = found
    settings = results.settings
    assert settings["statistics"]["weight"] == list(FEW[:2])
    assert settings["statistics"]["all"] == list(FEW)
    assert settings["rules"] == ["adam", "fa", "ia", "sgdm"]
    assert settings["epochs"] == [0, 5, 10, 15, 20, 25]
    assert settings["examples"]["network"] == examples["network"].values.tolist()
    assert settings["seed"] == 2
    assert {"python", "scikit-learn", "torch"} <= set(settings["versions"])
    assert json.loads(json.dumps(settings)) == settings
    split = results.splits[0]
    train, test = results.networks(split)
    assert not set(train) & set(test)
    assert set(train) | set(test) == set(settings["networks"])
    assert set(test) == set(examples["network"].values[split.test].tolist())


def test_statistics_that_are_not_finite_everywhere():
    examples = make_examples(16)
    examples["value"].values[5, 1, 0] = np.nan
    results = identify(examples, n_splits=1, **QUICK)
    assert results.settings["statistics"]["all"] == list(FEW[1:])
    with pytest.raises(IdentificationError, match=r"must be finite.*weight_raw_mean in layer"):
        identify(examples, n_splits=1, statistics=FEW, **QUICK)
    chosen = identify(examples, n_splits=1, statistics=[FEW[2], FEW[1]], **QUICK)
    assert chosen.settings["statistics"]["all"] == [FEW[2], FEW[1]]


def test_published_statistics_by_name():
    from goaldriven.specs import PUBLISHED_STATISTICS

    examples = make_examples(16, statistics=(*PUBLISHED_STATISTICS, "weight_raw_skew"), n_epochs=2)
    results = identify(examples, n_splits=1, statistics="published", **QUICK)
    assert results.settings["statistics"]["all"] == list(PUBLISHED_STATISTICS)


def test_the_papers_features_on_request(found):
    examples, _ = found
    results = identify(examples, n_splits=1, views="published", **QUICK)
    assert results.settings["views"] == {"logistic_regression": "published"}
    assert results.fitted[0].layout.n_features == 3 + 6 * 6


def test_the_package_can_be_called_by_its_name():
    import goaldriven.identify as package

    assert package.identify is identify
    results = gd.identify(make_examples(16), n_splits=1, **QUICK)
    assert len(results.accuracy) == 2
    assert len(package(make_examples(16), n_splits=1, **QUICK).accuracy) == 2


BAD = {
    "grid": ({"grid": "fast"}, "grid must be one of paper, quick; got 'fast'"),
    "classifier": (
        {"classifiers": ["random_forrest"]},
        "classifiers: each must be one of boosted_trees, conv1d, kernel_svm, logistic_regression, "
        "random_forest, rocket, svm, transformer; got 'random_forrest' (did you mean "
        "'random_forest'?)",
    ),
    "classifier text": (
        {"classifiers": "svm"},
        "classifiers must be a list with at least one name, got 'svm'",
    ),
    "no classifier": ({"classifiers": []}, "must be a list with at least one name, got []"),
    "twice": ({"classifiers": ["svm", "svm"]}, "classifiers must not repeat a name"),
    "observables": (
        {"observables": ["weights"]},
        "observables: each must be one of activation, activity_change, all, weight; got 'weights'",
    ),
    "splits": ({"splits": ["task"]}, "splits: each must be one of layer, network; got 'task'"),
    "statistics": (
        {"statistics": "publishd"},
        "statistics, if not a list, must be one of admissible, published; got 'publishd'",
    ),
    "statistic": ({"statistics": ["weight_mean"]}, "got 'weight_mean'"),
    "absent statistic": (
        {"statistics": ["weight_sq_var"], "observables": ["weight"]},
        "statistics: each must be one of activation_abs_mean",
    ),
    "no statistic": (
        {"statistics": [FEW[0]]},
        "observables: 'activation' must have a statistic among the 1 used, got none",
    ),
    "views": ({"views": "log"}, "views must be one of dynamics, published; got 'log'"),
    "n_splits": ({"n_splits": 0}, "n_splits must be an integer of at least 1, got 0"),
    "seed": ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
    "jobs": ({"jobs": 1.5}, "jobs must be an integer of at least 1, got 1.5"),
    "permutations": ({"permutations": True}, "permutations must be an integer of at least 0"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_requests(change, message):
    with pytest.raises(IdentificationError) as error:
        identify(make_examples(16), **change)
    assert message in str(error.value)


def test_bad_examples():
    examples = make_examples(16)
    with pytest.raises(IdentificationError, match=r"must be an xarray\.Dataset .*got str"):
        identify("runs/digits")
    with pytest.raises(IdentificationError, match="must have a coordinate 'position'"):
        identify(examples.drop_vars("position"))
    with pytest.raises(IdentificationError, match="must have a variable 'value'"):
        identify(examples.rename(value="values"))
    with pytest.raises(IdentificationError, match="at least 2 learning rules, got fa"):
        identify(with_rules(examples, ["fa"] * 48))
    with pytest.raises(IdentificationError, match=r"rule sgdm must have at least 4 networks .* 3"):
        identify(make_examples(15))
    with pytest.raises(DataError, match="did not diverge, got none"):
        identify(examples.assign_coords(outcome=("example", ["diverged"] * 48)))


def test_fits_that_are_kept_are_not_made_again(tmp_path, monkeypatch):
    """Interrupted after a few fits, the next call makes the others, and gives the same results."""
    ask = {
        "classifiers": ["random_forest", "svm"], "observables": ["all", "weight"],
        "splits": ["network"], "n_splits": 3, "cache": tmp_path,
    }  # fmt: skip
    examples = make_examples(16, rule_effect=1.0, n_layers=2, n_epochs=2, seed=8)
    plain = identify(examples, **{**ask, "cache": None})
    fits: list[str] = []
    fit = jobs._run_classifier

    def counted(plan, job, name, *rest):
        if len(fits) == stop:
            raise KeyboardInterrupt
        fits.append(f"{name} {job.label}")
        return fit(plan, job, name, *rest)

    monkeypatch.setattr(jobs, "_run_classifier", counted)
    stop = 5
    with pytest.raises(KeyboardInterrupt):
        identify(examples, **ask)
    assert len(list(tmp_path.rglob("*.npz"))) == 3, "two of the five are of the first split"
    fits, stop = [], 100
    again = identify(examples, **ask)
    assert len(fits) == 12 - 3
    for name in ("accuracy", "network_accuracy", "verdicts", "confusion", "importances"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(plain, name))
    fits = []
    identify(examples, **ask)
    assert len(fits) == 4, "those of the first split, whose classifiers are wanted"
    identify(examples, **{**ask, "seed": 1})
    assert len(fits) == 4 + 12, "another seed is another fit"
    changed = examples.assign(value=examples["value"] * 1.01)
    fits = []
    identify(changed, **ask)
    assert len(fits) == 12
