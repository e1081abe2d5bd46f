"""The published grid of the random forest: plain grid search against racing nested forests.

    python benchmarks/classifier_grid.py [--study DIR] [--examples 20736] [--splits 1]
                                         [--kind layer] [--folds 5] [--dear 20] [--whole]

The table: examples of a study are drawn with replacement, equally many of each learning rule, and
each statistic's trajectory is multiplied by exp(noise · (u + e(t)/2)), u and e(t) standard normal,
u once per trajectory. Without a study, the originals are random walks whose drift depends on the
rule. The table has the size, the scales and the redundancy of the published one; its accuracies say
nothing about learning rules.

"plain" is scikit-learn's `GridSearchCV` over the same folds: 15 settings × 5 folds and a refit.
With ``--whole`` it is run. Otherwise a sample of its cells is: in ``--folds`` of the folds, forests
of all sizes with max_features sqrt and log2, and with None those of up to ``--dear`` trees. Each
forest is grown on from the next smaller one, which gives plain search's trees and accuracies to the
bit. The time of a tree, which is the same in small forests and large ones (both are printed), times
the number of trees that plain search grows, is its time; voting is left out, in plain's favour.
"fast" is what `goaldriven.identify.selection.choose` does, run wholly; beside its test accuracy are
those of the forests that plain search may choose, but for those that try all features. CPU seconds
of one process with one thread.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from goaldriven.identify import features
from goaldriven.identify.candidates import Forest
from goaldriven.identify.classifiers import grid_of
from goaldriven.identify.forests import Race, Setting, race
from goaldriven.identify.selection import Folds, inner_folds
from goaldriven.specs import PUBLISHED_STATISTICS
from goaldriven.trajectories import load_examples, trained

Table = tuple[np.ndarray, np.ndarray, np.ndarray]
Sample = dict[str | None, tuple[list[tuple[int, ...]], list[list[float]], list[list[float]]]]
FORESTS = tuple(c for c in grid_of("random_forest", "paper").candidates if isinstance(c, Forest))
SHARES = tuple(dict.fromkeys(f.max_features for f in FORESTS))
EPOCHS = tuple(range(0, 105, 5))


def originals(study: Path | None, rng: np.random.Generator) -> Table:
    """Features, rules and networks of what the table is drawn from."""
    if study is not None:
        examples = trained(load_examples(study))
        x = features(examples, PUBLISHED_STATISTICS)
        return x, examples["rule"].values, examples["network"].values
    rules, size = np.array(["adam", "fa", "ia", "sgdm"]), (800, len(PUBLISHED_STATISTICS))
    which = np.arange(size[0]) % len(rules)
    drift = 0.05 * rng.normal(size=(len(rules), size[1], 1))[which]
    walks = np.exp(np.cumsum(drift + 0.1 * rng.normal(size=(*size, len(EPOCHS))), axis=2))
    position = np.eye(3)[rng.integers(3, size=size[0])]
    x = np.hstack([position, walks.reshape(size[0], -1)])
    return x, rules[which], np.arange(size[0]) // 8


def resample(table: Table, n: int, noise: float, rng: np.random.Generator) -> Table:
    """``n`` noisy examples, equally many of each rule."""
    x, rules, networks = table
    names = np.unique(rules)
    pools = [np.flatnonzero(rules == name) for name in names]
    drawn = rng.permutation(np.concatenate([rng.choice(p, n // len(names)) for p in pools]))
    values = x[drawn, 3:].reshape(len(drawn), len(PUBLISHED_STATISTICS), -1)
    shift = rng.normal(size=(*values.shape[:2], 1)) + 0.5 * rng.normal(size=values.shape)
    values = values * np.exp(noise * shift)
    return np.hstack([x[drawn, :3], values.reshape(len(drawn), -1)]), rules[drawn], networks[drawn]


def split(table: Table, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A quarter for testing: of the examples, or of the networks that they were drawn from."""
    _, rules, networks = table
    if kind == "layer":
        quarters = StratifiedKFold(4, shuffle=True, random_state=seed).split(rules, rules)
        return *next(iter(quarters)), None
    names = np.random.default_rng(seed).permutation(np.unique(networks))
    tested = np.isin(networks, names[: len(names) // 4])
    return np.flatnonzero(~tested), np.flatnonzero(tested), networks


def nested(
    x: np.ndarray, y: np.ndarray, rows: tuple[np.ndarray, np.ndarray], share: str | None, seed: int,
    sizes: tuple[int, ...],
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Accuracy of forests of the ``sizes`` on the second rows, and seconds of growing up to each.

    They are the plain search's, tree by tree, grown one from the other.
    """
    fit, held = rows
    seconds, accuracies = [], []
    forest = RandomForestClassifier(max_features=share, random_state=seed, warm_start=True)
    start = time.process_time()
    for n in sizes:
        forest.set_params(n_estimators=n).fit(x[fit], y[fit])
        seconds.append(time.process_time() - start)
    for n in sizes:
        part = copy.copy(forest)
        part.estimators_ = forest.estimators_[:n]
        accuracies.append(float(part.score(x[held], y[held])))
    return accuracies, seconds


def sampled(x: np.ndarray, y: np.ndarray, inner: list, seed: int, dear: int) -> Sample:
    """Cells of the plain search, fold by fold: all but the largest forests that try all features.

    Of the forests with max_features None, those of up to ``dear`` trees are grown.
    """
    sample: Sample = {share: ([], [], []) for share in SHARES}
    for number, rows in enumerate(inner):
        for share in SHARES:
            sizes = tuple(f.n_estimators for f in FORESTS if f.max_features == share)
            sizes = sizes if share is not None else tuple(n for n in sizes if n <= dear)
            accuracies, seconds = nested(x, y, rows, share, seed, sizes)
            for kept, value in zip(sample[share], (sizes, accuracies, seconds), strict=True):
                kept.append(value)
            first, all_ = seconds[0] / sizes[0], seconds[-1] / sizes[-1]
            print(
                f"  fold {number}, max_features {share}: a tree takes {first:.4f} s (of the first "
                f"{sizes[0]}), {all_:.4f} s (of {sizes[-1]}); validation "
                f"{_listed(sizes, accuracies)}",
                flush=True,
            )
    return sample


def extrapolated(sample: Sample, refit: Forest) -> tuple[float, float]:
    """Seconds of the plain search and their standard error, from the time of a tree in each fold.

    The plain search fits 5 forests of each setting, and the chosen one on 5/4 of the rows.
    """
    total, variance = 0.0, 0.0
    for share, (sizes, accuracies, seconds) in sample.items():
        per_tree = np.array([s[-1] / n[-1] for n, s in zip(sizes, seconds, strict=True)])
        trees = 5.0 * sum(f.n_estimators for f in FORESTS if f.max_features == share)
        trees += 1.25 * refit.n_estimators if refit.max_features == share else 0
        error = per_tree.std(ddof=1) / np.sqrt(len(per_tree)) if len(per_tree) > 1 else np.nan
        total, variance = total + trees * per_tree.mean(), variance + (trees * error) ** 2
        print(
            f"  max_features {share}: {per_tree.mean():.4f} ± {error:.4f} s a tree × {trees:.0f}; "
            f"mean validation {_listed(sizes[0], list(np.mean(accuracies, 0)))}"
        )
    return total, float(np.sqrt(variance))


def plain_search(
    x: np.ndarray, y: np.ndarray, inner: list, seed: int
) -> tuple[float, GridSearchCV]:
    """Seconds of the plain search, and the search."""
    grid = [{"n_estimators": [f.n_estimators], "max_features": [f.max_features]} for f in FORESTS]
    start = time.process_time()
    search = GridSearchCV(RandomForestClassifier(random_state=seed), grid, cv=inner).fit(x, y)
    return time.process_time() - start, search


def one_split(table: Table, number: int, arguments: argparse.Namespace) -> float:
    """Compare on one split; how many times faster."""
    x, y, _ = table
    train, test, groups = split(table, arguments.kind, number)
    print(f"split {number}: {len(train)} to train on, {len(test)} to test on")
    start = time.process_time()
    folds = Folds(x, y, train, test, groups, number)
    chosen, forest, raced = fast_search(folds, x[train], y[train])
    fast = time.process_time() - start
    score = float(forest.score(x[test], y[test]))
    print(f"  fast: {fast:.0f} s, trees grown {raced.trees}; scores")
    for f, value in zip(FORESTS, raced.scores, strict=True):
        print(f"    {_name(f)}: {value:.4f}")
    print(f"  fast chose {_name(chosen)}; test accuracy {score:.4f}", flush=True)
    for share in filter(None, SHARES):
        sizes = tuple(f.n_estimators for f in FORESTS if f.max_features == share)
        accuracies, _ = nested(x, y, (train, test), share, number, sizes)
        print(f"    test accuracies, max_features {share}: {_listed(sizes, accuracies)}")
    inner = inner_folds(y[train], None if groups is None else groups[train], number)
    if arguments.whole:
        plain, search = plain_search(x[train], y[train], inner, number)
        other = search.score(x[test], y[test])
        print(
            f"  plain: {plain:.0f} s, measured; chose {_name(Forest(**search.best_params_))}, "
            f"validation {search.best_score_:.4f}, test accuracy {other:.4f} "
            f"(fast − plain {score - other:+.4f})"
        )
    else:
        sample = sampled(x[train], y[train], inner[: arguments.folds], number, arguments.dear)
        plain, error = extrapolated(sample, chosen)
        print(f"  plain: {plain:.0f} ± {error:.0f} s, extrapolated from the time of a tree")
    print(f"  fast is {plain / fast:.1f} times faster", flush=True)
    return plain / fast


def fast_search(
    folds: Folds, x: np.ndarray, y: np.ndarray
) -> tuple[Forest, RandomForestClassifier, Race]:
    """What `goaldriven.identify.selection.choose` does, and how the race went."""
    raced = race(
        [Setting(f.n_estimators, f.max_features) for f in FORESTS], folds.training(),
        out_of_bag=not folds.grouped,
    )  # fmt: skip
    chosen = FORESTS[raced.best]
    forest = raced.forest
    if forest is None:
        forest = RandomForestClassifier(
            chosen.n_estimators, max_features=chosen.max_features, random_state=folds.seed
        ).fit(x, y)
    return chosen, forest, raced


def _listed(sizes: tuple[int, ...], accuracies: Sequence[float]) -> str:
    return ", ".join(f"{n}: {a:.4f}" for n, a in zip(sizes, accuracies, strict=True))


def _name(forest: Forest) -> str:
    return f"{forest.n_estimators} trees, max_features {forest.max_features}"


def main(arguments: argparse.Namespace) -> None:
    """Make the table and compare on each split."""
    rng = np.random.default_rng(arguments.seed)
    source = originals(arguments.study, rng)
    table = resample(source, arguments.examples, arguments.noise, rng)
    made_of = arguments.study or "random walks"
    print(
        f"{len(table[0])} examples × {table[0].shape[1]} features drawn from {len(source[0])} of "
        f"{made_of}, noise {arguments.noise}; splits by {arguments.kind}"
    )
    ratios = [one_split(table, k, arguments) for k in range(arguments.splits)]
    print(f"mean of {len(ratios)} splits: {np.mean(ratios):.1f} times faster")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, help="a study's folder, with 21 records per network")
    parser.add_argument("--examples", type=int, default=20736)
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--kind", choices=("layer", "network"), default="layer")
    parser.add_argument("--noise", type=float, default=0.3, help="of a trajectory's logarithm")
    parser.add_argument("--seed", type=int, default=0, help="of the table")
    parser.add_argument("--folds", type=int, default=5, help="in which cells of plain are run")
    parser.add_argument(
        "--dear", type=int, choices=(20, 50, 100, 500, 1000), default=20,
        help="most trees with max_features None there",
    )  # fmt: skip
    parser.add_argument(
        "--whole", action="store_true", help="run the plain search, whatever it takes"
    )
    with threadpool_limits(1):
        main(parser.parse_args())
