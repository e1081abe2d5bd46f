"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goaldriven.errors import StudyError


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder's lock, which goes with the process, however that ends.

    Parameters
    ----------
    doing : what the folder is being, for the message: ``"run"``, ``"searched"``.

    Raises
    ------
    StudyError : another process has it, or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        opened = open(path, "a+", encoding="utf-8")  # noqa: SIM115  the with below closes it
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror or error}") from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise StudyError(
                f"{folder} is being {doing} by process {lock.read().strip() or 'unknown'}; "
                "wait for it or stop it"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield
