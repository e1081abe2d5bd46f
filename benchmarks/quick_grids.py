"""Is one setting enough for the quick grids of the linear and kernel classifiers?

    python benchmarks/quick_grids.py results/demo [--splits 10]

Each classifier names the layers of a study with its one setting, and with one that cross-validation
chooses among several, on the same splits. Prints a Markdown table: accuracy with the one setting,
the paired difference to the chosen one (mean ± s.e.m. over splits), and the ratio of CPU times.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

import goaldriven as gd
from goaldriven.identify.candidates import Gaussian, Linear
from goaldriven.identify.classifiers import CLASSIFIERS, Grid

SVMS = [Linear("svm", C, n, "ranks", tolerance=1e-2) for n in (None, 40) for C in (0.01, 0.003)]
LOGISTIC = [Linear("logistic", C, scaling="ranks", tolerance=1e-2) for C in (0.1, 1.0)]
KERNEL = [Gaussian(10.0, gamma, "ranks") for gamma in (1.0, 3.0)]
SEVERAL = {"svm": SVMS, "logistic_regression": LOGISTIC, "kernel_svm": KERNEL}


def named(study: Path, classifier: str, splits: int) -> tuple[pd.Series, float]:
    """Accuracy by kind of split and split, and CPU seconds."""
    examples = gd.load_examples(study)
    start = time.process_time()
    found = gd.identify(
        examples, classifiers=[classifier], observables=["all"], n_splits=splits, jobs=1
    )
    seconds = time.process_time() - start
    return found.accuracy.set_index(["split_kind", "split"])["accuracy"], seconds


def main(study: Path, splits: int) -> None:
    """Print the table."""
    print(
        "| classifier | splits | one setting | one − chosen | CPU, chosen / one |\n"
        "|---|---|---|---|---|"
    )
    for name, candidates in SEVERAL.items():
        entry = CLASSIFIERS[name]
        several = Grid(tuple(candidates), entry.grids["quick"].views)
        one, seconds = named(study, name, splits)
        with patch.dict(
            CLASSIFIERS, {name: replace(entry, grids={**entry.grids, "quick": several})}
        ):
            chosen, longer = named(study, name, splits)
        for kind, difference in (one - chosen).groupby("split_kind"):
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            print(
                f"| {name} | by {kind} | {one[kind].mean():.3f} | {difference.mean():+.3f} ± "
                f"{error:.3f} | {longer / seconds:.1f} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    given = parser.parse_args()
    main(given.study, given.splits)
