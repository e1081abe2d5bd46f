"""Running a search: trials until there are enough, then the best once more, then the results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import optuna
import sqlalchemy

from goaldriven.errors import SpecError, StudyError
from goaldriven.search.confirm import Confirmation, confirmation_units
from goaldriven.search.events import Report
from goaldriven.search.folder import SearchFolder
from goaldriven.search.output import write_results
from goaldriven.search.pool import (
    Scorer,
    Source,
    interrupts_deferred,
    score_here,
    score_in_processes,
)
from goaldriven.search.results import SearchResult, candidates, collect
from goaldriven.search.storage import open_storage, open_study
from goaldriven.search.trials import Trials
from goaldriven.specs.search import SearchSpec
from goaldriven.studies.devices import check_device
from goaldriven.studies.runner import usable_cores
from goaldriven.trajectories.atomic import write_bytes
from goaldriven.trajectories.locking import locked


def run_search(
    folder: SearchFolder,
    *,
    jobs: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    storage: str | None = None,
    scorer: Scorer | None = None,
    report: Report = lambda event: None,
) -> SearchResult:
    """Bring a search to its number of trials, confirm the best, write the results.

    Whatever ends it early, what was scored is kept, and the next run goes on from there: a trial
    in flight keeps its settings and the scores of the networks that it had finished. A trial
    that raises is recorded with its traceback and counts as one of the trials.

    Parameters
    ----------
    folder : from `SearchFolder.create`.
    jobs : worker processes; None for one per usable core, 0 for this process alone. One at a
        time, the search depends on nothing but its file; with more, on which trial ends first.
    threads : torch threads per worker.
    device : torch device of the workers.
    storage : a database URL, which several runs of this search may share; None: a file in the
        folder.
    scorer : network, what to score it on, what to call every epoch → score; for other objectives
        than the task's metric. Worker processes must be able to import it.
    report : called at every event, for progress bars.

    Raises
    ------
    SpecError : the database cannot be used; a task cannot be scored on.
    DataError : a task's data cannot be used.
    StudyError : the device is not there; the folder is in use, or cannot be written any more; the
        database holds another search of this name or has gone.
    KeyboardInterrupt : after the workers have been stopped.
    """
    if jobs is not None and jobs < 0:
        raise SpecError(f"jobs must be at least 0, got {jobs}")
    check_device(device)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = folder.search
    if scorer is None:
        scorer = _scorer(search, device, threads)

    def record_failure(number: int, reason: str) -> None:
        write_bytes(folder.failure_path(number), reason.encode())

    def score_all(source: Source) -> None:
        if jobs == 0:
            score_here(source, scorer)
        else:
            score_in_processes(source, scorer, jobs or usable_cores())

    with locked(folder.path, "searched"), _database_errors():
        with interrupts_deferred():
            study = open_study(search, open_storage(storage, folder.path))
            exclusive = storage is None  # nobody else has the folder's own database
            trials = Trials(search, study, search.trials, exclusive, report, record_failure)
        try:
            score_all(trials)
            units = [
                unit
                for setting in candidates(search, study)
                for unit in confirmation_units(search, setting.number, setting.values)
            ]
            score_all(Confirmation(study, units, report, record_failure))
        finally:
            trials.release()
            result = collect(search, study)
            write_results(result, folder.path)
    return result


def _scorer(search: SearchSpec, device: str, threads: int) -> Scorer:
    """Score networks by training them; complain now about data that no trial could use."""
    from goaldriven.search.held_out import scored_task
    from goaldriven.search.score import score_network

    for variation in search.over:
        scored_task(search.network(search.first_values, variation).task, search.score_on)
    return partial(score_network, device=device, threads=threads)


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().splitlines()[0]
        raise StudyError(
            f"storage cannot be used any more: {reason}; what was scored is kept, run again to go "
            "on"
        ) from None
