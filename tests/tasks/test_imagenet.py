"""A fake ImageNet in every format."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from goaldriven.specs import NetworkSpec
from goaldriven.specs.tasks import ImageNet, ImageNetSimCLR
from goaldriven.tasks.image_stores import decode_colour
from goaldriven.tasks.loader import WORKERS_VARIABLE
from goaldriven.tasks.preparations import resnet_augment, resnet_evaluate, resnet_finish
from goaldriven.training import train

from .imagenet_tasks import SMALL, everything, same, task


@pytest.mark.parametrize("spec", [ImageNet, ImageNetSimCLR])
@pytest.mark.parametrize("other", ["parquet", "shards"])
def test_formats_give_the_same_tensors(formats, spec, other):
    expected = everything(task(formats["folders"], spec))
    assert same(expected, everything(task(formats[other], spec)))


@pytest.mark.parametrize("settings", [{}, {"preprocessing": "inception"}])
@pytest.mark.parametrize("spec", [ImageNet, ImageNetSimCLR])
def test_workers_change_nothing(formats, spec, settings, monkeypatch):
    if spec is ImageNetSimCLR and settings:
        return
    results = []
    for workers in ("0", "1", "5"):
        monkeypatch.setenv(WORKERS_VARIABLE, workers)
        results.append(everything(task(formats["shards"], spec, **settings)))
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert not same(results[0], everything(task(formats["shards"], spec, **settings), seed=1))


def test_stimuli_from_the_files(imagenet_splits, formats):
    """Every image once, cropped by the generator of its place in the epoch."""
    made = task(formats["folders"])
    shown = torch.cat(list(made.validation_batches(9)))
    for stimulus, (content, _) in zip(shown, imagenet_splits[1], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        expected = resnet_finish(torch.from_numpy(resnet_evaluate(pixels, 12))[None], None)
        assert torch.equal(stimulus[None], expected)
    generator = torch.Generator().manual_seed(4)
    order = torch.randperm(60, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    batches = list(made.train_batches(16, torch.Generator().manual_seed(4)))
    stimuli, labels = (torch.cat([getattr(b, n) for b in batches]) for n in ("stimuli", "labels"))
    for place in range(48):
        content, label = imagenet_splits[0][order[place]]
        assert labels[place] == label
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        crop = resnet_augment(pixels, 12, np.random.default_rng((seed, place))).copy()
        expected = resnet_finish(torch.from_numpy(crop)[None], None)
        torch.testing.assert_close(stimuli[place : place + 1], expected, atol=1e-6, rtol=1e-6)


def test_simclr_shows_two_different_views_of_each_image(formats):
    batch = next(task(formats["folders"], ImageNetSimCLR).train_batches(16, torch.Generator()))
    first, second = batch.stimuli.view(2, 16, 3, 12, 12)
    assert (first - second).abs().amax((1, 2, 3)).min() > 1e-3
    assert batch.stimuli.min() >= 0
    assert batch.stimuli.max() <= 1


@pytest.mark.parametrize("spec", [ImageNet, ImageNetSimCLR])
def test_ranks_read_their_shares_of_every_batch(formats, spec):
    made = task(formats["folders"], spec)
    whole, *parts = (
        list(made.train_batches(16, torch.Generator().manual_seed(1), part))
        for part in ((0, 1), (0, 2), (1, 2))
    )
    views = 2 if spec is ImageNetSimCLR else 1
    for batch, *shares in zip(whole, *parts, strict=True):
        assert [len(share) for share in shares] == [8, 8]
        assert torch.equal(torch.cat([share.labels for share in shares]), batch.labels)
        halves = [share.stimuli.unflatten(0, (views, 8)) for share in shares]
        joined = torch.cat(halves, 1).flatten(0, 1)
        torch.testing.assert_close(joined, batch.stimuli, atol=1e-6, rtol=1e-6)


def test_published_sizes():
    assert ImageNet().image_size == 224
    assert ImageNet(preprocessing="inception").image_size == 299
    assert ImageNet(preprocessing="inception") == ImageNet(
        preprocessing="inception", image_size=299
    )
    assert ImageNet(preprocessing="inception", image_size=64).image_size == 64
    spelled = {"name": "imagenet", "preprocessing": "inception"}
    network = NetworkSpec(task=spelled, architecture="resnet18_v2", rule="sgdm")
    assert network.task.image_size == 299
    assert NetworkSpec.model_validate_json(network.canonical_json()) == network


def test_a_network_trains_on_it_to_the_same_bits(formats, monkeypatch):
    spec = NetworkSpec(
        task={"name": "imagenet", "source": str(formats["shards"])} | SMALL,
        architecture={"name": "resnet10", "width": 0.25},
        rule="sgdm",
        batch_size=16,
        epochs=2,
        record_every=1,
    )
    runs = []
    for workers in ("0", "3"):
        monkeypatch.setenv(WORKERS_VARIABLE, workers)
        runs.append(train(spec))
    assert runs[0].loss.notnull().all()
    for name in ("observable", "loss", "metric", "training_loss"):
        np.testing.assert_array_equal(runs[0][name], runs[1][name])


def test_images_are_not_held_in_memory(formats):
    """Only what is asked for is decoded."""
    decoded = []
    made = task(formats["shards"])
    store = made.train.images.store
    original = type(store).encoded
    try:
        type(store).encoded = lambda self, i: decoded.append(i) or original(self, i)
        batches = made.train_batches(4, torch.Generator())
        next(batches)
        batches.close()
    finally:
        type(store).encoded = original
    assert 4 <= len(decoded) <= 12


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_kinds_of_images(mode):
    image = Image.fromarray(np.full((5, 6, 3), 200, np.uint8)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "TIFF" if mode == "CMYK" else "PNG")
    pixels = decode_colour(stream.getvalue(), "here")
    assert pixels.shape == (5, 6, 3)
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
