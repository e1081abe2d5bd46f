"""The published grid of the random forest: plain grid search against racing nested forests.

    python benchmarks/classifier_grid.py [--study DIR] [--examples 20736] [--splits 1]
                                         [--kind layer] [--seconds 60] [--whole]

The table: examples of a study are drawn with replacement, equally many of each learning rule, and
each statistic's trajectory is multiplied by exp(noise · (u + e(t)/2)), u and e(t) standard normal,
u once per trajectory. Without a study, the originals are random walks whose drift depends on the
rule. The table has the size, the scales and the redundancy of the published one; its accuracies say
nothing about learning rules.

"plain" is scikit-learn's `GridSearchCV` over the same folds: 15 settings × 5 folds and a refit.
With ``--whole`` it is run. Otherwise the time of a tree is measured for each ``max_features``, in
the first fold, within ``--seconds`` each, and multiplied by the number of trees that the grid
search fits; its accuracy is then not known. "fast" is `goaldriven.identify.selection.choose`, run
wholly. CPU seconds of one process with one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from goaldriven.identify import features
from goaldriven.identify.candidates import Forest
from goaldriven.identify.classifiers import grid_of
from goaldriven.identify.features import Layout
from goaldriven.identify.selection import Folds, choose, inner_folds
from goaldriven.specs import PUBLISHED_STATISTICS
from goaldriven.trajectories import load_examples, trained

Table = tuple[np.ndarray, np.ndarray, np.ndarray]
FORESTS = tuple(c for c in grid_of("random_forest", "paper").candidates if isinstance(c, Forest))
SHARES = tuple(dict.fromkeys(f.max_features for f in FORESTS))
EPOCHS = tuple(range(0, 105, 5))


def originals(study: Path | None, rng: np.random.Generator) -> tuple[Table, Layout]:
    """Features, rules and networks of what the table is drawn from."""
    if study is not None:
        examples = trained(load_examples(study))
        x = features(examples, PUBLISHED_STATISTICS)
        layout = Layout(PUBLISHED_STATISTICS, tuple(examples["epoch"].values.tolist()))
        return (x, examples["rule"].values, examples["network"].values), layout
    rules, size = np.array(["adam", "fa", "ia", "sgdm"]), (800, len(PUBLISHED_STATISTICS))
    which = np.arange(size[0]) % len(rules)
    drift = 0.05 * rng.normal(size=(len(rules), size[1], 1))[which]
    walks = np.exp(np.cumsum(drift + 0.1 * rng.normal(size=(*size, len(EPOCHS))), axis=2))
    position = np.eye(3)[rng.integers(3, size=size[0])]
    x = np.hstack([position, walks.reshape(size[0], -1)])
    return (x, rules[which], np.arange(size[0]) // 8), Layout(PUBLISHED_STATISTICS, EPOCHS)


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


def extrapolated(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray, refit: Forest, limit: float
) -> float:
    """Seconds of the plain search, from the time of single trees on one fold's rows."""
    total = 0.0
    for share in SHARES:
        start, n = time.process_time(), 0
        while n < 2 or (n < 100 and time.process_time() - start < limit):
            RandomForestClassifier(1, max_features=share, random_state=n).fit(x[fold], y[fold])
            n += 1
        per_tree = (time.process_time() - start) / n
        trees = 5 * sum(f.n_estimators for f in FORESTS if f.max_features == share)
        # The refit has 5/4 of the rows.
        trees += 1.25 * refit.n_estimators if refit.max_features == share else 0
        total += trees * per_tree
        print(f"  a tree with max_features {share}: {per_tree:.3f} s (mean of {n}) × {trees:.0f}")
    return total


def plain_search(
    x: np.ndarray, y: np.ndarray, inner: list, seed: int
) -> tuple[float, GridSearchCV]:
    """Seconds of the plain search, and the search."""
    grid = [{"n_estimators": [f.n_estimators], "max_features": [f.max_features]} for f in FORESTS]
    start = time.process_time()
    search = GridSearchCV(RandomForestClassifier(random_state=seed), grid, cv=inner).fit(x, y)
    return time.process_time() - start, search


def one_split(table: Table, layout: Layout, number: int, arguments: argparse.Namespace) -> float:
    """Compare on one split; how many times faster."""
    x, y, _ = table
    train, test, groups = split(table, arguments.kind, number)
    folds = Folds(x, y, train, test, groups, number)
    start = time.process_time()
    choice = choose(FORESTS, folds, layout)
    fast = time.process_time() - start
    accuracy = choice.pipeline.score(x[test], y[test])
    print(f"split {number}: {len(train)} to train on, {len(test)} to test on")
    print(
        f"  fast: {fast:.0f} s, chose {_name(choice.candidate)}, validation {choice.accuracy:.4f}, "
        f"test accuracy {accuracy:.4f}",
        flush=True,
    )
    inner = inner_folds(y[train], None if groups is None else groups[train], number)
    if arguments.whole:
        plain, search = plain_search(x[train], y[train], inner, number)
        score = search.score(x[test], y[test])
        print(
            f"  plain: {plain:.0f} s, measured; chose {_name(Forest(**search.best_params_))}, "
            f"validation {search.best_score_:.4f}, test accuracy {score:.4f} "
            f"(fast − plain {accuracy - score:+.4f})"
        )
    else:
        plain = extrapolated(x, y, train[inner[0][0]], choice.candidate, arguments.seconds)
        print(
            f"  plain: {plain:.0f} s, extrapolated from the time of a tree; accuracy not measured"
        )
    print(f"  fast is {plain / fast:.1f} times faster", flush=True)
    return plain / fast


def _name(forest: Forest) -> str:
    return f"{forest.n_estimators} trees, max_features {forest.max_features}"


def main(arguments: argparse.Namespace) -> None:
    """Make the table and compare on each split."""
    rng = np.random.default_rng(arguments.seed)
    source, layout = originals(arguments.study, rng)
    table = resample(source, arguments.examples, arguments.noise, rng)
    made_of = arguments.study or "random walks"
    print(
        f"{len(table[0])} examples × {table[0].shape[1]} features drawn from {len(source[0])} of "
        f"{made_of}, noise {arguments.noise}; splits by {arguments.kind}"
    )
    ratios = [one_split(table, layout, k, arguments) for k in range(arguments.splits)]
    print(f"mean of {len(ratios)} splits: {np.mean(ratios):.1f} times faster")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, help="a study's folder, with 21 records per network")
    parser.add_argument("--examples", type=int, default=20736)
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--kind", choices=("layer", "network"), default="layer")
    parser.add_argument("--noise", type=float, default=0.3, help="of a trajectory's logarithm")
    parser.add_argument("--seed", type=int, default=0, help="of the table")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="to time trees, per max_features"
    )
    parser.add_argument(
        "--whole", action="store_true", help="run the plain search, whatever it takes"
    )
    with threadpool_limits(1):
        main(parser.parse_args())
