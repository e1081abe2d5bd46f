"""Many images on disk in the formats that laboratories keep ImageNet in, read one by one."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.tasks.checks import Split, keep
from goaldriven.tasks.images import (
    import_datasets,
    label_columns,
    local_folder,
    quiet,
    refuse_empty,
)
from goaldriven.tasks.shards import IMAGE_SUFFIXES, Shards

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

VALIDATION_NAMES = ("val", "validation", "test")
"""What the validation split may be called; the first that is there is taken."""

_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


class ImageStore(Protocol):
    """Encoded images with labels."""

    @property
    def labels(self) -> Labels: ...

    def encoded(self, index: int) -> bytes: ...

    def where(self, index: int) -> str:
        """For messages: which file or row an image is in."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What a task takes from a source."""

    task: str
    n_classes: int
    train_limit: int | None
    validation_limit: int | None


@dataclass(frozen=True, eq=False)
class Chosen:
    """The images of a store that a limit keeps, decoded when asked for."""

    task: str
    split: Split
    store: ImageStore
    indices: NDArray[np.int64]
    labels: Labels

    def pixels(self, index: int) -> Pixels:
        """One image (height, width, 3).

        Raises
        ------
        DataError : it cannot be read or decoded, or has more than 8 bits.
        """
        place = int(self.indices[index])
        where = f"task {self.task}: {self.split} image {place} ({self.store.where(place)})"
        try:
            content = self.store.encoded(place)
        except Exception as error:  # of the file system or of the table's library
            raise DataError(f"{where} must be readable, got: {error}") from error
        return decode_colour(content, where)


def open_images(source: str, wanted: Wanted) -> tuple[Chosen, Chosen]:
    """Training and validation images of a source; nothing is decoded yet.

    ``source`` is the name of a data set on Hugging Face or a folder with

    - ``train/<class>/<image>`` and ``val/<class>/<image>``, classes numbered alphabetically;
    - parquet files whose names begin with ``train`` and ``val`` (columns: an image and a label);
    - webdataset shards, uncompressed, whose names begin so: per image ``<key>.jpg`` (or png) and
      ``<key>.cls``, a whole number.

    ``validation`` and ``test`` serve in place of ``val``.

    Raises
    ------
    DataError : the source is missing or damaged, a split is missing or empty, a label is out of
        range, or the splits do not show the same classes.
    """
    folder = local_folder(wanted.task, source)
    train: ImageStore
    validation: ImageStore
    if folder is None:
        train, validation = _from_datasets(wanted.task, source, {"path": source})
    elif parquet := _split_files(folder, ".parquet"):
        files = {name: [str(p) for p in paths] for name, paths in parquet.items()}
        arguments = {"path": "parquet", "data_files": files}
        train, validation = _from_datasets(wanted.task, source, arguments)
    elif shards := _split_files(folder, ".tar"):
        train, validation = (
            Shards.open(_of_split(wanted.task, shards, names), wanted.task)
            for names in (("train",), VALIDATION_NAMES)
        )
    else:
        train, validation = _from_class_folders(wanted.task, folder)
    _check(wanted, train, "training")
    _check(wanted, validation, "validation")
    _check_classes(wanted.task, train.labels, validation.labels)
    return (
        _choose(wanted.task, "training", train, wanted.train_limit),
        _choose(wanted.task, "validation", validation, wanted.validation_limit),
    )


