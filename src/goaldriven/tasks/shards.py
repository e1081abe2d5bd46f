"""webdataset shards: tar files of images and labels, read in place and in any order."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goaldriven.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True, eq=False)
class Shards:
    """Images inside tar files: only where they begin and how long they are is held.

    Nothing is ever extracted to disk.
    """

    paths: tuple[Path, ...]
    keys: tuple[str, ...]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def open(cls, paths: Sequence[Path], task: str) -> Shards:
        keys: list[str] = []
        rows: list[tuple[int, int, int, int]] = []
        for number, path in enumerate(paths):
            for key, image, label in _samples(path, task):
                keys.append(key)
                rows.append((number, image[0], image[1], label))
        table = np.array(rows, dtype=np.int64).reshape(-1, 4)
        return cls(
            tuple(paths),
            tuple(keys),
            table[:, 0].astype(np.int32),
            table[:, 1].copy(),
            table[:, 2].copy(),
            table[:, 3].copy(),
        )

    def encoded(self, index: int) -> bytes:
        size = int(self.size[index])
        with open(self.paths[self.shard[index]], "rb") as stream:
            stream.seek(int(self.offset[index]))
            return stream.read(size)

    def where(self, index: int) -> str:
        return f"{self.keys[index]} in {self.paths[self.shard[index]]}"


Place = tuple[int, int]
"""Offset and size in bytes."""


def _samples(path: Path, task: str) -> Iterator[tuple[str, Place, int]]:
    """Key, place of the image and label of every sample of a shard, in its order."""
    images: dict[str, Place] = {}
    labels: dict[str, int] = {}
    with open(path, "rb") as stream:
        for name, offset, size in _members(path, task):
            key, _, extension = name.rpartition("/")[2].partition(".")
            key = name[: len(name) - len(extension) - 1]
            into: dict[str, Any] = images if f".{extension.lower()}" in IMAGE_SUFFIXES else labels
            if into is labels and extension.lower() != "cls":
                continue
            if key in into:
                raise DataError(f"task {task}: {path}: keys must be unique, got {name!r} again")
            if into is images:
                images[key] = (offset, size)
                continue
            stream.seek(offset)
            text = stream.read(min(size, 100)).decode("ascii", "replace").strip()
            if not text.removeprefix("-").isdecimal():
                raise DataError(f"task {task}: {path}: {name} must be a whole number, got {text!r}")
            labels[key] = int(text)
    if images.keys() != labels.keys():
        lonely = min(images.keys() ^ labels.keys())
        raise DataError(
            f"task {task}: {path}: every key must have an image (jpg or png) and a label (cls), "
            f"got only {'the image' if lonely in images else 'the label'} of {lonely!r}"
        )
    return ((key, place, labels[key]) for key, place in images.items())


def _members(path: Path, task: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every file in a tar file; its end is checked to be there."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
            end = archive.offset
        with open(path, "rb") as stream:
            stream.seek(end)
            # tarfile takes a file that stops between two members, or goes on as junk, for whole.
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end mark at byte {end}")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"task {task}: {path} must be a whole, uncompressed tar file, got: {error}"
        ) from error
