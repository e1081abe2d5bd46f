"""CIFAR-10 and Fashion-MNIST from files in their own formats, and everything that can be wrong."""

import shutil
import sys

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from goaldriven.errors import DataError
from goaldriven.specs.tasks import Cifar10, FashionMNIST
from goaldriven.tasks import load
from goaldriven.tasks.checks import balanced_order
from goaldriven.tasks.photographs import load_cifar10, load_fashion_mnist
from goaldriven.tasks.shifts import shift_and_flip

from .image_files import (
    colour,
    upscaled,
    write_idx,
    write_idx_folder,
    write_parquet,
    write_png_folder,
)

CPU = torch.device("cpu")


def ordered(pixels, labels):
    """The same stimuli in one order, whatever the format's."""
    flat = np.asarray(pixels).reshape(len(pixels), -1)
    order = np.lexsort((*flat.T[:200], np.asarray(labels)))
    return flat[order], np.asarray(labels)[order]


def check_against_files(task, made):
    """Every pixel and label comes back, standardised per channel by the training pixels."""
    train, labels = made.train
    train = train.astype(np.float64).reshape(*train.shape[:3], -1)
    mean, std = train.mean((0, 1, 2)), train.std((0, 1, 2))
    shape = made.test[0].shape
    test = (made.test[0].reshape(*shape[:3], -1) - mean) / std
    shown = torch.cat(list(task.validation_batches(10)))
    ours = ordered(shown.numpy(), task.validation_labels)
    theirs = ordered(test.transpose(0, 3, 1, 2), made.test[1])
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(
        np.bincount(task.train_labels, minlength=10), np.bincount(labels, minlength=10)
    )


@pytest.mark.parametrize("source", ["cifar_png", "cifar_parquet"])
def test_cifar10_from_files(source, request):
    made = request.getfixturevalue(source)
    task = load_cifar10(Cifar10(source=str(made.folder)), CPU)
    assert task.input_shape == (3, 32, 32)
    assert task.validation_stimuli.dtype == torch.uint8, "pixels stay small in memory"
    check_against_files(task, made)


def test_png_and_parquet_give_the_same_training_batches(cifar_png, cifar_parquet):
    """Up to the order of the files."""
    batches = [
        next(load_cifar10(Cifar10(source=str(m.folder)), CPU).train_batches(60, torch.Generator()))
        for m in (cifar_png, cifar_parquet)
    ]
    assert batches[0].labels.sort().values.equal(batches[1].labels.sort().values)


def test_cifar10_augmentation_is_applied_to_pixels(cifar_parquet):
    task = load_cifar10(Cifar10(source=str(cifar_parquet.folder)), CPU)
    chosen = torch.tensor([3, 1, 4])
    drawn = task.draw(chosen, torch.Generator().manual_seed(2))
    pixels = torch.from_numpy(cifar_parquet.train[0][chosen.numpy()]).permute(0, 3, 1, 2).float()
    moved = shift_and_flip(pixels, torch.Generator().manual_seed(2))
    train = torch.from_numpy(cifar_parquet.train[0]).double()
    mean, std = train.mean((0, 1, 2)), train.std((0, 1, 2), correction=0)
    expected = (moved - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(drawn, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_from_idx(fashion_idx, tmp_path, suffix):
    write_idx_folder(tmp_path, fashion_idx.train, fashion_idx.test, suffix)
    task = load_fashion_mnist(FashionMNIST(source=str(tmp_path)), CPU)
    assert task.input_shape == (1, 28, 28)
    check_against_files(task, fashion_idx)
    epochs = [task.draw(torch.arange(60), torch.Generator().manual_seed(s)) for s in (0, 1)]
    assert torch.equal(*epochs), "no augmentation"


def test_fashion_mnist_from_parquet(fashion_idx, tmp_path):
    for name, split in (("train", fashion_idx.train), ("test", fashion_idx.test)):
        write_parquet(tmp_path / f"{name}-00000-of-00001.parquet", *split, image="image")
    check_against_files(load_fashion_mnist(FashionMNIST(source=str(tmp_path)), CPU), fashion_idx)


def test_grey_images_serve_as_colour(tmp_path):
    gray, labels = upscaled(20, 0, 32)
    for name in ("train", "test"):
        write_png_folder(tmp_path / name, gray, labels)
    task = load_cifar10(Cifar10(source=str(tmp_path)), CPU)
    assert torch.equal(task.validation_stimuli[:, 0], task.validation_stimuli[:, 2])


def test_limits_decode_only_what_they_keep(tmp_path, cifar_parquet):
    """An unreadable image beyond the limit does no harm."""
    pixels, labels = cifar_parquet.train
    last = balanced_order(labels)[-1]
    write_parquet(tmp_path / "train.parquet", pixels, labels)
    write_parquet(tmp_path / "test.parquet", *cifar_parquet.test)
    table = pq.read_table(tmp_path / "train.parquet")
    cells = table["img"].to_pylist()
    cells[last] = {"bytes": b"junk", "path": "bad.png"}
    pq.write_table(table.set_column(0, "img", [cells]), tmp_path / "train.parquet")
    assert load_cifar10(Cifar10(source=str(tmp_path), train_limit=30), CPU).n_train == 30
    with pytest.raises(DataError, match=rf"training image {last} \(bad.png\) must be a readable"):
        load_cifar10(Cifar10(source=str(tmp_path)), CPU)


# What can be wrong --------------------------------------------------------------------------------


@pytest.fixture
def pngs(tmp_path, cifar_png):
    return shutil.copytree(cifar_png.folder, tmp_path / "cifar")


def message(source, task=Cifar10):
    loader = load_cifar10 if task is Cifar10 else load_fashion_mnist
    with pytest.raises(DataError) as caught:
        loader(task(source=str(source)), CPU)
    return str(caught.value).replace(str(source), "SOURCE")


def first_png(folder):
    return sorted((folder / "train" / "class0").iterdir())[0]


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "a/b/c", "~/no/such", "what?"])
def test_missing_folder(source):
    assert message(source) == (
        "task cifar10: source must be an existing folder or a Hugging Face name (owner/name), "
        "got 'SOURCE'"
    )


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").write_text("")
    assert "must be an existing folder" in message(tmp_path / "x")


