"""A search's folder: what lies where.

DIR/search.json              the search, and where its trials are kept
DIR/search.db                the trials (SQLite), unless a database was named
DIR/trials.csv               one line per trial
DIR/best.yaml                the best setting, as a study with one rule
DIR/failed/trial-<n>.txt     the traceback of a trial that failed
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from goaldriven.errors import SpecError, StudyError
from goaldriven.specs.search import SearchSpec
from goaldriven.trajectories.atomic import write_bytes


@dataclass(frozen=True)
class SearchFolder:
    """A folder that belongs to one search; ``storage`` is None or the shown form of its URL."""

    path: Path
    search: SearchSpec
    storage: str | None = None

    @classmethod
    def create(
        cls, path: str | Path, search: SearchSpec, storage: str | None = None
    ) -> SearchFolder:
        """Open ``path`` for ``search``, making it where it does not exist.

        A search whose description, number of trials or confirmation alone has changed goes on.

        Raises
        ------
        StudyError : the folder cannot be written, holds another search, or holds other files.
        """
        path = Path(path)
        folder = cls(path, search, storage)
        record = path / "search.json"
        if record.exists():
            _check_same(cls.open(path), folder)
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StudyError(
                f"out must be an empty or new folder or this search's own, got {str(path)!r}, "
                "which holds other files"
            )
        content = {"search": search.model_dump(mode="json"), "storage": storage}
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_bytes(record, json.dumps(content, indent=1).encode())
        except (OSError, StudyError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise StudyError(
                f"out must be a folder that can be written, got {str(path)!r}: {reason}"
            ) from None
        return folder

    @classmethod
    def open(cls, path: str | Path) -> SearchFolder:
        """Open an existing search folder.

        Raises
        ------
        StudyError : there is no such folder, or it holds no readable search.
        """
        path = Path(path)
        record = path / "search.json"
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            return cls(path, SearchSpec(**content["search"]), content["storage"])
        except (FileNotFoundError, NotADirectoryError):
            raise StudyError(
                f"DIR must be a search folder (with a search.json), got {str(path)!r}"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            kind = "holds no valid search" if isinstance(error, SpecError) else "cannot be read"
            raise StudyError(f"{record} {kind}: {error}") from None

    def failure_path(self, number: int) -> Path:
        return self.path / "failed" / f"trial-{number:04d}.txt"


def _check_same(there: SearchFolder, given: SearchFolder) -> None:
    old, new = there.search.identity(), given.search.identity()
    differing = [field for field in new if new[field] != old[field]]
    if differing:
        raise StudyError(
            f"out must be a folder of search {given.search.name!r} as it stands in the file; "
            f"{str(given.path)!r} belongs to search {there.search.name!r}, which differs in "
            f"{', '.join(differing)}; give another --out"
        )
    if there.storage != given.storage:
        raise StudyError(
            f"storage must be the one that {str(given.path)!r} began with, "
            f"{there.storage or 'its own search.db'}; got {given.storage or 'its own search.db'}"
        )
