"""Reading pickles of arrays and plain containers without executing anything that they hold."""

from __future__ import annotations

import _codecs
import collections
import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from goaldriven.errors import DataError

_EMPTY = np.array([])
_RECONSTRUCT: Callable[..., Any] = _EMPTY.__reduce__()[0]  # type: ignore[assignment]
_SCALAR: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
_FROM_BUFFER: Callable[..., Any] = _EMPTY.__reduce_ex__(5)[0]  # type: ignore[assignment]
_PLAIN: tuple[type, ...] = (
    bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset,
)  # fmt: skip
_BUILTINS = {kind.__name__: kind for kind in _PLAIN}

# The names that pickles of arrays use, in Python 2 and 3 and in NumPy 1 and 2.
ADMITTED: dict[tuple[str, str], Any] = {
    **{(m, n): t for m in ("builtins", "__builtin__") for n, t in _BUILTINS.items()},
    ("__builtin__", "unicode"): str,
    ("__builtin__", "long"): int,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _codecs.encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "recarray"): np.recarray,
    ("numpy", "record"): np.record,
    **{("numpy.dtypes", n): getattr(np.dtypes, n) for n in np.dtypes.__all__},
    **{
        (f"numpy.{core}.multiarray", name): value
        for core in ("core", "_core")
        for name, value in (("_reconstruct", _RECONSTRUCT), ("scalar", _SCALAR))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROM_BUFFER for core in ("core", "_core")},
    **{
        (module, name): value
        for module in ("numpy.core.records", "numpy._core.records", "numpy.rec")
        for name, value in (("recarray", np.recarray), ("record", np.record))
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is neither an array nor a plain container"
            ) from None


def load_arrays(path: str | Path) -> Any:
    """What a pickle file holds, admitting NumPy arrays and built-in containers only.

    Names that a pickle asks for are looked up in `ADMITTED` and nowhere else, so that no module is
    imported and no other function called. Strings of Python 2 are read as Latin-1.

    Raises
    ------
    DataError : the file is missing, truncated, no pickle, or asks for anything else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError,
            IndexError, ImportError, OverflowError, MemoryError, struct.error,
            UnicodeError) as error:  # fmt: skip
        reason = str(error) or "it is cut short"
        raise DataError(
            f"{path} must be a whole pickle of arrays, got one where {reason}"
        ) from None