def test_empty_folder(tmp_path):
    assert message(tmp_path) == (
        "task cifar10: folder 'SOURCE' must hold train/<class>/<image> and test/<class>/<image>, "
        "or train*.parquet and test*.parquet; got neither"
    )


def test_missing_split(pngs):
    shutil.rmtree(pngs / "test")
    assert message(pngs) == (
        "task cifar10: source 'SOURCE' must have the splits train and test, got train"
    )


def test_empty_split(tmp_path, cifar_parquet):
    pixels, labels = cifar_parquet.train
    write_parquet(tmp_path / "train.parquet", pixels, labels)
    table = pq.read_table(tmp_path / "train.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "test.parquet")
    assert message(tmp_path) == "task cifar10: validation stimuli must be at least 1, got 0"


def test_wrong_size(pngs):
    Image.fromarray(np.zeros((28, 30, 3), np.uint8)).save(first_png(pngs))
    text = message(pngs)
    assert "training image 0 (SOURCE/train/class0/" in text
    assert text.endswith("must be 32 × 32 pixels with 3 channel(s), got 28 × 30 with 3")


def test_transparent_image(pngs):
    Image.fromarray(np.zeros((32, 32, 4), np.uint8)).save(first_png(pngs))
    assert message(pngs).endswith("3 channel(s), got 32 × 32 with 4")


def test_palette_images_are_converted(pngs):
    with Image.open(first_png(pngs)) as image:
        image.convert("P").save(first_png(pngs))
    assert load_cifar10(Cifar10(source=str(pngs)), CPU).n_train == 60


def test_truncated_image(pngs):
    path = first_png(pngs)
    path.write_bytes(path.read_bytes()[:60])
    assert "must be a readable image, got: " in message(pngs)


def test_nan_pixels(pngs):
    path = first_png(pngs)
    pixels = np.zeros((32, 32), np.float32)
    pixels[3, 4] = np.nan
    Image.fromarray(pixels).save(path.with_suffix(".tiff"))
    path.unlink()
    assert message(pngs).endswith(
        "must have 8 bits per pixel and channel, got float32 values, some of them NaN or infinite"
    )


def test_deep_pixels(pngs):
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(first_png(pngs))
    assert "must have 8 bits per pixel and channel, got " in message(pngs)


def test_too_many_classes(pngs):
    shutil.copytree(pngs / "train" / "class0", pngs / "train" / "zebra")
    assert "training labels must be whole numbers from 0 to 9, got 10" in message(pngs)


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_out_of_range(tmp_path, cifar_parquet, label):
    pixels, labels = cifar_parquet.train
    labels = labels.astype(int)
    labels[5] = label
    write_parquet(tmp_path / "train.parquet", pixels, labels)
    write_parquet(tmp_path / "test.parquet", *cifar_parquet.test)
    assert message(tmp_path) == (
        f"task cifar10: training labels must be whole numbers from 0 to 9, got {label} for "
        "stimulus 5"
    )


def test_missing_column(tmp_path, cifar_parquet):
    for name in ("train", "test"):
        write_parquet(tmp_path / f"{name}.parquet", *cifar_parquet.test, image="picture")
    assert message(tmp_path) == (
        "task cifar10: columns must be an image ('image' or 'img') and a label ('label'), "
        "got 'picture', 'label'"
    )


def test_image_cell_that_holds_nothing(tmp_path, cifar_parquet):
    for name in ("train", "test"):
        cells = [{"bytes": None, "path": None}] * 4
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({"img": pa.array(cells, kind), "label": [0, 1, 2, 3]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert "training image 0 must be a readable image, got: " in message(tmp_path)


def test_truncated_parquet(tmp_path, cifar_parquet):
    for name in ("train", "test"):
        write_parquet(tmp_path / f"{name}.parquet", *cifar_parquet.test)
    path = tmp_path / "train.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    assert message(tmp_path).startswith(
        "task cifar10: SOURCE/train.parquet must be a readable parquet file, got: "
    )


def test_unreachable_hub(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert message("nobody/nothing").startswith(
        "task cifar10: source 'SOURCE' must be an existing folder or available from Hugging Face, "
        "got: "
    )


@pytest.mark.parametrize("package", ["datasets", "PIL"])
def test_datasets_not_installed(monkeypatch, cifar_png, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert message(cifar_png.folder).startswith("task cifar10 needs the package ")
    assert "which is not installed: pip install 'goaldriven[datasets]'" in message(cifar_png.folder)


def test_fashion_mnist_idx_needs_no_datasets(monkeypatch, fashion_idx):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert load_fashion_mnist(FashionMNIST(source=str(fashion_idx.folder)), CPU).n_train == 60


def test_colour_is_too_much_for_fashion_mnist(tmp_path):
    gray, labels = upscaled(12, 0, 28)
    for name in ("train", "test"):
        write_png_folder(tmp_path / name, colour(gray), labels)
    assert message(tmp_path, FashionMNIST).endswith(
        "must be 28 × 28 pixels with 1 channel(s), got 28 × 28 with 3"
    )


# IDX files ----------------------------------------------------------------------------------------


@pytest.fixture
def idx(tmp_path, fashion_idx):
    return shutil.copytree(fashion_idx.folder, tmp_path / "fashion")


def idx_message(folder):
    return message(folder, FashionMNIST)


def plain(folder, name, content):
    (folder / f"{name}.gz").unlink()
    (folder / name).write_bytes(content)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def test_missing_idx_file(idx):
    (idx / f"{LABELS}.gz").unlink()
    assert idx_message(idx) == f"folder 'SOURCE' must hold {LABELS} or {LABELS}.gz, got neither"


@pytest.mark.parametrize(
    ("content", "got"),
    [(b"", "an empty file"), (b"\x89PNG....", "89 50 4e 47"), (b"\0\0\x0d\x03", "00 00 0d 03")],
)
def test_wrong_magic_number(idx, content, got):
    plain(idx, IMAGES, content)
    assert idx_message(idx) == (
        f"SOURCE/{IMAGES} must begin with 00 00 08 03 (IDX, unsigned bytes, 3 dimensions), "
        f"got {got}"
    )


def test_truncated_idx_header(idx):
    plain(idx, IMAGES, b"\0\0\x08\x03\0\0")
    assert idx_message(idx) == f"SOURCE/{IMAGES} must have a header of 16 bytes, got 6"


@pytest.mark.parametrize("change", [-1, 3])
def test_idx_of_the_wrong_length(idx, change):
    content = bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28)) + bytes(1568 + change)
    plain(idx, IMAGES, content)
    assert idx_message(idx) == (
        f"SOURCE/{IMAGES} must hold 1568 bytes of data for its shape 2 × 28 × 28, "
        f"got {1568 + change}"
    )


@pytest.mark.parametrize("keep", [5, 100])
def test_truncated_gzip(idx, keep):
    path = idx / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:keep])
    assert idx_message(idx).startswith(f"SOURCE/{IMAGES}.gz must be a readable IDX file, got ")


