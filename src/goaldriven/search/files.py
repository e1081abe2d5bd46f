"""Search files: YAML → `SearchSpec`."""

from __future__ import annotations

from pathlib import Path

import yaml

from goaldriven.errors import SpecError
from goaldriven.specs.search import SearchSpec
from goaldriven.studies.files import UniqueKeyLoader

_LIBRARY = Path(__file__).parent / "library"


def shipped_searches() -> dict[str, Path]:
    """The search files that come with the package, by name."""
    return {path.stem: path for path in sorted(_LIBRARY.glob("*.yaml"))}


def load_search(source: str | Path) -> SearchSpec:
    """Read a search from a YAML file, or by the name of one that ships with the package.

    Raises
    ------
    SpecError : the file is missing, is not YAML, or describes no valid search; the message names
        the file and the field.
    """
    path = Path(source)
    shipped = shipped_searches()
    if not path.is_file() and path.stem in shipped and path.suffix in ("", ".yaml"):
        path = shipped[path.stem]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(
            f"search must be a YAML file or one of {', '.join(shipped)}; got {str(source)!r}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"search {str(path)!r} cannot be read: {error}") from None
    try:
        return search_from_yaml(text)
    except SpecError as error:
        lines = str(error).splitlines()
        raise SpecError("\n".join(f"{path}: {line}" for line in lines)) from None


def search_from_yaml(text: str) -> SearchSpec:
    """Parse a search's YAML text."""
    try:
        fields = yaml.load(text, Loader=UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise SpecError(f"a search must be valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise SpecError(f"a search must be a mapping of fields, got {type(fields).__name__}")
    return SearchSpec(**{str(key): value for key, value in fields.items()})
