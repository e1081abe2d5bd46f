"""Fits on disk, under a name made of everything that they depend on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goaldriven.trajectories.atomic import write_bytes

Matrix = NDArray[np.float64]

FORMAT = "2"
"""Raised when a change of the program changes what a fit gives."""

_MADE_WITH = ("goaldriven", "numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True, eq=False)
class Fit:
    """What came of fitting one classifier.

    Attributes
    ----------
    classes : the rules it tells apart.
    scores : by name of the test, (test example, rule), rows sum to 1.
    parameters : the settings that cross-validation chose, as JSON.
    cv_accuracy : theirs, over the folds; NaN where there was no choice.
    found : by name, what probes found.
    """

    classes: NDArray[np.str_]
    scores: Mapping[str, Matrix]
    parameters: str
    cv_accuracy: float
    found: Mapping[str, Matrix]


def digest(*parts: object) -> str:
    """A name for arrays, strings and numbers: equal content, equal name."""
    content = hashlib.sha256(f"{FORMAT}{_versions()}".encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            array = part.astype("U") if part.dtype.kind in "OUT" else part
            content.update(f"{array.dtype.str}{array.shape}".encode())
            content.update(np.ascontiguousarray(array).tobytes())
        else:
            content.update(json.dumps(part, sort_keys=True).encode())
        content.update(b"\0")
    return content.hexdigest()[:32]


@cache
def _versions() -> str:
    """Of what fits are made with: another release may fit otherwise."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _MADE_WITH)


def write_fit(folder: Path, name: str, fit: Fit) -> None:
    """Store a fit, in one step.

    Raises
    ------
    StudyError : the file cannot be written; names path and reason.
    """
    stream = io.BytesIO()
    arrays = {
        "classes": fit.classes.astype("U"),
        "parameters": np.array(fit.parameters),
        "cv_accuracy": np.array(fit.cv_accuracy),
        **{f"scores/{test}": scores for test, scores in fit.scores.items()},
        **{f"found/{probe}": values for probe, values in fit.found.items()},
    }
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    write_bytes(_path(folder, name), stream.getvalue())


def read_fit(folder: Path, name: str) -> Fit | None:
    """The fit of this name; None where there is none, or a damaged one, which is then forgotten."""
    path = _path(folder, name)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        path.unlink(missing_ok=True)
        return None
    return Fit(
        arrays["classes"],
        _part(arrays, "scores/"),
        str(arrays["parameters"]),
        float(arrays["cv_accuracy"]),
        _part(arrays, "found/"),
    )


def _path(folder: Path, name: str) -> Path:
    return folder / name[:2] / f"{name}.npz"


def _part(arrays: Mapping[str, Matrix], prefix: str) -> dict[str, Matrix]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
