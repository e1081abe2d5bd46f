"""Writing a file so that it is either wholly there or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from goaldriven.errors import StudyError

PARTIAL_SUFFIX = ".partial"


def partial_name(name: str) -> str:
    """A hidden name to write a file under; processes of all machines have different ones."""
    return f".{name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}"


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, replacing what was there in one step.

    The bytes go to a hidden ``….partial`` file in the same folder, are flushed to the disk and only
    then renamed, so a reader, a full disk or a killed process never meets half a file. Missing
    folders are made. Only a process killed outright leaves its ``….partial`` file behind.

    Raises
    ------
    StudyError : naming the path and the reason (disk full, no permission, …); nothing is left.
    """
    target = Path(path)
    partial = target.with_name(partial_name(target.name))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    except BaseException as error:  # Ctrl-C as well: the partial file goes in every case
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StudyError(f"cannot write {target}: {error.strerror or error}") from error
        raise
    _flush_folder(target.parent)


def check_writable(folder: str | Path) -> None:
    """Refuse a folder that cannot be written before anything long begins; make it if it is not.

    Raises
    ------
    StudyError : naming the folder and the reason.
    """
    place = Path(folder)
    probe = place / partial_name("probe")
    try:
        place.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StudyError(f"cannot write {place}: {error.strerror or error}") from None


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
