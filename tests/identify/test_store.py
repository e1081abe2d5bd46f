"""Results come back as they were; classifiers give identical scores; nothing is ever unpickled."""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline

from goaldriven.errors import DataError, StudyError
from goaldriven.identify import CLASSIFIERS, identify, load
from goaldriven.identify.tables import COLUMNS
from goaldriven.trajectories import atomic

from .made_up import make_examples, with_rules


@pytest.fixture(scope="module")
def examples():
    examples = make_examples(16, rule_effect=2.0)
    names = np.array(["NA", "1e5", "null", "007"])  # text that looks like something else
    index = np.unique(examples["rule"].values, return_inverse=True)[1]
    networks = np.char.add("00", examples["network"].values.astype("U6"))
    networks = np.char.replace(networks, "net", "123e")  # reads like a number: 00123e001
    examples = with_rules(examples, names[index])
    return examples.assign_coords(network=("example", networks))


@pytest.fixture(scope="module")
def results(examples):
    return identify(
        examples, classifiers=tuple(CLASSIFIERS), observables=["all"], n_splits=2, permutations=1
    )


@pytest.fixture
def saved(results, tmp_path):
    results.save(tmp_path / "identify")
    return tmp_path / "identify"


def test_tables_come_back_exactly(results, saved):
    back = load(saved)
    for name in COLUMNS:
        pd.testing.assert_frame_equal(getattr(back, name), getattr(results, name), check_exact=True)
    assert set(back.confusion["true"]) == {"NA", "1e5", "null", "007"}
    assert back.settings == results.settings
    pd.testing.assert_frame_equal(back.summary(), results.summary(), check_exact=True)
    summary = pd.read_csv(saved / "summary.csv")
    np.testing.assert_allclose(summary["mean"], results.summary()["mean"], rtol=1e-15)


def test_splits_come_back(results, saved):
    for a, b in zip(load(saved).splits, results.splits, strict=True):
        assert a.kind == b.kind
        for part in ("train", "test", "groups"):
            np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


def test_classifiers_give_identical_scores(examples, results, saved):
    back = load(saved)
    assert len(back.fitted) == len(results.fitted) == len(CLASSIFIERS) * 2  # kinds of split
    for a, b in zip(back.fitted, results.fitted, strict=True):
        assert (a.name, a.parameters, a.layout, a.rules) == (
            b.name, b.parameters, b.layout, b.rules,
        )  # fmt: skip
        assert a.probabilities(examples).tobytes() == b.probabilities(examples).tobytes()
    assert load(saved, classifiers=False).fitted == ()


def test_record_says_what_was_fitted_on_what(examples, results, saved):
    record = json.loads((saved / "identification.json").read_text())
    assert [c["file"] for c in record["classifiers"]] == [
        f"classifiers/{f.name}.skops" for f in results.fitted
    ]
    networks = examples["network"].values
    for split, entry in zip(results.splits, record["splits"], strict=True):
        assert entry["train_networks"] == sorted(set(networks[split.train].tolist()))
        assert entry["test_networks"] == sorted(set(networks[split.test].tolist()))
    assert record["settings"]["versions"]["numpy"] == np.__version__


def test_saving_replaces_an_earlier_identification(examples, saved):
    small = identify(
        examples, classifiers=["svm"], observables=["weight"], splits=["network"], n_splits=1,
        keep=(), permutations=0,
    )  # fmt: skip
    small.save(saved)
    assert not list((saved / "classifiers").glob("*"))
    back = load(saved)
    assert len(back.accuracy) == 1
    assert len(back.importances) == 0
    assert back.fitted == ()


def test_classifiers_are_found_by_name(results):
    assert results.classifier("svm", split_kind="layer").name == "svm-all-layer-0"
    with pytest.raises(ValueError, match=r"kept \(random_forest-all-network-0, .*'weight'"):
        results.classifier("svm", "weight")


def test_other_epochs_are_refused(examples, results):
    fitted = results.classifier("svm")
    with pytest.raises(ValueError, match=r"epoch must be .* \[0, 5, 10, 15, 20\], got \[0, 5\]"):
        fitted.probabilities(examples.isel(epoch=[0, 1]))


