"""Spec files: YAML texts and those that ship with the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from goaldriven.errors import SpecError

T = TypeVar("T")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a key appear twice and keeps the last; in a spec that is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise SpecError(
                    f"{key} must be given once, got it twice in the mapping at line {line}"
                )
        return super().construct_mapping(node, deep=deep)


def shipped(library: Path) -> dict[str, Path]:
    """The YAML files of a folder, by name."""
    return {path.stem: path for path in sorted(library.glob("*.yaml"))}


def load(
    source: str | Path, what: str, library: Mapping[str, Path], parse: Callable[[str], T]
) -> T:
    """Read a spec from a YAML file, or by the name of a shipped one.

    Parameters
    ----------
    what : the kind of spec, for messages.
    library : name → shipped file.
    parse : the file's text → the spec.

    Raises
    ------
    SpecError : the file is missing, cannot be read, or describes no valid spec; the message names
        the file and the field.
    """
    path = Path(source)
    if not path.is_file() and path.stem in library and path.suffix in ("", ".yaml"):
        path = library[path.stem]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(
            f"{what} must be a YAML file or one of {', '.join(library)}; got {str(source)!r}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{what} {str(path)!r} cannot be read: {error}") from None
    try:
        return parse(text)
    except SpecError as error:
        lines = str(error).splitlines()
        raise SpecError("\n".join(f"{path}: {line}" for line in lines)) from None


def fields_of(text: str, what: str) -> dict[str, Any]:
    """The fields that a YAML text gives.

    Raises
    ------
    SpecError : it is not YAML, no mapping, or gives a key twice.
    """
    try:
        fields = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise SpecError(f"a {what} must be valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise SpecError(f"a {what} must be a mapping of fields, got {type(fields).__name__}")
    return {str(key): value for key, value in fields.items()}
