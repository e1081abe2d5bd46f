"""The identification experiment: which learning rule made this?"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from goaldriven.errors import IdentificationError, unknown
from goaldriven.identify.classifiers import CLASSIFIERS, DEFAULT_CLASSIFIERS, GRIDS
from goaldriven.identify.features import VIEWS
from goaldriven.identify.jobs import Plan, Progress, run
from goaldriven.identify.open_verdicts import ALPHA
from goaldriven.identify.results import Identification
from goaldriven.identify.splits import SPLITTERS, Split
from goaldriven.identify.tables import tabulate
from goaldriven.specs import PUBLISHED_STATISTICS, STATISTICS
from goaldriven.trajectories import admissible, trained
from goaldriven.trajectories.finite import named, not_finite_examples

OBSERVABLES: dict[str, tuple[str, ...]] = {
    "all": ("weight", "activation", "activity_change"),
    "weight": ("weight",),
    "activation": ("activation",),
    "activity_change": ("activity_change",),
}


def identify(
    examples: xr.Dataset,
    *,
    grid: str = "quick",
    classifiers: Sequence[str] = DEFAULT_CLASSIFIERS,
    observables: Sequence[str] = tuple(OBSERVABLES),
    splits: Sequence[str] = tuple(SPLITTERS),
    n_splits: int = 10,
    statistics: str | Sequence[str] = "admissible",
    views: str | None = None,
    permutations: int = 1,
    keep: Sequence[int] = (0,),
    alpha: float = ALPHA,
    seed: int = 0,
    jobs: int = 1,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Identification:
    """Train classifiers to tell the learning rule of a layer from its trajectories, and test them.

    For each kind of split, each split and each group of observables, every classifier's settings
    are chosen by five-fold stratified cross-validation inside the training part (by network where
    the split is), refitted on the whole training part and tested once. Scaling and PCA are fitted
    inside each training part. Diverged networks are left out, and named in the settings.

    Parameters
    ----------
    examples : see `goaldriven.trajectories.load_examples`.
    grid : ``"quick"`` (seconds) or ``"paper"`` (the published grids and features; hours).
    classifiers : keys of `CLASSIFIERS`; by default those that are not extra.
    observables : of ``"all"``, ``"weight"``, ``"activation"``, ``"activity_change"``.
    splits : ``"network"`` (all layers of a network on one side) and ``"layer"`` (as published).
    n_splits : 75/25 splits of each kind.
    statistics : ``"admissible"`` (finite for every trained network), ``"published"`` (the 24), or
        names.
    views : what is made of a trajectory, ``"published"`` (its values) or ``"dynamics"`` (also its
        changes), see `features`; None for the grid's own.
    permutations : repeats of the permutation importances in each split, for the widest group of
        observables (``"all"``); 0 for none.
    keep : the splits, by number from 0, whose fitted classifiers are kept, with what they need for
        verdicts that may be "none of these" (`Identification.open_verdicts`).
    alpha : of those verdicts: the share of networks of known rules that may be called so; raised to
        1/(n + 1) where n calibration networks do not allow it.
    seed : of splits, folds and classifiers.
    jobs : processes, one thread each. The results do not depend on it.
    cache : a folder in which what came of fits is kept, but for the splits of ``keep``; what lies
        there is not fitted again. The results do not depend on it.
    progress : called with (done, total, what was done).

    Raises
    ------
    IdentificationError : an unknown name, or too few rules or networks.
    DataError : every network diverged.
    StudyError : ``cache`` cannot be written.

    Source: Nayebi, Srivastava et al. 2020; thesis section 6.3.9. Splits by network, the quick
    grids, logistic regression, kernel SVM, extra classifiers, dynamics and ranks are not in the
    paper.
    """
    counts = {"n_splits": n_splits, "permutations": permutations, "seed": seed, "jobs": jobs}
    _check_request(counts, alpha, grid, views)
    _check_names("classifiers", classifiers, CLASSIFIERS)
    _check_names("observables", observables, OBSERVABLES)
    _check_names("splits", splits, SPLITTERS)
    _check_examples(examples)
    used = trained(examples)
    plan = Plan(
        grid=grid,
        classifiers=tuple(classifiers),
        statistics=_statistics_of(used, statistics, observables),
        splits=_make_splits(used, splits, n_splits, seed),
        views=views,
        permutations=permutations,
        keep=tuple(keep),
        seed=seed,
        alpha=alpha,
        cache=None if cache is None else Path(cache),
    )
    outcomes = list(run(plan, used, jobs, progress))
    return tabulate(outcomes, used, plan, _settings(plan, examples, used))


_LEAST = {"n_splits": 1, "permutations": 0, "seed": 0, "jobs": 1}


def _check_request(
    counts: Mapping[str, object], alpha: object, grid: object, views: object
) -> None:
    for name, value in counts.items():
        _check_integer(name, value, _LEAST[name])
    if isinstance(alpha, bool) or not isinstance(alpha, float) or not 0 < alpha < 1:
        raise IdentificationError(f"alpha must lie between 0 and 1, got {alpha!r}")
    _check_choice("grid", grid, GRIDS)
    if views is not None:
        _check_choice("views", views, VIEWS)


def _check_examples(examples: object) -> None:
    if not isinstance(examples, xr.Dataset):
        raise IdentificationError(
            "examples must be an xarray.Dataset as from load_examples, "
            f"got {type(examples).__name__}"
        )
    for name in ("network", "layer", "position", "rule", "outcome"):
        if name not in examples.coords or examples[name].dims != ("example",):
            raise IdentificationError(f"examples must have a coordinate '{name}' (example)")
    if "value" not in examples or set(examples["value"].dims) != {"example", "epoch", "statistic"}:
        raise IdentificationError(
            "examples must have a variable 'value' (example, epoch, statistic)"
        )


def _check_integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise IdentificationError(f"{name} must be an integer of at least {least}, got {value!r}")


def _check_choice(field: str, given: object, known: Collection[str]) -> None:
    if given not in known:
        raise IdentificationError(unknown(field, given, known))


def _check_names(field: str, given: Sequence[str], known: Collection[str]) -> None:
    if isinstance(given, str) or not given:
        raise IdentificationError(f"{field} must be a list with at least one name, got {given!r}")
    for name in given:
        _check_choice(f"{field}: each", name, known)
    if len(set(given)) != len(given):
        raise IdentificationError(f"{field} must not repeat a name, got {list(given)!r}")


def _statistics_of(
    examples: xr.Dataset, statistics: str | Sequence[str], observables: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The statistics of each group of observables."""
    if statistics == "admissible":
        chosen = admissible(examples)
    elif statistics == "published":
        chosen = PUBLISHED_STATISTICS
    elif isinstance(statistics, str):
        allowed = ("admissible", "published")
        raise IdentificationError(unknown("statistics, if not a list,", statistics, allowed))
    else:
        chosen = tuple(statistics)
        _check_names("statistics", chosen, STATISTICS)
    groups = {
        name: tuple(s for s in chosen if STATISTICS[s].measure in OBSERVABLES[name])
        for name in observables
    }
    for name, members in groups.items():
        if not members:
            raise IdentificationError(
                f"observables: '{name}' must have a statistic among the {len(chosen)} used, "
                f"got none{_culprits(examples) if statistics == 'admissible' else ''}"
            )
    return groups


