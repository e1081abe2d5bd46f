"""Search files: YAML → `SearchSpec`."""

from __future__ import annotations

from pathlib import Path

from goaldriven.specs import files
from goaldriven.specs.search import SearchSpec

_LIBRARY = Path(__file__).parent / "library"


def shipped_searches() -> dict[str, Path]:
    """The search files that come with the package, by name."""
    return files.shipped(_LIBRARY)


def load_search(source: str | Path) -> SearchSpec:
    """Read a search from a YAML file, or by the name of one that ships with the package.

    Raises
    ------
    SpecError : the file is missing, is not YAML, or describes no valid search; the message names
        the file and the field.
    """
    return files.load(source, "search", shipped_searches(), search_from_yaml)


def search_from_yaml(text: str) -> SearchSpec:
    """Parse a search's YAML text."""
    return SearchSpec(**files.fields_of(text, "search"))
