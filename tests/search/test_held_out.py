"""Scoring on held-out training stimuli: the validation stimuli are never touched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from goaldriven import tasks
from goaldriven.errors import SpecError
from goaldriven.search import held_out
from goaldriven.search.held_out import scored_task, split_indices
from goaldriven.search.score import score_network
from goaldriven.specs import NetworkSpec
from goaldriven.specs.search import TrainingSplit, Validation
from goaldriven.specs.tasks import Digits, DigitsSimCLR, SpokenDigits
from goaldriven.tasks.digits_autoencoder import DigitsAutoencoderTask
from goaldriven.tasks.simclr import DigitsSimCLRTask
from goaldriven.training import train

SPLIT = TrainingSplit()


def rows(stimuli: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in stimuli.flatten(1)}


def everything(task) -> torch.Tensor:
    order = torch.Generator().manual_seed(0)
    return torch.cat([batch.stimuli for batch in task.train_batches(1, order)])


def test_kept_and_held_out_are_the_training_digits_and_nothing_else():
    whole, split = tasks.load(Digits()), scored_task(Digits(), SPLIT)
    kept, held = rows(everything(split)), rows(torch.cat([*split.validation_batches(100)]))
    training, validation = rows(everything(whole)), rows(torch.cat([*whole.validation_batches(99)]))
    assert len(training) == whole.n_train == 1347  # no two digits are the same picture
    assert (split.n_train, split.n_validation) == (1010, 337)
    assert kept | held == training
    assert not kept & held
    assert not (kept | held) & validation


def test_labels_go_with_their_stimuli():
    images, labels = load_digits(return_X_y=True)
    names = (images / 16).astype(np.float32)
    label_of = {row.tobytes(): y for row, y in zip(names, labels, strict=True)}
    split = scored_task(Digits(), SPLIT)
    reference = tasks.digits.read_digits(Digits(), torch.device("cpu"))
    for batch in (
        *split.train_batches(64, torch.Generator().manual_seed(1)),
        *split.validation_objective_batches(64),
    ):
        raw = batch.stimuli * reference.std + reference.mean
        raw = (raw * 16).round().div(16).flatten(1)
        assert [label_of[r.numpy().tobytes()] for r in raw] == batch.labels.tolist()


def test_the_split_is_stratified_and_seeded():
    labels = tasks.load(Digits()).train_labels
    kept, held = split_indices(labels, SPLIT, "digits")
    share = torch.bincount(labels[held]) / torch.bincount(labels)
    assert (share - 0.25).abs().max() < 0.01
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert torch.equal(held, split_indices(labels, SPLIT, "digits")[1])
    other = split_indices(labels, TrainingSplit(seed=1), "digits")[1]
    assert not torch.equal(held, other)
    fifth = split_indices(labels, TrainingSplit(fraction=0.2), "digits")[1]
    assert len(fifth) == pytest.approx(0.2 * len(labels), abs=1)


def spoiled(task):
    """The task with validation stimuli that spoil whatever touches them, and wrong labels."""
    nan = float("nan")
    if isinstance(task, DigitsSimCLRTask):
        images = dataclasses.replace(
            task.images,
            validation=task.images.validation * nan,
            validation_labels=(task.images.validation_labels + 1) % 10,
        )
        return dataclasses.replace(
            task,
            images=images,
            validation=task.validation * nan,
            validation_views=task.validation_views * nan,
        )
    if isinstance(task, DigitsAutoencoderTask):
        return dataclasses.replace(task, validation=task.validation * nan)
    return dataclasses.replace(
        task,
        validation_stimuli=task.validation_stimuli * nan,
        validation_labels=(task.validation_labels + 1) % 10,
    )


@pytest.mark.parametrize("name", ["digits", "digits_simclr", "digits_autoencoder"])
def test_the_score_does_not_depend_on_the_validation_stimuli(name, monkeypatch):
    """With NaN for every validation stimulus and wrong labels, the same score to the last bit."""
    network = NetworkSpec(
        task={"name": name, "train_limit": 120, "validation_limit": 50},
        architecture={"name": "mlp", "width": 0.5},
        rule="adam",
        batch_size=32,
        epochs=20,
        record_every=20,
    )
    held_out.scored_task.cache_clear()
    clean = score_network(network, SPLIT, threads=1)
    on_validation = score_network(network, Validation(), threads=1)
    load = tasks.load

    def load_spoiled(*args, **kwargs):
        return spoiled(load(*args, **kwargs))

    monkeypatch.setattr(tasks, "load", load_spoiled)
    held_out.scored_task.cache_clear()
    try:
        assert score_network(network, SPLIT, threads=1) == clean
        assert clean > 0
        assert score_network(network, Validation(), threads=1) == 0.0  # the spoiling works
    finally:
        held_out.scored_task.cache_clear()
    assert 0 < on_validation <= 1


def test_the_score_on_validation_is_that_of_the_trajectory():
    network = NetworkSpec(
        task={"name": "digits", "train_limit": 200, "validation_limit": 50},
        architecture={"name": "knet4", "width": 0.2},
        rule="adam",
        batch_size=32,
        epochs=3,
        record_every=3,
    )
    epochs = []
    score = score_network(network, Validation(), lambda: epochs.append(1), threads=1)
    assert score == float(train(network)["metric"][-1])
    assert len(epochs) == 3


def test_the_score_on_held_out_stimuli_is_that_of_a_task_made_of_them_by_hand(monkeypatch):
    """The same network trained and evaluated on arrays that were split here."""
    from sklearn.model_selection import train_test_split

    digits = Digits(train_limit=300)
    whole = tasks.load(digits)
    stimuli = whole.draw(torch.arange(whole.n_train), torch.Generator())
    index = np.arange(whole.n_train)
    kept, held = train_test_split(index, test_size=0.3, stratify=whole.train_labels, random_state=5)
    by_hand = dataclasses.replace(
        whole,
        train_labels=whole.train_labels[kept],
        validation_stimuli=stimuli[held],
        validation_labels=whole.train_labels[held],
        draw=lambda chosen, generator: stimuli[kept][chosen],
    )
    network = NetworkSpec(
        task=digits, architecture={"name": "knet4", "width": 0.2}, rule="adam",
        batch_size=32, epochs=2, record_every=2,
    )  # fmt: skip
    score = score_network(network, TrainingSplit(fraction=0.3, seed=5), threads=1)
    monkeypatch.setattr(tasks, "load", lambda *args, **kwargs: by_hand)
    assert score == float(train(network)["metric"][-1])


def test_simclr_reads_the_held_out_stimuli_out_with_the_kept_ones():
    """The metric of the pixels themselves equals scikit-learn's classifier on the two parts."""
    task = scored_task(DigitsSimCLR(), SPLIT)

    class Pixels(torch.nn.Module):
        def features(self, stimuli):
            return stimuli.flatten(1)

    kept, held = split_indices(tasks.load(DigitsSimCLR()).images.train_labels, SPLIT, "digits")
    images = tasks.load(DigitsSimCLR()).images
    pixels, labels = images.train.flatten(1).numpy().astype(float), images.train_labels.numpy()
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0))
    classifier.fit(pixels[kept], labels[kept])
    assert task.metric(Pixels(), 100) == pytest.approx(
        classifier.score(pixels[held], labels[held]), abs=1e-9
    )
    views = torch.cat([b.stimuli for b in task.validation_objective_batches(64)])
    assert len(views) == 2 * len(held)


