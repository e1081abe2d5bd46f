"""Classifiers that are used where they are asked for: on planted truth, and nowhere by default."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from goaldriven import cli
from goaldriven.commands import identifying
from goaldriven.errors import IdentificationError
from goaldriven.identify import CLASSIFIERS, DEFAULT_CLASSIFIERS, identify
from goaldriven.identify.candidates import Attention, Boosted, Kernels

from .made_up import make_examples, with_rules

EXTRA = ("boosted_trees", "rocket", "transformer")
SEQUENCE = ("rocket", "transformer")
ASKED = {"observables": ["all"], "splits": ["network"], "permutations": 0, "keep": ()}


def accuracies(examples: xr.Dataset, names: Sequence[str], **settings) -> dict[str, float]:
    """Share of layers named right, mean over splits by network."""
    results = identify(examples, classifiers=names, **ASKED | settings)
    return results.accuracy.groupby("classifier")["accuracy"].mean().to_dict()


def up_and_down(n_networks: int = 64, n_epochs: int = 20, size: float = 1.5) -> xr.Dataset:
    """A rise of three records before a fall ("fa"), or after one ("ia"), at any time.

    Time goes round in a circle, so that at every single epoch the two rules are exactly alike.
    """
    examples = make_examples(n_networks, rules=("fa", "ia"), n_layers=2, n_epochs=n_epochs)
    pulse = np.zeros(n_epochs)
    pulse[:3], pulse[3:6] = size, -size
    rng = np.random.default_rng(1)
    sign = np.where(examples["rule"].values == "fa", 1, -1)
    shifts = rng.integers(n_epochs, size=len(sign))
    added = np.stack([s * np.roll(pulse, shift) for s, shift in zip(sign, shifts, strict=True)])
    value = examples["value"].transpose("example", "epoch", "statistic")
    return examples.assign(value=value + xr.DataArray(added, dims=("example", "epoch")))


def test_they_are_extra_and_nothing_else_is():
    assert tuple(name for name, entry in CLASSIFIERS.items() if entry.extra) == EXTRA
    assert (*DEFAULT_CLASSIFIERS, *EXTRA) == tuple(CLASSIFIERS)
    assert DEFAULT_CLASSIFIERS == (
        "random_forest", "svm", "conv1d", "logistic_regression", "kernel_svm",
    )  # fmt: skip
    results = identify(make_examples(16), n_splits=1, **ASKED)
    assert results.settings["classifiers"] == list(DEFAULT_CLASSIFIERS)


def test_a_planted_difference_is_found_by_all_and_permuted_labels_by_none():
    examples = make_examples(64, rule_effect=1.5, n_layers=2, seed=3)
    assert min(accuracies(examples, EXTRA, n_splits=1).values()) > 0.9
    of_network = np.random.default_rng(0).permutation(np.repeat(["a", "b", "c", "d"], 16))
    shuffled = with_rules(examples, np.repeat(of_network, 2))
    width = 3 * np.sqrt(0.25 * 0.75 / 32)  # of a share of 32 independent networks
    for name, share in accuracies(shuffled, EXTRA, n_splits=2).items():
        assert abs(share - 0.25) < width, name


def test_the_order_of_events_is_found_where_single_epochs_say_nothing():
    """Kernels are moved along the trajectory; a linear classifier sees an epoch at a time. The
    transformer needs more examples than these to find it, see its own tests."""
    names = ("rocket", "logistic_regression")
    found = accuracies(up_and_down(), names, n_splits=2, views="published")
    assert found["rocket"] > 0.95
    # 32 tests on networks with two layers, each drawn for itself.
    assert abs(found["logistic_regression"] - 0.5) < 3 * 0.5 / np.sqrt(32)


@pytest.mark.parametrize("name", EXTRA)
def test_same_seed_same_bits_whatever_the_threads(name):
    import torch
    from threadpoolctl import threadpool_limits

    examples = make_examples(16, rule_effect=0.5)
    tables, threads = [], torch.get_num_threads()
    for limit in (1, 2):
        torch.set_num_threads(limit)
        with threadpool_limits(limit):
            results = identify(examples, classifiers=[name], n_splits=1, **ASKED | {"keep": (0,)})
        tables.append(results.classifier(name).probabilities(examples))
    torch.set_num_threads(threads)
    assert tables[0].tobytes() == tables[1].tobytes()


@pytest.mark.parametrize("n_epochs", [1, 2, 6])
def test_short_trajectories(n_epochs):
    """Kernels and transformers do with a single record."""
    examples = make_examples(32, rule_effect=4.0, n_epochs=n_epochs, seed=2)
    assert min(accuracies(examples, SEQUENCE, n_splits=1).values()) > 0.8


def test_trials_are_cheaper_and_otherwise_the_same():
    assert Boosted(0.1, 80, 4, trial_iterations=20).trial() == Boosted(
        0.1, 20, 4, trial_iterations=20
    )
    assert Boosted(0.1, 80, 4).trial() == Boosted(0.1, 80, 4)
    one = Attention(32, 4, 1, 64, 0.1, 1e-2, 40, trial_epochs=12)
    assert (one.trial().epochs, one.trial().width) == (12, 32)
    assert Kernels(100, 1.0).trial() == Kernels(100, 1.0)


def test_the_command_line_passes_on_what_is_chosen(monkeypatch, tmp_path):
    asked = []

    def run(examples: object, **settings: object) -> None:
        asked.append(settings["classifiers"])
        raise IdentificationError("enough")

    monkeypatch.setattr("goaldriven.identify.identify", run)
    monkeypatch.setattr("goaldriven.trajectories.load_examples", lambda folder: None)
    monkeypatch.setattr(identifying, "whole", lambda path, console: None)
    for chosen in ([], ["--classifier", "rocket", "--classifier", "svm"]):
        monkeypatch.setattr("sys.argv", ["goaldriven", "identify", str(tmp_path), *chosen])
        with pytest.raises(SystemExit):
            cli.main()
    assert [tuple(names) for names in asked] == [DEFAULT_CLASSIFIERS, ("rocket", "svm")]


def test_unknown_names_list_the_extra_ones():
    with pytest.raises(IdentificationError, match="did you mean 'rocket'"):
        identify(make_examples(16), classifiers=["rockt"])