def test_not_gzip(idx):
    (idx / f"{IMAGES}.gz").write_bytes(b"hello")
    assert "must be a readable IDX file, got Not a gzipped file" in idx_message(idx)


def test_idx_of_other_images(idx):
    write_idx(idx / f"{IMAGES}.gz", np.zeros((60, 32, 32)))
    assert idx_message(idx) == (
        "task fashion_mnist: training images must be 28 × 28 pixels, got 32 × 32"
    )


def test_unequal_numbers(idx):
    write_idx(idx / f"{LABELS}.gz", np.zeros(59))
    assert idx_message(idx) == (
        "task fashion_mnist: training labels must be as many as the 60 stimuli, got 59"
    )


def test_idx_label_out_of_range(idx):
    write_idx(idx / f"{LABELS}.gz", np.full(60, 12))
    assert "training labels must be whole numbers from 0 to 9, got 12 for stimulus 0" in (
        idx_message(idx)
    )


def test_no_images(idx):
    write_idx(idx / f"{IMAGES}.gz", np.zeros((0, 28, 28)))
    write_idx(idx / f"{LABELS}.gz", np.zeros(0))
    assert idx_message(idx) == "task fashion_mnist: training stimuli must be at least 1, got 0"


def test_errors_are_not_remembered(idx):
    path = idx / f"{LABELS}.gz"
    good = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(DataError):
        load(FashionMNIST(source=str(idx)))
    path.write_bytes(good)
    assert load(FashionMNIST(source=str(idx))).n_train == 60
