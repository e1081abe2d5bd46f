"""Racing nested forests: scikit-learn's numbers, to the bit, and an honest rule for stopping."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from goaldriven.identify import by_layer, by_network, features, layout_of
from goaldriven.identify.candidates import Forest, Linear
from goaldriven.identify.classifiers import grid_of
from goaldriven.identify.forests import Look, Setting, Training, looks, race
from goaldriven.identify.forests import _hopeless as hopeless
from goaldriven.identify.forests import _in_folds as in_folds
from goaldriven.identify.forests import _out_of_bag as out_of_bag_looks
from goaldriven.identify.selection import Folds, choose, inner_folds

from .made_up import FEW, make_examples

GRID = tuple(Forest(n, share) for share in ("sqrt", "log2", None) for n in (5, 12, 30))
SETTINGS = [Setting(f.n_estimators, f.max_features) for f in GRID]


@pytest.fixture(scope="module")
def examples():
    return make_examples(60, rule_effect=0.35, fingerprint=0.3)


def parts(examples, by):
    split = by(examples, 1)[0]
    x, y = features(examples, FEW), examples["rule"].values
    groups = split.groups if by is by_network else None
    return x, y, split, Folds(x, y, split.train, split.test, groups, 5), layout_of(examples, FEW)


def training_of(x, y, n_folds=5, seed=0, groups=None):
    return Training(x.astype(np.float32), y, inner_folds(y, groups, seed), seed)


def same_trees(one, other):
    assert len(one.estimators_) == len(other.estimators_)
    for a, b in zip(one.estimators_, other.estimators_, strict=True):
        a, b = a.tree_.__getstate__(), b.tree_.__getstate__()
        assert a["nodes"].tobytes() == b["nodes"].tobytes()
        assert a["values"].tobytes() == b["values"].tobytes()


@pytest.mark.parametrize("share", ["sqrt", None])
def test_a_forest_begins_with_every_smaller_forest(examples, share):
    """What nesting rests on, of scikit-learn itself."""
    x, y = features(examples, FEW), examples["rule"].values
    large = RandomForestClassifier(30, max_features=share, random_state=3).fit(x, y)
    small = RandomForestClassifier(12, max_features=share, random_state=3).fit(x, y)
    probability = sum(tree.predict_proba(x) for tree in large.estimators_[:12]) / 12
    assert probability.tobytes() == small.predict_proba(x).tobytes()
    large.estimators_ = large.estimators_[:12]
    same_trees(large, small)


@pytest.mark.parametrize("by", [by_layer, by_network])
def test_all_scores_are_the_plain_grid_searchs(examples, by):
    x, y, split, folds, layout = parts(examples, by)
    train = split.train
    inner = inner_folds(y[train], split.groups[train] if by is by_network else None, 5)
    grid = [{"n_estimators": [f.n_estimators], "max_features": [f.max_features]} for f in GRID]
    plain = GridSearchCV(RandomForestClassifier(random_state=5), grid, cv=inner)
    plain.fit(x[train], y[train])
    raced = race(SETTINGS, folds.training(), tolerance=None)
    assert raced.scores.tolist() == plain.cv_results_["mean_test_score"].tolist()
    assert raced.trees == {"sqrt": 30, "log2": 30, None: 30}
    choice = choose(GRID, folds, layout, tolerance=None)
    assert choice.candidate == Forest(**plain.best_params_) == GRID[raced.best]
    assert choice.accuracy == plain.best_score_
    same_trees(choice.pipeline.named_steps["classify"], plain.best_estimator_)


LARGER = tuple(Forest(n, share) for share in ("sqrt", "log2", None) for n in (10, 40, 120))


@pytest.mark.parametrize("by", [by_layer, by_network])
def test_the_race_chooses_what_plain_search_cannot_tell_from_its_own_choice(examples, by):
    """In the plain search's own folds, its winner is not better by more than the tolerance."""
    x, y, split, folds, layout = parts(examples, by)
    train = split.train
    inner = inner_folds(y[train], split.groups[train] if by is by_network else None, 5)
    grid = [{"n_estimators": [f.n_estimators], "max_features": [f.max_features]} for f in LARGER]
    plain = GridSearchCV(RandomForestClassifier(random_state=5), grid, cv=inner, refit=False)
    plain.fit(x[train], y[train])
    scores = np.array([plain.cv_results_[f"split{k}_test_score"] for k in range(5)])
    chosen = choose(LARGER, folds, layout).candidate
    lost = scores[:, plain.best_index_] - scores[:, LARGER.index(chosen)]
    assert lost.mean() <= 0.005 + 2.13 * lost.std(ddof=1) / np.sqrt(5)
    assert np.ptp(scores.mean(axis=0)) > 0.03, "there is something to choose"


