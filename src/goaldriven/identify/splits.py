"""Splits of examples into a training and a test part."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from goaldriven.errors import IdentificationError

SAME_START = ("task", "architecture", "model_seed")
"""What networks share that start from the same forward weights, under whatever rule."""

TEST_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Split:
    """Which examples a classifier is fitted on and which it is tested on.

    Attributes
    ----------
    train, test : indices of examples, ascending.
    kind : what was kept whole, ``"network"`` or ``"layer"`` or another name.
    groups : of every example of the data, the label of what was kept on one side.

    Raises
    ------
    IdentificationError : a part is empty, an example or a group is on both sides, or an index is
        out of range.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    kind: str
    groups: NDArray[np.generic]

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            indices = np.unique(np.asarray(getattr(self, name), dtype=np.intp))
            if len(indices) != len(getattr(self, name)):
                raise IdentificationError(f"split: {name} must not repeat an example")
            if not len(indices) or indices[0] < 0 or indices[-1] >= len(self.groups):
                raise IdentificationError(
                    f"split: {name} must hold indices in 0…{len(self.groups) - 1}, "
                    f"got {indices.tolist()[:3] or 'none'}"
                )
            indices.flags.writeable = False
            object.__setattr__(self, name, indices)
        both = np.intersect1d(self.train, self.test)
        if len(both):
            raise IdentificationError(
                f"split: train and test must not share an example, got {len(both)} in both"
            )
        groups = np.intersect1d(self.groups[self.train], self.groups[self.test])
        if len(groups):
            raise IdentificationError(
                f"split: train and test must not share a group, got {groups[0]!s} in both"
            )


def by_network(
    examples: xr.Dataset,
    n_splits: int = 10,
    seed: int = 0,
    group: Sequence[str] = ("network",),
) -> tuple[Split, ...]:
    """75/25 splits that keep all layers of a network on one side, balanced over the rules.

    Of every rule, a quarter of its networks is tested. The test parts are drawn in turn from
    shuffled lists, so that every network is tested equally often, give or take once.

    Parameters
    ----------
    examples : see `goaldriven.trajectories.to_examples`.
    n_splits : how many.
    seed : of the draws.
    group : coordinates whose values together label what is kept on one side. Networks that share
        task, architecture and ``model_seed`` start from the same forward weights under every rule:
        `SAME_START` keeps those together too.

    Raises
    ------
    IdentificationError : a coordinate is missing, or there are too few groups for a quarter.
    """
    for name in group:
        if name not in examples.coords or examples[name].dims != ("example",):
            raise IdentificationError(f"group must name coordinates of the examples, got {name!r}")
    columns = [examples[name].values.astype(str) for name in group]
    labels = np.array(["/".join(row) for row in zip(*columns, strict=True)])
    kind = "network" if tuple(group) == ("network",) else "+".join(group)
    return _draw(examples["rule"].values, labels, kind, n_splits, seed)


def by_layer(examples: xr.Dataset, n_splits: int = 10, seed: int = 0) -> tuple[Split, ...]:
    """75/25 splits over examples, balanced over the rules, as published.

    Layers of one network fall on both sides, and they are not independent: what is the network's
    own and not its rule's helps to identify it. Source: thesis section 6.3.9.

    Raises
    ------
    IdentificationError : there are too few examples for a quarter.
    """
    labels = np.arange(examples.sizes["example"])
    return _draw(examples["rule"].values, labels, "layer", n_splits, seed)


def held_out(examples: xr.Dataset, factors: Sequence[str]) -> dict[str, Split]:
    """One split per level of some factors together: trained on all others, tested on the level.

    Networks lie whole on one side, as levels do.

    Parameters
    ----------
    examples : see `goaldriven.trajectories.to_examples`.
    factors : coordinates whose values together make a level, e.g. ``("batch_size", "data_seed")``.

    Raises
    ------
    IdentificationError : a coordinate is missing, or there is a single level.

    Source: thesis section 6.3.9.
    """
    for name in factors:
        if name not in examples.coords or examples[name].dims != ("example",):
            raise IdentificationError(f"factors must name coordinates of examples, got {name!r}")
    columns = [examples[name].values.astype(str) for name in factors]
    level = np.array(["/".join(row) for row in zip(*columns, strict=True)])
    names = list(dict.fromkeys(level.tolist()))
    if len(names) < 2:
        raise IdentificationError(
            f"{'/'.join(factors)} must have at least 2 levels to hold one out, got "
            f"{', '.join(names) or 'none'}"
        )
    kind, networks = f"held-out {'/'.join(factors)}", examples["network"].values
    return {
        name: Split(np.flatnonzero(level != name), np.flatnonzero(level == name), kind, networks)
        for name in names
    }


