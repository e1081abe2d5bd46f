"""Splits: nothing on both sides, balanced over rules, every network tested equally often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify import SPLITTERS, Split, by_layer, by_network

from .made_up import make_examples


@pytest.mark.parametrize("kind", SPLITTERS)
@pytest.mark.parametrize(("n_networks", "n_splits"), [(16, 1), (24, 10), (40, 7), (52, 10)])
def test_invariants(kind, n_networks, n_splits):
    examples = make_examples(n_networks)
    rules, networks = examples["rule"].values, examples["network"].values
    splits = SPLITTERS[kind](examples, n_splits, 3)
    assert len(splits) == n_splits
    unit = networks if kind == "network" else np.arange(len(rules))
    for split in splits:
        assert split.kind == kind
        both = np.concatenate([split.train, split.test])
        assert sorted(both.tolist()) == list(range(len(rules)))  # each example, once
        assert not set(unit[split.train].tolist()) & set(unit[split.test].tolist())
        of_rule = Counter(rules[np.unique(unit[split.test], return_index=True)[1]].tolist())
        of_rule = {r: len(np.unique(unit[split.test][rules[split.test] == r])) for r in of_rule}
        quarter = round(0.25 * len(np.unique(unit)) / 4)
        assert of_rule == dict.fromkeys(("adam", "fa", "ia", "sgdm"), quarter)
    tested = Counter(u for s in splits for u in np.unique(unit[s.test]).tolist())
    times = [tested[u] for u in np.unique(unit).tolist()]
    assert max(times) - min(times) <= 1


def test_a_quarter_of_each_rule_when_rules_are_uneven():
    examples = make_examples(48)
    keep = ~np.isin(examples["network"].values, [f"net{i:03d}" for i in (0, 4, 8, 12, 16, 20, 24)])
    examples = examples.isel(example=np.flatnonzero(keep))  # adam: 5 of 12 networks are left
    split = by_network(examples, 1)[0]
    tested = examples.isel(example=split.test)
    counts = {r: len(np.unique(n["network"])) for r, n in tested.groupby("rule")}
    assert counts == {"adam": 1, "fa": 3, "ia": 3, "sgdm": 3}


def test_seeds_and_kinds_have_draws_of_their_own():
    examples = make_examples()
    first, again, other = (by_network(examples, 4, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(first, other, strict=True))
    # Asking for more splits does not change the first ones.
    assert np.array_equal(by_network(examples, 9, 0)[3].test, first[3].test)


def test_groups_that_span_rules_stay_together():
    examples = make_examples(64)
    key = ("task", "architecture", "model_seed")
    for split in by_network(examples, 6, group=key):
        initial = [
            {tuple(str(examples[k].values[i]) for k in key) for i in part}
            for part in (split.train, split.test)
        ]
        assert not initial[0] & initial[1]
        counts = Counter(examples["rule"].values[split.test].tolist())
        assert set(counts.values()) == {4 * 3}  # 4 of 16 initial networks × 3 layers, per rule
        assert split.kind == "task+architecture+model_seed"


def test_single_networks_would_have_shared_initial_weights():
    """The group key makes a difference: by network, initial networks are on both sides."""
    examples = make_examples(64)
    seeds = examples["model_seed"].values
    split = by_network(examples, 1)[0]
    assert set(seeds[split.train].tolist()) & set(seeds[split.test].tolist())


def test_overlap_is_refused():
    groups = np.array(["a", "a", "b", "b"])
    Split(np.array([0, 1]), np.array([2, 3]), "network", groups)
    with pytest.raises(IdentificationError, match="must not share an example, got 1 in both"):
        Split(np.array([0, 1, 2]), np.array([2, 3]), "network", groups)
    with pytest.raises(IdentificationError, match="must not share a group, got a in both"):
        Split(np.array([0, 2]), np.array([1]), "network", groups)
    with pytest.raises(IdentificationError, match=r"test must hold indices in 0…3, got none"):
        Split(np.array([0, 1]), np.array([], dtype=int), "network", groups)
    with pytest.raises(IdentificationError, match=r"train must hold indices in 0…3, got \[-1, 0\]"):
        Split(np.array([0, -1]), np.array([2]), "network", groups)
    with pytest.raises(IdentificationError, match=r"test must hold indices in 0…3"):
        Split(np.array([0]), np.array([4]), "network", groups)
    with pytest.raises(IdentificationError, match="train must not repeat an example"):
        Split(np.array([0, 0]), np.array([2]), "network", groups)


def test_splits_cannot_be_changed():
    split = by_layer(make_examples(), 1)[0]
    with pytest.raises(ValueError, match="read-only"):
        split.train[0] = 5


def test_too_few_networks():
    with pytest.raises(
        IdentificationError,
        match="rule adam must have at least 4 networks for 75%/25% splits, got 3",
    ):
        by_network(make_examples(12))
    assert by_network(make_examples(16), 1)
    with pytest.raises(IdentificationError, match="rule adam must have at least 4 layers"):
        by_layer(make_examples(12, n_layers=1))
    with pytest.raises(IdentificationError, match=r"group must name coordinates.*got 'sede'"):
        by_network(make_examples(), group=("sede",))


def test_a_group_that_lacks_a_rule_is_no_reason_to_refuse():
    """Of 8 starts under four rules, two lost networks: they are drawn together with the others."""
    examples = make_examples(64)
    start = examples["model_seed"].values
    lost = ((start == 0) & (examples["rule"].values == "fa")) | (
        (start == 1) & (examples["rule"].values == "ia")
    )
    fewer = examples.isel(example=np.flatnonzero(~lost))
    splits = by_network(fewer, 8, group=("model_seed",))
    tested = np.concatenate([np.unique(fewer["model_seed"].values[s.test]) for s in splits])
    counts = np.bincount(tested, minlength=8)
    assert len(splits) == 8
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1
    assert {len(np.unique(fewer["model_seed"].values[s.test])) for s in splits} == {2}