def test_incomplete_and_damaged_results(saved, tmp_path):
    with pytest.raises(DataError, match="must hold a complete identification"):
        load(tmp_path)
    table = saved / "accuracy.csv"
    content = table.read_bytes()
    table.write_bytes(content.replace(b"accuracy,", b"acuracy,", 1))
    with pytest.raises(DataError, match="must have a column 'accuracy'"):
        load(saved)
    table.unlink()
    with pytest.raises(DataError, match=r"cannot read .*accuracy\.csv"):
        load(saved)
    table.write_bytes(content)
    record = saved / "identification.json"
    text = record.read_text()
    record.write_text(text.replace('"format": 2', '"format": 1'))
    with pytest.raises(
        DataError,
        match=r"must be 2, got 1: results of another version",
    ):
        load(saved)
    record.write_text(text[:99])
    with pytest.raises(DataError, match=r"cannot read .*identification\.json"):
        load(saved)
    record.write_text('{"format": 2, "settings": {}}')
    with pytest.raises(DataError, match=r"identification\.json is damaged: KeyError"):
        load(saved)


def replace_classifier(saved, obj) -> None:
    stream = io.BytesIO()
    skops.io.dump(obj, stream)
    (saved / "classifiers" / "random_forest-all-network-0.skops").write_bytes(stream.getvalue())


def test_damaged_and_hostile_classifiers(saved):
    path = saved / "classifiers" / "random_forest-all-network-0.skops"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"cannot read classifier .*random_forest-all-network-0"):
        load(saved)
    replace_classifier(saved, Pipeline([("classify", print)]))
    with pytest.raises(DataError, match=r"Untrusted types found in the file: .*print"):
        load(saved)
    replace_classifier(saved, {"a": 1})
    with pytest.raises(DataError, match="must hold a Pipeline, got dict"):
        load(saved)


@pytest.mark.parametrize("damage", ["left_child", "right_child", "feature", "loop"])
def test_trees_that_point_outside_themselves(saved, damage):
    """Such a tree would read foreign memory, or never end, when it is asked."""
    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(2, random_state=0).fit(
        rng.normal(size=(40, 9)), np.arange(40) % 2
    )
    tree = forest.estimators_[0].tree_
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    if damage == "loop":
        nodes["left_child"][0] = 0
    else:
        nodes[damage][0] = 10**6
    state["nodes"] = nodes
    tree.__setstate__(state)
    replace_classifier(saved, Pipeline([("classify", forest)]))
    with pytest.raises(DataError, match="a tree points outside itself"):
        load(saved)


BOOSTED_DAMAGE = {
    "left": ("left", 10**6),
    "right": ("right", 10**6),
    "loop": ("left", 0),
    "feature": ("feature_idx", 10**6),
    "feature before the first": ("feature_idx", -1),
    "category": ("is_categorical", 1),
}


@pytest.mark.parametrize(("field", "value"), BOOSTED_DAMAGE.values(), ids=BOOSTED_DAMAGE)
def test_boosted_trees_that_point_outside_themselves(saved, field, value):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 9)), np.arange(90) % 3
    trees = HistGradientBoostingClassifier(max_iter=2, early_stopping=False).fit(x, y)
    trees._predictors[1][2].nodes[field][0] = value
    replace_classifier(saved, Pipeline([("classify", trees)]))
    with pytest.raises(DataError, match="a tree points outside itself"):
        load(saved)


@pytest.mark.parametrize("n_features", [1, None])
def test_boosted_trees_that_claim_other_features(saved, n_features):
    """Of more features than their input is checked to have."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 9)) * (np.arange(9) == 8), np.arange(90) % 3
    trees = HistGradientBoostingClassifier(max_iter=2, early_stopping=False).fit(x, y)
    del trees.n_features_in_
    if n_features:
        trees.n_features_in_ = n_features
    replace_classifier(saved, Pipeline([("classify", trees)]))
    with pytest.raises(DataError, match="a tree points outside itself"):
        load(saved)


def test_unwritable_folder(results, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudyError, match=r"cannot write .*file"):
        results.save(tmp_path / "file")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StudyError, match=r"accuracy\.csv: No space left on device"):
        results.save(tmp_path / "identify")
    with pytest.raises(DataError, match="complete identification"):
        load(tmp_path / "identify")


def test_files_are_skops_zips(saved):
    for path in (saved / "classifiers").glob("*.skops"):
        with zipfile.ZipFile(path) as archive:
            assert "schema.json" in archive.namelist()
            assert not any(n.endswith((".pkl", ".pickle")) for n in archive.namelist())