def decode_colour(content: bytes, where: str) -> Pixels:
    """An encoded image as (height, width, 3) unsigned bytes; grey and CMYK become RGB.

    Raises
    ------
    DataError : it cannot be decoded or has more than 8 bits per channel; begins with ``where``.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            mode = image.mode
            array = np.asarray(image.convert("RGB")) if mode in _EIGHT_BIT_MODES else None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise DataError(f"{where} must be a readable image, got: {error}") from error
    if array is None:
        raise DataError(f"{where} must have 8 bits per pixel and channel, got mode {mode}")
    return array


# Checks -------------------------------------------------------------------------------------------


def _check(wanted: Wanted, store: ImageStore, split: Split) -> None:
    if len(store.labels) == 0:
        raise DataError(f"task {wanted.task}: {split} stimuli must be at least 1, got 0")
    bad = np.flatnonzero((store.labels < 0) | (store.labels >= wanted.n_classes))
    if bad.size:
        raise DataError(
            f"task {wanted.task}: {split} labels must be whole numbers from 0 to "
            f"{wanted.n_classes - 1}, got {store.labels[bad[0]]} for {store.where(int(bad[0]))}"
        )


def _check_classes(task: str, train: Labels, validation: Labels) -> None:
    for split, shown, other in (
        ("validation", validation, train),
        ("training", train, validation),
    ):
        missing = np.setdiff1d(other, shown)
        if missing.size:
            raise DataError(
                f"task {task}: training and validation stimuli must show the same classes, got no "
                f"{split} stimulus of {missing.size} class(es), the first of them {missing[0]}"
            )


def _choose(task: str, split: Split, store: ImageStore, limit: int | None) -> Chosen:
    indices = keep(task, split, store.labels, limit)
    return Chosen(task, split, store, indices, store.labels[indices])


def _split_files(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """Files of the splits, at any depth, by the beginning of their names."""
    names = ("train", *VALIDATION_NAMES)
    paths = sorted(folder.rglob(f"*{suffix}"))
    # "validation" begins with "val" as well: a file belongs to the longest name that fits.
    found: dict[str, list[Path]] = {}
    for path in paths:
        fitting = [name for name in names if path.name.startswith(name)]
        if fitting:
            found.setdefault(max(fitting, key=len), []).append(path)
    return found


def _of_split(task: str, found: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in found:
            return found[name]
    raise DataError(
        f"task {task}: source must have the splits train and val (or validation or test), "
        f"got {', '.join(sorted(found)) or 'none'}"
    )


# Class folders ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """``<class>/<image>``; only names are held."""

    folder: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Labels

    @classmethod
    def open(cls, folder: Path, classes: tuple[str, ...]) -> ClassFolders:
        names: list[str] = []
        counts: list[int] = []
        for name in classes:
            with os.scandir(folder / name) as entries:  # a million of them: no Path objects
                images = sorted(entry.name for entry in entries if _is_image(entry.name))
            names += images
            counts.append(len(images))
        labels = np.repeat(np.arange(len(classes)), counts)
        return cls(folder, classes, tuple(names), labels.astype(np.int64))

    def path(self, index: int) -> Path:
        return self.folder / self.classes[self.labels[index]] / self.names[index]

    def encoded(self, index: int) -> bytes:
        return self.path(index).read_bytes()

    def where(self, index: int) -> str:
        return str(self.path(index))


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _from_class_folders(task: str, folder: Path) -> tuple[ClassFolders, ClassFolders]:
    there = {name: folder / name for name in ("train", *VALIDATION_NAMES)}
    found = {name: path for name, path in there.items() if path.is_dir()}
    if not found:
        raise DataError(
            f"task {task}: folder {str(folder)!r} must hold train/<class>/<image> and "
            "val/<class>/<image>, or train*.parquet and val*.parquet, or train*.tar and val*.tar; "
            "got none of them"
        )
    train, validation = (_of_split(task, found, n) for n in (("train",), VALIDATION_NAMES))
    classes = _class_names(train)
    others = _class_names(validation)
    if not classes:
        raise DataError(f"task {task}: {train} must hold a folder for every class, got none")
    if others != classes:
        differing = sorted(set(classes) ^ set(others))
        raise DataError(
            f"task {task}: {train} and {validation} must hold folders for the same classes, got "
            f"{differing[0]!r} in one of them only ({len(differing)} such)"
        )
    return ClassFolders.open(train, classes), ClassFolders.open(validation, classes)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = (p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return tuple(sorted(names))


# Hugging Face -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Table:
    """A data set of ``datasets``: memory-mapped, its images encoded."""

    source: str
    rows: Any
    image: str
    labels: Labels

    def encoded(self, index: int) -> bytes:
        cell = self.rows[index][self.image]
        if cell is None:
            raise OSError("no image in this row")
        content = cell["bytes"]
        return bytes(content) if content is not None else Path(cell["path"]).read_bytes()

    def where(self, index: int) -> str:
        return f"row {index} of {self.source}"


def _from_datasets(task: str, source: str, arguments: dict[str, Any]) -> tuple[Table, Table]:
    datasets = import_datasets(task)
    wanted = (("train",), VALIDATION_NAMES)
    if "data_files" in arguments:
        for split, names in zip(("training", "validation"), wanted, strict=True):
            refuse_empty(task, split, _of_split(task, arguments["data_files"], names))
    try:
        with quiet(datasets):
            found = datasets.load_dataset(**arguments)
    except Exception as error:  # whatever the loaders and the network raise
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        local = "data_files" in arguments
        what = "readable" if local else "an existing folder or available from Hugging Face"
        raise DataError(f"task {task}: source {source!r} must be {what}, got: {reason}") from error
    train, validation = (_of_split(task, dict(found), names) for names in wanted)
    return _table(task, source, train), _table(task, source, validation)


def _table(task: str, source: str, rows: Any) -> Table:
    datasets = import_datasets(task)
    image, label = label_columns(datasets, rows, task)
    labels = np.asarray(rows.with_format("numpy")[label][:])
    if len(labels) and not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"task {task}: labels must be whole numbers, got {labels[0]} in row 0")
    return Table(
        source,
        rows.cast_column(image, datasets.Image(decode=False)),
        image,
        labels.astype(np.int64),
    )
