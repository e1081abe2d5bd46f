"""Study folders that live at a URL, on any file system that ``fsspec`` knows, S3 among them.

The layout is that of a local study folder (`goaldriven.studies.folder`). Work is done in a local
*mirror* of it, a folder in the user's cache, which holds the study, its trajectories, measurements
and failures, not its checkpoints; what is finished is uploaded, a whole object at a time and a
network's trajectory last, so that a network with a trajectory is complete there too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from goaldriven.errors import SpecError, StudyError
from goaldriven.specs import NetworkSpec, Study
from goaldriven.studies.folder import StudyFolder, other_study
from goaldriven.trajectories.atomic import PARTIAL_SUFFIX, partial_name, write_bytes

RECORD = "study.json"
MIRRORED = ("networks", "measurements", "failed", "unmeasured")
CHECKPOINTS = "checkpoints"
_WHOLE_OBJECTS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"}
"""Protocols whose objects appear whole or not at all; elsewhere an upload is renamed at its end."""
_AT_ONCE = 32
"""Files that are downloaded together."""


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL (``s3://bucket/prefix``) and not a path.

    >>> is_url("s3://bucket/prefix"), is_url("results/demo"), is_url("C:/results")
    (True, False, False)
    """
    return isinstance(place, str) and re.match(r"^[A-Za-z][A-Za-z0-9+.-]+://", place) is not None


