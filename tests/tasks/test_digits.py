"""The digits and their SimCLR variant."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from goaldriven.specs.tasks import Digits, DigitsSimCLR
from goaldriven.tasks import load


def rows(images):
    return {tuple(row) for row in (images * 16).round().int().flatten(1).tolist()}


def test_split_is_fixed_disjoint_and_stratified():
    images = load(DigitsSimCLR()).images
    assert (len(images.train), len(images.validation)) == (1347, 450)
    pixels, labels = load_digits(return_X_y=True)
    both = np.concatenate([images.train.flatten(1), images.validation.flatten(1)]) * 16
    order, expected = np.lexsort(both.T), np.lexsort(pixels.T)
    np.testing.assert_array_equal(both[order], pixels[expected])
    all_labels = torch.cat([images.train_labels, images.validation_labels]).numpy()
    np.testing.assert_array_equal(all_labels[order], labels[expected])
    share = np.bincount(images.validation_labels, minlength=10) / np.bincount(labels)
    assert np.abs(share - 450 / 1797).max() < 0.004, "to within half a stimulus per class"
    # The very split, so that a change of scikit-learn's would be seen.
    assert images.validation_labels[:12].tolist() == [2, 0, 4, 9, 4, 1, 2, 4, 6, 7, 9, 1]


def test_training_pixels_are_standardised():
    task = load(Digits())
    stimuli = torch.cat([b.stimuli for b in task.train_batches(1, torch.Generator())])
    assert stimuli.mean().item() == pytest.approx(0, abs=1e-5)
    assert stimuli.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    images = load(DigitsSimCLR()).images
    shown = (torch.cat(list(task.validation_batches(450))) * images.std + images.mean) * 16
    torch.testing.assert_close(shown, (images.validation * 16).round(), atol=1e-4, rtol=0)


def test_digits_are_not_augmented():
    task = load(Digits())
    epochs = [
        torch.cat([b.stimuli for b in task.train_batches(1, torch.Generator().manual_seed(s))])
        for s in (0, 1)
    ]
    assert {tuple(r) for r in epochs[0].flatten(1).tolist()} == {
        tuple(r) for r in epochs[1].flatten(1).tolist()
    }


class Pixels(torch.nn.Module):
    def features(self, x):
        return x.flatten(1)


def test_simclr_metric_is_a_ridge_classifier_on_unaugmented_features():
    task = load(DigitsSimCLR())
    images = task.images
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0))
    model.fit(images.train.flatten(1).numpy(), images.train_labels.numpy())
    expected = model.score(images.validation.flatten(1).numpy(), images.validation_labels.numpy())
    assert expected > 0.9
    assert task.metric(Pixels(), 100) == pytest.approx(expected, abs=1e-12)


def test_simclr_views_in_a_batch_are_of_the_same_stimuli():
    """A view's nearest neighbour is its partner ten times as often as by chance (1/64, 1/50)."""
    task = load(DigitsSimCLR())
    batch = next(iter(task.train_batches(64, torch.Generator().manual_seed(0))))
    first, second = batch.stimuli.flatten(1).chunk(2)
    assert not torch.isclose(first, second).all(1).any()
    nearest = torch.cdist(first, second).argmin(1)
    assert (nearest == torch.arange(64)).float().mean() > 10 / 64
    views = list(task.validation_objective_batches(50))
    assert len(views[0].stimuli) == 2 * len(views[0]) == 100
    shown = torch.cat(list(task.validation_batches(50)))[:50].flatten(1)
    nearest = torch.cdist(views[0].stimuli[:50].flatten(1), shown).argmin(1)
    assert (nearest == torch.arange(50)).float().mean() > 10 / 50


def test_simclr_settings_reach_objective_and_head():
    task = load(DigitsSimCLR(temperature=0.5, projection=7))
    assert task.head.projection == 7
    batch = next(iter(task.validation_objective_batches(20)))
    cold, warm = (
        load(DigitsSimCLR(temperature=t)).loss(torch.nn.Flatten(), batch).item() for t in (0.1, 0.5)
    )
    assert task.loss(torch.nn.Flatten(), batch).item() == warm != cold
