"""The classifiers by name, each with its grids of settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.candidates import (
    Attention,
    Boosted,
    Candidate,
    Convolution,
    Forest,
    Gaussian,
    Kernels,
    Linear,
)

GRIDS = ("quick", "paper")


@dataclass(frozen=True)
class Grid:
    """The candidates that cross-validation chooses among, and the features they are given.

    Attributes
    ----------
    candidates : ties go to the first.
    views : a key of `goaldriven.identify.features.VIEWS`.
    """

    candidates: tuple[Candidate, ...]
    views: str


@dataclass(frozen=True)
class Classifier:
    """A classifier of learning rules.

    Attributes
    ----------
    name, summary : for tables and listings.
    grids : by name, ``"quick"`` (ours, seconds) and ``"paper"`` (as published, hours).
    published : whether it is one of the paper's three.
    forest : whether it is a random forest, and so has Gini importances.
    extra : whether it is used only where it is asked for.
    """

    name: str
    summary: str
    grids: Mapping[str, Grid]
    published: bool = False
    forest: bool = False
    extra: bool = False


def classifier(name: str) -> Classifier:
    """The classifier with this name.

    Raises
    ------
    IdentificationError : it is not in `CLASSIFIERS`.
    """
    if name not in CLASSIFIERS:
        raise IdentificationError(unknown("classifiers: each", name, CLASSIFIERS))
    return CLASSIFIERS[name]


def grid_of(name: str, grid: str) -> Grid:
    """A classifier's grid.

    Raises
    ------
    IdentificationError : unknown classifier or grid.
    """
    if grid not in GRIDS:
        raise IdentificationError(unknown("grid", grid, GRIDS))
    return classifier(name).grids[grid]


# Grids "quick": one setting each for linear and kernel classifiers. What cross-validation chooses
# among two to four is no better, and costs several times as much: benchmarks/quick_grids.py.

# Grids "paper": lr-identify cls_cv_params.py. The two smallest shares of the trajectory give a
# kernel of one record at 21 records; shares that give the same kernel count once.
_PAPER_TREES = (20, 50, 100, 500, 1000)
_PAPER_C = (1.0, 5e1, 5e2, 5e3, 5e4, 5e5, 5e6)
_PAPER_COMPONENTS = (None, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 600)
_PAPER_CONVOLUTIONS = itertools.product(
    (3e-3, 0.05, 0.25, 0.5, 1.0),  # kernel as a share of the trajectory
    (1, 2, 4),  # stride
    (20, 40),  # filters
    (None, "max", "mean"),  # pooling
    (1e-3, 1e-4),  # learning rate
    (512, 1024),  # batch size
    (1e-4, 0.0),  # weight decay
)


_CATALOGUE = (
    Classifier(
        "random_forest",
        "random forest (Breiman 2001)",
        {
            "quick": Grid(
                tuple(Forest(100, share, trial_estimators=12) for share in ("log2", "sqrt")),
                "dynamics",
            ),
            "paper": Grid(
                tuple(
                    Forest(trees, share)
                    for share in ("sqrt", "log2", None)
                    for trees in _PAPER_TREES
                ),
                "published",
            ),
        },
        published=True,
        forest=True,
    ),
    Classifier(
        "svm",
        "linear support vector machine, with or without PCA",
        {
            "quick": Grid((Linear("svm", 0.01, scaling="ranks", tolerance=1e-2),), "dynamics"),
            "paper": Grid(
                tuple(Linear("svm", C, n) for n in _PAPER_COMPONENTS for C in _PAPER_C),
                "published",
            ),
        },
        published=True,
    ),
    Classifier(
        "conv1d",
        "one convolution over the trajectory, ReLU, pooling, softmax readout",
        {
            "quick": Grid(
                tuple(
                    Convolution(share, 4, 20, None, 0.01, 512, 1e-4, 40, "ranks", trial_epochs=15)
                    for share in (0.25, 0.5)
                ),
                "dynamics",
            ),
            "paper": Grid(
                tuple(Convolution(*choice) for choice in _PAPER_CONVOLUTIONS), "published"
            ),
        },
        published=True,
    ),
    Classifier(
        "logistic_regression",
        "softmax regression with an L2 penalty, as a baseline",
        {
            "quick": Grid((Linear("logistic", 0.1, scaling="ranks", tolerance=1e-2),), "dynamics"),
            "paper": Grid(
                tuple(Linear("logistic", C) for C in (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)),
                "published",
            ),
        },
    ),
    Classifier(
        "kernel_svm",
        "support vector machine with a Gaussian kernel, not in the paper",
        {
            "quick": Grid((Gaussian(10.0, 2.0, "ranks"),), "dynamics"),
            "paper": Grid(
                tuple(Gaussian(C, gamma) for C in (1.0, 10.0, 100.0) for gamma in (0.3, 1.0, 3.0)),
                "published",
            ),
        },
    ),
    Classifier(
        "boosted_trees",
        "gradient-boosted trees on histograms (Friedman 2001), not in the paper",
        {
            "quick": Grid(
                tuple(Boosted(0.2, 80, leaves, 0.03, 31, trial_iterations=20) for leaves in (4, 8)),
                "dynamics",
            ),
            "paper": Grid(
                tuple(
                    Boosted(rate, iterations, leaves, share)
                    for share in (1.0, 0.1)
                    for rate in (0.1, 0.03)
                    for iterations in (100, 300)
                    for leaves in (4, 8, 31)
                ),
                "published",
            ),
        },
        extra=True,
    ),
    Classifier(
        "rocket",
        "random convolutions and a ridge readout (Dempster et al. 2020), not in the paper",
        {
            "quick": Grid(
                tuple(Kernels(2000, alpha, "ranks") for alpha in (50.0, 200.0, 800.0)), "dynamics"
            ),
            "paper": Grid(
                tuple(Kernels(10_000, 10.0**power) for power in range(-3, 5)), "published"
            ),
        },
        extra=True,
    ),
    Classifier(
        "transformer",
        "a small transformer whose tokens are epochs, not in the paper",
        {
            "quick": Grid(
                tuple(
                    Attention(32, 4, 1, 64, 0.1, rate, 40, scaling="ranks", trial_epochs=12)
                    for rate in (3e-3, 1e-2)
                ),
                "dynamics",
            ),
            "paper": Grid(
                tuple(
                    Attention(width, 4, layers, 2 * width, dropout, rate, 100)
                    for width in (32, 64)
                    for layers in (1, 2)
                    for dropout in (0.1, 0.3)
                    for rate in (1e-3, 3e-3)
                ),
                "published",
            ),
        },
        extra=True,
    ),
)

CLASSIFIERS: dict[str, Classifier] = {entry.name: entry for entry in _CATALOGUE}

DEFAULT_CLASSIFIERS: tuple[str, ...] = tuple(e.name for e in _CATALOGUE if not e.extra)
"""Those that are used where none are named."""
