"""Study files: YAML → `Study`."""

from __future__ import annotations

from pathlib import Path

from goaldriven.errors import SpecError, StudyError, unknown
from goaldriven.specs import NetworkSpec, Study, files
from goaldriven.specs.study import FACTORS, factor

_LIBRARY = Path(__file__).parent / "library"


def shipped_studies() -> dict[str, Path]:
    """The study files that come with the package, by name."""
    return files.shipped(_LIBRARY)


def load_study(source: str | Path) -> Study:
    """Read a study from a YAML file, or by the name of one that ships with the package.

    Raises
    ------
    SpecError : the file is missing, is not YAML, or describes no valid study; the message names
        the file and the field.
    """
    return files.load(source, "study", shipped_studies(), study_from_yaml)


def study_from_yaml(text: str) -> Study:
    """Parse a study's YAML text."""
    return Study(**files.fields_of(text, "study"))


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
