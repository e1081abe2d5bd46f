"""The files from which interrupted trainings go on, where they are not where they are needed.

They lie in ``resume/<id>/<epoch>.safetensors`` and are written and read by
`goaldriven.training.resume`; here they are only moved about, between a study's folder, its URL and
the temporary folders of a cluster's nodes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from goaldriven.specs import NetworkSpec
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.remote import Remote
from goaldriven.trajectories.atomic import write_bytes

PART = "resume"
KEPT = 2
"""Of each network, as in training: the last, and one in case it cannot be read."""


def states(folder: StudyFolder, network: NetworkSpec) -> list[Path]:
    """A network's states in a folder, the latest first."""
    found = [p for p in folder.resume_path(network).glob("*") if p.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def epochs_of(folder: StudyFolder, networks: Sequence[NetworkSpec]) -> dict[NetworkSpec, set[int]]:
    """The epochs of which networks have states, in the folder or at the study's URL.

    Raises
    ------
    StudyError : the URL cannot be read.
    """
    found = {n.network_id: {int(path.stem) for path in states(folder, n)} for n in networks}
    if folder.url is not None:
        for name in map(Path, Remote(folder.url).sizes(PART)):
            if name.stem.isdecimal() and name.parent.name in found:
                found[name.parent.name].add(int(name.stem))
    return {n: found[n.network_id] for n in networks}


def prune(folder: StudyFolder, network: NetworkSpec) -> None:
    """Remove those before the last two."""
    for path in states(folder, network)[KEPT:]:
        path.unlink(missing_ok=True)


def drop_here(folder: StudyFolder, network: NetworkSpec) -> None:
    """Remove all of a network that is finished."""
    shutil.rmtree(folder.resume_path(network), ignore_errors=True)


def drop(folder: StudyFolder, network: NetworkSpec) -> None:
    """Remove all of a network that is finished, at the URL of the study as well."""
    drop_here(folder, network)
    if folder.url is not None:
        remote = Remote(folder.url)
        for name in _there(remote, network):
            remote.remove(name)


def upload(remote: Remote, folder: StudyFolder, network: NetworkSpec) -> None:
    """Put the latest of a folder to a URL, and remove there those before the last two.

    Raises
    ------
    StudyError : the URL cannot be written.
    """
    latest = states(folder, network)[0]
    remote.upload(latest, f"{PART}/{network.network_id}/{latest.name}")
    for name in _there(remote, network)[KEPT:]:
        remote.remove(name)


def download(remote: Remote, folder: StudyFolder, network: NetworkSpec) -> bool:
    """Copy those at a URL to a folder; whether there were any.

    Raises
    ------
    StudyError : the URL cannot be read, or the folder not written.
    """
    found = remote.read(_there(remote, network))
    for name, content in found.items():
        write_bytes(folder.path / name, content)
    return bool(found)


def _there(remote: Remote, network: NetworkSpec) -> list[str]:
    """Relative paths at a URL, the latest first."""
    names = [Path(name) for name in remote.sizes(f"{PART}/{network.network_id}")]
    names = [name for name in names if name.stem.isdecimal()]
    return [n.as_posix() for n in sorted(names, key=lambda n: int(n.stem), reverse=True)]
