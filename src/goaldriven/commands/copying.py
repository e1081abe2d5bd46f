"""``goaldriven fetch`` and ``goaldriven push``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from goaldriven.errors import StudyError
from goaldriven.studies import remote
from goaldriven.studies.folder import StudyFolder


def fetch(url: str, path: Path, checkpoints: bool) -> None:
    """Copy what a folder lacks of a study at a URL; say what was left out."""
    _check(url)
    folder, left_out = remote.fetch(url, path, checkpoints=checkpoints)
    finished = sum(map(folder.is_finished, folder.study.networks()))
    said = f"; {left_out} checkpoints left out (--checkpoints)" if left_out else ""
    _say(f"study {folder.study.name}: {finished} finished networks in {path}{said}")


def push(path: Path, url: str) -> None:
    """Copy the finished networks of a folder that a URL lacks."""
    _check(url)
    folder = StudyFolder.open(path)
    place = remote.claim(url, folder.study)
    pushed = remote.push(folder, place)
    _say(f"study {folder.study.name}: {pushed} networks copied to {place.url}")


def _check(url: str) -> None:
    if not remote.is_url(url):
        raise StudyError(f"URL must be one, such as s3://bucket/study, got {url!r}")


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