def _culprits(examples: xr.Dataset) -> str:
    """The networks that leave no statistic which is finite for all, if they stand out."""
    networks = not_finite_examples(examples)
    if not networks:
        return ""
    return f"; not finite where most networks are: network {named(networks)}"


def _make_splits(
    used: xr.Dataset, kinds: Sequence[str], n_splits: int, seed: int
) -> dict[str, tuple[Split, ...]]:
    rules = sorted(set(used["rule"].values.tolist()))
    if len(rules) < 2:
        raise IdentificationError(
            f"examples must come from at least 2 learning rules, got {', '.join(rules) or 'none'}"
        )
    return {kind: SPLITTERS[kind](used, n_splits, seed) for kind in kinds}


def _settings(plan: Plan, examples: xr.Dataset, used: xr.Dataset) -> dict[str, Any]:
    """What was asked for and what was used, as plain JSON."""
    networks = _rules_of_networks(used)
    return {
        "grid": plan.grid,
        "classifiers": list(plan.classifiers),
        "views": {name: plan.views_of(name) for name in plan.classifiers},
        "statistics": {name: list(members) for name, members in plan.statistics.items()},
        "permutations": plan.permutations,
        "seed": plan.seed,
        "alpha": plan.alpha,
        "rules": sorted(set(networks.values())),
        "epochs": [int(e) for e in used["epoch"].values],
        "examples": {name: used[name].values.tolist() for name in ("network", "layer")},
        "networks": networks,
        "diverged": {
            network: rule
            for network, rule in _rules_of_networks(examples).items()
            if network not in networks
        },
        "versions": _versions(),
    }


def _rules_of_networks(examples: xr.Dataset) -> dict[str, str]:
    names = examples["network"].values.tolist()
    return dict(zip(names, examples["rule"].values.tolist(), strict=True))


def _versions() -> dict[str, str]:
    packages = ("goaldriven", "numpy", "scipy", "scikit-learn", "torch", "xarray")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
