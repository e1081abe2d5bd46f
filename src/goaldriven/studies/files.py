"""Study files: YAML → `Study`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from goaldriven.errors import SpecError, StudyError, unknown
from goaldriven.specs import NetworkSpec, Study
from goaldriven.specs.study import FACTORS, factor

_LIBRARY = Path(__file__).parent / "library"


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a key appear twice and keeps the last; in a study that is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise SpecError(
                    f"{key} must be given once, got it twice in the mapping at line {line}"
                )
        return super().construct_mapping(node, deep=deep)


def shipped_studies() -> dict[str, Path]:
    """The study files that come with the package, by name."""
    return {path.stem: path for path in sorted(_LIBRARY.glob("*.yaml"))}


def load_study(source: str | Path) -> Study:
    """Read a study from a YAML file, or by the name of one that ships with the package.

    Raises
    ------
    SpecError : the file is missing, is not YAML, or describes no valid study; the message names
        the file and the field.
    """
    path = Path(source)
    shipped = shipped_studies()
    if not path.is_file() and path.stem in shipped and path.suffix in ("", ".yaml"):
        path = shipped[path.stem]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(
            f"study must be a YAML file or one of {', '.join(shipped)}; got {str(source)!r}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"study {str(path)!r} cannot be read: {error}") from None
    try:
        return study_from_yaml(text)
    except SpecError as error:
        lines = str(error).splitlines()
        raise SpecError("\n".join(f"{path}: {line}" for line in lines)) from None


def study_from_yaml(text: str) -> Study:
    """Parse a study's YAML text."""
    try:
        fields = yaml.load(text, Loader=UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise SpecError(f"a study must be valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise SpecError(f"a study must be a mapping of fields, got {type(fields).__name__}")
    return Study(**{str(key): value for key, value in fields.items()})


def parse_selection(text: str | None) -> dict[str, str]:
    """``rule=ia,architecture=knet4`` → the factor levels to keep; None or empty keeps all.

    >>> parse_selection("rule=ia,batch_size=64")
    {'rule': 'ia', 'batch_size': '64'}
    """
    selection: dict[str, str] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, level = part.partition("=")
        if not equals or not level:
            raise SpecError(f"only must be factor=level[,factor=level…], got {text!r}")
        if name not in FACTORS:
            raise SpecError(unknown("only: factor", name, FACTORS))
        if name in selection:
            raise SpecError(f"only must give each factor once, got {name} twice")
        selection[name] = level
    return selection


def select(study: Study, selection: dict[str, str]) -> tuple[NetworkSpec, ...]:
    """The study's networks at the given factor levels."""
    networks = study.networks()
    for name, level in selection.items():
        levels = sorted({str(factor(n, name)) for n in networks})
        if level not in levels:
            raise StudyError(unknown(f"only: {name}", level, levels))
    chosen = tuple(n for n in networks if all(str(factor(n, k)) == v for k, v in selection.items()))
    if not chosen:
        raise StudyError(f"only must leave at least one network, got {selection}")
    return chosen