def test_quick_grid_is_scored_as_ever(examples):
    """Stand-ins of 12 trees: both candidates, in all folds, by either kind of split."""
    candidates = grid_of("random_forest", "quick").candidates
    for by in (by_layer, by_network):
        _, _, _, folds, layout = parts(examples, by)
        scores = [folds.score(c.trial().pipeline(layout, 5)) for c in candidates]
        choice = choose(candidates, folds, layout)
        assert choice.candidate == candidates[int(np.argmax(scores))]
        assert choice.accuracy == max(scores)
        refitted = folds.fit(choice.candidate.pipeline(layout, 5))
        same_trees(choice.pipeline.named_steps["classify"], refitted.named_steps["classify"])


def test_ties_go_to_the_first():
    """Every forest is perfect on one telling feature."""
    y = np.array(["a", "b"])[np.arange(60) % 2]
    x = np.repeat((y == "a").astype(float)[:, None], 4, axis=1)
    for tolerance in (None, 0.005):
        for order in (SETTINGS, SETTINGS[::-1]):
            raced = race(order, training_of(x, y), tolerance=tolerance)
            assert raced.best == int(np.nanargmax(raced.scores))
            assert np.nanmax(raced.scores) == 1
    assert race(SETTINGS, training_of(x, y), tolerance=None).best == 0


def test_out_of_bag_scores_are_scikit_learns(examples):
    """Folds of equal size: the mean over them is the accuracy that scikit-learn reports."""
    x, y = features(examples, FEW), examples["rule"].values
    training = training_of(x, y)
    assert {len(held) for _, held in training.folds} == {36}
    raced = race([Setting(60, "sqrt"), Setting(120, "sqrt")], training, out_of_bag=True,
                 tolerance=None)  # fmt: skip
    for n, score in zip((60, 120), raced.scores, strict=True):
        plain = RandomForestClassifier(n, oob_score=True, random_state=0).fit(x, y)
        assert score == pytest.approx(plain.oob_score_, abs=1e-12)


def test_the_scored_forest_is_the_refitted_one(examples):
    x, y, split, folds, layout = parts(examples, by_layer)
    choice = choose(GRID, folds, layout)
    plain = choice.candidate.pipeline(layout, 5).fit(x[split.train], y[split.train])
    same_trees(choice.pipeline.named_steps["classify"], plain.named_steps["classify"])
    ours, theirs = (p.named_steps["classify"].get_params() for p in (choice.pipeline, plain))
    assert ours == theirs
    tested = x[split.test]
    assert choice.pipeline.predict_proba(tested).tobytes() == plain.predict_proba(tested).tobytes()


def test_same_seed_same_choice_and_inputs_stay(examples):
    x, _, _, folds, layout = parts(examples, by_network)
    before = x.tobytes()
    first, second = (choose(GRID, folds, layout) for _ in range(2))
    assert (first.candidate, first.accuracy) == (second.candidate, second.accuracy)
    assert x.tobytes() == before


def test_forests_and_others_compete(examples):
    _, _, _, folds, layout = parts(examples, by_layer)
    mixed = [Forest(5, "sqrt"), Linear("logistic", 0.1, scaling="ranks"), Forest(12, "sqrt")]
    scores = [folds.score(c.pipeline(layout, 5)) for c in mixed]
    choice = choose(mixed, folds, layout, tolerance=None)
    assert choice.candidate == mixed[int(np.argmax(scores))]
    assert choice.accuracy == max(scores)


def test_looks():
    assert looks([20, 50, 100, 500, 1000]) == [20, 40, 50, 100, 200, 400, 500, 1000]
    assert looks([12]) == [12]
    assert looks([1, 3]) == [1, 2, 3]


def test_the_rule_is_students_one_sided_test():
    """Hopeless at the tolerance at which the one-sided 5 % test rejects, not above it."""
    rng = np.random.default_rng(0)
    best = Look(100, 100, 0.9 + 0.01 * rng.normal(size=5), np.zeros(5))
    look = Look(50, 50, 0.85 + 0.01 * rng.normal(size=5), 0.84 + 0.001 * rng.normal(size=5))
    ahead = look.reach(200) - best.accuracy
    rise = look.accuracy - look.halves
    assert rise.mean() > 0
    expected = look.accuracy + 1.5 * rise - best.accuracy
    np.testing.assert_allclose(ahead, expected)
    for tolerance in np.linspace(-0.08, 0.02, 41):
        p = ttest_1samp(ahead, tolerance, alternative="less").pvalue
        assert hopeless(look, 200, best, tolerance) == (p <= 0.05)
    assert not hopeless(Look(20, 11.9, look.accuracy, look.halves), 200, best, 1.0)
    sinking = Look(50, 50, look.accuracy, look.accuracy + 0.1)
    assert sinking.reach(200).tolist() == look.accuracy.tolist()


