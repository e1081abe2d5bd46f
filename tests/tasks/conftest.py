"""One thread, a cache of its own for `datasets`, and a data set on disk for every task."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from goaldriven.specs import TASKS

from .image_files import colour, upscaled, write_idx_folder, write_parquet, write_png_folder

N_TRAIN, N_TEST = 60, 25


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


@pytest.fixture(params=list(TASKS))
def task_spec(request):
    """A function from settings to a specification, for every task."""
    sources = {"cifar10": "cifar_png", "fashion_mnist": "fashion_idx"}
    fixed = {}
    if request.param in sources:
        fixed["source"] = str(request.getfixturevalue(sources[request.param]).folder)
    return lambda **settings: TASKS[request.param](**fixed, **settings)