SPLITTERS: dict[str, Callable[[xr.Dataset, int, int], tuple[Split, ...]]] = {
    "network": by_network,
    "layer": by_layer,
}


def _draw(
    rules: NDArray[np.generic], labels: NDArray[np.generic], kind: str, n_splits: int, seed: int
) -> tuple[Split, ...]:
    """Test a quarter of the groups of each stratum, a stratum being the rules within a group."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    draws = []
    for rules_inside, groups in _pooled(_strata(rules, labels)).items():
        n_test = round(TEST_SHARE * len(groups))
        if len(groups) < round(1 / TEST_SHARE):
            raise IdentificationError(
                f"rule {' and '.join(rules_inside)} must have at least {round(1 / TEST_SHARE)} "
                f"{_plural(kind)} for {1 - TEST_SHARE:.0%}/{TEST_SHARE:.0%} splits, "
                f"got {len(groups)}"
            )
        draws.append(_take_in_turn(groups, n_test, rng))
    splits = []
    for _ in range(n_splits):
        tested = np.isin(labels, np.concatenate([next(draw) for draw in draws]))
        splits.append(Split(np.flatnonzero(~tested), np.flatnonzero(tested), kind, labels))
    return tuple(splits)


def _plural(kind: str) -> str:
    return f"{kind}s" if kind in SPLITTERS else f"groups ({kind})"


def _strata(
    rules: NDArray[np.generic], labels: NDArray[np.generic]
) -> dict[tuple[str, ...], NDArray[np.generic]]:
    """Groups by the rules they hold; with one rule per group, the groups of each rule."""
    strata: dict[tuple[str, ...], list[np.generic]] = {}
    order = np.argsort(labels, kind="stable")
    unique, starts = np.unique(labels[order], return_index=True)
    for label, members in zip(unique, np.split(rules[order], starts[1:]), strict=True):
        strata.setdefault(tuple(sorted({str(r) for r in members})), []).append(label)
    return {key: np.array(strata[key]) for key in sorted(strata)}


def _pooled(
    strata: dict[tuple[str, ...], NDArray[np.generic]],
) -> dict[tuple[str, ...], NDArray[np.generic]]:
    """Strata too small for a quarter put together, where groups hold several rules.

    A group that lacks a rule (a network diverged) is no reason to refuse; a rule with too few
    groups of its own is.
    """
    least = round(1 / TEST_SHARE)
    if all(len(rules) == 1 for rules in strata):
        return strata
    large = {rules: groups for rules, groups in strata.items() if len(groups) >= least}
    small = {rules: groups for rules, groups in strata.items() if rules not in large}
    pool = list(small.values())
    if pool and sum(map(len, pool)) < least and large:
        most = max(large, key=lambda rules: len(large[rules]))
        small[most] = large.pop(most)
        pool.append(small[most])
    if not pool:
        return large
    names = tuple(sorted({rule for rules in small for rule in rules}))
    if names in large:
        pool.append(large[names])
    return {**large, names: np.concatenate(pool)}


def _take_in_turn(
    groups: NDArray[np.generic], size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.generic]]:
    """Endless draws of ``size`` different groups, each group as often as any other ± 1."""
    waiting = groups[:0]
    while True:
        if len(waiting) < size:
            fresh = rng.permutation(groups)
            # Those already waiting go to the back of the new round: no draw holds a group twice.
            repeated = np.isin(fresh, waiting)
            waiting = np.concatenate([waiting, fresh[~repeated], fresh[repeated]])
        yield waiting[:size]
        waiting = waiting[size:]
