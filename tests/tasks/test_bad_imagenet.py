"""Everything that can be wrong with an ImageNet, said by name."""

import shutil
import sys
import tarfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from goaldriven.errors import DataError
from goaldriven.specs.tasks import ImageNet, ImageNetSimCLR
from goaldriven.tasks import image_stores

from .image_files import add_member, write_encoded_parquet, write_shards
from .imagenet_tasks import everything, same, task


def message(source, spec=ImageNet, **settings):
    """What is said when the task is loaded and read through."""
    with pytest.raises(DataError) as caught:
        everything(task(source, spec, **settings))
    return str(caught.value).replace(str(source), "SOURCE")


@pytest.fixture
def folders(tmp_path, imagenet_folders):
    return shutil.copytree(imagenet_folders.folder, tmp_path / "folders")


@pytest.fixture
def shards(tmp_path, formats):
    return shutil.copytree(formats["shards"], tmp_path / "shards")


@pytest.mark.parametrize("damage", ["junk", "cut", "empty"])
def test_a_corrupt_image_is_named(folders, damage):
    path = sorted((folders / "train" / "n00000002").iterdir())[0]
    content = path.read_bytes()
    path.write_bytes(
        {"junk": b"no image", "cut": content[: len(content) // 2], "empty": b""}[damage]
    )
    said = message(folders)
    assert said.startswith(f"task imagenet: training image 14 (SOURCE/train/n00000002/{path.name})")
    assert "must be a readable image, got: " in said


def test_an_image_that_went_away_is_named(folders):
    made = task(folders)
    shutil.rmtree(folders / "val" / "n00000003")
    with pytest.raises(DataError, match=r"validation image \d+ \(.*n00000003.*must be readable"):
        list(made.validation_batches(8))


def test_a_corrupt_image_in_a_table_or_a_shard_is_named(tmp_path, imagenet_splits):
    train, validation = imagenet_splits
    broken = [*train[:20], (b"junk", train[20][1]), *train[21:]]
    write_shards(tmp_path / "shards", "train", broken)
    write_shards(tmp_path / "shards", "val", validation)
    assert message(tmp_path / "shards").startswith(
        "task imagenet: training image 20 (000020 in SOURCE/train-0000.tar) must be a readable"
    )
    write_encoded_parquet(tmp_path / "parquet" / "train.parquet", broken)
    write_encoded_parquet(tmp_path / "parquet" / "val.parquet", validation)
    assert message(tmp_path / "parquet").startswith(
        "task imagenet: training image 20 (row 20 of SOURCE) must be a readable image"
    )


def test_an_image_that_would_fill_the_memory_is_refused(folders, monkeypatch):
    """A few bytes can unpack to gigabytes; the decoder's own limit is kept."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "must be a readable image, got: Image size" in message(folders)


def test_other_files_among_the_images_are_passed_over(folders):
    for name in ("Thumbs.db", ".hidden.jpg", "list.txt"):
        (folders / "train" / "n00000001" / name).write_bytes(b"no image")
    assert task(folders).n_train == 60


def test_sixteen_bits_are_refused(folders):
    path = sorted((folders / "val" / "n00000001").iterdir())[0]
    path.unlink()
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(path.with_suffix(".png"))
    assert message(folders).endswith("must have 8 bits per pixel and channel, got mode I;16")


@pytest.mark.parametrize("where", ["middle", "between members", "at the end", "everything"])
def test_a_truncated_shard_is_named(shards, where):
    path = shards / "data" / "train-0001.tar"
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    cut = {
        "middle": members[4].offset_data + 10,
        "between members": members[4].offset,
        "at the end": members[-1].offset_data + 1,
        "everything": 0,
    }[where]
    path.write_bytes(content[:cut])
    said = message(shards)
    assert said.startswith(
        "task imagenet: SOURCE/data/train-0001.tar must be a whole, uncompressed"
    )


def test_a_shard_that_goes_on_as_junk_is_named(shards):
    path = shards / "data" / "val-0000.tar"
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[6].offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 512] = b"\x07" * 512
    path.write_bytes(content)
    assert "val-0000.tar must be a whole, uncompressed tar file" in message(shards)


def test_a_compressed_shard_is_refused(tmp_path, imagenet_splits):
    write_shards(tmp_path, "val", imagenet_splits[1])
    with tarfile.open(tmp_path / "train.tar", "w:gz") as archive:
        add_member(archive, "0.jpg", imagenet_splits[0][0][0])
    assert "train.tar must be a whole, uncompressed tar file" in message(tmp_path)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.jpg": b"x"}, "every key must have an image (jpg or png) and a label (cls), "
         "got only the image of 'a'"),
        ({"a.cls": b"1"}, "got only the label of 'a'"),
        ({"a.jpg": b"x", "a.cls": b"one"}, "a.cls must be a whole number, got 'one'"),
        ({"a.jpg": b"x", "a.png": b"x", "a.cls": b"1"}, "keys must be unique, got 'a.png' again"),
    ],
)  # fmt: skip
def test_shards_without_pairs_are_refused(tmp_path, imagenet_splits, members, said):
    write_shards(tmp_path, "val", imagenet_splits[1])
    with tarfile.open(tmp_path / "train.tar", "w") as archive:
        for name, content in members.items():
            add_member(archive, name, content)
    assert message(tmp_path).endswith(said)


def test_links_and_strange_paths_in_a_shard_touch_nothing(tmp_path, imagenet_splits):
    folder = tmp_path / "set"
    write_shards(folder, "val", imagenet_splits[1])
    write_shards(folder, "train", imagenet_splits[0][:-1], per_shard=100)
    with tarfile.open(folder / "train-0000.tar", "a") as archive:
        link = tarfile.TarInfo("evil.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        add_member(archive, "../../../escaped.jpg", imagenet_splits[0][-1][0])
        add_member(archive, "../../../escaped.cls", str(imagenet_splits[0][-1][1]).encode())
    assert task(folder).n_train == 60
    assert not list(tmp_path.rglob("escaped*"))


def test_nothing_is_unpickled(tmp_path, imagenet_splits, monkeypatch):
    """Members that other readers of shards would load as objects are passed over."""
    import pickle

    write_shards(tmp_path, "val", imagenet_splits[1])
    write_shards(tmp_path, "train", imagenet_splits[0])
    with tarfile.open(tmp_path / "train-0000.tar", "a") as archive:
        add_member(archive, "000000.pyd", pickle.dumps(print))
        add_member(archive, "000000.pth", pickle.dumps(print))
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *a, **k: pytest.fail("unpickled"))
    assert task(tmp_path).n_train == 60


@pytest.mark.parametrize("label", [10, -1])
def test_labels_out_of_range_are_named(tmp_path, imagenet_splits, label):
    train, validation = imagenet_splits
    write_shards(tmp_path, "train", [*train, (train[0][0], label)])
    write_shards(tmp_path, "val", validation)
    assert message(tmp_path) == (
        "task imagenet: training labels must be whole numbers from 0 to 9, "
        f"got {label} for 000060 in SOURCE/train-0002.tar"
    )


def test_labels_that_are_no_whole_numbers(tmp_path, imagenet_splits):
    cells = [{"bytes": content, "path": "x"} for content, _ in imagenet_splits[0]]
    for name in ("train", "val"):
        table = pa.table({"image": cells, "label": [0.5] * len(cells)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert message(tmp_path) == "task imagenet: labels must be whole numbers, got 0.5 in row 0"


def test_missing_classes(folders, tmp_path, imagenet_splits):
    shutil.rmtree(folders / "val" / "n00000007")
    assert message(folders) == (
        "task imagenet: SOURCE/train and SOURCE/val must hold folders for the same classes, "
        "got 'n00000007' in one of them only (1 such)"
    )
    train, validation = imagenet_splits
    write_shards(tmp_path / "tar", "train", train)
    write_shards(tmp_path / "tar", "val", [v for v in validation if v[1] not in (4, 8)])
    assert message(tmp_path / "tar").endswith(
        "must show the same classes, got no validation stimulus of 2 class(es), the first of them 4"
    )


def test_empty_splits(tmp_path, imagenet_splits, folders):
    for path in (folders / "val").rglob("*.*"):
        path.unlink()
    assert message(folders) == "task imagenet: validation stimuli must be at least 1, got 0"
    write_shards(tmp_path / "tar", "train", imagenet_splits[0])
    tarfile.open(tmp_path / "tar" / "val.tar", "w").close()
    assert (
        message(tmp_path / "tar") == "task imagenet: validation stimuli must be at least 1, got 0"
    )
    write_encoded_parquet(tmp_path / "parquet" / "train.parquet", imagenet_splits[0])
    empty = pq.read_table(tmp_path / "parquet" / "train.parquet")[:0]
    pq.write_table(empty, tmp_path / "parquet" / "val.parquet")
    assert "validation stimuli must be at least 1, got 0" in message(tmp_path / "parquet")


def test_missing_splits(tmp_path, imagenet_splits, folders):
    shutil.rmtree(folders / "val")
    expected = "source must have the splits train and val (or validation or test), got train"
    assert message(folders) == f"task imagenet: {expected}"
    write_shards(tmp_path / "tar", "train", imagenet_splits[0])
    assert message(tmp_path / "tar") == f"task imagenet: {expected}"
    write_encoded_parquet(tmp_path / "parquet" / "train.parquet", imagenet_splits[0])
    assert message(tmp_path / "parquet") == f"task imagenet: {expected}"
    (tmp_path / "nothing").mkdir()
    assert message(tmp_path / "nothing").startswith(
        "task imagenet: folder 'SOURCE' must hold train/<class>/<image> and val/<class>/<image>"
    )


def test_images_without_class_folders(tmp_path, imagenet_splits, folders):
    """The validation images as ILSVRC packs them."""
    for path in list((folders / "val").rglob("*.*")):
        path.rename(folders / "val" / path.name)
    for path in (folders / "val").iterdir():
        if path.is_dir():
            path.rmdir()
    assert "must hold folders for the same classes" in message(folders)


def test_parquet_that_is_none(tmp_path, imagenet_splits):
    write_encoded_parquet(tmp_path / "val.parquet", imagenet_splits[1])
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    assert message(tmp_path).startswith(
        "task imagenet: SOURCE/train.parquet must be a readable parquet file, got: "
    )


def test_the_hub_is_asked_by_name_and_trusted_with_nothing(monkeypatch, formats):
    """What `datasets` is asked for; its answer is used as any other table."""
    asked = []
    train = sorted((formats["parquet"] / "data").glob("train*"))
    validation = sorted((formats["parquet"] / "data").glob("validation*"))
    files = {"train": [str(p) for p in train], "validation": [str(p) for p in validation]}
    original = datasets.load_dataset

    def load_dataset(**arguments):
        asked.append(arguments)
        return original("parquet", data_files=files)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    made = everything(task("ILSVRC/imagenet-1k"))
    assert asked == [{"path": "ILSVRC/imagenet-1k"}]
    monkeypatch.undo()
    assert same(made, everything(task(formats["folders"])))


def test_an_unreachable_hub(monkeypatch):
    def unreachable(**arguments):
        raise ConnectionError("Couldn't reach 'ILSVRC/imagenet-1k' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    assert message("ILSVRC/imagenet-1k") == (
        "task imagenet: source 'SOURCE' must be an existing folder or available from Hugging "
        "Face, got: Couldn't reach 'SOURCE' on the Hub"
    )


def test_names_that_are_neither():
    assert message("/no/such folder").startswith("task imagenet: source must be an existing folder")


@pytest.mark.parametrize(
    ("spec", "settings"), [(ImageNetSimCLR, {}), (ImageNet, {"preprocessing": "inception"})]
)
def test_a_missing_package_is_named(formats, spec, settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia", None)
    said = message(formats["folders"], spec, **settings)
    assert said.endswith("which is not installed: pip install 'goaldriven[datasets]'")
    assert "needs the package 'kornia'" in said


def test_files_belong_to_the_longest_name_that_fits(tmp_path):
    for name in ("train-0.tar", "val-0.tar", "validation-0.tar", "other.tar"):
        (tmp_path / name).touch()
    found = image_stores._split_files(tmp_path, ".tar")
    assert {n: [p.name for p in paths] for n, paths in found.items()} == {
        "train": ["train-0.tar"],
        "val": ["val-0.tar"],
        "validation": ["validation-0.tar"],
    }
