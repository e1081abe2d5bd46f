"""Results of identification on disk: CSV tables, skops classifiers, and JSON on what is what."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from goaldriven.errors import DataError, IdentificationError, StudyError
from goaldriven.identify.features import Layout
from goaldriven.identify.open_verdicts import Calibration
from goaldriven.identify.results import Fitted, Identification
from goaldriven.identify.splits import Split
from goaldriven.identify.tables import COLUMNS
from goaldriven.trajectories.atomic import write_bytes

RECORD = "identification.json"
FORMAT = 2

# What skops may build from a file besides its own defaults. Trees index memory by numbers in the
# file; `_check_trees` makes sure that they stay inside.
_TRUSTED = [
    "goaldriven.identify.conv1d.Conv1D",
    "goaldriven.identify.rocket.RandomKernels",
    "goaldriven.identify.scaling.PrincipalAxes",
    "goaldriven.identify.scaling.Ranks",
    "goaldriven.identify.scaling.ZScore",
    "goaldriven.identify.transformer.EpochTransformer",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]
_WHOLE_NUMBERS = ("split", "n_train", "n_test", "correct", "count", "n")
_NUMBERS = ("accuracy", "chance", "cv_accuracy", "probability", "p_value", "alpha", "mean", "sem")


def save(results: Identification, folder: str | Path) -> None:
    """Write ``<table>.csv``, ``summary.csv``, ``classifiers/*.skops`` and ``identification.json``.

    Files of an earlier identification in the folder are replaced. The JSON is written last; it
    says for each split which networks and examples were trained on and tested, and lists the
    classifiers.

    Raises
    ------
    StudyError : a file cannot be written; names path and reason.
    """
    folder = Path(folder)
    classifiers = folder / "classifiers"
    try:
        (folder / RECORD).unlink(missing_ok=True)
        for old in classifiers.glob("*.skops"):
            old.unlink()
    except OSError as error:
        raise StudyError(f"cannot write {folder}: {error.strerror or error}") from error
    for name in COLUMNS:
        write_bytes(folder / f"{name}.csv", _to_csv(getattr(results, name)))
    write_bytes(folder / "summary.csv", _to_csv(results.summary()))
    import skops.io  # takes a second, which those who save nothing are spared

    for fitted in results.fitted:
        stream = io.BytesIO()
        skops.io.dump(fitted.pipeline, stream, compression=zipfile.ZIP_DEFLATED)
        write_bytes(classifiers / f"{fitted.name}.skops", stream.getvalue())
    record = {
        "format": FORMAT,
        "settings": results.settings,
        "groups": {s.kind: s.groups.tolist() for s in results.splits},
        "splits": [_split_record(s, results) for s in results.splits],
        "classifiers": [_fitted_record(f) for f in results.fitted],
    }
    write_bytes(folder / RECORD, json.dumps(record).encode())


def load(folder: str | Path, *, classifiers: bool = True) -> Identification:
    """Read what `Identification.save` wrote.

    Parameters
    ----------
    folder : that it was saved to.
    classifiers : whether to load the fitted classifiers too.

    Raises
    ------
    DataError : there is no complete identification, or a file is damaged or holds what a
        classifier of this package does not need.
    """
    folder = Path(folder)
    record = _read_record(folder)
    try:
        tables = {name: _read_csv(folder / f"{name}.csv", name) for name in COLUMNS}
        groups = {kind: np.array(labels) for kind, labels in record["groups"].items()}
        splits = tuple(
            Split(np.array(s["train"]), np.array(s["test"]), s["kind"], groups[s["kind"]])
            for s in record["splits"]
        )
        listed = record["classifiers"] if classifiers else []
        fitted = tuple(_fitted_from(f, folder) for f in listed)
        settings: Mapping[str, Any] = record["settings"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / RECORD} is damaged: {error!r}") from error
    return Identification(**tables, splits=splits, settings=settings, fitted=fitted)


def _to_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def _read_csv(path: Path, name: str) -> pd.DataFrame:
    # Rules may be called NA and network ids may look like numbers, so nothing is guessed; and
    # Python's float() gives back the very bits that were written.
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        missing = [column for column in COLUMNS[name] if column not in table]
        if missing:
            raise DataError(f"{path} must have a column '{missing[0]}', got {list(table)}")
        for column in table:
            if column in _WHOLE_NUMBERS:
                table[column] = table[column].astype(np.int64)
            elif column in _NUMBERS:
                table[column] = [float(value or "nan") for value in table[column]]
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {error}") from error
    return table


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{folder} must hold a complete identification ({RECORD}), got none"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        given = record.get("format") if isinstance(record, dict) else record
        raise DataError(
            f"{path}: format must be {FORMAT}, got {given!r}: results of another version of "
            "goaldriven; run goaldriven identify again"
        )
    return record


def _split_record(split: Split, results: Identification) -> dict[str, Any]:
    train, test = results.networks(split)
    return {
        "kind": split.kind,
        "train": split.train.tolist(),
        "test": split.test.tolist(),
        "train_networks": train,
        "test_networks": test,
    }


def _fitted_record(fitted: Fitted) -> dict[str, Any]:
    return {
        "file": f"classifiers/{fitted.name}.skops",
        "classifier": fitted.classifier,
        "observables": fitted.observables,
        "split_kind": fitted.split_kind,
        "split": fitted.split,
        "parameters": fitted.parameters,
        "views": fitted.layout.views,
        "epochs": list(fitted.layout.epochs),
        "statistics": list(fitted.layout.statistics),
        "calibration": _calibration_record(fitted.calibration),
    }


def _calibration_record(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "networks": list(calibration.networks),
        "rules": list(calibration.rules),
        "scores": calibration.scores.tolist(),
    }


def _calibration_from(record: Mapping[str, Any] | None, path: Path) -> Calibration | None:
    if record is None:
        return None
    try:
        scores = np.array(record["scores"], dtype=np.float64)
        return Calibration(tuple(record["networks"]), tuple(record["rules"]), scores)
    except (IdentificationError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _fitted_from(record: Mapping[str, Any], folder: Path) -> Fitted:
    layout = Layout(tuple(record["statistics"]), tuple(record["epochs"]), record["views"])
    return Fitted(
        record["classifier"], record["observables"], record["split_kind"], record["split"],
        record["parameters"], layout, _load_pipeline(folder / record["file"], layout),
        _calibration_from(record["calibration"], folder / RECORD),
    )  # fmt: skip


def _load_pipeline(path: Path, layout: Layout) -> Pipeline:
    import skops.io

    try:
        pipeline = skops.io.load(path, trusted=_TRUSTED)
    except Exception as error:  # zip, JSON and NumPy errors, untrusted types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read classifier {path}: {reason}") from error
    if not isinstance(pipeline, Pipeline):
        raise DataError(f"{path} must hold a Pipeline, got {type(pipeline).__name__}")
    _check_trees(pipeline, layout, path)
    _check_boosted(pipeline, layout, path)
    return pipeline


def _check_trees(pipeline: Pipeline, layout: Layout, path: Path) -> None:
    """Refuse trees whose nodes point outside the tree, backwards, or outside the features."""
    for estimator in getattr(pipeline.steps[-1][1], "estimators_", []):
        tree = estimator.tree_
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        nodes = np.arange(tree.node_count)
        inner = left != -1
        ahead = [(c > nodes) & (c < tree.node_count) for c in (left, right)]
        known = (feature >= 0) & (feature < layout.n_features)
        if not np.all(~inner | (ahead[0] & ahead[1] & known)):
            raise DataError(f"{path} is damaged: a tree points outside itself")


def _check_boosted(pipeline: Pipeline, layout: Layout, path: Path) -> None:
    """The same for boosted trees, which have no categories either."""
    head = pipeline.steps[-1][1]
    known = getattr(head, "n_features_in_", 0)  # scikit-learn refuses any other number
    for predictor in itertools.chain.from_iterable(getattr(head, "_predictors", [])):
        nodes = predictor.nodes
        inner = nodes["is_leaf"] == 0
        later = np.arange(len(nodes)) < np.minimum(nodes["left"], nodes["right"])
        inside = np.maximum(nodes["left"], nodes["right"]) < len(nodes)
        feature = nodes["feature_idx"]
        seen = (feature >= 0) & (feature < min(known, layout.n_features))
        sound = ~inner | (later & inside & seen & (nodes["is_categorical"] == 0))
        if len(nodes) == 0 or not np.all(sound):
            raise DataError(f"{path} is damaged: a tree points outside itself")
