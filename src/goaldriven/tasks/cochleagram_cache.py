"""Cochleagrams kept on disk, as plain arrays that are mapped into memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.specs.tasks import CochleagramSettings

CACHE_VARIABLE = "GOALDRIVEN_CACHE"
"""Environment variable: the folder where data that can be made again are kept."""

_VERSION = 1  # of the front end: to be raised when its numbers change


def cache_folder() -> Path:
    """``GOALDRIVEN_CACHE``, else ``~/.cache/goaldriven``."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "goaldriven"


def cached_cochleagrams(
    settings: CochleagramSettings,
    contents: str,
    shape: tuple[int, int, int],
    images: Iterable[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Cochleagrams (n, channels, frames), read-only; made from ``images`` unless they are there.

    The file's name is a hash of the front end's settings and of ``contents``, which stands for the
    recordings. It is written beside its place and renamed when whole, so that neither a killed
    process nor a full disk leaves half of one, and two processes do not disturb each other.

    Raises
    ------
    DataError : the file cannot be written or read, or is not what it should be.
    """
    key = f"{_VERSION}\0{settings.model_dump_json()}\0{contents}\0{shape}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    path = cache_folder() / "cochleagrams" / f"{name}.npy"
    if not path.exists():
        _write(path, shape, images)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} must be a readable array, got: {error}; remove it") from error
    if values.shape != shape or values.dtype != np.float32:
        raise DataError(
            f"{path} must hold {shape} float32 values, got {values.shape} {values.dtype}; remove it"
        )
    return values


def _write(path: Path, shape: tuple[int, int, int], images: Iterable[NDArray[np.float32]]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written, not mapped: a mapped file that meets a full disk ends the process.
        with open(partial, "wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for part in images:
                stream.write(np.ascontiguousarray(part, dtype="<f4").tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:  # Ctrl-C as well: the partial file goes in every case
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error
        raise
