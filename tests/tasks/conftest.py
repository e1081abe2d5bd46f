"""One thread, a cache of its own for `datasets`, and a data set on disk for every task."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from goaldriven.specs import TASKS

from .image_files import (
    colour,
    photographs,
    upscaled,
    write_class_folders,
    write_encoded_parquet,
    write_idx_folder,
    write_parquet,
    write_png_folder,
    write_shards,
)
from .sound_files import SETTINGS, recordings, write_wav_folder

N_TRAIN, N_TEST = 60, 25
FIRST_TEST = 203  # from here so many digits show all classes


@dataclass
class Made:
    """A data set on disk and what is in it: pixels (n, height, width, channels), labels."""

    folder: Path
    train: tuple
    test: tuple


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """As in the workers of a study; several test processes would get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _datasets_cache(tmp_path_factory):
    """Keep what `datasets` prepares out of the user's home."""
    import datasets

    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("hf")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def cifar_splits():
    (a, y), (b, z) = upscaled(N_TRAIN, 0, 32), upscaled(N_TEST, 200, 32)
    return (colour(a), y), (colour(b), z)


@pytest.fixture(scope="session")
def cifar_png(tmp_path_factory, cifar_splits):
    folder = tmp_path_factory.mktemp("cifar_png")
    for name, split in zip(("train", "test"), cifar_splits, strict=True):
        write_png_folder(folder / name, *split)
    return Made(folder, *cifar_splits)


@pytest.fixture(scope="session")
def cifar_parquet(tmp_path_factory, cifar_splits):
    folder = tmp_path_factory.mktemp("cifar_parquet")
    for name, split in zip(("train", "test"), cifar_splits, strict=True):
        write_parquet(folder / "plain_text" / f"{name}-00000-of-00001.parquet", *split)
    return Made(folder, *cifar_splits)


@pytest.fixture(scope="session")
def fashion_idx(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fashion")
    train, test = upscaled(N_TRAIN, 0, 28), upscaled(N_TEST, 200, 28)
    write_idx_folder(folder, train, test, ".gz")
    return Made(folder, train, test)


@pytest.fixture(scope="session")
def imagenet_splits():
    return photographs(N_TRAIN, 0), photographs(N_TEST, FIRST_TEST)


@pytest.fixture(scope="session")
def imagenet_folders(tmp_path_factory, imagenet_splits):
    folder = tmp_path_factory.mktemp("imagenet")
    for name, images in zip(("train", "val"), imagenet_splits, strict=True):
        write_class_folders(folder / name, images)
    return Made(folder, *imagenet_splits)


@pytest.fixture(scope="session")
def words_wav(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    train, validation = recordings(N_TRAIN, 0), recordings(N_TEST, 1)
    write_wav_folder(folder, train, validation)
    return Made(folder, train, validation)


@pytest.fixture(params=list(TASKS))
def task_spec(request):
    """A function from settings to a specification, for every task."""
    sources = {
        "cifar10": "cifar_png",
        "fashion_mnist": "fashion_idx",
        "imagenet": "imagenet_folders",
        "imagenet_simclr": "imagenet_folders",
        "word_speaker_noise": "words_wav",
    }
    fixed = {
        "imagenet": {"image_size": 16, "n_classes": 10},
        "imagenet_simclr": {"image_size": 16, "n_classes": 10},
        "word_speaker_noise": {"n_classes": 10, "cochleagram": SETTINGS},
    }.get(request.param, {})
    if request.param in sources:
        fixed["source"] = str(request.getfixturevalue(sources[request.param]).folder)
    return lambda **settings: TASKS[request.param](**fixed, **settings)


@pytest.fixture(scope="session")
def formats(tmp_path_factory, imagenet_splits, imagenet_folders):
    """The same images in the same order, as folders, parquet files and shards."""
    parquet, shards = (tmp_path_factory.mktemp(name) for name in ("parquet", "shards"))
    for name, images in zip(("train", "val"), imagenet_splits, strict=True):
        write_shards(shards / "data", name, images)
    write_encoded_parquet(
        parquet / "data" / "train-00000-of-00002.parquet", imagenet_splits[0][:35]
    )
    write_encoded_parquet(
        parquet / "data" / "train-00001-of-00002.parquet", imagenet_splits[0][35:]
    )
    write_encoded_parquet(
        parquet / "data" / "validation-00000-of-00001.parquet", imagenet_splits[1]
    )
    return {"folders": imagenet_folders.folder, "parquet": parquet, "shards": shards}
