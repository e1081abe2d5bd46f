"""Images with labels from folders, parquet files and Hugging Face, through ``datasets``."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.tasks.checks import Split, check_data, check_labels, keep

_SPLITS: dict[str, Split] = {"train": "training", "test": "validation"}
_HUB_NAME = re.compile(r"^[\w-][\w.-]*(/[\w-][\w.-]*)?$")


@dataclass(frozen=True)
class Wanted:
    """What a task takes from a source: the shape of its images, its classes and its limits."""

    task: str
    shape: tuple[int, int, int]  # channels, height, width
    n_classes: int
    train_limit: int | None
    validation_limit: int | None

    def limit(self, split: Split) -> int | None:
        return self.train_limit if split == "training" else self.validation_limit


@dataclass(frozen=True)
class ImageSplit:
    """Pixels (n, channels, height, width) as unsigned bytes, labels (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def local_folder(task: str, source: str) -> Path | None:
    """The folder that ``source`` names, or None where it is a Hugging Face name.

    Raises
    ------
    DataError : it is neither.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not _HUB_NAME.match(source):
        raise DataError(
            f"task {task}: source must be an existing folder or a Hugging Face name (owner/name), "
            f"got {source!r}"
        )
    return None


def read_splits(source: str, wanted: Wanted) -> tuple[ImageSplit, ImageSplit]:
    """The training and the validation split (called train and test) of a source.

    ``source`` is a folder with ``train/<class>/<image>`` and ``test/<class>/<image>``, a folder
    with parquet files whose names begin with ``train`` and ``test`` (at any depth, columns as on
    Hugging Face: an image and a label), or the name of a data set on Hugging Face. Class folders
    are numbered in alphabetical order. Only the images that the limits keep are decoded.

    Raises
    ------
    DataError : the source or ``datasets`` is missing, a split or column is missing or empty, an
        image cannot be decoded or has another shape or depth, a label is out of range.
    """
    folder = local_folder(wanted.task, source)
    datasets = import_datasets(wanted.task)
    found = _load(datasets, wanted.task, source, folder)
    for name in _SPLITS:
        if name not in found:
            raise DataError(
                f"task {wanted.task}: source {source!r} must have the splits train and test, "
                f"got {', '.join(sorted(found)) or 'none'}"
            )
    train, test = (_read_split(datasets, found[n], s, wanted) for n, s in _SPLITS.items())
    return train, test


def import_datasets(task: str) -> ModuleType:
    try:
        import datasets
        import PIL  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"task {task} needs the package {error.name!r}, which is not installed: "
            "pip install 'goaldriven[datasets]'"
        ) from error
    return datasets


def _load(datasets: ModuleType, task: str, source: str, folder: Path | None) -> Any:
    """A mapping from split names to data sets."""
    try:
        arguments = {"path": source} if folder is None else _local_arguments(task, folder)
        with quiet(datasets):
            return datasets.load_dataset(**arguments)
    except DataError:
        raise
    except Exception as error:  # whatever the loaders and the network raise
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        what = "an existing folder or available from Hugging Face" if folder is None else "readable"
        raise DataError(f"task {task}: source {source!r} must be {what}, got: {reason}") from error


def _local_arguments(task: str, folder: Path) -> dict[str, Any]:
    """What ``load_dataset`` needs for a folder of parquet files or images."""
    parquet = {
        name: sorted(p for p in folder.rglob("*.parquet") if p.name.startswith(name))
        for name in _SPLITS
    }
    files = {name: [str(p) for p in paths] for name, paths in parquet.items() if paths}
    if files:
        for name, parts in files.items():
            refuse_empty(task, _SPLITS[name], parts)
        return {"path": "parquet", "data_files": files}
    images = {name: str(folder / name / "**") for name in _SPLITS if (folder / name).is_dir()}
    if not images:
        raise DataError(
            f"task {task}: folder {str(folder)!r} must hold train/<class>/<image> and "
            "test/<class>/<image>, or train*.parquet and test*.parquet; got neither"
        )
    # drop_labels: even where there is a single class, it is the label
    return {"path": "imagefolder", "data_files": images, "drop_labels": False}


def refuse_empty(task: str, split: Split, paths: Sequence[str]) -> None:
    """`datasets` itself has no clear word for parquet files without rows.

    Raises
    ------
    DataError : there is no row, or a file cannot be read.
    """
    from pyarrow import ArrowException, parquet

    n_rows = 0
    for path in paths:
        try:
            n_rows += parquet.read_metadata(path).num_rows
        except (ArrowException, OSError) as error:
            raise DataError(
                f"task {task}: {path} must be a readable parquet file, got: {error}"
            ) from error
    if n_rows == 0:
        raise DataError(f"task {task}: {split} stimuli must be at least 1, got 0")


@contextmanager
def quiet(datasets: ModuleType) -> Iterator[None]:
    """No progress bars and no log lines: what went wrong is in the exception."""
    disabled, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not disabled:
            datasets.enable_progress_bars()


def _read_split(datasets: ModuleType, table: Any, split: Split, wanted: Wanted) -> ImageSplit:
    image, label = label_columns(datasets, table, wanted.task)
    labels = np.asarray(table.with_format("numpy")[label][:])
    if len(labels) == 0:
        raise DataError(f"task {wanted.task}: {split} stimuli must be at least 1, got 0")
    check_labels(wanted.task, split, labels, wanted.n_classes)
    chosen = keep(wanted.task, split, labels, wanted.limit(split))
    encoded = table.cast_column(image, datasets.Image(decode=False)).select(chosen)
    pixels = np.empty((len(chosen), *wanted.shape), dtype=np.uint8)
    for i, row in enumerate(encoded):
        pixels[i] = decode(row[image], wanted, f"{split} image {chosen[i]}")
    check_data(wanted.task, split, pixels, labels[chosen], wanted.n_classes)
    return ImageSplit(pixels, labels[chosen].astype(np.int64))


def label_columns(datasets: ModuleType, table: Any, task: str) -> tuple[str, str]:
    """Names of the image and the label column, told by their types, else by their names."""
    features = table.features
    images = [n for n, f in features.items() if isinstance(f, datasets.Image)]
    images += [n for n in ("image", "img") if n in features and n not in images]
    labels = [n for n, f in features.items() if isinstance(f, datasets.ClassLabel)]
    labels += [n for n in ("label", "labels") if n in features and n not in labels]
    if not images or not labels:
        raise DataError(
            f"task {task}: columns must be an image ('image' or 'img') and a label ('label'), "
            f"got {', '.join(map(repr, features)) or 'none'}"
        )
    return images[0], labels[0]


def decode(encoded: Any, wanted: Wanted, which: str) -> NDArray[np.uint8]:
    """One image (channels, height, width) from ``{"bytes": …, "path": …}`` as Hugging Face has it.

    Raises
    ------
    DataError : it cannot be decoded, is not 8-bit, or has another shape.
    """
    from PIL import Image

    path = encoded.get("path") if isinstance(encoded, dict) else None
    where = f"task {wanted.task}: {which}" + (f" ({path})" if path else "")
    try:
        content = encoded["bytes"]
        with Image.open(str(path) if content is None else io.BytesIO(content)) as image:
            array = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise DataError(f"{where} must be a readable image, got: {error}") from error
    channels, height, width = wanted.shape
    if array.dtype != np.uint8:
        bad = np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all()
        raise DataError(
            f"{where} must have 8 bits per pixel and channel, got {array.dtype} values"
            + (", some of them NaN or infinite" if bad else "")
        )
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], channels, axis=2)  # grey, for colour networks too
    if array.shape != (height, width, channels):
        raise DataError(
            f"{where} must be {height} × {width} pixels with {channels} channel(s), "
            f"got {' × '.join(map(str, array.shape[:2]))} with {array.shape[2]}"
        )
    return array.transpose(2, 0, 1)
