"""The IDX format in which MNIST and Fashion-MNIST are distributed."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goaldriven.errors import DataError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, n_dimensions: int) -> NDArray[np.uint8]:
    """An array of unsigned bytes from an IDX file, plain or gzipped.

    Layout: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values, last dimension fastest.

    Raises
    ------
    DataError : the file cannot be read, is no such array of ``n_dimensions`` or is truncated.

    Source: the format's description on the MNIST page (LeCun, Cortes, Burges).
    """
    content = _content(path)
    expected = bytes((0, 0, _UNSIGNED_BYTE, n_dimensions))
    if content[:4] != expected:
        raise DataError(
            f"{path} must begin with {expected.hex(' ')} (IDX, unsigned bytes, {n_dimensions} "
            f"dimensions), got {content[:4].hex(' ') or 'an empty file'}"
        )
    start = 4 + 4 * n_dimensions
    if len(content) < start:
        raise DataError(f"{path} must have a header of {start} bytes, got {len(content)}")
    shape = struct.unpack(f">{n_dimensions}I", content[4:start])
    n_bytes = math.prod(shape)
    if len(content) - start != n_bytes:
        raise DataError(
            f"{path} must hold {n_bytes} bytes of data for its shape "
            f"{' × '.join(map(str, shape))}, got {len(content) - start}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise DataError(f"{path} must be a readable IDX file, got {error}") from error
