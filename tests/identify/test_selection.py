"""Cross-validation inside the training part: grouped, unleaking, and scikit-learn's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from goaldriven.errors import IdentificationError
from goaldriven.identify import by_network, features, layout_of
from goaldriven.identify.candidates import Forest, Linear
from goaldriven.identify.scaling import PrincipalAxes, Ranks, ZScore
from goaldriven.identify.selection import Folds, choose, inner_folds

from .made_up import FEW, make_examples


@pytest.fixture
def examples():
    return make_examples(40, rule_effect=0.35)


@pytest.fixture
def parts(examples):
    split = by_network(examples, 1)[0]
    x, y = features(examples, FEW), examples["rule"].values
    return x, y, split, layout_of(examples, FEW)


def folds_of(parts, x=None) -> Folds:
    original, y, split, _ = parts
    return Folds(original if x is None else x, y, split.train, split.test, split.groups, seed=5)


def test_inner_folds_keep_networks_whole(examples):
    networks, rules = examples["network"].values, examples["rule"].values
    folds = inner_folds(rules, networks, 0)
    assert len(folds) == 5
    validated = np.concatenate([v for _, v in folds])
    assert sorted(validated.tolist()) == list(range(len(rules)))
    for train, validation in folds:
        assert not set(networks[train].tolist()) & set(networks[validation].tolist())
        assert set(rules[train].tolist()) == {"adam", "fa", "ia", "sgdm"}
        _, counts = np.unique(rules[validation], return_counts=True)
        assert counts.tolist() == [6, 6, 6, 6]  # 2 of 10 networks × 3 layers of each rule


def test_inner_folds_without_groups_are_stratified(examples):
    rules = examples["rule"].values
    for train, validation in inner_folds(rules, None, 0):
        assert not set(train.tolist()) & set(validation.tolist())
        assert np.unique(rules[validation], return_counts=True)[1].tolist() == [6, 6, 6, 6]


def test_fewer_folds_where_a_rule_has_few_networks():
    y = np.repeat(["a", "b"], 8)
    networks = np.repeat(np.arange(8), 2)
    assert len(inner_folds(y, networks, 0)) == 4
    with pytest.raises(IdentificationError, match="at least 2 groups to train on, got 1"):
        inner_folds(np.array(["a", "a", "b", "b"]), np.array([0, 0, 1, 2]), 0)
    with pytest.raises(IdentificationError, match="at least 2 examples to train on, got 1"):
        inner_folds(np.array(["a", "b", "b"]), None, 0)


@pytest.mark.parametrize(
    "candidate",
    [Linear("logistic", 0.1), Linear("svm", 0.01, 5, "ranks"), Forest(5, "sqrt")],
    ids=lambda c: type(c).__name__,
)
def test_scores_are_scikit_learns(parts, candidate):
    """The remembered transformations give what cross_val_score gives on the whole pipeline."""
    x, y, split, layout = parts
    folds = folds_of(parts)
    train = split.train
    inner = inner_folds(y[train], split.groups[train], 5)
    expected = cross_val_score(candidate.pipeline(layout, 5), x[train], y[train], cv=inner)
    for _ in range(2):  # the second time from memory
        assert folds.score(candidate.pipeline(layout, 5)) == pytest.approx(expected.mean())


def test_the_best_candidate_wins_and_ties_go_to_the_first(parts):
    layout = parts[-1]
    folds = folds_of(parts)
    candidates = [Linear("logistic", C, scaling="ranks") for C in (1e-9, 1e-3, 1.0)]
    scores = [folds.score(c.pipeline(layout, 5)) for c in candidates]
    choice = choose(candidates, folds, layout)
    assert choice.candidate == candidates[int(np.argmax(scores))]
    assert choice.accuracy == max(scores) > min(scores)
    twins = [
        Linear("svm", 0.1, scaling="ranks"),
        Linear("svm", 0.1, scaling="ranks", tolerance=1e-5),
    ]
    assert choose(twins, folds, layout).candidate is twins[0]


def test_a_single_candidate_is_not_cross_validated(parts):
    folds = folds_of(parts)
    folds.score = None  # calling it would fail
    choice = choose([Linear("svm", 0.1)], folds, parts[-1])
    assert np.isnan(choice.accuracy)


def test_too_many_components_leave_the_competition(parts):
    folds, layout = folds_of(parts), parts[-1]
    few, many = Linear("svm", 0.1, 3), Linear("svm", 0.1, 10_000)
    assert choose([many, few], folds, layout).candidate == few
    for candidates in ([many], [many, many]):
        with pytest.raises(IdentificationError, match="at most the principal components that 96"):
            choose(candidates, folds, layout)


@pytest.mark.parametrize("scaling", ["ranks", "zscore"])
def test_nothing_leaks_from_the_test_part(parts, scaling):
    """Whatever the test examples are, what is fitted and chosen stays the same, bit for bit."""
    x, _, split, layout = parts
    candidates = [Linear("svm", C, k, scaling) for C in (0.1, 0.01) for k in (None, 4)]
    spoilt = x.copy()
    spoilt[split.test, 3:] = 1e6 * np.random.default_rng(0).normal(
        size=spoilt[split.test, 3:].shape
    )
    a, b = (choose(candidates, folds_of(parts, z), layout) for z in (x, spoilt))
    assert a.candidate == b.candidate
    assert a.accuracy == b.accuracy
    heads = [c.pipeline.named_steps["classify"] for c in (a, b)]
    assert heads[0].coef_.tobytes() == heads[1].coef_.tobytes()
    # The check has teeth: fitted on everything, the scaling does change.
    scaler = {"ranks": Ranks, "zscore": ZScore}[scaling]
    fitted = [vars(scaler().fit(z)) for z in (x, spoilt)]
    name = {"ranks": "knots_", "zscore": "mean_"}[scaling]
    assert not np.allclose(fitted[0][name], fitted[1][name])
    assert np.array_equal(
        vars(a.pipeline.named_steps["scale"])[name], vars(scaler().fit(x[split.train]))[name]
    )


def test_nothing_leaks_from_a_validation_fold(parts):
    """In each fold, scaling and axes are fitted on that fold's own training rows."""
    _, y, split, layout = parts
    seen = []

    class Spy(PrincipalAxes):
        def fit(self, rows, y=None):
            seen.append(len(rows))
            return super().fit(rows)

    pipeline = Linear("svm", 0.1, scaling="ranks").pipeline(layout, 5)
    pipeline.steps[1] = ("axes", Spy())
    folds_of(parts).score(pipeline)
    train = split.train
    sizes = [len(a) for a, _ in inner_folds(y[train], split.groups[train], 5)]
    assert seen == sizes
    assert max(sizes) < len(train)


def test_leakage_would_show():
    """On pure noise, choosing features by all labels before splitting looks like skill; the
    experiment's way of fitting everything inside the training part does not."""
    rng = np.random.default_rng(1)
    n, p = 80, 4000
    y = np.array(["a", "b"])[np.arange(n) % 2]
    noise = rng.normal(size=(n, p))
    groups = np.arange(n)
    train, test = np.arange(60), np.arange(60, n)

    def select(rows):
        gap = noise[rows][y[rows] == "a"].mean(axis=0) - noise[rows][y[rows] == "b"].mean(axis=0)
        return np.argsort(-np.abs(gap))[:40]

    def accuracy(columns):
        x = np.hstack([np.zeros((n, 3)), noise[:, columns]])
        folds = Folds(x, y, train, test, groups, 0)
        choice = choose([Linear("logistic", 0.1)], folds, None)
        return np.mean(choice.pipeline.predict(x[test]) == y[test])

    assert accuracy(select(np.arange(n))) > 0.85
    assert accuracy(select(train)) < 0.75
