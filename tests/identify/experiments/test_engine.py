"""The engine: what it fits, that it fits nothing twice, and that it forgets what is damaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from goaldriven.identify import identify
from goaldriven.identify.candidates import describe, probabilities
from goaldriven.identify.classifiers import grid_of
from goaldriven.identify.experiments import engine
from goaldriven.identify.experiments.cache import digest
from goaldriven.identify.experiments.cells import Cell
from goaldriven.identify.experiments.engine import Settings, fit, fit_all
from goaldriven.identify.features import features, layout_of
from goaldriven.identify.selection import Folds, choose
from goaldriven.identify.splits import Split, by_network

from ..made_up import make_examples


@pytest.fixture
def examples():
    return make_examples(24, rule_effect=0.7)


@pytest.fixture
def cells(examples):
    return [
        Cell({"n": n}, "random_forest", examples, split, n)
        for n, split in enumerate(by_network(examples, 2))
    ]


def refuse(*_, **__):
    raise AssertionError("nothing was to be fitted")


def test_a_fit_is_the_chosen_classifier_of_the_training_part(cells, tmp_path):
    cell = cells[1]
    result = fit(cell, Settings("quick", 0, tmp_path))
    grid = grid_of("random_forest", "quick")
    statistics = cell.train["statistic"].values.tolist()
    x, y = features(cell.train, statistics, grid.views), cell.train["rule"].values
    layout, seed = layout_of(cell.train, statistics, grid.views), cell.seed(0)
    folds = Folds(x, y, cell.split.train, cell.split.test, cell.split.groups, seed)
    by_hand = choose(grid.candidates, folds, layout)
    expected = probabilities(by_hand.pipeline, x[cell.split.test])
    np.testing.assert_array_equal(result.scores["same"], expected)
    assert result.classes.tolist() == ["adam", "fa", "ia", "sgdm"]
    assert result.cv_accuracy == by_hand.accuracy


def test_nothing_is_fitted_twice(cells, tmp_path, monkeypatch):
    settings = Settings("quick", 0, tmp_path)
    first = list(fit_all(cells, settings))
    monkeypatch.setattr(engine, "choose", refuse)
    again = list(fit_all(cells, settings))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.scores["same"], b.scores["same"])
        assert (a.parameters, a.cv_accuracy) == (b.parameters, b.cv_accuracy)
    with pytest.raises(AssertionError, match="nothing was to be fitted"):
        fit(cells[0], Settings("quick", 1, tmp_path))


def test_a_fit_is_found_whatever_the_condition_is_called(cells, tmp_path, monkeypatch):
    settings = Settings("quick", 0, tmp_path)
    known = fit(cells[0], settings)
    monkeypatch.setattr(engine, "choose", refuse)
    same = Cell({"another": "name"}, "random_forest", cells[0].train, cells[0].split, 0)
    np.testing.assert_array_equal(fit(same, settings).scores["same"], known.scores["same"])


def test_a_change_of_what_is_trained_on_is_a_new_fit(cells, tmp_path, monkeypatch):
    settings = Settings("quick", 0, tmp_path)
    fit(cells[0], settings)
    monkeypatch.setattr(engine, "choose", refuse)
    value = cells[0].train["value"].values.copy()
    value[cells[0].split.train[0], 0, 0] += 1e-9
    changed = cells[0].train.assign(value=(cells[0].train["value"].dims, value))
    with pytest.raises(AssertionError):
        fit(Cell({}, "random_forest", changed, cells[0].split, 0), settings)


def merged_in_test(cell, probes):
    """The cell with these probes, and the same with its tested networks merged two by two."""
    split = cell.split
    labels = split.groups.astype("U32")
    tested = np.unique(labels[split.test])
    partner = dict(zip(tested, np.repeat(tested[::2], 2), strict=False))
    together = np.array([partner.get(label, label) for label in labels])
    merged = Split(split.train, split.test, split.kind, together)
    return replace(cell, probes=probes), replace(cell, probes=probes, split=merged)


def test_probes_depend_on_which_tested_examples_belong_together(cells, tmp_path):
    """The distance of a network is the mean over its layers."""
    settings = Settings("quick", 0, tmp_path)
    alone, pairs = merged_in_test(cells[0], ("neighbour_distances",))
    apart = fit(alone, settings).found["distance_test"]
    found = fit(pairs, settings).found["distance_test"]
    of_layers = dict(zip(dict.fromkeys(alone.split.groups[alone.split.test]), apart, strict=True))
    of_pair = dict(zip(dict.fromkeys(pairs.split.groups[pairs.split.test]), found, strict=True))
    names = sorted(of_layers)
    assert len(of_pair) == len(names) // 2 == 4
    for first, second in zip(names[::2], names[1::2], strict=True):
        assert of_pair[first] == pytest.approx((of_layers[first] + of_layers[second]) / 2)


def test_without_probes_a_fit_has_the_name_it_always_had(cells, tmp_path, monkeypatch):
    settings = Settings("quick", 0, tmp_path)
    cell, merged = merged_in_test(cells[0], ())
    known = fit(cell, settings)
    (path,) = tmp_path.rglob("*.npz")
    split, rules = cell.split, cell.train["rule"].values.astype(str)
    grid = grid_of("random_forest", "quick")
    statistics = cell.train["statistic"].values.tolist()
    x = features(cell.train, statistics, grid.views)
    name = digest(
        x[split.train], rules[split.train],
        np.unique(split.groups[split.train], return_inverse=True)[1],
        {"same": digest(x[split.test])}, 0,
        [f"{type(c).__name__} {describe(c)}" for c in grid.candidates],
        [grid.views, cell.train.sizes["epoch"], cell.seed(0), []],
    )  # fmt: skip
    assert path.stem == name
    monkeypatch.setattr(engine, "choose", refuse)
    np.testing.assert_array_equal(fit(merged, settings).scores["same"], known.scores["same"])


def test_a_damaged_fit_is_made_again(cells, tmp_path):
    settings = Settings("quick", 0, tmp_path)
    known = fit(cells[0], settings)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:-20])
    np.testing.assert_array_equal(fit(cells[0], settings).scores["same"], known.scores["same"])


def test_the_number_of_processes_does_not_matter(cells, tmp_path):
    alone = list(fit_all(cells, Settings("quick", 0, tmp_path / "a")))
    together = list(fit_all(cells, Settings("quick", 0, tmp_path / "b"), jobs=2))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.scores["same"], b.scores["same"])


def test_an_interruption_loses_nothing_that_was_finished(cells, tmp_path, monkeypatch):
    settings = Settings("quick", 0, tmp_path)

    def interrupt(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(fit_all(cells, settings, progress=interrupt))
    monkeypatch.setattr(engine, "choose", refuse)
    fit(cells[0], settings)


def test_out_of_fold_scores_come_from_classifiers_that_did_not_see_the_network(tmp_path):
    """With pure fingerprints of networks, scores of the training part itself would be perfect."""
    examples = make_examples(32, fingerprint=3.0)
    split = by_network(examples, 1)[0]
    cell = Cell({}, "random_forest", examples, split, 0, probes=("out_of_fold",))
    found = fit(cell, Settings("quick", 0, None))
    scores, truth = found.found["out_of_fold"], examples["rule"].values[split.train]
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)
    assert np.mean(found.classes[scores.argmax(axis=1)] == truth) < 0.5


def test_experiments_and_identify_see_alike(examples, material_of):
    """The engine and `identify` differ in seeds alone: their means agree within their errors."""
    given = material_of(examples, n_splits=6)
    cells = given.cells(given.examples, ["svm"])
    ours = [
        np.mean(one.classes[one.scores["same"].argmax(axis=1)]
                == examples["rule"].values[cell.split.test])
        for cell, one in zip(cells, fit_all(cells, Settings("quick", 0, None)), strict=True)
    ]  # fmt: skip
    theirs = identify(
        examples, classifiers=["svm"], observables=["all"], splits=["network"], n_splits=6,
        permutations=0,
    ).accuracy["accuracy"]  # fmt: skip
    assert abs(np.mean(ours) - theirs.mean()) <= 0.05