def test_augmented_stimuli_are_held_out_in_one_fixed_way():
    """spoken_digits draws one of eight backgrounds: of held-out words always the same one."""
    task = scored_task(SpokenDigits(train_limit=80, validation_limit=10), SPLIT)
    first = torch.cat([*task.validation_batches(50)])
    torch.testing.assert_close(torch.cat([*task.validation_batches(50)]), first, rtol=0, atol=0)
    assert len(first) == 20
    assert not rows(first) & rows(everything(task))


def test_a_diverged_network_scores_0(monkeypatch):
    network = NetworkSpec(
        task={"name": "digits", "train_limit": 64},
        architecture={"name": "knet4", "width": 0.1},
        rule={"name": "sgdm", "optimizer": {"learning_rate": 1e30}},
        batch_size=32,
        epochs=3,
        record_every=3,
    )
    assert score_network(network, Validation(), threads=1) == 0.0


def test_too_few_stimuli_of_a_class():
    with pytest.raises(SpecError, match="score_on: fraction must leave stimuli of every class"):
        scored_task(Digits(train_limit=12), SPLIT)


def test_a_task_that_cannot_be_split():
    class Other:
        spec = Digits()

    with pytest.raises(SpecError, match="score_on must be validation for task digits"):
        held_out._hold_out(Other(), SPLIT)
