"""Where trials are kept: SQLite in the search's folder, or any database that Optuna can use."""

from __future__ import annotations

import json
import time
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from goaldriven.errors import SpecError, StudyError
from goaldriven.search.sampling import KeepBest, NumberedTPE, as_drawn
from goaldriven.specs.search import SearchSpec

_WAIT_FOR_LOCK = 60.0
"""Seconds that a SQLite connection waits for another process's writing to end."""
_ATTEMPTS = 5
"""Processes that make the tables of one new database at once disturb each other; all but one
succeed at the next attempt."""


def shown_url(url: str) -> str:
    """A database URL without its password, for files and messages.

    Raises
    ------
    SpecError : it is no database URL.
    """
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        raise SpecError(
            "storage must be a database URL such as sqlite:///search.db or "
            f"postgresql://user@host/name, got {url!r}"
        ) from None


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The database at ``url``, its tables made where they are missing; None: DIR/search.db.

    Raises
    ------
    SpecError : ``url`` is no database URL, or the database cannot be reached or used.
    """
    if url is None:
        target = sqlalchemy.URL.create("sqlite", database=str((folder / "search.db").resolve()))
        shown = str(folder / "search.db")
    else:
        shown = shown_url(url)
        target = sqlalchemy.make_url(url)
    text = target.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    connect = {"timeout": _WAIT_FOR_LOCK} if target.get_backend_name() == "sqlite" else {}
    for attempt in range(_ATTEMPTS):
        try:
            return RDBStorage(text, engine_kwargs={"connect_args": connect} if connect else None)
        except Exception as error:  # whatever the drivers raise, or the lack of one
            reason = str(error).strip().splitlines()[0]
            transient = isinstance(error, sqlalchemy.exc.DBAPIError)
            if not transient or attempt == _ATTEMPTS - 1:
                raise SpecError(
                    f"storage must be a database that can be opened, got {shown!r}: {reason}"
                ) from None
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


def open_study(search: SearchSpec, storage: BaseStorage) -> optuna.Study:
    """The search's trials in a database, begun with its starting points where there are none.

    Raises
    ------
    StudyError : the database holds another search of this name.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=search.name,
        direction="maximize",
        sampler=NumberedTPE(search.seed, search.startup_trials),
        pruner=optuna.pruners.NopPruner() if search.pruning is None else KeepBest(search.pruning),
        load_if_exists=True,
    )
    there = study.user_attrs.get("search")
    if there is None:
        study.set_user_attr("search", search.model_dump_json())
        for start in search.start:
            fixed = {n: as_drawn(search.distributions[n], v) for n, v in start.items()}
            study.enqueue_trial(fixed)
        return study
    old, new = SearchSpec(**json.loads(there)).identity(), search.identity()
    differing = [field for field in new if new[field] != old[field]]
    if differing:
        raise StudyError(
            f"storage holds another search called {search.name!r}, which differs in "
            f"{', '.join(differing)}; give this one another name or storage"
        )
    return study