@pytest.mark.parametrize("grow", [in_folds, out_of_bag_looks])
def test_more_trees_do_not_surpass_the_reach(examples, grow):
    """What forests of 160 trees attain lies within what smaller ones, once judged, allow for."""
    x, y = features(examples, FEW), examples["rule"].values
    found = list(grow("sqrt", [40, 80, 160], training_of(x, y)))
    votes = {in_folds: 40, out_of_bag_looks: 40 * (1 - 1 / len(y)) ** len(y)}
    assert found[0].n_votes == pytest.approx(votes[grow], rel=0.02)
    for look in found[:-1]:
        ahead = look.reach(160) - found[-1].accuracy
        assert ahead.mean() + 2.13 * ahead.std(ddof=1) / np.sqrt(5) > 0


def classes_of(n):
    return np.arange(n) % 3, np.array(["a", "b", "c"])[np.arange(n) % 3]


RACE = [Setting(n, share) for share in ("log2", None) for n in (20, 50, 150)]


@pytest.mark.parametrize("out_of_bag", [False, True])
def test_a_dear_arm_wins_where_it_should(out_of_bag):
    """One telling feature among 60: the more features are tried at a node, the better."""
    number, y = classes_of(180)
    x = np.random.default_rng(0).normal(size=(180, 60))
    x[:, 0] += 6.0 * number
    raced = race(RACE, training_of(x, y), out_of_bag=out_of_bag)
    assert RACE[raced.best].max_features is None
    assert np.nanmax(raced.scores) > 0.97
    assert (raced.forest is None) == (not out_of_bag)


@pytest.mark.parametrize("out_of_bag", [False, True])
def test_a_dear_arm_without_hope_is_left(out_of_bag):
    """Sixty equally telling features with noise of their own: only averaging over them helps."""
    number, y = classes_of(180)
    x = np.random.default_rng(1).normal(size=(180, 60)) + 0.55 * number[:, None]
    x[:, 0] += 0.8 * number  # and one that all trees of the dear arm begin with
    training = training_of(x, y)
    whole = race(RACE, training, tolerance=None, out_of_bag=out_of_bag)
    raced = race(RACE, training, out_of_bag=out_of_bag)
    assert RACE[raced.best].max_features == "log2"
    assert raced.trees[None] < 150
    assert np.nanmax(whole.scores) - np.nanmax(raced.scores) <= 0.005
    scored = ~np.isnan(raced.scores)
    assert 0 < scored.sum() < len(RACE)
    assert raced.scores[scored].tolist() == whole.scores[scored].tolist()


def bags_by_network(x, y, networks, n_trees, seed):
    """Out-of-bag accuracy where each tree's bag is drawn network by network."""
    rng = np.random.default_rng(seed)
    names, number = np.unique(networks, return_inverse=True)
    classes = np.unique(y)
    votes = np.zeros((len(y), len(classes)))
    for _ in range(n_trees):
        weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weight = weight[number].astype(float)
        tree = DecisionTreeClassifier(max_features="sqrt", random_state=int(rng.integers(2**31)))
        tree.fit(x[weight > 0], y[weight > 0], sample_weight=weight[weight > 0])
        outside = weight == 0
        votes[outside] += tree.predict_proba(x[outside])
    return np.mean(classes[votes.argmax(axis=1)] == y)


def test_out_of_bag_votes_are_too_good_where_examples_share_a_network():
    """No rule has any effect here, but every network its own fingerprint: true accuracy is 1/4."""
    apparent, honest, raced, chosen = [], [], [], []
    for seed in range(2):
        examples = make_examples(48, n_layers=4, rule_effect=0.0, fingerprint=1.5, seed=seed)
        x, y = features(examples, FEW), examples["rule"].values
        networks = examples["network"].values
        forest = RandomForestClassifier(60, oob_score=True, random_state=0).fit(x, y)
        apparent.append(forest.oob_score_)
        honest.append(bags_by_network(x, y, networks, 60, seed))
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(x, y, networks)
        raced.append(cross_val_score(forest, x, y, cv=list(folds)).mean())
        everything = np.arange(len(y))
        part = Folds(x, y, everything, everything, networks, seed)
        settings = [Forest(n, "sqrt") for n in (20, 50)]
        chosen.append(choose(settings, part, layout_of(examples, FEW)).accuracy)
    assert np.mean(apparent) > 0.6
    for unbiased in (honest, raced, chosen):
        assert abs(np.mean(unbiased) - 0.25) < 0.08