@dataclass(frozen=True)
class Remote:
    """The files of one study at a URL; every failure is a `StudyError` that names it."""

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """fsspec's file system and the path on it."""
        fsspec = _import_fsspec()
        protocol = self.url.partition("://")[0]
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
            return filesystem, root.rstrip("/")
        except ImportError as error:
            raise StudyError(
                f"{self.url} needs fsspec's file system for {protocol}://, which is not installed: "
                f"{error}" + (" (pip install 'goaldriven[s3]')" if protocol == "s3" else "")
            ) from None
        except Exception as error:  # an unknown protocol, a bad URL
            raise StudyError(f"{self.url} must be a URL that fsspec can open: {error}") from None

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Whatever the file system's library raises becomes one message."""
        try:
            yield
        except StudyError:
            raise
        except Exception as error:
            reason = str(error).strip() or type(error).__name__
            raise StudyError(f"cannot {doing} {self.url}: {reason}") from error

    def path(self, relative: str) -> str:
        return f"{self._opened[1]}/{relative}"

    def sizes(self, part: str) -> dict[str, int]:
        """Relative path → bytes, of all the files in a part of the folder."""
        filesystem, root = self._opened
        with self._told("list"):
            try:
                found = filesystem.find(f"{root}/{part}", detail=True)
            except FileNotFoundError:
                return {}
        inside = {path[path.index(f"{root}/") + len(root) + 1 :]: e for path, e in found.items()}
        return {
            path: int(entry["size"] or 0)
            for path, entry in inside.items()
            if not path.endswith(PARTIAL_SUFFIX)
        }

    def is_empty(self) -> bool:
        filesystem, root = self._opened
        with self._told("list"):
            try:
                return not filesystem.ls(root, detail=False)
            except FileNotFoundError:
                return True

    def exists(self, relative: str) -> bool:
        with self._told("read"):
            return bool(self._opened[0].exists(self.path(relative)))

    def read(self, relatives: Sequence[str]) -> dict[str, bytes]:
        """The contents of files; those that are not there (any more) are left out."""
        paths = {self.path(r): r for r in relatives}
        with self._told("read"):
            found = self._opened[0].cat(list(paths), on_error="return") if paths else {}
            if isinstance(found, bytes):  # some file systems do so for a single path
                found = {next(iter(paths)): found}
            for content in found.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return {paths[p]: c for p, c in found.items() if isinstance(c, bytes)}

    def write(self, relative: str, content: bytes) -> None:
        """Put a file there so that it appears whole or not at all."""
        filesystem, _ = self._opened
        target = self.path(relative)
        protocols = filesystem.protocol
        whole = _WHOLE_OBJECTS & {protocols} if isinstance(protocols, str) else (
            _WHOLE_OBJECTS & set(protocols)
        )  # fmt: skip
        with self._told("write to"):
            if whole:
                filesystem.pipe_file(target, content)
                return
            folder, _, name = target.rpartition("/")
            filesystem.makedirs(folder, exist_ok=True)
            partial = f"{folder}/{partial_name(name)}"
            try:
                filesystem.pipe_file(partial, content)
                filesystem.mv(partial, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    filesystem.rm_file(partial)
                raise

    def upload(self, path: Path, relative: str) -> None:
        self.write(relative, path.read_bytes())

    def remove(self, relative: str) -> None:
        with self._told("write to"), contextlib.suppress(FileNotFoundError):
            self._opened[0].rm_file(self.path(relative))

    def study(self) -> Study | None:
        """The study that lives there, if any.

        Raises
        ------
        StudyError : the URL cannot be read, or its study is not valid.
        """
        content = self.read([RECORD]).get(RECORD)
        if content is None:
            return None
        try:
            return Study(**json.loads(content))
        except (ValueError, TypeError) as error:
            kind = "holds no valid study" if isinstance(error, SpecError) else "cannot be read"
            raise StudyError(f"{self.url}/{RECORD} {kind}: {error}") from None


def claim(url: str, study: Study) -> Remote:
    """The files at ``url``, made ``study``'s where there are none.

    Raises
    ------
    StudyError : the URL cannot be read or written, holds another study, or holds other files.
    """
    remote = Remote(url)
    there = remote.study()
    if there is None:
        if not remote.is_empty():
            raise StudyError(
                f"out must be an empty or new folder or this study's own, got {remote.url!r}, "
                "which holds other files"
            )
        remote.write(RECORD, study.model_dump_json(indent=1).encode())
    elif there != study:
        raise StudyError(other_study(remote.url, there, study))
    return remote


def create(url: str, study: Study) -> StudyFolder:
    """The mirror of ``study`` at ``url``, which is made that study's where it is empty.

    What an interrupted run left in the mirror only is uploaded.

    Raises
    ------
    StudyError : the URL cannot be read or written, holds another study, or holds other files.
    """
    remote = claim(url, study)
    folder = _mirror(remote, study)
    refresh(folder)
    push(folder, remote)
    return folder


def open_url(url: str) -> StudyFolder:
    """A fresh mirror of the study at ``url``, to read.

    Raises
    ------
    StudyError : the URL cannot be read, or holds no study.
    """
    remote = Remote(url)
    folder = _mirror(remote, _study_at(remote))
    refresh(folder)
    return folder


def refresh(folder: StudyFolder) -> None:
    """Bring to a mirror what is at its URL and not in it; failures become those of the URL."""
    if folder.url is None:
        return
    remote = Remote(folder.url)
    there = _fetch_parts(remote, folder.path, MIRRORED)
    for part in ("failed", "unmeasured"):
        for path in (folder.path / part).glob("*.json"):
            if f"{part}/{path.name}" not in there:
                path.unlink(missing_ok=True)


def is_finished(folder: StudyFolder, network: NetworkSpec) -> bool:
    """Whether a network's trajectory is where the study lives."""
    if folder.is_finished(network):
        return True
    if folder.url is None:
        return False
    return Remote(folder.url).exists(_relative(folder, folder.trajectory_path(network)))


def publish(folder: StudyFolder, kind: str, network: NetworkSpec) -> None:
    """Upload what a mirror has of a network that is ``done`` or has ``failed``.

    Checkpoints leave the mirror as they arrive.
    """
    if folder.url is None or kind not in ("done", "failed"):
        return
    remote, failure = Remote(folder.url), folder.failure_path(network)
    if kind == "failed":
        remote.upload(failure, _relative(folder, failure))
        return
    upload_network(remote, folder, network)
    remote.remove(_relative(folder, failure))
    for path in folder.checkpoints_path(network).glob("*"):
        path.unlink()


def upload_network(remote: Remote, folder: StudyFolder, network: NetworkSpec) -> None:
    """Upload the files of a network, its trajectory last."""
    for path in files_of(folder, network):
        remote.upload(path, _relative(folder, path))


def files_of(folder: StudyFolder, network: NetworkSpec) -> list[Path]:
    """The files of a network that are there, its trajectory last."""
    single = [folder.measurements_path(network), folder.trajectory_path(network)]
    checkpoints = sorted(p for p in folder.checkpoints_path(network).rglob("*") if p.is_file())
    return [*checkpoints, *(p for p in single if p.exists())]


def fetch(url: str, path: Path, *, checkpoints: bool = False) -> tuple[StudyFolder, int]:
    """Copy a study at a URL to a folder: what is missing there, or of another size.

    Returns
    -------
    The folder, and how many checkpoints are there that were left out.

    Raises
    ------
    StudyError : the URL cannot be read or holds no study; the folder cannot be written or belongs
        to another one.
    """
    remote = Remote(url)
    folder = StudyFolder.create(path, _study_at(remote))
    _fetch_parts(remote, folder.path, MIRRORED)
    if checkpoints:
        _fetch_parts(remote, folder.path, (CHECKPOINTS,), at_once=1)
        return folder, 0
    return folder, len(remote.sizes(CHECKPOINTS))


def push(folder: StudyFolder, remote: Remote) -> int:
    """Upload the networks of a folder whose trajectories a URL lacks; how many those were."""
    there = remote.sizes("networks").keys()
    new = [
        network
        for network in folder.study.networks()
        if folder.is_finished(network)
        and _relative(folder, folder.trajectory_path(network)) not in there
    ]
    for network in new:
        upload_network(remote, folder, network)
    return len(new)


def _study_at(remote: Remote) -> Study:
    study = remote.study()
    if study is None:
        raise StudyError(f"{remote.url} must be a study folder (with a {RECORD}), got none there")
    return study


def _mirror(remote: Remote, study: Study) -> StudyFolder:
    key = hashlib.sha256(f"{remote.url}\n{study.model_dump_json()}".encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    local = StudyFolder.create(cache / "goaldriven" / "mirrors" / key, study)
    return StudyFolder(local.path, study, remote.url)


def _fetch_parts(
    remote: Remote, path: Path, parts: Sequence[str], at_once: int = _AT_ONCE
) -> set[str]:
    """Download what is missing or of another size; the relative paths of all that is there."""
    there = {name: size for part in parts for name, size in remote.sizes(part).items()}
    missing = [name for name, size in there.items() if _size(path / name) != size]
    for start in range(0, len(missing), at_once):
        for name, content in remote.read(missing[start : start + at_once]).items():
            write_bytes(path / name, content)
    return set(there)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _relative(folder: StudyFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()


def _import_fsspec() -> ModuleType:
    try:
        import fsspec
        import fsspec.core
    except ImportError:
        raise StudyError(
            "a study at a URL needs the package 'fsspec', which is not installed: "
            "pip install 'goaldriven[cluster]' (with 's3' for S3-compatible stores)"
        ) from None
    module: ModuleType = fsspec
    return module
