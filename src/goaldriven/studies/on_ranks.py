"""One network after the other, each trained by several processes together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goaldriven.errors import StudyError
from goaldriven.specs import NetworkSpec, Study
from goaldriven.studies.folder import StudyFolder
from goaldriven.studies.runner import Report, RunSummary
from goaldriven.studies.worker import Settings, train_one
from goaldriven.trajectories.locking import locked

if TYPE_CHECKING:
    from goaldriven.training.ranks import Ranks

Begin = Callable[[StudyFolder, list[NetworkSpec]], Report]
"""Called with the folder and what is to be trained; returns what is told of every event."""


def run_on_ranks(
    path: Path,
    study: Study,
    networks: Sequence[NetworkSpec],
    settings: Settings,
    begin: Begin,
    *,
    devices: int,
    nodes: int = 1,
    retry_failed: bool = False,
) -> RunSummary | None:
    """Train every network that has no trajectory yet, each on ``devices`` × ``nodes`` ranks.

    Where ``torchrun`` or Slurm has not started them, this process becomes the first rank and starts
    its own command for the others (`training.ranks.launch`). The first rank alone opens the folder,
    records and writes; the others are told what to train next.

    Parameters
    ----------
    path : the study's folder.
    begin : called by the first rank.

    Returns
    -------
    What was done; None on the other ranks.

    Raises
    ------
    StudyError : the devices are not there; the folder is in use, or cannot be written any more.
    """
    from goaldriven.training.ranks import launch

    ranks, device = launch(devices, nodes, settings.device, settings.threads)
    settings = replace(settings, device=device)
    if not ranks.first:
        folder = StudyFolder(path, study)
        while (network := _next(ranks, None)) is not None:
            train_one(_Teller(lambda *_: None, network), folder, network, settings, ranks)
        return None
    folder = StudyFolder.create(path, study)
    done = [n for n in networks if folder.is_finished(n)]
    failed_before = [n for n in networks if n not in done and folder.failure_path(n).exists()]
    skipped = [] if retry_failed else failed_before
    left = [n for n in networks if n not in done and n not in skipped]
    report = begin(folder, left)
    with locked(folder.path, "run"):
        failed = sum(not _train(n, folder, settings, ranks, report) for n in left)
    _next(ranks, None)
    return RunSummary(len(left) - failed, failed, len(done), len(skipped))


def _train(
    network: NetworkSpec, folder: StudyFolder, settings: Settings, ranks: Ranks, report: Report
) -> bool:
    """One network, on the first rank; whether it was finished."""
    _next(ranks, network)
    message = train_one(_Teller(report, network), folder, network, settings, ranks)
    if message.kind == "storage":
        raise StudyError(f"{message.text}; what was finished is kept, run again to go on")
    if message.kind == "failed":
        folder.record_failure(network, message.text)
    else:
        folder.failure_path(network).unlink(missing_ok=True)
    report(message.kind, network)
    return message.kind == "done"


def _next(ranks: Ranks, network: NetworkSpec | None) -> NetworkSpec | None:
    """What the first rank trains next, on all ranks; None when that is all."""
    text = ranks.told(None if network is None else network.canonical_json())
    return None if text is None else NetworkSpec.model_validate_json(text)


class _Teller:
    """Turns a worker's messages into reports."""

    def __init__(self, report: Report, network: NetworkSpec) -> None:
        self._report, self._network = report, network

    def send(self, message: Any, /) -> None:
        self._report(message.kind, self._network)
